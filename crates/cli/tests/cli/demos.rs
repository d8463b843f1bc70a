//! Each scenario of the demo, as a person runs it: its exit code is its verdict, and its report says what it checked.

use crate::support::{Answer, outlive};
use serde_json::Value;

/// Plays it; its report, in which every check held.
fn played(scenario: &str) -> Value {
    let answer = Answer::of(&outlive().args(["demo", scenario, "-o", "json"]).output().unwrap());
    assert_eq!(answer.code, 0, "{answer:?}");
    let report: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((report["scenario"].as_str(), report["ok"].as_bool()), (Some(scenario), Some(true)));
    assert!(report["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true), "{report}");
    report
}

fn number_of(report: &Value, field: &str) -> usize {
    report[field].as_array().unwrap().len()
}

/// The kinds of evidence by which runs were lost.
fn evidence(report: &Value) -> Vec<&str> {
    let mut found: Vec<_> =
        report["recoveries"].as_array().unwrap().iter().map(|r| r["evidence"].as_str().unwrap()).collect();
    found.dedup();
    found
}

#[test]
fn the_demo_holds() {
    let report = played("crash");
    assert_eq!((number_of(&report, "struck"), number_of(&report, "checks")), (1, 6));
    assert_eq!(evidence(&report), ["session_closed"]);
}

#[test]
fn the_demo_of_a_stopped_worker_holds_its_work_stood_still_before_another_began() {
    let report = played("freeze");
    assert_eq!((number_of(&report, "struck"), number_of(&report, "checks")), (1, 8));
    assert_eq!(evidence(&report), ["silence"]);
}

#[test]
fn the_demo_of_a_killed_server_holds_nothing_is_reaped() {
    let report = played("restart");
    assert_eq!((number_of(&report, "recoveries"), number_of(&report, "checks")), (0, 6));
}

#[test]
fn the_demo_of_a_drain_holds_no_budget_is_spent() {
    let report = played("drain");
    assert_eq!((number_of(&report, "recoveries"), number_of(&report, "checks")), (0, 7));
}

#[test]
fn the_demo_of_a_storm_holds_with_half_of_the_workers_gone_at_once() {
    let report = played("storm");
    assert_eq!((number_of(&report, "struck"), number_of(&report, "checks")), (3, 6));
    assert_eq!(evidence(&report), ["session_closed"]);
}

#[test]
fn the_demo_of_a_killed_replica_holds_nothing_is_reaped_and_its_workers_have_another_home() {
    let report = played("replica");
    assert_eq!((number_of(&report, "recoveries"), number_of(&report, "checks")), (0, 7));
}
