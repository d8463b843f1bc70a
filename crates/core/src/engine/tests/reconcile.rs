//! Beats against leases, and what a worker is told.

use super::*;

#[test]
fn the_first_beat_is_answered_hello_lost_held_and_only_then_confirmed() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy()), info(8, policy())]);
    let effects = world.beat(1, 1, 2, &[7, 9]);
    let said = said(&effects);
    assert!(matches!(said[0], Say::Hello { .. }));
    assert_eq!(said[1], &Say::Lost(lease(9), Reason::LeaseReleased));
    assert_eq!(said[2], &Say::Held(vec![lease(8)]));
    assert_eq!(said[3], &Say::BeatAck(1));
}

#[test]
fn a_lease_is_taken_back_only_after_two_beats_that_saw_its_push() {
    let mut world = World::new();
    world.session(1, vec![]);
    world.put(Input::Ready(vec![C]));
    let effects = world.beat(1, 1, 4, &[]);
    let token = claims(&effects)[0].token;
    world.put(Input::ClaimDone(token, ClaimResult { leases: vec![info(1, policy())], ..ClaimResult::default() }));
    // Nor one that saw the parts before its last.
    let unseen = BeatInfo { beat_seq: 2, credit: 4, seen_push_seq: 1, timer: true, held: vec![] };
    for _ in 0..5 {
        assert!(verdicts(&world.put(Input::Beat(holder(1), conn(1), unseen.clone()))).is_empty());
    }
    assert!(verdicts(&world.beat(1, 3, 4, &[])).is_empty());
    let effects = world.beat(1, 4, 4, &[]);
    assert_eq!(verdicts(&effects)[0].reason, Reason::LeaseReleased);
}

#[test]
fn beats_are_not_confirmed_while_a_verdict_is_uncertain() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, 3, &[7]);
    let effects = world.pass(10_200);
    let wanted = verdicts(&effects)[0].clone();
    assert!(!said(&world.beat(1, 2, 3, &[7])).contains(&&Say::BeatAck(2)));
    world.put(Input::VerdictDone(wanted, VerdictResult::Unknown));
    let effects = world.pass(50);
    let again = verdicts(&effects)[0].clone();
    assert!(again.again);
    world.put(Input::VerdictDone(again, VerdictResult::Failed));
    assert!(!said(&world.beat(1, 3, 3, &[7])).contains(&&Say::BeatAck(3)), "a refusal proves nothing now");
    let effects = world.pass(50);
    let again = verdicts(&effects)[0].clone();
    let effects = world.put(Input::VerdictDone(again, VerdictResult::Committed(vec![])));
    assert!(matches!(said(&effects)[0], Say::Lost(..)));
}

#[test]
fn an_eviction_revokes_and_takes_only_when_the_worker_names_it_no_more() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, 3, &[7]);
    let effects = world.put(Input::Revoke(holder(1), Reason::Evicted));
    assert_eq!(said(&effects), [&Say::Lost(lease(7), Reason::Evicted)]);
    assert!(verdicts(&world.beat(1, 2, 3, &[7])).is_empty(), "its process is still there");
    let effects = world.beat(1, 3, 3, &[]);
    assert_eq!(verdicts(&effects)[0].evidence, Evidence::Person);
}

#[test]
fn a_replaced_worker_is_told_to_end_when_nothing_of_its_work_is_left() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, 3, &[7]);
    world.put(Input::Revoke(holder(1), Reason::WorkerReplaced));
    let effects = world.beat(1, 2, 3, &[]);
    let taken = verdicts(&effects)[0].clone();
    let effects = world.put(Input::VerdictDone(taken, VerdictResult::Committed(vec![lease(7)])));
    assert_eq!(said(&effects).last(), Some(&&Say::Close(CloseWhy::Replaced)));
}

#[test]
fn a_revocation_ends_when_trust_must_have_run_out_although_the_worker_still_beats() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, 3, &[7]);
    world.put(Input::Revoke(holder(1), Reason::Evicted));
    let mut found = Vec::new();
    for seq in 2..8 {
        found.extend(world.pass(2_000));
        world.beat(1, seq, 3, &[7]);
    }
    assert_eq!(verdicts(&found).len(), 1);
}

#[test]
fn a_queue_that_becomes_known_changes_the_beat_before_its_first_run() {
    let mut world = World::new();
    let profile = WorkerProfile {
        namespace: "default".into(),
        queues: ["fast".to_owned()].into(),
        kinds: ["exec".to_owned()].into(),
        slots: 1,
        ..WorkerProfile::default()
    };
    let info = SessionInfo {
        holder: holder(1),
        profile,
        presence: Presence::Session,
        home_seq: HomeSeq(1),
        draining: false,
        leases: vec![],
        rearmed: 0,
        armed: Observed(0),
    };
    world.put(Input::Open(info, Some(conn(1)), false));
    world.beat(1, 1, 1, &[]);
    let fast = Liveness { lease_ttl: Millis::secs(1), ..policy() };
    let effects = world.put(Input::Queue(QueueId(2), named("fast"), fast));
    assert!(said(&effects).iter().any(|s| matches!(s, Say::Hello { heartbeat: Millis(200), .. })), "{effects:?}");
}

#[test]
fn a_verdict_is_told_although_the_news_of_its_commit_came_first() {
    let mut world = World::new();
    let graced = Liveness { offline_grace: Millis::secs(3), ..policy() };
    world.session(1, vec![info(7, policy()), info(8, graced)]);
    world.beat(1, 1, 2, &[7, 8]);
    let effects = world.pass(10_200);
    let wanted = verdicts(&effects)[0].clone();
    world.put(Input::Ended(vec![(holder(1), lease(7))]));
    let effects = world.put(Input::VerdictDone(wanted, VerdictResult::Committed(vec![lease(7)])));
    assert!(said(&effects).contains(&&Say::Lost(lease(7), Reason::WorkerHeartbeatLost)));
}

#[test]
fn a_longer_lease_for_the_queue_does_not_slow_the_beats_that_an_older_lease_needs() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, 3, &[7]);
    let effects = world.put(Input::Queue(Q, named("q"), Liveness { lease_ttl: Millis::secs(60), ..policy() }));
    assert!(said(&effects).is_empty(), "{effects:?}");
}

fn orders(world: &World, n: i64) -> Vec<String> {
    world.engine.standing_orders(holder(n)).iter().map(|say| format!("{say:?}")).collect()
}

#[test]
fn a_polling_worker_is_told_a_cancel_and_a_drain_until_they_are_over() {
    let mut world = World::new();
    let profile = WorkerProfile { namespace: "default".into(), name: "p".into(), slots: 4, ..WorkerProfile::default() };
    let info = SessionInfo {
        holder: holder(1),
        profile,
        presence: Presence::Poll(Millis::secs(20)),
        home_seq: HomeSeq(1),
        draining: false,
        leases: vec![info(1, policy()), info(2, policy())],
        rearmed: 0,
        armed: Observed(0),
    };
    world.put(Input::Open(info, None, false));
    assert!(orders(&world, 1).is_empty());
    world.put(Input::Cancel(holder(1), lease(2), Reason::Cancelled));
    world.put(Input::Drain(holder(1), true));
    for _ in 0..2 {
        let told = orders(&world, 1);
        assert!(told.len() == 2 && told[0] == "Drain" && told[1].starts_with("Cancel"), "{told:?}");
    }
    world.put(Input::Ended(vec![(holder(1), lease(2))]));
    assert_eq!(orders(&world, 1), ["Drain"]);
    world.put(Input::Drain(holder(1), false));
    assert!(orders(&world, 1).is_empty());
}

#[test]
fn a_drain_is_told_again_on_a_new_connection() {
    let mut world = World::new();
    let beat = BeatInfo {
        beat_seq: 1,
        held: vec![HeldInfo { lease: lease(1), frozen: Millis::ZERO }],
        timer: true,
        ..BeatInfo::default()
    };
    let conn = ConnId(world.now + 77);
    let profile =
        WorkerProfile { namespace: "default".into(), name: "w-1".into(), slots: 4, ..WorkerProfile::default() };
    let open = SessionInfo {
        holder: holder(1),
        profile,
        presence: Presence::Session,
        home_seq: HomeSeq(9),
        draining: true,
        leases: vec![info(1, policy())],
        rearmed: 0,
        armed: Observed(0),
    };
    world.put(Input::Open(open, Some(conn), false));
    let answered = world.put(Input::Beat(holder(1), conn, beat));
    assert!(answered.iter().any(|e| matches!(e, Effect::Say(_, c, Say::Drain) if *c == conn)), "{answered:?}");
}

#[test]
fn what_is_taken_while_the_connection_is_away_stays_taken_on_the_next_one() {
    for names_it in [true, false] {
        let mut world = World::new();
        world.session(1, vec![info(1, policy())]);
        let conn = world.engine.sessions.get(&holder(1)).unwrap().conn.as_ref().unwrap().id;
        world.put(Input::Closed(holder(1), conn, CloseKind::Ended));
        world.put(Input::Revoke(holder(1), Reason::Evicted));
        let profile =
            WorkerProfile { namespace: "default".into(), name: "w-1".into(), slots: 4, ..WorkerProfile::default() };
        let open = SessionInfo {
            holder: holder(1),
            profile,
            presence: Presence::Session,
            home_seq: HomeSeq(9),
            draining: true,
            leases: vec![info(1, policy())],
            rearmed: 0,
            armed: Observed(0),
        };
        world.put(Input::Open(open, Some(ConnId(77)), false));
        let held = if names_it { vec![HeldInfo { lease: lease(1), frozen: Millis::ZERO }] } else { Vec::new() };
        let beat = BeatInfo { beat_seq: 1, held, timer: true, ..BeatInfo::default() };
        let answered = world.put(Input::Beat(holder(1), ConnId(77), beat.clone()));
        let lost = |e: &Effect| matches!(e, Effect::Say(_, _, Say::Lost(l, Reason::Evicted)) if *l == lease(1));
        let taken =
            |e: &Effect| matches!(e, Effect::Verdict(v) if v.leases == [lease(1)] && v.reason == Reason::Evicted);
        if names_it {
            assert!(answered.iter().any(lost), "{answered:?}");
            continue;
        }
        let unread = world.put(Input::Beat(holder(1), ConnId(77), BeatInfo { beat_seq: 2, ..beat.clone() }));
        assert!(!answered.iter().chain(&unread).any(taken), "the push of the first connection may still come");
        let read = world.put(Input::Beat(holder(1), ConnId(77), BeatInfo { beat_seq: 3, credit: 3, ..beat }));
        assert!(read.iter().any(taken), "{read:?}");
    }
}

/// It would start what comes late, beside whoever has it then.
#[test]
fn what_is_taken_while_its_push_is_on_the_way_is_not_gone_because_a_beat_does_not_name_it() {
    let mut world = World::new();
    world.session(1, vec![]);
    world.put(Input::Ready(vec![C]));
    let effects = world.beat(1, 1, 4, &[]);
    let token = claims(&effects)[0].token;
    world.put(Input::ClaimDone(token, ClaimResult { leases: vec![info(1, policy())], ..ClaimResult::default() }));
    world.put(Input::Revoke(holder(1), Reason::Evicted));
    // Nor one that saw the parts before its last.
    let unseen = BeatInfo { beat_seq: 2, credit: 4, seen_push_seq: 1, timer: true, held: vec![] };
    assert!(verdicts(&world.put(Input::Beat(holder(1), conn(1), unseen.clone()))).is_empty());
    let seen = BeatInfo { beat_seq: 3, seen_push_seq: 2, ..unseen };
    assert_eq!(verdicts(&world.put(Input::Beat(holder(1), conn(1), seen))).len(), 1);
}
