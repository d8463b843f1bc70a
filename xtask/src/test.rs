//! `cargo xtask test`: everything, from nothing. The runner's summary is its last line.

use crate::needs::{self, Of};
use crate::next;
use crate::shell::{Cargo, Done, is_ci, stage};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader};
use std::process::Child;

/// Histories per scenario (fewer of those that cost more), each of 120 simulated seconds: above 2,000 in all, and a few minutes of
/// one processor.
/// `cargo xtask sim` plays as many as you like.
const SEEDS: &str = "64";
/// Where tests look for the server of their run (`crates/pg-private/src/database.rs`).
const POSTGRES: &str = "OUTLIVE_TEST_POSTGRES";
/// Where the test of an upgrade looks for the version after this one (`crates/cli/tests/cli/upgrade.rs`).
const NEXT: &str = "OUTLIVE_TEST_NEXT";

/// Every stage in order. The tests come last, because their summary is the answer.
pub(crate) fn all(runner: &[OsString]) -> Done {
    crate::proc::mount();
    needs::provide(&[Of::Test])?;
    // One command builds all targets with one set of features, so that no later stage builds anything again.
    stage("build", || Cargo::new(["build", "--workspace", "--all-targets"]).run())?;
    let next = stage("the next version", next::build)?;
    stage("doc tests", || Cargo::new(["test", "--doc", "--workspace", "--quiet"]).run())?;
    stage("simulation", || Cargo::built("outlive-sim").args(["--brief", "--seed", "1", "--seeds", SEEDS]).run())?;
    // One PostgreSQL for all tests, each with a database of its own on it. It ends with this value.
    let postgres = Postgres::start()?;
    let places = [(POSTGRES, OsStr::new(&postgres.url)), (NEXT, next.as_os_str())];
    if needs::nextest().is_some() { with_nextest(places, runner) } else { with_cargo(places, runner) }
}

/// A private server, for as long as this holds its standard input open.
struct Postgres {
    child: Child,
    url: String,
}

impl Postgres {
    fn start() -> Done<Self> {
        stage("PostgreSQL", || {
            let mut child = Cargo::built("outlive-pg-private").held()?;
            let mut url = String::new();
            let out = child.stdout.take().ok_or("the server has no output")?;
            BufReader::new(out).read_line(&mut url).map_err(|e| e.to_string())?;
            let url = url.trim().to_owned();
            if url.is_empty() {
                let _ = child.wait();
                return Err("PostgreSQL does not start; what it said is above".to_owned());
            }
            Ok(Self { child, url })
        })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Variables that tell tests where things are.
type Places<'a> = [(&'static str, &'a OsStr); 2];

fn with_nextest(places: Places<'_>, runner: &[OsString]) -> Done {
    let profile = if is_ci() { "ci" } else { "default" };
    eprintln!("── tests");
    let nextest = needs::nextest_command().args(["--profile", profile]).args(runner);
    places.into_iter().fold(nextest, |nextest, (name, place)| nextest.env(name, place)).run()
}

/// The same tests by cargo's own runner, which has no summary over all crates; the last line here is one.
fn with_cargo(places: Places<'_>, runner: &[OsString]) -> Done {
    let mut total = Total::default();
    let cargo = Cargo::new(["test", "--workspace", "--all-targets", "--no-fail-fast"]).args(runner);
    let cargo = places.into_iter().fold(cargo, |cargo, (name, place)| cargo.env(name, place));
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
