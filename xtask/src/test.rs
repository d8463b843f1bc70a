//! `cargo xtask test`: everything, from nothing. The runner's summary is its last line.

use crate::needs::{self, Of};
use crate::shell::{Cargo, Done, is_ci, stage};
use std::ffi::OsString;

/// Histories per scenario, each of 120 simulated seconds: above 2,000 in all, and a few minutes of one processor.
/// `cargo xtask sim` plays as many as you like.
const SEEDS: &str = "126";

/// Every stage in order. The tests come last, because their summary is the answer.
pub(crate) fn all(runner: &[OsString]) -> Done {
    crate::proc::mount();
    needs::provide(&[Of::Test])?;
    // One command builds all targets with one set of features, so that no later stage builds anything again.
    stage("build", || Cargo::new(["build", "--workspace", "--all-targets"]).run())?;
    stage("doc tests", || Cargo::new(["test", "--doc", "--workspace", "--quiet"]).run())?;
    stage("simulation", || Cargo::built("outlive-sim").args(["--brief", "--seed", "1", "--seeds", SEEDS]).run())?;
    if needs::nextest().is_some() { with_nextest(runner) } else { with_cargo(runner) }
}

fn with_nextest(runner: &[OsString]) -> Done {
    let profile = if is_ci() { "ci" } else { "default" };
    eprintln!("── tests");
    needs::nextest_command().args(["--profile", profile]).args(runner).run()
}

/// The same tests by cargo's own runner, which has no summary over all crates; the last line here is one.
fn with_cargo(runner: &[OsString]) -> Done {
    let mut total = Total::default();
    let cargo = Cargo::new(["test", "--workspace", "--all-targets", "--no-fail-fast"]).args(runner);
    let done = stage("tests", || cargo.each_line(|line| total.add(line)));
    println!("{}", total.summary());
    done
}

/// The sum of cargo's results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Total {
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …`
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for part in counts.split("; ") {
            match part.split_once(' ') {
                Some((n, "passed")) => self.passed += n.parse().unwrap_or(0),
                Some((n, "failed")) => self.failed += n.parse().unwrap_or(0),
                Some((n, "ignored")) => self.ignored += n.parse().unwrap_or(0),
                _ => {}
            }
        }
    }

    fn summary(self) -> String {
        let run = self.passed + self.failed;
        format!("Summary: {run} tests run: {} passed, {} failed, {} ignored", self.passed, self.failed, self.ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_the_tests_of_all_crates() {
        let mut total = Total::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 4 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.10s",
        ] {
            total.add(line);
        }
        assert_eq!(total.summary(), "Summary: 8 tests run: 7 passed, 1 failed, 2 ignored");
    }
}
