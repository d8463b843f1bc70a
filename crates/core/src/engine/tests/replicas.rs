//! Replicas: rows, notes, doubt, adoption.

use super::*;
use crate::ReplicaId;
use crate::engine::replicas::{ADOPT_AFTER, ROW_EVERY, UNSURE_AFTER};

const HERE: ReplicaId = ReplicaId(1);
const THERE: ReplicaId = ReplicaId(2);

/// A replica whose rows are written at once, beside one that writes for as long as it is told to.
struct Cluster {
    world: World,
    /// The other's last row.
    peer: Option<PeerRow>,
    /// The store takes rows.
    writes: bool,
    taken: i64,
}

impl Cluster {
    fn new() -> Self {
        let mut world = World::new();
        let seat = Seat { replica: HERE, beat: 0, taken: 0 };
        world.engine = world.engine.clone().in_cluster(seat, Mono(world.now));
        let peer = PeerRow { replica: THERE, beat: 0, tally: Tally::default(), notes: Vec::new() };
        Self { world, peer: Some(peer), writes: true, taken: 0 }
    }

    fn pass(&mut self, ms: u64) -> Vec<Effect> {
        let mut all = Vec::new();
        for _ in 0..ms / TICK.0 {
            let effects = self.world.pass(TICK.0);
            for effect in &effects {
                if let Effect::WriteRow(_) = effect {
                    all.extend(self.row_is_answered());
                }
            }
            all.extend(effects);
        }
        all
    }

    fn row_is_answered(&mut self) -> Vec<Effect> {
        if !self.writes {
            return self.world.put(Input::RowUnwritten);
        }
        let rows = Rows {
            sent: Mono(self.world.now),
            observed: self.world.engine.store_observed(),
            taken: self.taken,
            peers: self.peer.iter().cloned().collect(),
        };
        self.world.put(Input::Rows(rows))
    }

    fn peer_writes(&mut self, change: impl FnOnce(&mut PeerRow)) {
        let peer = self.peer.as_mut().unwrap();
        peer.beat += 1;
        peer.notes.clear();
        change(peer);
    }
}

fn rows(effects: &[Effect]) -> Vec<&OwnRow> {
    effects.iter().filter_map(|e| if let Effect::WriteRow(row) = e { Some(row) } else { None }).collect()
}

fn adoptions(effects: &[Effect]) -> Vec<(ReplicaId, i64)> {
    let of = |e: &Effect| if let Effect::AdoptFrom { replica, beat } = e { Some((*replica, *beat)) } else { None };
    effects.iter().filter_map(of).collect()
}

#[test]
fn a_row_is_written_each_second_with_what_others_must_know() {
    let mut c = Cluster::new();
    c.world.session(1, vec![]);
    c.world.put(Input::Heard(holder(9), None));
    let effects = c.pass(10_000);
    let rows = rows(&effects);
    assert_eq!(rows.len(), 10);
    assert_eq!(rows.iter().map(|r| r.beat).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert_eq!(rows[0].tally.sessions, 1);
    let notes: Vec<_> = rows[0].notes.iter().map(|n| (n.holder, n.opened)).collect();
    assert_eq!(notes, [(holder(1), Some(HomeSeq(1))), (holder(9), None)], "opened here; heard, at home elsewhere");
    assert!(rows[2].notes[0].age > rows[0].notes[0].age && rows[5].notes.is_empty(), "for a few versions of the row");
}

#[test]
fn what_another_replica_heard_of_a_worker_puts_its_verdict_off() {
    let mut c = Cluster::new();
    c.world.session(1, vec![info(1, policy())]);
    c.world.session(2, vec![]);
    for _ in 0..20 {
        c.pass(1_000);
        c.world.put(Input::Heard(holder(2), None));
        c.peer_writes(|row| {
            row.notes =
                vec![Note { holder: holder(1), opened: None, age: Millis(200), named: Vec::new(), evicted: false }];
        });
    }
    assert_eq!(c.world.engine.leases(holder(1)).len(), 1);
    c.pass(1_000);
    c.peer_writes(|_| ());
    let silent = c.pass(9_500);
    assert!(
        verdicts(&silent).iter().all(|v| v.holder != holder(1)),
        "a second later than alone: notes must have had their time to come"
    );
    assert!(verdicts(&c.pass(2_000)).iter().any(|v| v.holder == holder(1)));
}

#[test]
fn a_session_that_opened_elsewhere_is_not_judged_here_any_more() {
    let mut c = Cluster::new();
    c.world.session(1, vec![info(1, policy())]);
    c.world.beat(1, 1, 0, &[1]);
    c.world.put(Input::Closed(holder(1), conn(1), CloseKind::Ended));
    c.peer_writes(|row| {
        row.notes = vec![Note {
            holder: holder(1),
            opened: Some(HomeSeq(2)),
            age: Millis(10),
            named: Vec::new(),
            evicted: false,
        }];
    });
    c.world.put(Input::Moved(holder(9), HomeSeq(1)));
    let effects = c.pass(60_000);
    assert!(verdicts(&effects).is_empty() && c.world.engine.counts() == (0, 0));
}

#[test]
fn a_replica_that_cannot_write_its_row_confirms_nothing() {
    let mut c = Cluster::new();
    c.world.session(1, vec![info(1, policy())]);
    c.pass(1_000);
    c.writes = false;
    let mut last_confirmed = 0;
    for n in 0..100 {
        c.pass(100);
        let said_ = c.world.beat(1, n, 0, &[1]);
        match said(&said_).last() {
            Some(Say::BeatAck(_)) => last_confirmed = n,
            Some(Say::Unsure(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(Millis(last_confirmed * 100) <= UNSURE_AFTER && last_confirmed > 10, "{last_confirmed}");
    c.writes = true;
    c.pass(1_000);
    assert_eq!(said(&c.world.beat(1, 101, 0, &[1])), [&Say::BeatAck(101)], "nobody took anything");
}

#[test]
fn a_replica_that_was_suspended_confirms_nothing_before_its_row_is_written_again() {
    let mut c = Cluster::new();
    c.world.session(1, vec![info(1, policy())]);
    c.pass(1_000);
    assert_eq!(said(&c.world.beat(1, 1, 0, &[1])).last(), Some(&&Say::BeatAck(1)));
    // Its machine slept for an hour, and the first thing that is read is a beat that its worker sent after the wake.
    c.world.now += Millis::hours(1).0;
    assert_eq!(said(&c.world.beat(1, 2, 0, &[1])).last(), Some(&&Say::Unsure(2)), "others may have taken everything");
    c.pass(2_000);
    assert_eq!(said(&c.world.beat(1, 3, 0, &[1])).last(), Some(&&Say::BeatAck(3)), "nobody had");
}

#[test]
fn what_was_taken_meanwhile_is_doubted_until_its_home_is_known() {
    let mut c = Cluster::new();
    c.world.session(1, vec![info(1, policy())]);
    c.world.session(2, vec![info(2, policy())]);
    c.pass(1_000);
    c.taken = 1;
    let effects = c.pass(1_000);
    assert!(effects.contains(&Effect::ReadHomes));
    assert_eq!(said(&c.world.beat(1, 1, 0, &[1])).last(), Some(&&Say::Unsure(1)));
    c.world.put(Input::HomesUnread);
    assert!(c.pass(1_000).contains(&Effect::ReadHomes), "until they are known");
    let of_before = Homes { taken: 0, sessions: vec![] };
    c.world.put(Input::Homes(of_before));
    assert_eq!(c.world.engine.counts(), (2, 2), "an answer of before says nothing");
    let effects = c.world.put(Input::Homes(Homes { taken: 1, sessions: vec![(holder(1), HomeSeq(1))] }));
    assert_eq!(said(&effects), [&Say::Close(CloseWhy::Superseded)], "the other's worker is to open another session");
    assert_eq!(c.world.engine.counts(), (1, 1));
    assert_eq!(said(&c.world.beat(1, 2, 0, &[1])).last(), Some(&&Say::BeatAck(2)));
}

#[test]
fn a_session_that_opens_while_homes_are_read_is_not_thrown_out_by_the_answer() {
    let mut c = Cluster::new();
    c.world.session(1, vec![info(1, policy())]);
    c.taken = 1;
    c.pass(1_000);
    c.world.session(2, vec![]);
    c.world.put(Input::Homes(Homes { taken: 1, sessions: vec![(holder(1), HomeSeq(1))] }));
    assert_eq!(c.world.engine.counts(), (2, 1));
}

#[test]
fn the_sessions_of_a_row_that_stands_still_are_taken_over_after_observed_time() {
    let mut c = Cluster::new();
    for _ in 0..5 {
        c.peer_writes(|_| ());
        assert!(adoptions(&c.pass(ROW_EVERY.0)).is_empty());
    }
    let beat = c.peer.as_ref().unwrap().beat;
    // The reader is stopped for a minute: that says nothing about the other.
    c.world.now += 60_000;
    assert!(adoptions(&c.pass(ADOPT_AFTER.0 - 1_500)).is_empty());
    assert_eq!(adoptions(&c.pass(3_000)), [(THERE, beat)]);
    c.peer_writes(|_| ());
    assert!(adoptions(&c.pass(ADOPT_AFTER.0 - 1_000)).is_empty(), "it lives");
}

#[test]
fn who_cannot_write_takes_nothing_over() {
    let mut c = Cluster::new();
    c.pass(1_000);
    c.writes = false;
    assert!(adoptions(&c.pass(60_000)).is_empty());
}

#[test]
fn a_session_taken_over_has_a_full_ttl_and_not_for_ever() {
    let take = |rearmed, armed| {
        let mut c = Cluster::new();
        c.pass(30_000);
        let info_ = SessionInfo {
            holder: holder(1),
            profile: WorkerProfile::default(),
            presence: Presence::Session,
            home_seq: HomeSeq(4),
            draining: false,
            leases: vec![info(1, policy())],
            rearmed,
            armed: Observed(armed),
        };
        c.world.put(Input::Adopt(info_));
        let before = c.world.now;
        while verdicts(&c.pass(TICK.0)).is_empty() {}
        c.world.now - before
    };
    assert!(take(1, 30_000) >= 10_000 && take(REARMED_AT_MOST, 30_000) >= 10_000);
    assert!(take(REARMED_AT_MOST + 1, 24_000) < 8_000, "its age is kept");
}

#[test]
fn the_breaker_counts_the_sessions_of_all_replicas() {
    let silent_of = |sessions, silent| {
        let mut c = Cluster::new();
        for n in 1..=20 {
            c.world.session(n, vec![info(n.unsigned_abs().into(), policy())]);
        }
        let mut effects = Vec::new();
        for _ in 0..12 {
            for n in 2..=20 {
                c.world.put(Input::Heard(holder(n), None));
            }
            c.peer_writes(|row| row.tally = Tally { sessions, silent, closed: 0 });
            effects.extend(c.pass(1_000));
        }
        opened(&effects).len()
    };
    assert_eq!(silent_of(20, 3), 0, "one of twenty here, three of twenty there");
    assert!(silent_of(20, 12) > 0, "a third of all");
}

#[test]
fn limits_run_on_the_stores_clock_although_this_replica_has_observed_less() {
    let mut c = Cluster::new();
    let rows = |c: &Cluster, observed| Rows { sent: Mono(c.world.now), observed, taken: 0, peers: vec![] };
    let ahead = Observed(1_000_000);
    c.world.put(Input::Rows(rows(&c, ahead)));
    let claimed = LeaseInfo { started: false, since: ahead, ..info(1, policy()) };
    c.world.session(1, vec![claimed]);
    let mut told = Vec::new();
    for n in 0..65 {
        c.world.beat(1, n, 0, &[1]);
        told.extend(c.pass(1_000));
    }
    let lost = Say::Lost(lease(1), Reason::StartTimeout);
    assert!(said(&told).contains(&&lost), "60 s after the claim, and not when this replica's clock reads 1,060 s");
    assert!(c.world.engine.store_observed() >= Observed(1_060_000));
}

/// Its writer may be gone, and the worker with it.
#[test]
fn a_row_that_does_not_change_keeps_nobody_alive() {
    let mut c = Cluster::new();
    c.world.session(1, vec![info(7, policy())]);
    c.world.beat(1, 1, 3, &[7]);
    c.peer_writes(|row| {
        row.notes = vec![Note { holder: holder(1), opened: None, age: Millis(200), named: Vec::new(), evicted: false }];
    });
    assert_eq!(verdicts(&c.pass(15_000)).len(), 1);
}

#[test]
fn a_run_that_is_named_at_another_replica_is_exempt_from_claim_ttl_at_its_home() {
    let mut c = Cluster::new();
    let open = SessionInfo {
        holder: holder(1),
        profile: WorkerProfile::default(),
        presence: Presence::None(None),
        home_seq: HomeSeq(1),
        draining: false,
        leases: vec![LeaseInfo { since: Observed(500), ..info(7, policy()) }],
        rearmed: 0,
        armed: Observed(0),
    };
    c.world.put(Input::Open(open, None, false));
    for _ in 0..200 {
        let named = vec![HeldInfo { lease: lease(7), frozen: Millis::ZERO }];
        c.peer_writes(|row| {
            row.notes = vec![Note { holder: holder(1), opened: None, age: Millis(200), named, evicted: false }];
        });
        assert!(verdicts(&c.pass(40_000)).is_empty(), "for longer than claim_ttl");
    }
    assert_eq!(verdicts(&c.pass(100_000))[0].reason, Reason::WorkerHeartbeatLost);
}

#[test]
fn what_a_worker_names_where_its_home_is_not_goes_with_the_row() {
    let mut c = Cluster::new();
    let held = vec![HeldInfo { lease: lease(7), frozen: Millis(30) }];
    c.world.put(Input::PollHeld(holder(9), held.clone()));
    let effects = c.pass(1_000);
    let rows = rows(&effects);
    assert_eq!(rows[0].notes.iter().map(|n| n.named.clone()).collect::<Vec<_>>(), [held]);
}

/// It goes on naming its runs here until it hears of its new home, or this replica does.
#[test]
fn what_a_worker_named_before_its_move_was_known_goes_to_its_new_home() {
    let mut c = Cluster::new();
    let open = SessionInfo {
        holder: holder(1),
        profile: WorkerProfile::default(),
        presence: Presence::None(None),
        home_seq: HomeSeq(1),
        draining: false,
        leases: vec![info(7, policy()), info(8, policy())],
        rearmed: 0,
        armed: Observed(0),
    };
    c.world.put(Input::Open(open, None, false));
    c.pass(3_000);
    let held = vec![HeldInfo { lease: lease(7), frozen: Millis(30) }];
    c.world.put(Input::PollHeld(holder(1), held.clone()));
    c.world.now += 200;
    c.peer_writes(|row| {
        row.notes = vec![Note {
            holder: holder(1),
            opened: Some(HomeSeq(2)),
            age: Millis(500),
            named: Vec::new(),
            evicted: false,
        }];
    });
    let effects = c.pass(2_000);
    let sent = rows(&effects).into_iter().flat_map(|row| &row.notes).find(|note| note.holder == holder(1));
    let note = sent.expect("its home is told");
    assert_eq!((&note.named, note.opened), (&held, None));
    assert!(note.age >= Millis(200), "when it was said, not when it was passed on: {}", note.age);
}

#[test]
fn an_eviction_goes_with_its_worker() {
    let mut c = Cluster::new();
    c.world.session(1, vec![info(7, policy())]);
    c.world.beat(1, 1, 0, &[7]);
    c.world.put(Input::Revoke(holder(1), Reason::Evicted));
    c.world.put(Input::Moved(holder(1), HomeSeq(2)));
    let effects = c.pass(2_000);
    let mut notes = rows(&effects).into_iter().flat_map(|row| &row.notes);
    let note = notes.find(|note| note.holder == holder(1)).expect("its home is told").clone();

    let mut home = Cluster::new();
    home.world.session(1, vec![info(7, policy())]);
    home.world.beat(1, 1, 0, &[7]);
    home.peer_writes(|row| row.notes = vec![note]);
    assert!(said(&home.pass(2_000)).contains(&&Say::Lost(lease(7), Reason::Evicted)));
}
