//! The server process, as a shell around the real engine: what `outlive-server` does with tasks and sockets, done with events.
//!
//! The engine, the store and the wire types are the real ones. The shell here imitates `driver.rs`, `commit.rs`, `start.rs`,
//! `session/` and `services/` of the server, call by call: a store call is an event of its own on the one writer, its answer
//! another, in whatever order tasks may wake, so that a kill can fall between a commit and the news of it.

pub(crate) mod driver;
pub(crate) mod duties;
pub(crate) mod polls;
pub(crate) mod replicas;
pub(crate) mod routes;
pub(crate) mod session;
mod twins;

pub(crate) use twins::store_is_back;
pub(crate) mod verdicts;

use crate::queue::{Owner, Waiting};
use crate::store::{self, Stormy};
use crate::twin::Twin;
use crate::world::World;
use outlive_core::class::MatchClass;
use outlive_core::engine::{BreakerMode, ConnId, Engine, Input, Seat};
use outlive_core::{ClassId, Holder, Mono, Observed, QueueId, ReplicaId};
use outlive_store::{Catalog as _, QueueRow, Replicas as _};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The inputs of one engine, for playing them again.
pub(crate) struct Recording {
    pub observed: Observed,
    pub started: Mono,
    /// Among other replicas.
    pub seat: Option<Seat>,
    pub inputs: Vec<(Mono, Input)>,
}

/// The server process.
pub(crate) struct Server {
    /// Which replica.
    pub index: usize,
    /// Its way to the store.
    pub db: Stormy,
    /// Which start of its seat this is.
    pub seat_start: i64,
    /// Which of its starts this is.
    pub boot: u32,
    pub up: bool,
    pub paused: bool,
    /// What it would have done while it was stopped.
    pub waiting: Vec<Waiting>,
    pub engine: Engine,
    pub replica: ReplicaId,
    pub classes: BTreeMap<MatchClass, (ClassId, QueueId)>,
    pub conns: BTreeMap<ConnId, session::Conn>,
    pub reports: BTreeMap<ConnId, session::Reports>,
    /// For workers without connections.
    pub polls: polls::Polls,
    /// When verdicts by absence were given within the last second, and over how many runs.
    pub reaped: VecDeque<(u64, u64)>,
    pub self_beat: Option<Mono>,
    pub last_tick: u64,
    /// Store calls that wait, by the time at which they were made.
    pending: BTreeSet<(u64, u64)>,
    calls: u64,
    /// When the writer has done what it was given.
    writer_free: u64,
    /// The store takes up to this long, in milliseconds.
    pub store_ms: u64,
    pub recordings: Vec<Recording>,
    /// For twins that judge by another clock: when each worker was heard.
    heard: BTreeMap<Holder, u64>,
    /// For the twin that shortens a grace too far: since when workers are awaited, and when nearly all were back.
    awaits: Option<(u64, Option<u64>)>,
    /// It stops on purpose: nothing new is let in.
    pub stopping: bool,
}

impl Server {
    pub(crate) fn new(index: usize, db: Stormy) -> Self {
        Self {
            index,
            db,
            seat_start: 0,
            boot: 0,
            up: false,
            paused: false,
            waiting: Vec::new(),
            engine: Engine::new(Observed(0), Mono(0)),
            replica: ReplicaId(0),
            classes: BTreeMap::new(),
            conns: BTreeMap::new(),
            reports: BTreeMap::new(),
            polls: polls::Polls::default(),
            reaped: VecDeque::new(),
            self_beat: None,
            last_tick: 0,
            pending: BTreeSet::new(),
            calls: 0,
            writer_free: 0,
            store_ms: 2,
            recordings: Vec::new(),
            heard: BTreeMap::new(),
            awaits: None,
            stopping: false,
        }
    }

    /// What its events belong to.
    pub(crate) const fn owner(&self) -> Owner {
        Owner::Server(self.index, self.boot)
    }

    /// Whether it runs.
    pub(crate) const fn runs(&self) -> bool {
        self.up && !self.paused
    }

    /// Something holds what all its calls need: they are carried out when it lets go, in their order.
    pub(crate) fn writer_waits(&mut self, until: u64) {
        self.writer_free = self.writer_free.max(until);
    }

    pub(crate) fn oldest_call(&self) -> Option<u64> {
        self.pending.first().map(|(at, _)| *at)
    }
}

impl World {
    /// Starts a server process over the store that is there. While the store refuses, it is tried again.
    pub(crate) fn start_server(&mut self, index: usize) {
        self.act_as(index);
        if self.server.up {
            return;
        }
        let again = move |w: &mut Self| w.start_server(index);
        let Ok(snapshot) = store::now(self.server.db.store.load()) else {
            return self.after(500, Owner::World, again);
        };
        let joined = if self.is_cluster() {
            let Ok(joined) = store::now(self.server.db.store.join(&format!("r{index}"), &format!("r{index}"))) else {
                return self.after(500, Owner::World, again);
            };
            Some(joined)
        } else {
            None
        };
        let (boot, recordings) = (self.server.boot + 1, std::mem::take(&mut self.server.recordings));
        let fresh = Server::new(index, self.server.db.clone());
        self.server = Server { boot, up: true, recordings, replica: snapshot.replica, ..fresh };
        let mode = match self.twin {
            Twin::NoBreaker => BreakerMode::NeverOpens,
            Twin::BreakerNeverCloses => BreakerMode::NeverCloses,
            _ => BreakerMode::Sound,
        };
        self.server.engine = Engine::new(snapshot.observed, self.mono()).with_breaker(mode);
        let seat = joined.map(|joined| joined.seat);
        if let Some(joined) = joined {
            let now = self.mono();
            let alone = std::mem::replace(&mut self.server.engine, Engine::new(snapshot.observed, now));
            self.server.engine = alone.in_cluster(joined.seat, now);
            (self.server.replica, self.server.seat_start) = (joined.seat.replica, joined.start);
        }
        self.server.last_tick = self.now;
        let recording = Recording { observed: snapshot.observed, started: self.mono(), seat, inputs: Vec::new() };
        self.server.recordings.push(recording);
        let name = self.server_name();
        self.truth.troubled_at = self.now;
        self.log(format_args!("{name} {boot} starts at observed {}", snapshot.observed.0));
        for queue in snapshot.queues {
            self.learn_queue(queue);
        }
        for class in snapshot.classes {
            self.learn_class(&class);
        }
        let adopted = if seat.is_some() { replicas::adopt_own(self) } else { driver::adopt_all(self) };
        if adopted.is_err() {
            self.server.up = false;
            return self.after(500, Owner::World, again);
        }
        self.server.awaits = Some((self.now, None));
        driver::input(self, Input::Ready(snapshot.ready));
        duties::start(self);
    }

    pub(crate) fn learn_queue(&mut self, queue: QueueRow) {
        let liveness = queue.policy.liveness();
        self.policies.insert(queue.id, queue.policy);
        driver::input(self, Input::Queue(queue.id, (queue.namespace, queue.name), liveness));
    }

    pub(crate) fn learn_class(&mut self, row: &outlive_store::ClassRow) {
        driver::input(self, Input::Class(row.id, std::sync::Arc::clone(&row.class)));
        self.server.classes.insert((*row.class).clone(), (row.id, row.queue));
    }

    /// SIGKILL: what it had not written is gone, every connection is reset.
    pub(crate) fn kill_server(&mut self, index: usize) {
        self.act_as(index);
        if !self.server.up {
            return;
        }
        let (boot, name) = (self.server.boot, self.server_name());
        self.truth.troubled_at = self.now;
        self.log(format_args!("{name} {boot} is gone"));
        self.server.up = false;
        self.truth.counts.shortened += self.server.engine.shortened_graces();
        self.server.waiting.clear();
        let of = |link: &crate::net::Link| (link.replica, link.boot) == (index, boot);
        let open: Vec<_> = (0..self.net.links.len()).filter(|&id| of(&self.net.links[id])).collect();
        for id in open {
            self.server_closes(id);
        }
    }

    /// For the log.
    fn server_name(&self) -> String {
        if self.is_cluster() { format!("r{}", self.server.index) } else { "server".to_owned() }
    }

    pub(crate) fn pause_server(&mut self, index: usize) {
        self.act_as(index);
        if self.server.up {
            let name = self.server_name();
            self.truth.troubled_at = self.now;
            self.log(format_args!("{name} stopped (SIGSTOP)"));
            self.server.paused = true;
        }
    }

    pub(crate) fn wake_server(&mut self, index: usize) {
        self.act_as(index);
        if std::mem::take(&mut self.server.paused) {
            let name = self.server_name();
            self.truth.troubled_at = self.now;
            self.log(format_args!("{name} goes on"));
            let waiting = std::mem::take(&mut self.server.waiting);
            self.resume(self.server.owner(), waiting);
        }
    }

    /// A store call: on the one writer, in order.
    pub(crate) fn job(&mut self, call: impl FnOnce(&mut Self) + 'static) {
        let slow = self.server.store_ms;
        let takes = if slow > 10 { self.chance.skewed(slow) } else { self.chance.between(0, slow) };
        let at = (self.now + takes).max(self.server.writer_free);
        self.server.writer_free = at;
        self.server.calls += 1;
        let pending = (self.now, self.server.calls);
        self.server.pending.insert(pending);
        self.at(at, self.server.owner(), move |w| {
            w.server.pending.remove(&pending);
            call(w);
        });
    }

    /// The answer of a store call: some task wakes, sooner or later.
    pub(crate) fn reply(&mut self, then: impl FnOnce(&mut Self) + 'static) {
        let late = if self.chance.chance(2) { self.chance.between(3, 30) } else { self.chance.between(0, 1) };
        self.after(late, self.server.owner(), then);
    }
}
