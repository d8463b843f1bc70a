//! The short form of `cargo xtask chaos liveness`: real servers, agents, guards and commands; false kills, stale writes, runs lost
//! and overlap are 0. Each scenario doubts itself if its fault was none.

use outlive_chaos::liveness::{Finding, Plan, Report, SCENARIOS, SHORT, named, run};
use outlive_core::policy::OnIsolation;

fn played(name: &str, isolation: OnIsolation) -> Report {
    let plan = Plan {
        binary: env!("CARGO_BIN_EXE_outlive").into(),
        scenario: named(name).expect("a scenario of the table"),
        scale: SHORT,
        isolation,
        seed: 1,
        keep: false,
    };
    run(&plan).unwrap()
}

fn holds(name: &str) {
    let report = played(name, OnIsolation::Freeze);
    assert!(report.findings.is_empty(), "{report}");
    assert_eq!(report.counts[0], SHORT.runs, "{report}");
}

/// One test per scenario.
macro_rules! scenarios {
    ($($test:ident: $name:literal,)*) => {
        const TESTED: &[&str] = &[$($name),*];
        $(#[test] fn $test() { holds($name); })*
    };
}

scenarios! {
    a_server_that_is_stopped_kills_nobody: "server-stopped",
    agents_that_are_stopped_and_wake_never_run_beside_their_successors: "agents-stopped",
    connections_that_all_end_at_once_kill_nobody: "cut",
    connections_through_a_proxy_that_all_end_and_are_refused_kill_nobody: "cut-proxied",
    clocks_that_jump_by_a_day_kill_nobody: "clock",
    a_server_with_a_twentieth_of_a_core_kills_nobody: "starved",
    a_store_that_does_not_commit_kills_nobody: "store",
    half_of_the_workers_killed_at_once_lose_nothing: "storm",
    a_silent_host_is_replaced_and_fenced_when_it_is_back: "silent-host",
}

#[test]
fn every_scenario_of_the_table_is_a_test() {
    assert_eq!(SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>(), TESTED);
}

#[test]
fn overlap_is_found_where_work_is_not_frozen() {
    let report = played("agents-stopped", OnIsolation::Continue);
    assert!(report.findings.iter().any(|finding| matches!(finding, Finding::Overlap(..))), "{report}");
    // Nothing else is wrong: the fence alone keeps its promise.
    assert!(report.findings.iter().all(|finding| matches!(finding, Finding::Overlap(..))), "{report}");
}
