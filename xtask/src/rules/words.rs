//! What must not be said where.

use super::Finding;
use crate::house::House;
use crate::source::Source;

/// Which lines a rule looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lines {
    All,
    Tests,
}

/// One rule.
struct Rule {
    /// What is forbidden, as whole words of code; comments and strings do not count.
    words: &'static [&'static str],
    /// In which files.
    files: fn(&Source) -> bool,
    lines: Lines,
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        words: &[
            "SystemTime",
            "Instant",
            "spawn",
            "select!",
            "sleep",
            "tokio",
            "std::thread",
            "std::fs",
            "std::net",
            "std::env",
        ],
        files: |s| s.path.starts_with("crates/core/"),
        lines: Lines::All,
        why: "core is pure: it reads no clock, spawns nothing, waits for nothing, does no I/O",
    },
    Rule {
        words: &["outlive_store_sqlite", "outlive_store_postgres", "rusqlite"],
        files: |s| s.path.starts_with("crates/server/src/") && s.path != "crates/server/src/app.rs",
        lines: Lines::All,
        why: "the server names a backend only in app.rs",
    },
    Rule {
        words: &["clock_gettime", "SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now", "now_v7"],
        files: |s| s.name() != "clock.rs" && !s.path.contains("/examples/"),
        lines: Lines::All,
        why: "only clock.rs reads a clock",
    },
    Rule {
        words: &["unbounded_channel", "unbounded", "UnboundedSender", "std::sync::mpsc::channel"],
        files: |_| true,
        lines: Lines::All,
        why: "every queue has a limit",
    },
    Rule {
        words: &["todo!", "unimplemented!", "dbg!", "#[ignore"],
        files: |_| true,
        lines: Lines::All,
        why: "what is here is finished, and every test runs",
    },
    Rule {
        // Between two looks at a state a test must pause: in one place per suite, its support.
        words: &["thread::sleep", "time::sleep"],
        files: |s| !s.path.contains("/support"),
        lines: Lines::Tests,
        why: "a test waits for a state, never for a time; looking again and again is its support's",
    },
];

pub(crate) fn check(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in RULES {
        for source in house.sources.iter().filter(|s| (rule.files)(s)) {
            for word in rule.words {
                for (line, is_test) in source.lines_with(word) {
                    if rule.lines == Lines::All || is_test {
                        findings.push(format!("{}:{line}: {word}: {}", source.path, rule.why));
                    }
                }
            }
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<Finding> {
        check(&House { sources: vec![Source::new(path, text)], ..House::default() })
    }

    /// `text` is found at `bad`, and is nothing to say at `good`.
    fn only_at(bad: &str, good: &str, text: &str) {
        assert_eq!(found(bad, text).len(), 1, "{text:?} in {bad}");
        assert_eq!(found(good, text), Vec::<Finding>::new(), "{text:?} in {good}");
    }

    #[test]
    fn a_clock_a_task_or_a_wait_in_core_is_found() {
        for text in [
            "use std::time::SystemTime;",
            "use std::time::Instant;",
            "std::thread::scope(f);",
            "rt.spawn(f);",
            "select! { }",
            "sleep(d)",
            "tokio::pin!(f);",
            "std::fs::read(p)",
        ] {
            only_at("crates/core/src/engine/evidence.rs", "crates/server/src/session/mod.rs", text);
        }
    }

    #[test]
    fn a_backend_named_outside_app_rs_is_found() {
        only_at("crates/server/src/start.rs", "crates/server/src/app.rs", "use outlive_store_sqlite::SqliteStore;");
    }

    #[test]
    fn a_clock_read_outside_clock_rs_is_found() {
        for read in ["SystemTime::now()", "Instant::now()", "clock_gettime(id)", "tokio::time::Instant::now()"] {
            only_at("crates/cli/src/follow.rs", "crates/api/src/clock.rs", read);
        }
    }

    #[test]
    fn a_queue_without_a_limit_is_found() {
        assert_eq!(found("crates/worker/src/a.rs", "let (a, b) = mpsc::unbounded_channel();").len(), 1);
        assert_eq!(found("crates/worker/src/a.rs", "let (a, b) = mpsc::channel(8);"), Vec::<Finding>::new());
    }

    #[test]
    fn unfinished_code_and_tests_that_do_not_run_are_found() {
        for text in ["todo!()", "unimplemented!(\"x\")", "dbg!(x);", "#[ignore]", "#[ignore = \"slow\"]"] {
            assert_eq!(found("crates/cli/src/a.rs", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_sleep_in_a_test_is_found() {
        only_at("crates/cli/tests/a.rs", "crates/cli/src/a.rs", "tokio::time::sleep(d).await;");
        only_at("crates/cli/tests/a.rs", "crates/cli/tests/support/mod.rs", "thread::sleep(GLANCE);");
        assert_eq!(found("crates/cli/src/a.rs", "#[cfg(test)]\nmod t {\n  thread::sleep(d);\n}\n").len(), 1);
    }

    #[test]
    fn what_a_comment_or_a_message_says_is_not_code() {
        assert_eq!(
            found("crates/core/src/a.rs", "// no Instant, no spawn\nlet s = \"todo!()\";\n"),
            Vec::<Finding>::new()
        );
    }
}
