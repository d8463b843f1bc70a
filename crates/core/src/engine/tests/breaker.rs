//! Many who are silent at once.

use super::*;

/// So many sessions with a lease each, all heard now.
fn fleet(of: i64) -> World {
    let mut world = World::new();
    for n in 1..=of {
        world.session(n, vec![info(n.unsigned_abs().into(), policy())]);
        world.beat(n, 1, 3, &[n.unsigned_abs().into()]);
    }
    world
}

#[test]
fn when_many_fall_silent_at_once_nobody_is_judged_until_the_judge_is_known_to_hear() {
    let mut world = fleet(9);
    let mut effects = Vec::new();
    for seq in 2..8 {
        // Six of nine go on.
        (4..=9).for_each(|n| drop(world.beat(n, seq, 3, &[n.unsigned_abs().into()])));
        effects.extend(world.pass(2_000));
    }
    assert_eq!(opened(&effects), [Some(Opened::Silent { absent: 3, of: 9 })]);
    assert!(verdicts(&effects).is_empty());
    let mut effects = Vec::new();
    for seq in 8..16 {
        (4..=9).for_each(|n| drop(world.beat(n, seq, 3, &[n.unsigned_abs().into()])));
        effects.extend(world.pass(1_000));
        if seq == 8 {
            // 10 s, and the proof takes three more; then half a TTL.
            assert_eq!(opened(&effects), [None]);
            assert!(verdicts(&effects).is_empty());
        }
    }
    assert_eq!(
        verdicts(&effects).iter().filter(|v| v.end_session).count(),
        3,
        "they are judged in the end, and no other"
    );
    assert_eq!(opened(&effects), [None], "and open it no more");
}

#[test]
fn a_fleet_that_comes_back_while_the_breaker_is_open_has_lost_nothing() {
    let mut world = fleet(5);
    let effects = world.pass(25_000);
    assert_eq!((opened(&effects).len(), verdicts(&effects).len()), (1, 0));
    (1..=5).for_each(|n| drop(world.beat(n, 2, 3, &[n.unsigned_abs().into()])));
    let effects = world.pass(9_000);
    assert_eq!((opened(&effects), verdicts(&effects).len()), (vec![None], 0));
}

#[test]
fn a_fleet_that_lost_power_is_recovered_later_and_not_never() {
    let mut world = fleet(5);
    assert!(verdicts(&world.pass(34_000)).is_empty());
    assert_eq!(verdicts(&world.pass(12_000)).len(), 5);
}

#[test]
fn half_a_fleet_that_is_killed_opens_nothing() {
    let mut world = fleet(10);
    (1..=5).for_each(|n| drop(world.put(Input::Closed(holder(n), conn(n), CloseKind::Ended))));
    let effects = world.pass(1_300);
    assert_eq!((opened(&effects).len(), verdicts(&effects).len()), (0, 5));
}

#[test]
fn connections_that_all_end_at_once_are_the_networks_doing_until_proved_otherwise() {
    let mut world = fleet(4);
    for n in 1..=4 {
        world.now += 7;
        world.put(Input::Closed(holder(n), conn(n), CloseKind::Ended));
    }
    let effects = world.pass(1_300);
    assert_eq!((opened(&effects), verdicts(&effects).len()), (vec![Some(Opened::Closed { absent: 4, of: 4 })], 0));
}

#[test]
fn an_open_breaker_stops_no_other_evidence() {
    let mut world = fleet(4);
    world.pass(12_000);
    assert!(world.engine.breaker().is_some());
    world.put(Input::Revoke(holder(1), Reason::Evicted));
    let effects = world.beat(1, 2, 3, &[]);
    assert_eq!(verdicts(&effects).len(), 1, "a person's word, and the worker's own");
}

#[test]
fn a_mass_of_absent_sessions_is_written_off_at_a_rate() {
    let mut world = fleet(300);
    world.pass(45_000);
    let effects = world.pass(1_000);
    let judged = verdicts(&effects).len();
    assert!((40..=75).contains(&judged), "{judged} of 300 in a second");
    let effects = world.pass(10_000);
    assert!(verdicts(&effects).len() > 100);
}

/// Found by the simulation: beats follow the least TTL of a worker's queues, so all of a fleet fall silent at the same time,
/// whatever each happens to hold.
#[test]
fn the_short_lease_of_one_worker_is_not_judged_before_the_silence_of_all_is_seen() {
    let mut world = World::new();
    let short = Liveness { lease_ttl: Millis::secs(3), ..policy() };
    world.put(Input::Queue(Q, named("q"), short));
    for n in 1..=5_i64 {
        let held = if n == 1 { short } else { policy() };
        world.session(n, vec![info(n.unsigned_abs().into(), held)]);
        world.beat(n, 1, 3, &[n.unsigned_abs().into()]);
    }
    let effects = world.pass(4_000);
    assert_eq!((opened(&effects), verdicts(&effects).len()), (vec![Some(Opened::Silent { absent: 5, of: 5 })], 0));
}
