//! The short form of `cargo xtask chaos cluster`: every blow once, to real replicas, workers and a database of their own; half
//! of the blows directly, half through a pgbouncer with TLS. And broken twins, which the same check must find.

use outlive_chaos::cluster::check::Finding;
use outlive_chaos::cluster::report::Report;
use outlive_chaos::cluster::schedule::{Blow, Dealer};
use outlive_chaos::cluster::twin::Twin;
use outlive_chaos::cluster::{Length, Plan, run};

const HALF: usize = Dealer::round() / 2;

fn plan(length: Length) -> Plan {
    let binary = env!("CARGO_BIN_EXE_outlive").into();
    Plan { binary, seed: 1, length, pgbouncer: false, tls: false, twins: Vec::new(), keep: false }
}

fn holds(plan: &Plan) {
    let report = run(plan).unwrap();
    assert!(report.findings.is_empty(), "{report}");
    let ([runs, ..], [_, _, followed, looks]) = (report.counts, report.told);
    assert!(runs >= 30 && report.losses > 0 && followed > 0 && looks > 20, "there was load: {report}");
    assert!(report.sprayed.iter().all(|requests| *requests > 50), "it went to everybody: {report}");
}

#[test]
fn a_cluster_that_is_struck_by_everything_loses_and_doubles_nothing_and_kills_nobody() {
    holds(&plan(Length::Blows { skip: 0, take: HALF }));
}

#[test]
fn the_same_behind_a_pgbouncer_in_transaction_mode_with_tls_required() {
    let rest = Dealer::round() - HALF;
    holds(&Plan { pgbouncer: true, tls: true, ..plan(Length::Blows { skip: HALF, take: rest }) });
}

fn broken(twins: &[Twin], blows: Vec<Blow>) -> Report {
    run(&Plan { twins: twins.to_vec(), ..plan(Length::These(blows)) }).unwrap()
}

fn is_found(report: &Report, what: impl Fn(&Finding) -> bool) {
    assert!(report.findings.iter().any(what), "{report}");
}

#[test]
fn work_that_is_not_frozen_and_a_limit_that_is_none_are_found() {
    // A quarter: with three tenths of them the breaker may open, and by the time of its verdicts the work of the stopped is over.
    let blows = vec![Blow::StopAgents { who: vec![0, 3, 5, 7, 12], stands: 16_000 }];
    let report = broken(&[Twin::NeverFreezes, Twin::NoLimit], blows);
    is_found(&report, |found| matches!(found, Finding::Overlap(..)));
    is_found(&report, |found| matches!(found, Finding::Excess(_)));
    is_found(&report, |found| matches!(found, Finding::CapExceeded(..)));
}

#[test]
fn a_store_that_forgets_and_one_that_takes_stale_writes_are_found() {
    let blows = vec![Blow::KillAgents { who: vec![0, 3, 5, 7], away: 0 }, Blow::CrashDatabase];
    let report = broken(&[Twin::Forgetful, Twin::NoFence], blows);
    is_found(&report, |found| matches!(found, Finding::StaleWrite(..)));
    is_found(&report, |found| matches!(found, Finding::Bytes(..)));
}

#[test]
fn a_worker_that_is_taken_for_dead_while_it_only_paused_is_found() {
    let report = broken(&[Twin::Impatient], vec![Blow::PauseAgents { who: vec![0, 3, 5, 7], stands: 4_500 }]);
    is_found(&report, |found| matches!(found, Finding::FalseKill(..)));
}
