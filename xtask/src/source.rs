//! A source file as rules see it: code without comments and strings, and which of its lines are tests.

use std::ops::Range;

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// From the workspace's folder, with `/`.
    pub(crate) path: String,
    /// As many lines as the file; comments and the insides of literals are blank.
    pub(crate) code: Vec<String>,
    /// For each line, whether it belongs to a test.
    pub(crate) is_test: Vec<bool>,
}

impl Source {
    pub(crate) fn new(path: impl Into<String>, text: &str) -> Self {
        let path = path.into();
        let code = without_prose(text);
        let mut is_test = vec![is_test_path(&path); code.lines().count()];
        for range in test_items(&code) {
            let first = code[..range.start].lines().count().saturating_sub(1);
            let last = code[..range.end].lines().count();
            let from = if code[..range.start].ends_with('\n') { first + 1 } else { first };
            is_test[from..last].fill(true);
        }
        Self { path, code: code.lines().map(str::to_owned).collect(), is_test }
    }

    /// The crate's folder: `crates/core`, `sim`.
    pub(crate) fn folder(&self) -> &str {
        let depth = if self.path.starts_with("crates/") { 2 } else { 1 };
        self.path.match_indices('/').nth(depth - 1).map_or(&self.path, |(at, _)| &self.path[..at])
    }

    /// Whether it belongs to what is shipped: not a test, an example or a benchmark.
    pub(crate) fn is_product(&self) -> bool {
        !is_test_path(&self.path) && !self.path.contains("/examples/") && !self.path.contains("/benches/")
    }

    /// The file's own name.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Lines that contain a word or path as such, not as a part of a longer one; from 1.
    pub(crate) fn lines_with<'a>(&'a self, word: &'a str) -> impl Iterator<Item = (usize, bool)> + 'a {
        let lines = self.code.iter().zip(&self.is_test).enumerate();
        lines.filter(move |(_, (line, _))| contains(line, word)).map(|(n, (_, is_test))| (n + 1, *is_test))
    }
}

fn is_test_path(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.starts_with("crates/store-tests/")
}

fn contains(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_name) && word.starts_with(is_name);
        let after = line[at + word.len()..].chars().next().is_some_and(is_name) && word.ends_with(is_name);
        !before && !after
    })
}

/// The ranges of items under `#[cfg(test)]` (or a condition that begins with `all(test`).
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    for attribute in ["#[cfg(test)]", "#[cfg(all(test"] {
        for (at, _) in code.match_indices(attribute) {
            items.push(at..end_of_item(code, at));
        }
    }
    items
}

/// The end of the item whose first attribute is at `from`: its `;`, or the `}` of its first block.
fn end_of_item(code: &str, from: usize) -> usize {
    let (mut nested, mut blocks) = (0_usize, 0_usize);
    for (at, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => nested += 1,
            ')' | ']' => nested = nested.saturating_sub(1),
            '{' => blocks += 1,
            '}' => {
                blocks = blocks.saturating_sub(1);
                if blocks == 0 {
                    return from + at + 1;
                }
            }
            ';' if nested == 0 && blocks == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Blanks comments and the insides of strings and characters. Lines stay where they are.
fn without_prose(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = end_of_prose(bytes, at);
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the comment or literal that begins at `at` ends; `at` itself if none begins there.
fn end_of_prose(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let after_name = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + end_of_block_comment(rest),
        [b'"', ..] => at + end_of_quoted(rest, b'"'),
        [b'r', b'"' | b'#', ..] if !after_name || matches!(bytes[at - 1], b'b' | b'c') => at + end_of_raw(rest),
        [b'\'', b'\\', ..] => at + end_of_quoted(rest, b'\''),
        [b'\'', ..] => {
            // A character, or a lifetime: the character's closing quote follows within one UTF-8 sequence.
            let text = std::str::from_utf8(&rest[1..]).unwrap_or_default();
            let width = text.chars().next().map_or(0, char::len_utf8);
            if rest.get(1 + width) == Some(&b'\'') { at + width + 2 } else { at }
        }
        _ => at,
    }
}

fn end_of_block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn end_of_quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`; a raw name (`r#type`) is none.
fn end_of_raw(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.extend(std::iter::repeat_n(b'#', hashes));
    let body = 2 + hashes;
    rest[body..].windows(end.len()).position(|w| w == end).map_or(rest.len(), |at| body + at + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, word: &str) -> Vec<(usize, bool)> {
        Source::new("crates/x/src/a.rs", text).lines_with(word).collect()
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let text = "// spawn\n/* spawn /* spawn */ spawn */\nlet s = \"spawn \\\" spawn\";\nlet r = r#\"spawn \" spawn\"#;\nspawn();\n";
        assert_eq!(lines(text, "spawn"), [(5, false)]);
    }

    #[test]
    fn characters_lifetimes_and_raw_names_do_not_hide_code() {
        let text = "fn f<'a>(c: &'a str) { if c == '\"' || c == '\\'' || c == 'é' { r#type(spawn) } }\nspawn";
        assert_eq!(lines(text, "spawn"), [(1, false), (2, false)]);
    }

    #[test]
    fn a_part_of_a_longer_name_is_another_name() {
        assert_eq!(lines("respawn(); spawner(); spawn_blocking();\n", "spawn"), []);
        assert_eq!(lines("std::thread::spawn(f)\n", "thread::spawn"), [(1, false)]);
    }

    #[test]
    fn a_test_module_is_told_from_what_follows_it() {
        let text = "a\n#[cfg(test)]\nmod tests {\n    fn x() { a }\n}\na\n#[cfg(test)]\nmod more;\na\n";
        assert_eq!(lines(text, "a"), [(1, false), (4, true), (6, false), (9, false)]);
        assert_eq!(Source::new("crates/x/src/a.rs", text).is_test.iter().filter(|t| **t).count(), 6);
    }

    #[test]
    fn test_files_are_tests_from_the_first_line() {
        for path in ["crates/x/tests/a.rs", "crates/x/src/engine/tests.rs", "crates/store-tests/src/a.rs"] {
            assert_eq!(Source::new(path, "a\n").is_test, [true], "{path}");
        }
    }

    #[test]
    fn a_file_knows_its_crate() {
        assert_eq!(Source::new("crates/x/src/a.rs", "").folder(), "crates/x");
        assert_eq!(Source::new("sim/src/a.rs", "").folder(), "sim");
    }
}
