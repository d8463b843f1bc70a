//! Clients: they create runs of every kind, again until they are answered, and now and then ask for the end of one.

use crate::host::Work;
use crate::queue::Owner;
use crate::rng::Rng;
use crate::server::routes::{self, NAMESPACE};
use crate::store::{now, sure};
use crate::world::World;
use outlive_core::class::MatchClass;
use outlive_core::clock::Clock as _;
use outlive_core::options::RunOptions;
use outlive_core::policy::{OnLoss, QueuePolicy, Takeover};
use outlive_core::run::begin::NewRun;
use outlive_core::{ClassId, Json, Millis, QueueId, RunId, State};
use outlive_store::{Catalog as _, CreateRun, OnConflict};
use std::collections::{BTreeMap, BTreeSet};

/// An answer that has not come by then does not come.
const PATIENCE: u64 = 3_000;

/// All clients together.
pub(crate) struct Clients {
    rng: Rng,
    lanes: Vec<(ClassId, QueueId)>,
    /// Of workers without sessions.
    polled: Option<(ClassId, QueueId)>,
    unanswered: BTreeSet<RunId>,
    works: BTreeMap<RunId, Work>,
    pub created: Vec<RunId>,
    pub stopped: bool,
}

/// The queues, with what is special about each. A worker of all of them is judged by several TTLs at once; in two of three
/// histories one of them is much longer than the others.
pub(crate) fn queues(seed: u64) -> Vec<(&'static str, QueuePolicy)> {
    let base = QueuePolicy { cancel_grace: Millis::secs(2), ..QueuePolicy::default() };
    let mut queues = vec![
        ("main", base.clone()),
        ("quick", QueuePolicy { lease_ttl: Millis::secs(3), max_running: Some(3), ..base.clone() }),
        (
            "strict",
            QueuePolicy {
                lease_ttl: Millis::secs(5),
                offline_grace: Millis(500),
                takeover: Takeover::Strict,
                ..base.clone()
            },
        ),
    ];
    if !seed.is_multiple_of(3) {
        queues.push(("long", QueuePolicy { lease_ttl: Millis::secs(60), ..base }));
    }
    queues
}

impl Clients {
    pub(crate) const fn new(rng: Rng) -> Self {
        Self {
            rng,
            lanes: Vec::new(),
            polled: None,
            unanswered: BTreeSet::new(),
            works: BTreeMap::new(),
            created: Vec::new(),
            stopped: false,
        }
    }

    /// How many frames a run's process writes.
    pub(crate) fn frames(&self, run: RunId) -> Option<i64> {
        let work = self.works.get(&run)?;
        let saved = if work.checkpoints == 0 { 0 } else { (work.frames + work.checkpoints) / 3 };
        i64::try_from(work.frames + work.checkpoints - saved).ok()
    }

    pub(crate) fn is_for_pollers(&self, queue: QueueId) -> bool {
        self.polled.is_some_and(|(_, polled)| polled == queue)
    }

    pub(crate) fn all_answered(&self) -> bool {
        self.unanswered.is_empty()
    }
}

/// The queue of workers without sessions.
pub(crate) fn polled() -> (&'static str, QueuePolicy) {
    let policy = QueuePolicy { claim_ttl: Millis::secs(8), start_timeout: Millis::secs(20), ..QueuePolicy::default() };
    ("polled", policy)
}

fn lane(w: &World, name: &str, kind: &str, policy: QueuePolicy) -> (ClassId, QueueId) {
    let queue = sure(now(w.truth_db.put_queue(NAMESPACE, name, policy.into())), "a queue is made");
    let class = MatchClass {
        namespace: NAMESPACE.to_owned(),
        queue: name.to_owned(),
        kind: kind.to_owned(),
        requires: BTreeMap::new(),
        pin: None,
    };
    (sure(now(w.truth_db.intern_class(class)), "a class is made").id, queue.id)
}

/// Makes the queues, and begins.
pub(crate) fn start(w: &mut World) {
    for (name, policy) in queues(w.seed) {
        let aside = w.twin == crate::twin::Twin::TwoSteps;
        let policy = if aside { QueuePolicy { on_loss: OnLoss::Hold, ..policy } } else { policy };
        let lane = lane(w, name, "exec", policy);
        w.clients.lanes.push(lane);
    }
    if w.scenario.pollers > 0 {
        let (name, policy) = polled();
        w.clients.polled = Some(lane(w, name, "task", policy));
    }
    for _ in 0..w.scenario.at_once {
        let run = new_run(w);
        create(w, run);
    }
    create_one(w);
}

fn create_one(w: &mut World) {
    if w.clients.stopped {
        return;
    }
    let run = new_run(w);
    create(w, run);
    let pause = w.clients.rng.skewed(w.scenario.between_runs);
    w.after(pause, Owner::World, create_one);
}

fn create(w: &mut World, run: CreateRun) {
    let id = run.new.id;
    w.names.insert(id, w.clients.created.len());
    w.truth.created(id, run.new.serial_key.as_ref());
    w.clients.created.push(id);
    w.clients.unanswered.insert(id);
    ask(w, run);
}

fn new_run(w: &mut World) -> CreateRun {
    let wall = w.clock.wall();
    let lanes = w.clients.lanes.len();
    let rng = &mut w.clients.rng;
    let (class, queue) = w.clients.lanes[if rng.chance(50) { 0 } else { rng.index(lanes) }];
    if let Some((class, queue)) = w.clients.polled.filter(|_| w.scenario.at_once > 0 || rng.chance(80)) {
        let work = Work { ms: 1_000 + rng.skewed(w.scenario.longest), frames: 0, checkpoints: 0, fails: 0 };
        return of(RunId::from_parts(wall, rng.wide()), class, queue, work, w);
    }
    let work = Work {
        ms: rng.skewed(12_000),
        frames: rng.between(0, 4),
        checkpoints: if rng.chance(40) { 2 } else { 0 },
        fails: u32::from(rng.chance(8)),
    };
    let id = RunId::from_parts(wall, rng.wide());
    let new = NewRun {
        id,
        class,
        queue,
        priority: i16::try_from(rng.between(0, 4)).unwrap_or(0) - 2,
        run_at: rng.chance(8).then(|| wall + Millis(rng.between(100, 8_000))),
        hold: rng.chance(2),
        serial_key: rng.chance(25).then(|| format!("s{}", rng.between(1, 4))),
        key: None,
        queue_ttl: None,
    };
    whole(new, work, w)
}

/// A run that is nothing but work.
fn of(id: RunId, class: ClassId, queue: QueueId, work: Work, w: &mut World) -> CreateRun {
    let (run_at, serial_key, key, queue_ttl) = (None, None, None, None);
    whole(NewRun { id, class, queue, priority: 0, run_at, hold: false, serial_key, key, queue_ttl }, work, w)
}

fn whole(new: NewRun, work: Work, w: &mut World) -> CreateRun {
    w.clients.works.insert(new.id, work);
    CreateRun {
        new,
        id_chosen: true,
        on_conflict: OnConflict::Reject,
        input: Json::of(&work).unwrap_or_else(|_| Json::null()),
        options: RunOptions::default(),
        checkpoint: None,
    }
}

/// Asks until there is an answer; the client chose the id, so that asking twice creates once.
fn ask(w: &mut World, run: CreateRun) {
    let (id, again) = (run.new.id, run.clone());
    w.request(move |w| {
        routes::create(w, run, move |w, answer| {
            if answer.is_ok() {
                w.clients.unanswered.remove(&id);
            }
        });
    });
    let patience = PATIENCE + w.clients.rng.between(0, 1_000);
    w.after(patience, Owner::World, move |w| {
        if w.clients.unanswered.contains(&id) {
            ask(w, again);
        }
    });
}

/// Asks for the end of a run that may not have ended.
pub(crate) fn cancel_one(w: &mut World, rng: &mut Rng) {
    let active: Vec<_> = w.truth.active.iter().copied().collect();
    if !active.is_empty() {
        let run = active[rng.index(active.len())];
        w.request(move |w| routes::cancel(w, run));
    }
}

/// Releases what is held: somebody has looked at it.
pub(crate) fn release_held(w: &mut World) {
    let held = w.truth.active.iter().filter(|id| w.truth.rows.get(id).is_some_and(|run| run.state == State::Held));
    for run in held.copied().collect::<Vec<_>>() {
        w.request(move |w| routes::release(w, run));
    }
}
