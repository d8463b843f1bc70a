//! The limits of section 3 that the judge keeps.

use super::*;

const TWO_HOURS: u64 = 7_200_000;

fn limited(run_timeout: Millis, progress_timeout: Option<Millis>) -> LeaseInfo {
    LeaseInfo { limits: AttemptLimits { run_timeout, progress_timeout }, ..info(7, policy()) }
}

impl World {
    /// A worker without a session that holds one lease.
    fn caller(&mut self, presence: Presence, held: LeaseInfo) {
        let profile = WorkerProfile { slots: 4, ..WorkerProfile::default() };
        let leases = vec![held];
        let (home_seq, armed) = (HomeSeq(1), Observed(0));
        let info =
            SessionInfo { holder: holder(1), profile, presence, home_seq, draining: false, leases, rearmed: 0, armed };
        self.put(Input::Open(info, None, false));
    }

    fn names(&mut self, frozen: Millis) -> Vec<Effect> {
        self.put(Input::PollHeld(holder(1), vec![HeldInfo { lease: lease(7), frozen }]))
    }

    /// Beats over so much time, each `every`; what came out.
    fn beats(&mut self, ms: u64, every: u64, frozen: impl Fn(u64) -> Millis) -> Vec<Effect> {
        let mut effects = Vec::new();
        for n in 1..=ms / every {
            effects.extend(self.pass(every));
            effects.extend(self.names(frozen(n)));
        }
        effects
    }

    fn session_beats(&mut self, ms: u64, frozen: Millis) -> Vec<Effect> {
        let mut effects = Vec::new();
        for n in 1..=ms / 2_000 {
            let held = vec![HeldInfo { lease: lease(7), frozen }];
            let beat = BeatInfo { beat_seq: n, credit: 3, seen_push_seq: 99, timer: true, held };
            effects.extend(self.put(Input::Beat(holder(1), conn(1), beat)));
            effects.extend(self.pass(2_000));
        }
        effects
    }
}

fn reasons(effects: &[Effect]) -> Vec<(Reason, Evidence)> {
    verdicts(effects).iter().map(|v| (v.reason, v.evidence)).collect()
}

#[test]
fn a_run_that_a_beat_has_named_is_never_touched_by_the_rule_for_those_that_do_not_beat() {
    let mut world = World::new();
    world.caller(Presence::None(Some(Millis::secs(30))), info(7, policy()));
    // Claimed 3 h ago, beat 30 s ago.
    assert!(verdicts(&world.beats(3 * 3_600_000, 30_000, |_| Millis::ZERO)).is_empty());
    // From then on its silence counts: three of its intervals.
    assert!(verdicts(&world.pass(89_900)).is_empty());
    assert_eq!(reasons(&world.pass(200)), [(Reason::WorkerHeartbeatLost, Evidence::Silence)]);
}

#[test]
fn a_beater_that_declares_no_interval_has_a_minute() {
    let mut world = World::new();
    world.caller(Presence::None(None), info(7, policy()));
    world.names(Millis::ZERO);
    assert!(verdicts(&world.pass(59_900)).is_empty());
    assert_eq!(reasons(&world.pass(200)), [(Reason::WorkerHeartbeatLost, Evidence::Silence)]);
}

#[test]
fn after_a_start_of_the_judge_a_beater_can_show_itself_before_claim_ttl_takes_its_run() {
    let mut world = World::new();
    world.pass(3 * TWO_HOURS / 2);
    // Its row says only: claimed three hours ago, nothing said since.
    world.caller(Presence::None(None), info(7, policy()));
    assert!(verdicts(&world.pass(30_000)).is_empty());
    world.names(Millis::ZERO);
    assert!(verdicts(&world.beats(3_600_000, 30_000, |_| Millis::ZERO)).is_empty());
    let mut silent = World::new();
    silent.pass(3 * TWO_HOURS / 2);
    silent.caller(Presence::None(None), info(7, policy()));
    assert_eq!(reasons(&silent.pass(61_000)), [(Reason::ClaimTtlExceeded, Evidence::Limit)]);
}

#[test]
fn an_idle_worker_that_does_not_beat_is_gone_after_claim_ttl() {
    let mut world = World::new();
    world.caller(Presence::None(None), info(7, policy()));
    world.put(Input::Ended(vec![(holder(1), lease(7))]));
    assert!(verdicts(&world.pass(TWO_HOURS - 100)).is_empty());
    let effects = world.pass(200);
    let found = verdicts(&effects);
    assert!(found[0].end_session && found[0].leases.is_empty());
}

#[test]
fn silence_of_one_run_passes_the_gate_like_any_verdict_by_absence() {
    let mut world = World::new();
    world.caller(Presence::None(None), info(7, policy()));
    world.names(Millis::ZERO);
    world.pass(59_900);
    // The store stands still, so nothing is held against anybody.
    for _ in 0..100 {
        world.now += TICK.0;
        let senses =
            Senses { since_commit: Millis::secs(60), self_beat_sent: Some(Mono(world.now)), ..Senses::default() };
        assert!(verdicts(&world.put(Input::Tick(senses))).is_empty());
    }
    assert!(verdicts(&world.pass(50_000)).is_empty(), "when the store is back, its silence begins anew");
    assert_eq!(reasons(&world.pass(11_000)), [(Reason::WorkerHeartbeatLost, Evidence::Silence)]);
}

#[test]
fn the_run_timeout_of_an_agent_is_the_judges_only_a_margin_later_and_only_while_it_is_heard() {
    let mut world = World::new();
    world.session(1, vec![limited(Millis::secs(100), None)]);
    // 5 % would be 5 s; the TTL is more.
    assert!(said(&world.session_beats(108_000, Millis::ZERO)).iter().all(|s| !matches!(s, Say::Lost(..))));
    let effects = world.session_beats(4_000, Millis::ZERO);
    assert!(said(&effects).contains(&&Say::Lost(lease(7), Reason::RunTimeout)), "it is revoked, not taken");

    let mut silent = World::new();
    silent.session(1, vec![limited(Millis::secs(100), None)]);
    silent.session_beats(102_000, Millis::ZERO);
    let effects = silent.pass(12_000);
    assert_eq!(reasons(&effects), [(Reason::WorkerHeartbeatLost, Evidence::Silence)]);
}

#[test]
fn frozen_time_is_no_part_of_run_timeout_and_restarts_progress_timeout() {
    let mut world = World::new();
    world.session(1, vec![limited(Millis::secs(100), None)]);
    assert!(verdicts(&world.session_beats(200_000, Millis::secs(95))).is_empty());
    assert!(said(&world.session_beats(10_000, Millis::secs(95))).contains(&&Say::Lost(lease(7), Reason::RunTimeout)));

    let mut world = World::new();
    let interval = Presence::Poll(Millis::secs(3));
    world.caller(interval, limited(Millis::hours(24), Some(Millis::secs(20))));
    let freezing = |n: u64| Millis::secs(3 * n);
    assert!(verdicts(&world.beats(60_000, 3_000, freezing)).is_empty(), "it stands still, and says so");
    assert!(verdicts(&world.beats(18_000, 3_000, |_| freezing(20))).is_empty());
    let effects = world.beats(6_000, 3_000, |_| freezing(20));
    assert_eq!(reasons(&effects), [(Reason::ProgressTimeout, Evidence::Limit)]);
}

#[test]
fn a_statement_is_progress_and_a_beat_is_none() {
    let mut world = World::new();
    world.caller(Presence::Poll(Millis::secs(3)), limited(Millis::hours(24), Some(Millis::secs(20))));
    for _ in 0..10 {
        assert!(verdicts(&world.beats(18_000, 3_000, |_| Millis::ZERO)).is_empty());
        world.put(Input::Reported(vec![(holder(1), lease(7))]));
    }
    assert_eq!(world.engine.still_for(holder(1), lease(7)), Some(Millis::ZERO));
    world.beats(9_000, 3_000, |_| Millis::ZERO);
    assert_eq!(world.engine.still_for(holder(1), lease(7)), Some(Millis::secs(9)));
    let effects = world.beats(12_000, 3_000, |_| Millis::ZERO);
    assert_eq!(reasons(&effects), [(Reason::ProgressTimeout, Evidence::Limit)]);
}

#[test]
fn the_progress_of_an_agent_is_its_own_to_watch_and_the_judges_a_margin_later() {
    let mut world = World::new();
    world.session(1, vec![limited(Millis::hours(24), Some(Millis::secs(20)))]);
    assert!(said(&world.session_beats(28_000, Millis::ZERO)).iter().all(|s| !matches!(s, Say::Lost(..))));
    let effects = world.session_beats(4_000, Millis::ZERO);
    assert!(said(&effects).contains(&&Say::Lost(lease(7), Reason::ProgressTimeout)));
}

#[test]
fn after_a_time_without_a_way_to_the_server_progress_begins_anew() {
    let long = Liveness { lease_ttl: Millis::secs(10), offline_grace: Millis::hours(3), ..policy() };
    let lease_ = LeaseInfo { liveness: long, ..limited(Millis::hours(24), Some(Millis::secs(20))) };
    let mut world = World::new();
    world.caller(Presence::Poll(Millis::secs(3)), lease_);
    world.names(Millis::ZERO);
    assert!(verdicts(&world.pass(3_600_000)).is_empty(), "nothing is known of its work meanwhile");
    // It is back. What its work said in the hour is still on its way.
    world.names(Millis::ZERO);
    assert!(verdicts(&world.beats(18_000, 3_000, |_| Millis::ZERO)).is_empty());
}

#[test]
fn a_limit_whose_verdict_could_not_be_written_is_due_again() {
    let mut world = World::new();
    world.caller(Presence::Poll(Millis::secs(3)), LeaseInfo { started: false, ..info(7, policy()) });
    let effects = world.beats(63_000, 3_000, |_| Millis::ZERO);
    let wanted = verdicts(&effects)[0].clone();
    assert_eq!((wanted.reason, verdicts(&effects).len()), (Reason::StartTimeout, 1));
    world.put(Input::VerdictDone(wanted, VerdictResult::Failed));
    assert_eq!(reasons(&world.pass(200)), [(Reason::StartTimeout, Evidence::Limit)]);
}

#[test]
fn a_stall_of_the_judge_adds_nothing_to_any_limit() {
    let mut world = World::new();
    world.caller(Presence::Poll(Millis::secs(3)), limited(Millis::secs(60), Some(Millis::secs(40))));
    world.beats(30_000, 3_000, |_| Millis::ZERO);
    world.now += 86_400_000;
    assert!(verdicts(&world.beats(6_000, 3_000, |_| Millis::ZERO)).is_empty());
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
