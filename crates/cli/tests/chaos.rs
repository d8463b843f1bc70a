//! The short form of `cargo xtask chaos cluster`: every blow once, to real replicas, workers and a database of their own.

use outlive_chaos::cluster::{Length, Plan, run};

#[test]
fn a_cluster_that_is_struck_by_everything_once_loses_and_doubles_nothing_and_kills_nobody() {
    let binary = env!("CARGO_BIN_EXE_outlive").into();
    let report = run(&Plan { binary, seed: 1, length: Length::Round, keep: false }).unwrap();
    assert!(report.findings.is_empty(), "{report}");
    let ([runs, ..], [_, followed, _, looks]) = (report.counts, report.told);
    assert!(runs >= 50 && report.losses > 0 && followed > 5 && looks > 50, "there was load: {report}");
    assert!(report.sprayed.iter().all(|requests| *requests > 100), "it went to everybody: {report}");
}
