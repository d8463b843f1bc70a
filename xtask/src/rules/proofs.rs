//! What is promised is proved: each section of `docs/guarantees.md` names its tests, those of `docs/liveness.md` too (but for its
//! table, which the sections explain), and each test is there.

use super::Finding;
use crate::house::House;

/// Sections that are explained by the others.
const EXPLAINED: &str = "The table";
const PROVED: &str = "*Proved by*";

pub(crate) fn check(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    let sections = house.promises.iter().flat_map(|(file, text)| text.split("\n## ").skip(1).map(move |s| (file, s)));
    for (file, section) in sections {
        let title = section.lines().next().unwrap_or_default();
        if title == EXPLAINED {
            continue;
        }
        let proofs = section.split_once(PROVED).map_or("", |(_, proofs)| proofs);
        let tests: Vec<&str> = proofs.split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            findings.push(format!("{file}: \"{title}\" names no test: a promise that nothing proves"));
        }
        let missing = tests.into_iter().filter(|test| !is_there(house, test));
        findings.extend(missing.map(|test| format!("{file}: \"{title}\" names the test {test}, which is not there")));
    }
    findings
}

fn is_there(house: &House, test: &str) -> bool {
    house.sources.iter().any(|s| s.lines_with(test).any(|(_, is_test)| is_test))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[test]
    fn a_promise_without_a_test_and_a_test_that_is_gone_are_found() {
        let sources = vec![Source::new("crates/a/tests/a.rs", "#[test]\nfn it_holds() {}\n")];
        let house = |text: &str| House {
            sources: sources.clone(),
            promises: vec![("docs/a.md", text.to_owned())],
            ..House::default()
        };
        assert_eq!(check(&house("# T\n\n## One\n\nText.\n\n*Proved by* `it_holds`.\n")), Vec::<String>::new());
        assert!(check(&house("# T\n\n## One\n\nText with `code`.\n"))[0].contains("nothing proves"));
        assert!(check(&house("# T\n\n## One\n\n*Proved by* `it_holds`, `it_held`.\n"))[0].contains("it_held"));
    }
}
