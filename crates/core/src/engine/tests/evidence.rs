//! Silence, closed connections, and a judge that stands still.

use super::*;

#[test]
fn silence_of_a_full_ttl_loses_the_leases_and_the_session() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, 3, &[7]);
    assert!(verdicts(&world.pass(9_900)).is_empty());
    let effects = world.pass(200);
    let found = verdicts(&effects);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].evidence, found[0].reason), (Evidence::Silence, Reason::WorkerHeartbeatLost));
    assert!(found[0].end_session);
    let wanted = found[0].clone();
    let effects = world.put(Input::VerdictDone(wanted, VerdictResult::Committed(vec![lease(7)])));
    assert!(matches!(said(&effects)[..], [Say::Lost(..), Say::Close(CloseWhy::WrittenOff)]));
    assert_eq!(world.engine.counts(), (0, 0));
}

#[test]
fn a_beat_puts_the_verdict_off() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    for seq in 1..20 {
        world.beat(1, seq, 3, &[7]);
        assert!(verdicts(&world.pass(5_000)).is_empty());
    }
}

#[test]
fn a_closed_connection_is_evidence_after_the_window_and_a_new_session_undoes_it() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, 3, &[7]);
    world.put(Input::Closed(holder(1), conn(1), CloseKind::Ended));
    assert!(verdicts(&world.pass(950)).is_empty());
    let effects = world.clone_and_pass(150);
    assert_eq!(verdicts(&effects)[0].evidence, Evidence::SessionClosed);

    world.session(1, vec![info(7, policy())]);
    assert!(verdicts(&world.pass(5_000)).is_empty(), "it came back in time");
}

impl World {
    fn clone_and_pass(&self, ms: u64) -> Vec<Effect> {
        Self { engine: self.engine.clone(), now: self.now }.pass(ms)
    }
}

#[test]
fn the_late_close_of_an_old_connection_means_nothing() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.put(Input::Closed(holder(1), ConnId(999), CloseKind::Ended));
    assert!(verdicts(&world.pass(2_000)).is_empty());
}

#[test]
fn a_time_out_of_the_transport_and_the_servers_own_close_are_only_silence() {
    for kind in [CloseKind::TimedOut, CloseKind::Ours] {
        let mut world = World::new();
        world.session(1, vec![info(7, policy())]);
        world.put(Input::Closed(holder(1), conn(1), kind));
        assert!(verdicts(&world.pass(9_900)).is_empty());
        assert_eq!(verdicts(&world.pass(200))[0].evidence, Evidence::Silence);
    }
}

#[test]
fn a_strict_queue_ignores_closed_connections_and_grace_separates_absent_from_written_off() {
    let strict = Liveness { takeover: Takeover::Strict, ..policy() };
    let graced = Liveness { offline_grace: Millis::secs(3), ..policy() };
    let mut world = World::new();
    world.session(1, vec![info(7, strict), info(8, graced)]);
    world.beat(1, 1, 3, &[7, 8]);
    world.put(Input::Closed(holder(1), conn(1), CloseKind::Ended));
    assert!(verdicts(&world.pass(3_900)).is_empty());
    let effects = world.pass(200);
    assert_eq!(verdicts(&effects)[0].leases, [lease(8)]);
    assert!(!verdicts(&effects)[0].end_session, "the strict lease still holds");
    assert!(verdicts(&world.pass(5_000)).is_empty());
    assert_eq!(verdicts(&world.pass(1_200))[0].leases, [lease(7)]);
}

#[test]
fn a_pause_of_the_judge_delays_verdicts_and_never_makes_one() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, 3, &[7]);
    world.pass(5_000);
    world.now += 300_000;
    let effects = world.pass(4_000);
    assert!(verdicts(&effects).is_empty(), "five minutes of its own sleep count for nothing");
    world.beat(1, 2, 3, &[7]);
    assert!(verdicts(&world.pass(9_000)).is_empty());
}

#[test]
fn a_lease_that_comes_while_its_session_is_judged_is_judged_too() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, 4, &[7]);
    let effects = world.put(Input::Ready(vec![C]));
    let token = claims(&effects)[0].token;
    let effects = world.pass(10_200);
    let wanted = verdicts(&effects)[0].clone();
    assert!(wanted.end_session);
    let late = ClaimResult { leases: vec![info(8, policy())], ..ClaimResult::default() };
    world.put(Input::ClaimDone(token, late));
    world.put(Input::VerdictDone(wanted, VerdictResult::Committed(vec![lease(7)])));
    let effects = world.pass(200);
    assert_eq!(verdicts(&effects)[0].leases, [lease(8)], "it does not stay open for ever");
}

/// The store may keep the second connection waiting, while something between drops the first.
#[test]
fn a_worker_that_is_opening_another_session_is_not_judged_by_the_end_of_its_first() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, 3, &[7]);
    world.pass(1_000);
    world.put(Input::Heard(holder(1), None));
    world.pass(200);
    world.put(Input::Closed(holder(1), conn(1), CloseKind::Ended));
    assert!(verdicts(&world.pass(2_000)).is_empty());
    assert_eq!(verdicts(&world.pass(8_000)).len(), 1, "silence is counted from the knock");
}

/// Otherwise a disk that is busy for half a second makes a death that everybody saw one that must be waited for.
#[test]
fn a_slow_store_delays_the_verdict_over_a_closed_connection_and_does_not_undo_the_evidence() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, 3, &[7]);
    world.put(Input::Closed(holder(1), conn(1), CloseKind::Ended));
    for _ in 0..40 {
        world.now += TICK.0;
        let waits = Some(Millis(700));
        let senses = Senses { pending_write: waits, self_beat_sent: Some(Mono(world.now)), ..Senses::default() };
        assert!(verdicts(&world.put(Input::Tick(senses))).is_empty());
    }
    let effects = world.pass(1_400);
    assert_eq!(verdicts(&effects).first().map(|v| v.evidence), Some(Evidence::SessionClosed));
}

#[test]
fn a_worker_that_knocks_while_the_store_is_slow_is_not_judged_by_the_end_of_its_connection() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, 3, &[7]);
    world.put(Input::Closed(holder(1), conn(1), CloseKind::Ended));
    world.pass(400);
    world.put(Input::Heard(holder(1), None));
    assert!(verdicts(&world.pass(9_000)).is_empty());
}
