//! The engine, input by input. The simulation plays the same engine against a whole world.

use super::*;
use crate::class::{MatchClass, WorkerProfile};
use crate::options::AttemptLimits;
use crate::policy::{QueuePolicy, Takeover};
use crate::run::Evidence;
use crate::{ClassId, Epoch, HomeSeq, Incarnation, QueueId, RunId, Wall, WorkerId};
use std::sync::Arc;

mod grace;
mod limits;
mod replicas;

const Q: QueueId = QueueId(1);
const C: ClassId = ClassId(1);

fn holder(n: i64) -> Holder {
    Holder { worker: WorkerId(n), incarnation: Incarnation(1) }
}

fn lease(n: u128) -> LeaseRef {
    LeaseRef { run_id: RunId::from_parts(Wall(1), n << 100), epoch: Epoch(1) }
}

fn policy() -> Liveness {
    QueuePolicy::default().liveness()
}

fn info(n: u128, liveness: Liveness) -> LeaseInfo {
    let limits = AttemptLimits { run_timeout: Millis::hours(24), progress_timeout: None };
    let (begun, since) = (Observed(0), Observed(0));
    LeaseInfo { lease: lease(n), liveness, started: true, cancelling: false, begun, since, limits }
}

fn named(queue: &str) -> (String, String) {
    ("default".to_owned(), queue.to_owned())
}

struct World {
    engine: Engine,
    now: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self { engine: Engine::new(Observed(0), Mono(0)), now: 0 };
        world.put(Input::Queue(Q, named("q"), policy()));
        let class = MatchClass {
            namespace: "default".into(),
            queue: "q".into(),
            kind: "exec".into(),
            requires: std::collections::BTreeMap::new(),
            pin: None,
        };
        world.put(Input::Class(C, Arc::new(class)));
        world.pass(500);
        world
    }

    fn put(&mut self, input: Input) -> Vec<Effect> {
        self.engine.handle(input, Mono(self.now))
    }

    /// Lets time pass with a punctual judge; everything that came out.
    fn pass(&mut self, ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..ms / TICK.0 {
            self.now += TICK.0;
            let senses = Senses { self_beat_sent: Some(Mono(self.now)), ..Senses::default() };
            effects.extend(self.put(Input::Tick(senses)));
        }
        effects
    }

    fn session(&mut self, n: i64, leases: Vec<LeaseInfo>) -> Vec<Effect> {
        let profile = WorkerProfile {
            namespace: "default".into(),
            name: format!("w-{n}"),
            queues: ["q".to_owned()].into(),
            kinds: ["exec".to_owned()].into(),
            labels: std::collections::BTreeMap::new(),
            slots: 4,
        };
        let info = SessionInfo {
            holder: holder(n),
            profile,
            presence: Presence::Session,
            home_seq: HomeSeq(n),
            draining: false,
            leases,
            rearmed: 0,
            armed: Observed(0),
        };
        self.put(Input::Open(info, Some(conn(n)), false))
    }

    fn beat(&mut self, n: i64, seq: u64, credit: u64, held: &[u128]) -> Vec<Effect> {
        let held = held.iter().map(|&n| HeldInfo { lease: lease(n), frozen: Millis::ZERO }).collect();
        let beat = BeatInfo { beat_seq: seq, credit, seen_push_seq: 99, timer: true, held };
        self.put(Input::Beat(holder(n), conn(n), beat))
    }
}

fn conn(n: i64) -> ConnId {
    ConnId(n.unsigned_abs())
}

fn verdicts(effects: &[Effect]) -> Vec<&VerdictWanted> {
    effects.iter().filter_map(|e| if let Effect::Verdict(v) = e { Some(v) } else { None }).collect()
}

fn said(effects: &[Effect]) -> Vec<&Say> {
    effects.iter().filter_map(|e| if let Effect::Say(_, _, s) = e { Some(s) } else { None }).collect()
}

fn claims(effects: &[Effect]) -> Vec<&ClaimWanted> {
    effects.iter().filter_map(|e| if let Effect::Claim(c) = e { Some(c) } else { None }).collect()
}

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
fn no_work_goes_to_a_session_before_its_first_beat_or_after_its_close() {
    let mut world = World::new();
    world.session(1, vec![]);
    assert!(claims(&world.put(Input::Ready(vec![C]))).is_empty());
    let effects = world.beat(1, 1, 4, &[]);
    assert_eq!(claims(&effects)[0].max, 4);
    let token = claims(&effects)[0].token;
    let result = ClaimResult { leases: vec![info(1, policy())], ..ClaimResult::default() };
    let effects = world.put(Input::ClaimDone(token, result));
    assert!(matches!(said(&effects)[..], [Say::Push(1, _)]));
    world.put(Input::Closed(holder(1), conn(1), CloseKind::Ended));
    assert!(claims(&world.put(Input::Ready(vec![C]))).is_empty());
}

#[test]
fn credit_bounds_what_is_claimed_and_a_hint_after_a_claim_is_not_lost() {
    let mut world = World::new();
    world.session(1, vec![]);
    world.beat(1, 1, 2, &[]);
    let first = world.put(Input::Ready(vec![C]));
    let token = claims(&first)[0].token;
    assert!(claims(&world.put(Input::Ready(vec![C]))).is_empty(), "all credit is reserved");
    let nothing = ClaimResult { exhausted: vec![C], ..ClaimResult::default() };
    let effects = world.put(Input::ClaimDone(token, nothing));
    assert_eq!(claims(&effects).len(), 1, "the hint came after the claim was sent");
    let token = claims(&effects)[0].token;
    let nothing = ClaimResult { exhausted: vec![C], ..ClaimResult::default() };
    assert!(claims(&world.put(Input::ClaimDone(token, nothing))).is_empty());
}

#[test]
fn an_offer_is_spread_over_the_sessions_that_have_room() {
    let mut world = World::new();
    for n in 1..=3 {
        world.session(n, vec![]);
        world.beat(n, 1, 4, &[]);
    }
    let effects = world.put(Input::Offer(vec![(C, 6)]));
    assert_eq!(claims(&effects).iter().map(|c| c.max).collect::<Vec<_>>(), [2, 2, 2]);
    let effects = world.put(Input::Offer(vec![(C, 1)]));
    assert_eq!(claims(&effects).len(), 1);
}

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
    let unseen = BeatInfo { beat_seq: 2, credit: 4, seen_push_seq: 0, timer: true, held: vec![] };
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
fn a_claimed_run_that_does_not_start_is_revoked() {
    let mut world = World::new();
    let late = LeaseInfo { started: false, ..info(7, policy()) };
    world.session(1, vec![late]);
    let mut effects = Vec::new();
    for seq in 1..35 {
        effects.extend(world.beat(1, seq, 3, &[7]));
        effects.extend(world.pass(2_000));
    }
    assert!(said(&effects).contains(&&Say::Lost(lease(7), Reason::StartTimeout)));
    assert_eq!(verdicts(&effects).len(), 1);
}

#[test]
fn a_worker_that_does_not_beat_is_under_claim_ttl_alone() {
    let mut world = World::new();
    let mut info_ = SessionInfo {
        holder: holder(1),
        profile: WorkerProfile::default(),
        presence: Presence::None(None),
        home_seq: HomeSeq(1),
        draining: false,
        leases: vec![],
        rearmed: 0,
        armed: Observed(0),
    };
    info_.leases = vec![LeaseInfo { since: Observed(500), ..info(7, policy()) }];
    world.put(Input::Open(info_, None, false));
    assert!(verdicts(&world.pass(7_100_000)).is_empty());
    world.put(Input::Reported(vec![(holder(1), lease(7))]));
    assert!(verdicts(&world.pass(7_100_000)).is_empty(), "a report is a sign of life");
    assert_eq!(verdicts(&world.pass(200_000))[0].reason, Reason::ClaimTtlExceeded);
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

#[test]
fn a_silent_session_takes_nothing_new_although_its_connection_is_open() {
    let mut world = World::new();
    world.session(1, vec![]);
    world.beat(1, 1, 4, &[]);
    world.pass(5_100);
    assert!(claims(&world.put(Input::Ready(vec![C]))).is_empty());
    assert!(!claims(&world.beat(1, 2, 4, &[])).is_empty(), "heard again, it does");
}

#[test]
fn nobody_is_given_more_than_its_slots_whatever_credit_it_claims_to_have() {
    let mut world = World::new();
    world.session(1, vec![info(7, policy())]);
    world.beat(1, 1, u64::MAX, &[7]);
    let effects = world.put(Input::Ready(vec![C]));
    assert_eq!(claims(&effects)[0].max, 3);
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

#[test]
fn credit_that_came_before_the_end_of_its_lease_is_used_when_the_end_is_stored() {
    let mut world = World::new();
    world.session(1, vec![info(5, policy()), info(6, policy()), info(7, policy()), info(8, policy())]);
    world.beat(1, 1, 0, &[5, 6, 7, 8]);
    world.put(Input::Ready(vec![C]));
    assert!(claims(&world.beat(1, 2, 1, &[5, 6, 7, 8])).is_empty(), "all slots are held");
    let effects = world.put(Input::Ended(vec![(holder(1), lease(5))]));
    assert_eq!(claims(&effects)[0].max, 1);
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

fn opened(effects: &[Effect]) -> Vec<Option<Opened>> {
    effects.iter().filter_map(|e| if let Effect::Breaker(b) = e { Some(*b) } else { None }).collect()
}

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

#[test]
fn what_is_taken_while_the_connection_is_away_stays_taken_on_the_next_one() {
    for names_it in [true, false] {
        let mut world = World::new();
        world.session(1, vec![info(1, policy())]);
        let conn = world.engine.sessions[&holder(1)].conn.as_ref().unwrap().id;
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
        let answered = world.put(Input::Beat(holder(1), ConnId(77), beat));
        let lost = |e: &Effect| matches!(e, Effect::Say(_, _, Say::Lost(l, Reason::Evicted)) if *l == lease(1));
        let taken =
            |e: &Effect| matches!(e, Effect::Verdict(v) if v.leases == [lease(1)] && v.reason == Reason::Evicted);
        assert!(answered.iter().any(|e| if names_it { lost(e) } else { taken(e) }), "{answered:?}");
    }
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
