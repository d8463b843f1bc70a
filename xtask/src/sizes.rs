//! How large each crate is, against its guide. Over it, `ARCHITECTURE.md` says why.

use crate::house::House;
use crate::rules::Finding;
use std::fmt::Write as _;

/// Lines of code that a crate should do with: neither blank, nor a comment, nor a test.
const GUIDE: &[(&str, usize)] = &[
    ("crates/core", 4_000),
    ("crates/store", 700),
    ("crates/store-sqlite", 2_000),
    ("crates/store-postgres", 2_000),
    ("crates/api", 1_200),
    ("crates/server", 4_000),
    ("crates/worker", 3_000),
    ("crates/cli", 2_500),
];

/// Files above this deserve a second look.
const LOOK_TWICE: usize = 400;
/// The section that explains what is over its guide.
const SECTION: &str = "Over the guide";

/// The table for people, and what is over its guide without a word about it.
pub(crate) fn check(house: &House) -> (String, Vec<Finding>) {
    let mut table = String::from("   lines without tests (code: without blanks and comments)\n");
    let mut findings = Vec::new();
    for (folder, guide) in GUIDE {
        let (lines, code) = size(house, folder);
        let name = folder.trim_start_matches("crates/");
        let over = if code > *guide { "  over" } else { "" };
        let _ = writeln!(table, "   {name:<14}{lines:>6} lines {code:>6} code {guide:>6} guide{over}");
        if code > *guide && !is_explained(&house.architecture, name) {
            findings.push(format!(
                "{folder} has {code} lines of code, its guide is {guide}: ARCHITECTURE.md, \"{SECTION}\", must say why `{name}` does"
            ));
        }
    }
    for source in house.sources.iter().filter(|s| s.is_product()) {
        let lines = source.is_test.iter().filter(|test| !**test).count();
        if lines > LOOK_TWICE {
            let _ = writeln!(table, "   {}: {lines} lines, look twice", source.path);
        }
    }
    (table, findings)
}

fn size(house: &House, folder: &str) -> (usize, usize) {
    let (mut lines, mut code) = (0, 0);
    for source in house.sources.iter().filter(|s| s.folder() == folder && s.is_product()) {
        for (line, _) in source.code.iter().zip(&source.is_test).filter(|(_, is_test)| !**is_test) {
            lines += 1;
            code += usize::from(!line.trim().is_empty());
        }
    }
    (lines, code)
}

fn is_explained(architecture: &str, name: &str) -> bool {
    let mut inside = false;
    architecture.lines().any(|line| {
        if line.starts_with('#') {
            inside = line.trim_start_matches('#').trim() == SECTION;
        }
        inside && line.contains(&format!("`{name}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn house(lines: usize, architecture: &str) -> House {
        let text = "let a = 1;\n".repeat(lines) + "// why\n\n#[cfg(test)]\nmod tests {\n}\n";
        let sources = vec![Source::new("crates/store/src/lib.rs", &text)];
        House { sources, architecture: architecture.to_owned(), ..House::default() }
    }

    #[test]
    fn comments_blanks_and_tests_are_not_counted() {
        assert_eq!(size(&house(10, ""), "crates/store"), (12, 10));
    }

    #[test]
    fn a_crate_within_its_guide_needs_no_words() {
        assert_eq!(check(&house(700, "")).1, Vec::<Finding>::new());
    }

    #[test]
    fn a_crate_over_its_guide_without_a_word_is_found() {
        assert_eq!(check(&house(701, "")).1.len(), 1);
        assert_eq!(check(&house(701, "## Other\n`store` is large.\n")).1.len(), 1);
        assert_eq!(check(&house(701, "## Over the guide\n`store-sqlite` is large.\n")).1.len(), 1);
    }

    #[test]
    fn a_crate_over_its_guide_with_a_reason_is_not() {
        assert_eq!(check(&house(701, "## Over the guide\n\n- `store` because.\n\n## Next\n")).1, Vec::<Finding>::new());
    }
}
