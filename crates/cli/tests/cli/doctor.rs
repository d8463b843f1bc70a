//! `outlive doctor` on a house that is well, and on one that is not.

use crate::support::{Answer, House, outlive};
use serde_json::Value;

fn verdict<'v>(findings: &'v Value, check: &str) -> (&'v str, &'v str) {
    let finding = findings.as_array().unwrap().iter().find(|f| f["check"] == check);
    let finding = finding.unwrap_or_else(|| panic!("{check} is not in {findings}"));
    (finding["verdict"].as_str().unwrap(), finding["found"].as_str().unwrap())
}

#[test]
fn a_house_that_is_well_has_no_problem() {
    let house = House::open(1);
    let store = format!("sqlite:{}", house.folder.path().join("outlive.db").display());
    let answer = house.call(&["doctor", "--store", &store, "-o", "json"]);
    let findings: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(verdict(&findings, "server").0, "ok", "{findings}");
    assert_eq!(verdict(&findings, "clock").0, "ok", "{findings}");
    assert!(verdict(&findings, "store").1.contains("sqlite"), "the server tells of its store: {findings}");
    // A busy machine may be warned of its jitter; a problem it is only if beats would be lost.
    assert!(
        findings.as_array().unwrap().iter().all(|f| f["verdict"] != "problem" || f["check"] == "lease_ttl"),
        "{findings}"
    );
    let text = house.call(&["doctor"]);
    assert!(text.out.contains("control groups"), "{text:?}");
}

#[test]
fn what_is_wrong_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(&path, "this is no database, whatever its name says").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let mut command = outlive();
    command.args(["doctor", "-o", "json", "--server", "http://127.0.0.1:1", "--listen", &listen]);
    let answer = Answer::of(&command.args(["--store", &format!("sqlite:{}", path.display())]).output().unwrap());
    assert_eq!(answer.code, 1, "{answer:?}");
    let findings: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(verdict(&findings, "store").0, "problem", "{findings}");
    let (is, found) = verdict(&findings, "server");
    assert!(is == "problem" && found.contains(&listen), "{findings}");
    let advised = |f: &Value| f["verdict"] == "ok" || f["advice"].as_str().is_some_and(|a| a.len() > 10);
    assert!(findings.as_array().unwrap().iter().all(advised), "{findings}");
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(kept, "this is no database, whatever its name says", "an examination changes nothing");
}
