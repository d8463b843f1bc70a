//! Every scenario over its seeds; the same seed twice; and broken twins, which must be caught.

use outlive_sim::{Options, SCENARIOS, Scenario, Twin, by_name, play};

/// Simulated milliseconds with faults; quiescence comes on top.
const DURATION: u64 = 120_000;
/// Seeds of each scenario that a developer waits for; `cargo xtask test` plays 2,000 histories beside these.
const SEEDS: std::ops::Range<u64> = 1..5;

fn options(seed: u64, scenario: &'static Scenario) -> Options {
    Options { seed, scenario, twin: Twin::Sound, duration: DURATION, keep_log: false }
}

fn holds_over_all_seeds(name: &str) {
    let scenario = by_name(name).expect("a scenario of that name");
    let (mut simulated, mut runs) = (0, 0);
    for seed in SEEDS {
        let report = play(options(seed, scenario));
        assert!(report.failure.is_none(), "{}", report.explain());
        assert!(report.runs > 20, "seed {seed} creates {} runs", report.runs);
        simulated += report.simulated;
        runs += report.runs;
    }
    println!("{name}: {} simulated minutes, {runs} runs", simulated / 60_000);
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test] fn $name() { holds_over_all_seeds(stringify!($name)); })*

        #[test]
        fn every_scenario_has_its_test() {
            let tested = [$(stringify!($name)),*];
            let all: Vec<_> = SCENARIOS.iter().map(|s| s.name).collect();
            assert_eq!(all, tested);
        }
    };
}

scenarios! {
    calm worker_killed worker_paused_and_woken child_killed server_paused server_restarted store_outage lost_replies
    uncertain_verdicts connections_cut silent_host network_down drain cancel_storm clock_jumps everything starved_judge partition
    confused_workers flickering_store power_cut polling mass_loss proxies fleet replica_and_worker_killed replica_killed
    replica_paused replica_cut_off replica_silent store_locked balancer polling_replicas moving_homes cluster_everything
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for name in ["calm", "lost_replies", "everything"] {
        let scenario = by_name(name).expect("a scenario of that name");
        let kept = Options { keep_log: true, ..options(7, scenario) };
        let (first, second) = (play(kept), play(kept));
        assert!(first.log.len() > 200, "{} lines", first.log.len());
        assert!(first.log == second.log, "{name}: the logs differ");
        assert_eq!(first.digest, second.digest);
        assert_ne!(first.digest, play(Options { seed: 8, ..kept }).digest, "{name}: the seed decides nothing");
    }
}

/// The twin is caught within the seeds by one of these invariants.
fn is_caught(twin: Twin, scenarios: &[&str], by: &[&str]) {
    for seed in 1..41 {
        for name in scenarios {
            let scenario = by_name(name).expect("a scenario of that name");
            let report = play(Options { twin, ..options(seed, scenario) });
            // What else breaks (a session that the twin has ended in the store claims nothing any more) does not count.
            if let Some(violation) = report.failure.filter(|v| by.contains(&v.invariant)) {
                println!("{twin:?}: seed {seed}, {name}: {violation}");
                return;
            }
        }
    }
    panic!("{twin:?} was not caught");
}

#[test]
fn a_verdict_without_its_home_guard_is_caught() {
    is_caught(Twin::NoHomeGuard, &["uncertain_verdicts"], &["I3", "overlap", "I12"]);
}

#[test]
fn a_guard_that_ignores_trust_deadlines_is_caught() {
    is_caught(Twin::DeafGuard, &["worker_paused_and_woken", "silent_host"], &["overlap", "I12"]);
}

#[test]
fn an_acknowledgement_during_an_uncertain_verdict_is_caught() {
    is_caught(Twin::EagerAck, &["uncertain_verdicts"], &["overlap", "I12"]);
}

#[test]
fn a_breaker_that_never_opens_is_caught() {
    is_caught(Twin::NoBreaker, &["network_down"], &["I8"]);
}

#[test]
fn a_judge_that_counts_its_own_stalls_is_caught() {
    is_caught(Twin::CountsStalls, &["server_paused"], &["I3", "I4"]);
}

#[test]
fn a_report_that_is_accepted_from_anybody_is_caught() {
    is_caught(Twin::NoOwnerCheck, &["confused_workers"], &["I2"]);
}

#[test]
fn a_report_that_is_accepted_under_any_epoch_is_caught() {
    is_caught(Twin::NoOpenLeaseCheck, &["confused_workers"], &["I2"]);
}

#[test]
fn ages_on_the_wall_clock_are_caught() {
    is_caught(Twin::WallClockAges, &["clock_jumps"], &["I3"]);
}

#[test]
fn a_verdict_straight_after_a_stall_is_caught() {
    is_caught(Twin::VerdictAfterStall, &["server_paused", "replica_paused"], &["I3"]);
}

#[test]
fn the_late_end_of_an_old_connection_that_counts_is_caught() {
    is_caught(Twin::LateCloseCounts, &["connections_cut", "silent_host"], &["I3", "overlap", "I12"]);
}

#[test]
fn a_loss_in_two_steps_is_caught() {
    is_caught(Twin::TwoSteps, &["lost_replies", "everything"], &["I11"]);
}

#[test]
fn a_coarse_limit_that_ignores_beats_is_caught() {
    is_caught(Twin::CoarseLimit, &["calm"], &["I3"]);
}

#[test]
fn a_breaker_that_holds_up_exit_reports_is_caught() {
    is_caught(Twin::BreakerStopsReports, &["partition"], &["I11"]);
}

#[test]
fn a_breaker_that_never_closes_is_caught() {
    is_caught(Twin::BreakerNeverCloses, &["power_cut"], &["I11"]);
}

#[test]
fn silence_that_begins_anew_for_ever_is_caught() {
    is_caught(Twin::RearmsForEver, &["flickering_store"], &["I11"]);
}

#[test]
fn a_lease_that_is_taken_back_on_its_way_is_caught() {
    is_caught(Twin::EarlyTakeback, &["silent_host"], &["I3", "overlap"]);
}

#[test]
fn a_replica_that_confirms_beats_although_it_may_have_lost_its_sessions_is_caught() {
    is_caught(Twin::ConfirmsUnsure, &["replica_cut_off"], &["I3", "overlap", "I12"]);
}

#[test]
fn an_agent_that_trusts_a_connection_whose_end_a_proxy_may_hide_is_caught() {
    is_caught(Twin::HidesProxies, &["proxies"], &["overlap", "I12", "I3"]);
}

#[test]
fn a_session_that_is_judged_as_a_whole_by_its_least_ttl_is_caught() {
    is_caught(Twin::LeastTtlForAll, &["silent_host", "worker_paused_and_woken"], &["I3"]);
}

#[test]
fn claim_ttl_over_a_run_that_is_named_in_beats_is_caught() {
    is_caught(Twin::ForgetsNames, &["polling"], &["I3"]);
}

#[test]
fn taking_all_that_are_absent_at_once_is_caught() {
    is_caught(Twin::NoRate, &["mass_loss"], &["I9"]);
}

/// Otherwise the scenarios above say nothing.
#[test]
fn what_the_scenarios_are_about_happens_in_them() {
    let sum = |name: &str, of: fn(&outlive_sim::Counts) -> u64| {
        let scenario = by_name(name).expect("a scenario of that name");
        SEEDS.map(|seed| of(&play(options(seed, scenario)).counts)).max().unwrap_or_default()
    };
    assert!(sum("silent_host", |c| c.partial) > 0, "a session loses what has a short TTL and keeps the rest");
    assert!(sum("polling", |c| c.claim_ttl) > 0, "claim_ttl takes something");
    assert!(sum("polling", |c| c.named) > 0, "a run that was named in beats is lost by silence");
    assert!(sum("polling_replicas", |c| c.losses) > 0);
    assert!(sum("mass_loss", |c| c.reaped) >= 45, "the reap rate is reached");
}

#[test]
fn a_grace_that_ends_before_trust_does_is_caught() {
    is_caught(Twin::ShortRest, &["fleet"], &["overlap", "I12"]);
}

#[test]
fn the_grace_of_a_fleet_ends_early_when_nearly_all_are_back() {
    let scenario = by_name("fleet").expect("a scenario of that name");
    let shortened: u64 = SEEDS.map(|seed| play(options(seed, scenario)).counts.shortened).sum();
    assert!(shortened > 0, "no grace was shortened");
}

#[test]
fn the_death_of_a_replica_takes_nothing_from_anybody() {
    let scenario = by_name("replica_killed").expect("a scenario of that name");
    let (mut lost, mut runs) = (0, 0);
    for seed in SEEDS {
        let report = play(options(seed, scenario));
        lost += report.counts.losses;
        runs += report.runs;
    }
    assert!(lost == 0 && runs > 500, "{lost} of {runs} runs were lost");
}
