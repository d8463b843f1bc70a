//! A random history, and what must hold after each of its steps, read from rows through the contract alone.
//!
//! Invariants (design, section 4): one open lease per run and epochs that rise (I1), no stale write is accepted (I2),
//! terminal is final (I6), a gap-free log with one marker per attempt (I7), caps and serial keys at every moment (I12); and
//! that counts, ready classes and blocked flags, which are kept, equal what the rows say.

use crate::World;
use crate::build::{complete, failure, frame, json, lease};
use crate::world::{Session, TENANT};
use outlive_core::feed::FeedEvent;
use outlive_core::policy::QueuePolicy;
use outlive_core::report::{ItemResult, Op, Wait};
use outlive_core::run::Run;
use outlive_core::run::derive::Marker;
use outlive_core::subject::SubjectStatus;
use outlive_core::{ClassId, Epoch, Millis, Reason, RunId, State};
use outlive_store::{ClassRow, LeaseRow, OnConflict, OutputEntry, OutputFrom, OutputKind, RunQuery, RunRow};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Workers of a history.
const WORKERS: usize = 3;
/// The cap of its second queue.
const CAP: u32 = 2;

/// One thing that happens. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub enum Step {
    /// A run is created, perhaps with a serial key, a business key, for later, held, or with a claim in the same request.
    Create {
        queue: usize,
        serial: Option<u8>,
        key: Option<(u8, u8)>,
        wait: u8,
        priority: i16,
        claim_for: Option<usize>,
        subjects: Vec<u8>,
    },
    /// A session claims.
    Claim { worker: usize, max: u32 },
    /// The holder of a lease (open or long closed) says something.
    Say { lease: usize, what: u8 },
    /// A session is lost.
    Lose { worker: usize },
    /// A worker starts again.
    Restart { worker: usize },
    /// A person cancels.
    Cancel { run: usize },
    /// A person releases.
    Release { run: usize },
    /// Time passes, and what is due is queued.
    Pass { seconds: u64 },
    /// The second queue is paused or resumed.
    Pause { paused: bool },
}

/// Random histories of up to `most` steps.
pub fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let key = proptest::option::weighted(0.3, (0..3u8, 0..3u8));
    let serial = proptest::option::weighted(0.5, 0..3u8);
    let claim_for = proptest::option::weighted(0.3, 0..WORKERS);
    let subjects = proptest::collection::vec(0..3u8, 0..3);
    let create = (0..2usize, serial, key, 0..8u8, -2..3i16, claim_for, subjects).prop_map(
        |(queue, serial, key, wait, priority, claim_for, subjects)| Step::Create {
            queue,
            serial,
            key,
            wait,
            priority,
            claim_for,
            subjects,
        },
    );
    let step = prop_oneof![
        6 => create,
        6 => (0..WORKERS, 1..4u32).prop_map(|(worker, max)| Step::Claim { worker, max }),
        8 => (any::<usize>(), 0..9u8).prop_map(|(lease, what)| Step::Say { lease, what }),
        2 => (0..WORKERS).prop_map(|worker| Step::Lose { worker }),
        1 => (0..WORKERS).prop_map(|worker| Step::Restart { worker }),
        2 => any::<usize>().prop_map(|run| Step::Cancel { run }),
        1 => any::<usize>().prop_map(|run| Step::Release { run }),
        3 => (0..8u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => any::<bool>().prop_map(|paused| Step::Pause { paused }),
    ];
    proptest::collection::vec(step, 1..most)
}

/// What a history has seen so far.
pub(crate) struct Seen {
    pub(crate) classes: Vec<ClassRow>,
    sessions: Vec<Session>,
    pub(crate) runs: Vec<RunId>,
    leases: Vec<(Session, LeaseRow)>,
    before: BTreeMap<RunId, Run>,
}

/// Plays a history and checks the invariants after each step.
///
/// # Panics
/// If one does not hold.
pub async fn play(w: World, steps: Vec<Step>) {
    let mut seen = Seen::begin(&w).await;
    for step in steps {
        seen.take(&w, &step).await;
        check(&w, &mut seen, &step).await;
    }
    check_logs(&w, &seen).await;
    while w.store.audit_waiting(7).await.expect("an audit").more {}
    assert_eq!(w.store.audit_waiting(1_000).await.expect("an audit").acted, 0, "the audit repairs nothing");
    assert_eq!(w.store.audit_subjects(1_000).await.expect("an audit").acted, 0, "the audit repairs nothing");
    changes_join(&w).await;
}

impl Seen {
    /// Two queues, and workers with open sessions.
    pub(crate) async fn begin(w: &World) -> Self {
        let capped = QueuePolicy { max_running: Some(CAP), hold_ttl: Millis::secs(60), ..QueuePolicy::default() };
        let mut seen = Self {
            classes: vec![w.class("free").await, w.queue("capped", capped).await.1],
            sessions: Vec::new(),
            runs: Vec::new(),
            leases: Vec::new(),
            before: BTreeMap::new(),
        };
        for n in 0..WORKERS {
            seen.sessions.push(w.worker(&format!("w{n}")).await);
        }
        seen
    }

    /// Takes one step. What the store answered, in words.
    pub(crate) async fn take(&mut self, w: &World, step: &Step) -> String {
        match *step {
            Step::Create { .. } => create(w, self, step).await,
            Step::Claim { worker, max } => {
                let session = self.sessions[worker].clone();
                let classes: Vec<&ClassRow> = self.classes.iter().collect();
                let claimed = w.claim(&session, &classes, max).await;
                assert!(claimed.leases.len() <= max as usize);
                let words = claimed_words(&claimed);
                self.leases.extend(claimed.leases.into_iter().map(|lease| (session.clone(), lease)));
                words
            }
            Step::Say { lease, what } => say(w, self, lease, what).await,
            Step::Lose { worker } => format!("{:?}", w.lose(&self.sessions[worker]).await.lost),
            Step::Restart { worker } => {
                let old = std::mem::replace(&mut self.sessions[worker], w.worker(&format!("w{worker}")).await);
                let replaced =
                    outlive_store::Verdict { guard: None, reason: Reason::WorkerReplaced, ..w.silence(&old) };
                format!("{:?}", w.store.lose(replaced).await.expect("a verdict").lost)
            }
            Step::Cancel { run } => match pick(&self.runs, run) {
                Some(id) => {
                    let cancelled = w.store.cancel(TENANT, *id, Reason::Cancelled, None).await;
                    format!("{:?}", cancelled.map(|cancelled| cancelled.state))
                }
                None => String::new(),
            },
            Step::Release { run } => match pick(&self.runs, run) {
                Some(id) => format!("{:?}", w.store.release(TENANT, *id, None, None).await.map(drop)),
                None => String::new(),
            },
            Step::Pass { seconds } => {
                w.pass(Millis::secs(seconds));
                let mut acted = 0;
                loop {
                    let swept = w.store.due(3).await.expect("a sweep");
                    acted += swept.acted;
                    if !swept.more {
                        return format!("{acted} were due, the next at {:?}", swept.next_due);
                    }
                }
            }
            Step::Pause { paused } => {
                let commit = w.store.pause_queue(self.classes[1].queue, paused).await.expect("a queue");
                format!("{:?}", commit.map(|commit| commit.ready))
            }
        }
    }
}

/// What a claim took, and what it left.
fn claimed_words(claimed: &outlive_store::Claimed) -> String {
    let leases: Vec<_> = claimed.leases.iter().map(|held| (held.run.id, held.run.epoch, &held.checkpoint)).collect();
    let exhausted: BTreeSet<ClassId> = claimed.exhausted.iter().copied().collect();
    format!("{leases:?} {exhausted:?} {} {:?}", claimed.lost_race, claimed.retry_after)
}

fn pick<T>(all: &[T], number: usize) -> Option<&T> {
    all.get(number.checked_rem(all.len())?)
}

async fn create(w: &World, seen: &mut Seen, step: &Step) -> String {
    let Step::Create { queue, serial, key, wait, priority, claim_for, subjects } = step else {
        return String::new();
    };
    let mut draft = w.draft(&seen.classes[*queue]);
    draft.new.serial_key = serial.map(|n| format!("s{n}"));
    draft.new.priority = *priority;
    draft.options.subjects = subjects.iter().map(|n| format!("u{n}")).collect();
    draft.new.hold = *wait == 0;
    draft.new.run_at = (*wait == 1).then(|| w.now() + Millis::secs(3));
    draft.new.queue_ttl = (*wait == 2).then(|| Millis::secs(20));
    if let Some((n, conflict)) = key {
        draft.new.key = Some(format!("k{n}"));
        draft.on_conflict = [OnConflict::Reject, OnConflict::Return, OnConflict::Replace][usize::from(*conflict)];
    }
    let mut request = w.request(vec![draft]);
    let session = claim_for.map(|worker| seen.sessions[worker].clone());
    if let Some(session) = &session {
        let classes: Vec<&ClassRow> = seen.classes.iter().collect();
        request.claims = vec![w.order(session, &classes, 2)];
    }
    let created = match w.store.create(request).await {
        Ok(created) => created,
        Err(refused) => return refused.to_string(),
    };
    let states: Vec<_> =
        created.runs.iter().map(|one| (one.run.id, one.run.state, one.run.blocked, one.existed)).collect();
    let claimed: Vec<String> = created.claimed.iter().map(claimed_words).collect();
    let words = format!("{states:?} {claimed:?}");
    seen.runs.extend(created.runs.iter().filter(|one| !one.existed).map(|one| one.run.id));
    if let Some(session) = session {
        let leases = created.claimed.into_iter().flat_map(|claimed| claimed.leases);
        seen.leases.extend(leases.map(|lease| (session.clone(), lease)));
    }
    words
}

async fn say(w: &World, seen: &Seen, number: usize, what: u8) -> String {
    let Some((session, held)) = pick(&seen.leases, number) else { return String::new() };
    let before = w.row(held.run.id).await;
    let op = match what {
        0 => Op::Start,
        1 | 2 => frame(before.output.seq + 1, "x"),
        3 => Op::Checkpoint(json("1")),
        4 => failure(),
        5 => Op::Release(Wait::Nothing),
        6 => Op::Release(Wait::Delay { delay: Millis::secs(2), note: None }),
        _ => complete(),
    };
    let ends_well = matches!(op, Op::Complete(_));
    let said = w.say(session, lease(held), op).await;
    let after = w.row(held.run.id).await;
    let was_open = before.lease() == Some((session.holder, lease(held)));
    let salvaged = ends_well && before.state.is_waiting() && said == ItemResult::Ok;
    if !was_open && !salvaged {
        assert_eq!(after, before, "a write without its open lease changed the run; it was answered {said:?}");
    }
    format!("{said:?}")
}

async fn check(w: &World, seen: &mut Seen, step: &Step) {
    let rows = w.store.list(RunQuery { namespace: TENANT.to_owned(), limit: 5_000, ..RunQuery::default() });
    let rows = rows.await.expect("a page").rows;
    subjects_are_counted(w, &rows).await;
    let rows: Vec<Run> = rows.into_iter().map(|row| row.run).collect();
    assert_eq!(rows.len(), seen.runs.len(), "after {step:?}");
    for run in &rows {
        if let Some(before) = seen.before.insert(run.id, run.clone()) {
            assert!(run.epoch >= before.epoch, "an epoch fell after {step:?}: {before:?} {run:?}");
            assert!(!before.state.is_terminal() || *run == before, "an end changed after {step:?}: {before:?} {run:?}");
        }
        assert!(!run.state.is_leased() || run.holder.is_some());
        assert!(run.state != State::Scheduled && run.state != State::Held || run.due_at.is_some(), "I5: {run:?}");
    }
    leases_are_the_leased_rows(w, &rows).await;
    one_lease_per_serial_key(&rows);
    keys_are_unique(&rows);
    for class in &seen.classes {
        counts_are_exact(w, class, &rows).await;
    }
    let capped = rows.iter().filter(|run| run.queue == seen.classes[1].queue && run.state.is_leased()).count();
    assert!(capped <= CAP as usize, "the cap was passed after {step:?}");
    let ready: BTreeSet<ClassId> = rows.iter().filter(|run| run.is_ready()).map(|run| run.class).collect();
    let told: BTreeSet<ClassId> = w.store.ready_classes().await.expect("classes").into_iter().collect();
    assert_eq!(told, ready, "after {step:?}");
}

/// A subject's row says what its runs' rows say.
async fn subjects_are_counted(w: &World, rows: &[RunRow]) {
    for name in ["u0", "u1", "u2"].map(str::to_owned) {
        let of = || rows.iter().filter(|row| row.options.subjects.contains(&name)).map(|row| &row.run);
        let active: Vec<RunId> = of().filter(|run| !run.state.is_terminal()).map(|run| run.id).collect();
        let working = of().filter(|run| run.state.is_leased()).count();
        let row = w.store.subject(TENANT, &name, 5_000).await.expect("a subject");
        assert_eq!(row.active.iter().map(|row| row.run.id).collect::<Vec<_>>(), active);
        let counts = (row.subject.active.try_into(), row.subject.working.try_into());
        assert_eq!(counts, (Ok(active.len()), Ok(working)), "{name}");
        let last = of().filter_map(|run| run.finished_at).max();
        assert_eq!(row.subject.last.map(|last| last.at), last, "{name}");
    }
}

/// What is told of a subject joins: each change begins with the status in which the one before it ended.
async fn changes_join(w: &World) {
    let mut now: BTreeMap<String, (SubjectStatus, i64)> = BTreeMap::new();
    for (_, event) in w.whole_feed().await {
        if let FeedEvent::Subject { subject, change, .. } = event {
            let before = now.insert(subject.clone(), (change.status, change.active));
            assert_eq!(change.previous, before.map_or(SubjectStatus::Idle, |(status, _)| status), "{subject}");
        }
    }
    for (name, told) in now {
        let row = w.store.subject(TENANT, &name, 1).await.expect("a subject").subject;
        assert_eq!((row.status(), row.active), told, "{name}");
    }
}

async fn leases_are_the_leased_rows(w: &World, rows: &[Run]) {
    let (mut cursor, mut open) = (None, BTreeSet::new());
    loop {
        let page = w.store.leases_after(cursor, 5).await.expect("a page");
        for lease in page.rows {
            assert!(open.insert(lease.run.id), "a run has one lease");
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let leased: BTreeSet<RunId> = rows.iter().filter(|run| run.state.is_leased()).map(|run| run.id).collect();
    assert_eq!(open, leased);
}

/// At most one run of a key is leased; of the waiting ones, exactly the first in rank order is ready, and only if none is.
/// A run that waits for its business key (`blocked` without being behind anyone) is passed over.
fn one_lease_per_serial_key(rows: &[Run]) {
    let mut by_key: BTreeMap<&String, Vec<&Run>> = BTreeMap::new();
    for run in rows {
        if let Some(key) = &run.serial_key {
            by_key.entry(key).or_default().push(run);
        }
    }
    for (key, runs) in by_key {
        let leased = runs.iter().filter(|run| run.state.is_leased()).count();
        let ready: Vec<_> = runs.iter().filter(|run| run.is_ready()).collect();
        assert!(leased + ready.len() <= 1, "{key}: {leased} leased, {} ready", ready.len());
        if let Some(head) = ready.first() {
            let first = |run: &&&Run| run.state == State::Queued && run.key.is_none();
            let best = runs.iter().filter(first).map(|run| (run.rank, run.seq)).min();
            assert!(best.is_none_or(|best| (head.rank, head.seq) <= best), "{key}: the first in line goes first");
        } else if leased == 0 {
            let waits = runs.iter().any(|run| run.state == State::Queued && run.key.is_none());
            assert!(!waits, "{key}: somebody waits and nobody is ready");
        }
    }
}

fn keys_are_unique(rows: &[Run]) {
    let mut keys = BTreeSet::new();
    for run in rows.iter().filter(|run| !run.state.is_terminal()) {
        if let Some(key) = &run.key {
            assert!(keys.insert((run.queue, key)), "two active runs have the key {key}");
        }
    }
    // Without a serial key, only a business key that is taken from a leased run may block.
    let cancelling = rows.iter().any(|run| run.state == State::Cancelling);
    for run in rows.iter().filter(|run| run.blocked && run.serial_key.is_none()) {
        assert!(run.key.is_some() && cancelling, "blocked by nothing: {run:?}");
    }
}

async fn counts_are_exact(w: &World, class: &ClassRow, rows: &[Run]) {
    let n = |states: &[State]| {
        let of = rows.iter().filter(|run| run.queue == class.queue && states.contains(&run.state));
        i64::try_from(of.count()).expect("a small number")
    };
    let leased = n(&[State::Claimed, State::Running, State::Cancelling]);
    let expected = (n(&[State::Queued]), n(&[State::Scheduled]), n(&[State::Held]), leased);
    assert_eq!(w.tally(class).await, expected);
}

/// Offsets without holes; each attempt's marker before its frames and after those of every earlier attempt.
async fn check_logs(w: &World, seen: &Seen) {
    for id in &seen.runs {
        let entries = w.log_by(*id, OutputFrom::After(0), 3).await;
        let offsets: Vec<i64> = entries.iter().map(|entry| entry.offset).collect();
        assert_eq!(offsets, (1..).take(offsets.len()).collect::<Vec<i64>>(), "{id}");
        let mut current = Epoch(0);
        for OutputEntry { kind, .. } in entries {
            match kind {
                OutputKind::Marker(Marker::Attempt { epoch, .. }, _) => {
                    assert!(epoch > current, "{id}");
                    current = epoch;
                }
                OutputKind::Frame { epoch, .. } => assert_eq!(epoch, current, "{id}"),
                OutputKind::Marker(Marker::Lost { epoch, .. }, _) => assert!(epoch >= current, "{id}"),
                OutputKind::Gap { .. } => panic!("{id} has a gap"),
            }
        }
    }
}
