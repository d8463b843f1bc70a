//! What a beat and a tick look at: what they have to do with, of 100,000 leases over 1,000 sessions. Counted, not timed.

use super::*;
use crate::engine::work::counts;

const SESSIONS: i64 = 1_000;
const EACH: u128 = 100;
/// Sessions that open between two ticks.
const AT_ONCE: i64 = 10;

fn held_by(n: i64) -> Vec<u128> {
    let first = u128::from(n.unsigned_abs());
    (0..EACH).map(|of| of * 10_000 + first).collect()
}

/// They open one group after the other, and hold what has started.
fn many() -> World {
    let mut world = World::new();
    for n in 1..=SESSIONS {
        world.session(n, held_by(n).into_iter().map(|lease| info(lease, policy())).collect());
        if n % AT_ONCE == 0 {
            world.tick();
        }
    }
    assert_eq!(world.engine.counts(), (1_000, 100_000));
    world
}

impl World {
    fn tick(&mut self) -> Vec<Effect> {
        self.pass(TICK.0)
    }

    fn beat_from(&mut self, first: i64) {
        (first..=SESSIONS).for_each(|n| drop(self.beat(n, 1, 0, &held_by(n))));
    }
}

#[test]
fn an_idle_tick_looks_at_no_session_and_at_no_lease() {
    // The last of them opened just now, the first opened five seconds ago and is not due yet.
    let mut world = many();
    assert_eq!(counts(|| world.tick()).0, [0, 0, 0]);
}

#[test]
fn a_beat_touches_no_timer_and_only_the_leases_that_it_names() {
    let mut world = many();
    world.beat_from(1);
    let (counted, _) = counts(|| world.beat(500, 2, 0, &held_by(500)));
    let [sessions, leases, timers] = counted;
    assert_eq!(timers, 0);
    assert!(sessions <= 12, "its own, a few times: {sessions}");
    // Each is found twice: confirmed, and what it says of its work taken in.
    assert!(leases <= 2 * u64::try_from(EACH).unwrap(), "{leases}");
    // One that carries only credit names nothing.
    let credit = BeatInfo { beat_seq: 3, credit: 1, seen_push_seq: 99, timer: false, held: Vec::new() };
    let (counted, _) = counts(|| world.put(Input::Beat(holder(500), conn(500), credit)));
    assert_eq!(counted[1..], [0, 0]);
}

#[test]
fn a_report_touches_the_leases_that_it_is_about() {
    let mut world = many();
    let about: Vec<_> = held_by(7).into_iter().take(3).map(|n| (holder(7), lease(n))).collect();
    let ([sessions, leases, timers], _) = counts(|| world.put(Input::Reported(about)));
    assert!(sessions <= 3 && leases <= 3 * 4 && timers == 0, "{sessions} {leases} {timers}");
}

#[test]
fn a_tick_looks_at_the_sessions_whose_moment_has_come() {
    let mut world = many();
    world.beat_from(1);
    world.pass(4_900);
    // All come up ten seconds after they opened, group by group; they have been heard since, and are moved on.
    for _ in 0..100 {
        let ([sessions, leases, timers], effects) = counts(|| world.tick());
        let due = AT_ONCE.unsigned_abs();
        assert!(sessions <= 6 * due && leases == 0 && timers <= 2 * due, "{sessions} {leases} {timers}");
        assert!(verdicts(&effects).is_empty());
    }
}

#[test]
fn a_tick_looks_at_the_leases_whose_limit_has_come() {
    let mut world = many();
    let late = LeaseInfo { started: false, begun: Observed(1_000), ..info(1, policy()) };
    let others = (1..=EACH).map(|n| n << 12);
    let waiting = others.clone().map(|n| LeaseInfo { lease: lease(n), begun: Observed(900_000), ..late });
    world.session(1, waiting.chain([late]).collect());
    let holds: Vec<_> = others.chain([1]).collect();
    let mut most = 0;
    while world.now < 62_000 {
        if world.now.is_multiple_of(5_000) {
            world.beat_from(2);
            world.beat(1, 2, 0, &holds);
        }
        let ([_, leases, _], effects) = counts(|| world.tick());
        most = most.max(leases);
        if said(&effects).contains(&&Say::Lost(lease(1), Reason::StartTimeout)) {
            assert!(most <= 8, "one of 100,000 is due: {most}");
            return;
        }
    }
    panic!("its start was due after a minute");
}

/// A worker may be evicted with thousands of runs: none of them is looked at once for each of the others.
#[test]
fn what_is_taken_from_a_worker_that_may_be_alive_costs_what_it_is() {
    let mut world = World::new();
    let held: Vec<_> = (0..2_000).map(|n| n << 12).collect();
    world.session(1, held.iter().map(|n| info(*n, policy())).collect());
    world.beat(1, 1, 0, &held);
    let ([_, leases, _], _) = counts(|| world.put(Input::Revoke(holder(1), Reason::Evicted)));
    assert!(leases <= 10 * 2_000, "{leases}");
    // It goes on beating and never says that they are gone.
    let mut taken = 0;
    for seq in 2..9 {
        world.beat(1, seq, 0, &held);
        taken += verdicts(&world.pass(2_000)).len();
    }
    assert_eq!(taken, 2_000);
}
