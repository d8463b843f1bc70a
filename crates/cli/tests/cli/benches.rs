//! The benchmarks run and measure what they say, without a word about how fast.

use crate::support::{Answer, outlive};
use serde_json::Value;

fn measured(args: &[&str]) -> Value {
    let answer = Answer::of(&outlive().arg("bench").args(args).args(["-o", "json"]).output().unwrap());
    assert_eq!(answer.code, 0, "{answer:?}");
    serde_json::from_str(&answer.out).unwrap()
}

#[test]
fn each_kind_of_death_is_measured_by_whole_deaths_and_by_runs() {
    let kinds = ["child", "agent", "drain", "silent-3s", "mass"];
    let report = measured(&[&["recovery", "--kills", "1", "--runs", "3", "--mass", "400"], &kinds[..]].concat());
    let rows = report["rows"].as_array().unwrap();
    let counts = |row: &Value| [&row["all_runs"]["count"], &row["each_run"]["count"]].map(|n| n.as_u64().unwrap());
    assert_eq!(rows.iter().map(|row| row["row"].as_str().unwrap()).collect::<Vec<_>>(), kinds);
    assert!(rows.iter().all(|row| counts(row)[0] == 1 && counts(row)[1] >= 1), "{report}");
    assert_eq!(counts(&rows[4]), [1, 400], "every lost run is in the numbers of a mass failure");
    assert!(rows.iter().all(|row| row["all_runs"]["p50_ms"].as_f64() > Some(0.0)), "{report}");
}

#[test]
fn sessions_that_only_beat_are_counted_with_what_they_cost() {
    let report = measured(&["sessions", "--sessions", "40", "--time", "4s"]);
    assert_eq!(report["online"], 40);
    assert!(report["beats_per_second"].as_f64() > Some(0.0), "{report}");
    assert!(report["transactions_per_second"].as_f64() > Some(0.0), "its own duties are in the number: {report}");
}

#[test]
fn leased_runs_are_counted_with_the_memory_that_they_cost_and_ticks_beside_them() {
    let report = measured(&["leases", "--runs", "20000", "--sessions", "40", "--time", "3s"]);
    assert_eq!(report["leased"], 20_000, "{report}");
    assert!(report["server_bytes_per_lease"].as_f64() > Some(0.0), "{report}");
    let ticks = &report["ticks"];
    assert!(ticks["count"].as_u64() > Some(20) && ticks["p50_us"].as_f64() > Some(0.0), "{report}");
    assert!(ticks["max_us"].as_f64() >= ticks["p99_us"].as_f64(), "{report}");
}

#[test]
fn on_a_postgresql_of_its_own_every_run_is_finished_once_and_statements_are_counted() {
    let report = measured(&["throughput", "--runs", "400", "--store", "postgres"]);
    assert_eq!((&report["runs"], &report["finished_once"]), (&400.into(), &400.into()), "{report}");
    assert!(report["cpu_postgres_s"].as_f64() > Some(0.0), "{report}");
    let report = measured(&["latency", "--runs", "5", "--store", "postgres"]);
    assert_eq!(report["submit_to_started"]["count"], 5);
    let report = measured(&["sessions", "--sessions", "20", "--time", "4s", "--store", "postgres"]);
    assert!(report["liveness_statements_per_second"].as_f64() > Some(0.0), "its row is written each second: {report}");
    assert!(report["statements_per_second"].as_f64() > report["liveness_statements_per_second"].as_f64(), "{report}");
}

#[test]
fn every_session_of_a_server_that_dies_has_another_home_and_keeps_its_run() {
    let report = measured(&["recovery", "replica", "--kills", "1", "--sessions", "30", "--store", "postgres"]);
    let row = &report["rows"][0];
    assert_eq!((&row["all_runs"]["count"], &row["each_run"]["count"]), (&1.into(), &30.into()), "{report}");
}
