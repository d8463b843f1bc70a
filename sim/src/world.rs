//! The world: server processes over a store, hosts with agents, guards and processes, a network, clients, and time.
//!
//! ```text
//!   clients ──► server shell ──► engine (real)          hosts: agent (real) ─► guard, processes (fake)
//!                  │   ▲                                   │ ▲
//!                  ▼   │ one writer, in order              │ │ ordered per connection, with latency, cuts, silence
//!               SQLite in memory (real) behind faults      └─┴──── network ────► server shell
//! ```
//!
//! The code of a replica sees its own process as `server` and its own way to the store as `server.db`: the world shows it
//! the one whose event is happening ([`World::act_as`]).
//!
//! Everything that happens is a closure in one queue, owned by nature, by a server process or by an agent process: what a
//! stopped process would have done waits until it goes on, what a dead one would have done never happens.

use crate::check::Truth;
use crate::clients::Clients;
use crate::host::Host;
use crate::log::Log;
use crate::net::{Net, Way};
use crate::poller::Poller;
use crate::queue::{Owner, Queue, Waiting};
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::store::{Stormy, sure};
use crate::twin::Twin;
use outlive_core::clock::SimClock;
use outlive_core::invariants::{Check, Violation};
use outlive_core::policy::QueuePolicy;
use outlive_core::{Mono, QueueId, RunId, Wall};
use outlive_store_sqlite::SqliteStore;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The wall clock at the beginning: 1 January 2027.
const BEGINNING: Wall = Wall(1_798_761_600_000);

/// The world.
pub(crate) struct World {
    pub now: u64,
    queue: Queue,
    pub log: Log,
    pub clock: Arc<SimClock>,
    /// What is really there, past all faults.
    pub truth_db: Arc<SqliteStore>,
    /// The replica that acts.
    pub server: Server,
    /// The others, at their places.
    parked: Vec<Option<Server>>,
    /// The way between each replica and all hosts.
    pub ways: Vec<Way>,
    /// As every replica knows them.
    pub policies: BTreeMap<QueueId, QueuePolicy>,
    pub hosts: Vec<Host>,
    /// Workers without sessions.
    pub pollers: Vec<Poller>,
    pub net: Net,
    pub clients: Clients,
    pub truth: Truth,
    pub twin: Twin,
    /// Nothing reaches the server, from anybody.
    pub network_down: bool,
    pub scenario: &'static Scenario,
    pub seed: u64,
    /// For latencies and the choices of nature.
    pub chance: Rng,
    /// Names for the log: runs in order of creation.
    pub names: BTreeMap<RunId, usize>,
    /// By how much the wall clock is wrong, and the most that it ever was.
    pub jumped: (i64, i64),
    pub failed: Option<Violation>,
    pub steps: u64,
}

impl World {
    pub(crate) fn new(seed: u64, scenario: &'static Scenario, twin: Twin, keep_log: bool) -> Self {
        let rng = Rng::new(seed);
        let clock = Arc::new(SimClock::starting_at(BEGINNING));
        let truth_db = sure(SqliteStore::in_memory(Arc::clone(&clock) as _), "a store in memory opens");
        let truth_db = Arc::new(truth_db);
        let way = |n: usize| {
            let weather = rng.part(&if n == 0 { "store".to_owned() } else { format!("store {n}") });
            Stormy::new(Arc::clone(&truth_db), Arc::clone(&clock), weather)
        };
        let server = Server::new(0, way(0));
        let others = (1..scenario.replicas).map(|n| Some(Server::new(n, way(n))));
        let parked = std::iter::once(None).chain(others).collect();
        Self {
            now: 0,
            queue: Queue::default(),
            log: Log::new(keep_log),
            clock,
            truth_db,
            server,
            parked,
            ways: vec![Way::default(); scenario.replicas],
            policies: BTreeMap::new(),
            hosts: Vec::new(),
            pollers: Vec::new(),
            net: Net::default(),
            clients: Clients::new(rng.part("clients")),
            truth: Truth::default(),
            twin,
            network_down: false,
            scenario,
            seed,
            chance: rng.part("nature"),
            names: BTreeMap::new(),
            jumped: (0, 0),
            failed: None,
            steps: 0,
        }
    }

    /// Lets something happen after `ms`.
    pub(crate) fn after(&mut self, ms: u64, owner: Owner, action: impl FnOnce(&mut Self) + 'static) {
        self.queue.push(self.now + ms, owner, Box::new(action));
    }

    /// Lets something happen at a time that is not past.
    pub(crate) fn at(&mut self, at: u64, owner: Owner, action: impl FnOnce(&mut Self) + 'static) {
        self.queue.push(at.max(self.now), owner, Box::new(action));
    }

    /// Puts what a stopped process had in mind back, in its order, to happen now.
    pub(crate) fn resume(&mut self, owner: Owner, waiting: Vec<Waiting>) {
        self.queue.resume(self.now, owner, waiting);
    }

    /// One event. False: nothing is due until `until`, which is then the time, or something does not hold.
    pub(crate) fn step(&mut self, until: u64) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let Some(event) = self.queue.pop(until) else {
            self.pass_to(until);
            return false;
        };
        self.pass_to(event.at);
        self.steps += 1;
        let stopped = match event.owner {
            Owner::World => None,
            Owner::Server(replica, boot) => {
                self.act_as(replica);
                if boot != self.server.boot || !self.server.up {
                    return true;
                }
                self.server.paused.then_some(&mut self.server.waiting)
            }
            Owner::Agent(host, start) => {
                let host = &mut self.hosts[host];
                if start != host.start || host.agent.is_none() {
                    return true;
                }
                host.paused.then_some(&mut host.waiting)
            }
        };
        match stopped {
            Some(waiting) => waiting.push(event.waits()),
            None => event.happen(self),
        }
        true
    }

    /// From here on `server` is this replica.
    pub(crate) fn act_as(&mut self, replica: usize) {
        let now = self.server.index;
        if now == replica {
            return;
        }
        if let Some(other) = self.parked[replica].take() {
            let before = std::mem::replace(&mut self.server, other);
            self.parked[now] = Some(before);
        }
    }

    /// A replica, whichever acts.
    pub(crate) fn replica(&self, index: usize) -> &Server {
        self.parked[index].as_ref().unwrap_or(&self.server)
    }

    /// All of them.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = &Server> {
        (0..self.parked.len()).map(|index| self.replica(index))
    }

    /// Whether several share the store.
    pub(crate) fn is_cluster(&self) -> bool {
        self.parked.len() > 1
    }

    fn pass_to(&mut self, at: u64) {
        self.now = at;
        self.clock.advance_to(Mono(at));
    }

    pub(crate) fn mono(&self) -> Mono {
        Mono(self.now)
    }

    /// Notes what does not hold; the first counts.
    pub(crate) fn check(&mut self, check: Check) {
        if let Err(violation) = check
            && self.failed.is_none()
        {
            let names: Vec<_> =
                self.names.iter().filter(|(id, _)| violation.detail.contains(&id.to_string())).collect();
            let names: Vec<String> = names.iter().map(|(_, n)| format!("r{n}")).collect();
            self.log(format_args!("VIOLATION {} {violation}", names.join(" ")));
            self.failed = Some(violation);
        }
    }

    pub(crate) fn log(&mut self, what: std::fmt::Arguments<'_>) {
        self.log.line(self.now, what);
    }

    /// A run's short name.
    pub(crate) fn name(&self, run: RunId) -> usize {
        self.names.get(&run).copied().unwrap_or(0)
    }
}
