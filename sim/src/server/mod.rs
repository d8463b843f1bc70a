//! The server process, as a shell around the real engine: what `outlive-server` does with tasks and sockets, done with events.
//!
//! The engine, the store and the wire types are the real ones. The shell here imitates `driver.rs`, `commit.rs`, `start.rs`,
//! `session/` and `services/` of the server, call by call: a store call is an event of its own on the one writer, its answer
//! another, in whatever order tasks may wake, so that a kill can fall between a commit and the news of it.

pub(crate) mod driver;
pub(crate) mod duties;
pub(crate) mod routes;
pub(crate) mod session;
pub(crate) mod verdicts;

use crate::queue::{Owner, Waiting};
use crate::store;
use crate::twin::Twin;
use crate::world::World;
use outlive_core::class::MatchClass;
use outlive_core::engine::{ConnId, Engine, Input};
use outlive_core::policy::QueuePolicy;
use outlive_core::{ClassId, Mono, Observed, QueueId, ReplicaId};
use outlive_store::Catalog as _;
use std::collections::{BTreeMap, BTreeSet};

/// The inputs of one engine, for playing them again.
pub(crate) struct Recording {
    pub observed: Observed,
    pub started: Mono,
    pub inputs: Vec<(Mono, Input)>,
}

/// The server process.
pub(crate) struct Server {
    /// Which of its starts this is.
    pub boot: u32,
    pub up: bool,
    pub paused: bool,
    /// What it would have done while it was stopped.
    pub waiting: Vec<Waiting>,
    pub engine: Engine,
    pub replica: ReplicaId,
    pub policies: BTreeMap<QueueId, QueuePolicy>,
    pub classes: BTreeMap<MatchClass, (ClassId, QueueId)>,
    pub conns: BTreeMap<ConnId, session::Conn>,
    pub reports: BTreeMap<ConnId, session::Reports>,
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
    /// It stops on purpose: nothing new is let in.
    pub stopping: bool,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            boot: 0,
            up: false,
            paused: false,
            waiting: Vec::new(),
            engine: Engine::new(Observed(0), Mono(0)),
            replica: ReplicaId(0),
            policies: BTreeMap::new(),
            classes: BTreeMap::new(),
            conns: BTreeMap::new(),
            reports: BTreeMap::new(),
            self_beat: None,
            last_tick: 0,
            pending: BTreeSet::new(),
            calls: 0,
            writer_free: 0,
            store_ms: 2,
            recordings: Vec::new(),
            stopping: false,
        }
    }

    pub(crate) fn oldest_call(&self) -> Option<u64> {
        self.pending.first().map(|(at, _)| *at)
    }
}

impl World {
    /// Starts a server process over the store that is there. While the store refuses, it is tried again.
    pub(crate) fn start_server(&mut self) {
        if self.server.up {
            return;
        }
        let Ok(snapshot) = store::now(self.db.store.load()) else {
            return self.after(500, Owner::World, Self::start_server);
        };
        let (boot, recordings) = (self.server.boot + 1, std::mem::take(&mut self.server.recordings));
        self.server = Server { boot, up: true, recordings, replica: snapshot.replica, ..Server::new() };
        self.server.engine = match self.twin {
            Twin::NoBreaker => Engine::without_breaker(snapshot.observed, self.mono()),
            _ => Engine::new(snapshot.observed, self.mono()),
        };
        self.server.last_tick = self.now;
        let recording = Recording { observed: snapshot.observed, started: self.mono(), inputs: Vec::new() };
        self.server.recordings.push(recording);
        self.log(format_args!("server {boot} starts at observed {}", snapshot.observed.0));
        for queue in snapshot.queues {
            self.learn_queue(queue.id, queue.policy);
        }
        for class in snapshot.classes {
            self.learn_class(&class);
        }
        if driver::adopt_all(self).is_err() {
            self.server.up = false;
            return self.after(500, Owner::World, Self::start_server);
        }
        driver::input(self, Input::Ready(snapshot.ready));
        duties::start(self);
    }

    pub(crate) fn learn_queue(&mut self, id: QueueId, policy: QueuePolicy) {
        let liveness = policy.liveness();
        self.server.policies.insert(id, policy);
        driver::input(self, Input::Queue(id, liveness));
    }

    pub(crate) fn learn_class(&mut self, row: &outlive_store::ClassRow) {
        driver::input(self, Input::Class(row.id, row.queue, std::sync::Arc::clone(&row.class)));
        self.server.classes.insert((*row.class).clone(), (row.id, row.queue));
    }

    /// SIGKILL: what it had not written is gone, every connection is reset.
    pub(crate) fn kill_server(&mut self) {
        if !self.server.up {
            return;
        }
        let boot = self.server.boot;
        self.log(format_args!("server {boot} is gone"));
        self.server.up = false;
        self.server.waiting.clear();
        let open: Vec<_> = (0..self.net.links.len()).filter(|&id| self.net.links[id].boot == boot).collect();
        for id in open {
            self.server_closes(id);
        }
    }

    pub(crate) fn pause_server(&mut self) {
        if self.server.up {
            self.log(format_args!("server stopped (SIGSTOP)"));
            self.server.paused = true;
        }
    }

    pub(crate) fn wake_server(&mut self) {
        if std::mem::take(&mut self.server.paused) {
            self.log(format_args!("server goes on"));
            let waiting = std::mem::take(&mut self.server.waiting);
            self.resume(Owner::Server(self.server.boot), waiting);
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
        self.at(at, Owner::Server(self.server.boot), move |w| {
            w.server.pending.remove(&pending);
            call(w);
        });
    }

    /// The answer of a store call: some task wakes, sooner or later.
    pub(crate) fn reply(&mut self, then: impl FnOnce(&mut Self) + 'static) {
        let late = if self.chance.chance(2) { self.chance.between(3, 30) } else { self.chance.between(0, 1) };
        self.after(late, Owner::Server(self.server.boot), then);
    }
}
