//! The short form of `cargo xtask chaos store`.

use outlive_chaos::store::{Plan, run};

#[test]
fn what_was_acknowledged_is_there_after_five_kills_of_the_server_under_load() {
    let plan = Plan { binary: env!("CARGO_BIN_EXE_outlive").into(), kills: 5, seed: 20, keep: false };
    let report = run(&plan).unwrap();
    assert!(report.findings.is_empty(), "{report}");
    let [created, frames, checkpoints, ends, _] = report.acknowledged;
    assert!(created >= 20 && frames >= 20 && checkpoints >= 10 && ends >= 10, "there was load: {report}");
    assert_eq!(report.back_ms.len(), 5);
}
