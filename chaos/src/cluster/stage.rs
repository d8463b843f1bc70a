//! The processes of a cluster, what is between them, and waiting until something is so.
//!
//! ```text
//!   clients, pollers ──► balancer ──┐
//!                                   ├──► replica a ──► link ──┐
//!   agents ─────────────────────────┼──► replica b ──► link ──┼──► [pgbouncer ──►] PostgreSQL
//!   some agents ──► a link each ────┴──► replica c ──► link ──┘
//! ```

use super::Plan;
use super::ledger::{Deed, Ledger, Line, Trouble};
use super::schedule::{AGENTS, REPLICAS};
use crate::balance::Balancer;
use crate::link::Link;
use crate::process::{House, Post, Process, free_port};
use crate::rng::Rng;
use outlive_api::client::Client;
use outlive_api::clock::{SystemClock, nanos};
use outlive_core::Wall;
use outlive_core::clock::Clock as _;
use outlive_core::policy::QueuePolicy;
use outlive_pg_private::Server;
use rustix::process::Signal;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between looks at a level.
const LOOK: Duration = Duration::from_millis(100);
/// Whatever is waited for is there by then, on a busy machine too.
const PATIENCE: Duration = Duration::from_mins(2);
/// Runs at once, of each agent.
const SLOTS: usize = 2;
/// Each so-manieth agent reaches its replicas over links.
const LINKED_EACH: usize = 4;
/// Of the queue with a limit.
pub(super) const CAP: u32 = 3;
/// Its name.
pub(super) const CAPPED: &str = "capped";
/// A run may be lost often here, and must still end well.
const MAX_LOSSES: u32 = 200;

/// A replica's place.
pub(super) struct Seat {
    pub(super) name: String,
    pub(super) address: String,
    /// Between it and the database.
    pub(super) link: Link,
    pub(super) process: RefCell<Option<Process>>,
}

/// A worker.
pub(super) struct Agent {
    pub(super) name: String,
    /// How it reaches the replicas.
    servers: String,
    pub(super) linked: bool,
    pub(super) process: RefCell<Option<Process>>,
}

pub(super) struct Stage {
    pub(super) house: House,
    pub(super) database: Arc<Mutex<Server>>,
    pub(super) seats: Vec<Seat>,
    pub(super) agents: Vec<Agent>,
    /// Links between agents and replicas, one for each replica.
    pub(super) ways: Vec<Link>,
    pub(super) balancer: Balancer,
    /// Through the balancer.
    pub(super) client: Client,
    pub(super) ledger: RefCell<Ledger>,
    pub(super) notes: RefCell<Vec<String>>,
    /// What kept a blow from being one.
    pub(super) doubts: RefCell<Vec<String>>,
    begun: u64,
}

pub(super) fn said<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String + '_ {
    move |e| format!("{what}: {e}")
}

impl Stage {
    /// Starts everything; all answer, and all workers are online.
    pub(super) async fn set(plan: &Plan, folder: &Path, rng: &mut Rng) -> Result<Self, String> {
        let house = House::new(&plan.binary, folder, rng).map_err(said("no port"))?;
        let port = |rng: &mut Rng| free_port(rng).map_err(said("no port"));
        let started = blocking(|| Server::start(&outlive_pg_private::Options::default())).await?;
        let database = started.map_err(said("no database"))?;
        let mut seats = Vec::new();
        let mut ways = Vec::new();
        for seat in 0..REPLICAS {
            let address = format!("127.0.0.1:{}", port(rng)?);
            let link = Link::new(port(rng)?, format!("127.0.0.1:{}", database.port())).await?;
            ways.push(Link::new(port(rng)?, address.clone()).await?);
            let name = format!("replica-{}", ["a", "b", "c"][seat]);
            seats.push(Seat { name, address, link, process: RefCell::default() });
        }
        let balancer = Balancer::new(port(rng)?, seats.iter().map(|seat| seat.address.clone()).collect()).await?;
        let client = Client::new(&balancer.address, "default").map_err(|e| e.to_string())?;
        let mut stage = Self {
            house,
            database: Arc::new(Mutex::new(database)),
            seats,
            agents: Vec::new(),
            ways,
            balancer,
            client,
            ledger: RefCell::default(),
            notes: RefCell::default(),
            doubts: RefCell::default(),
            begun: nanos(),
        };
        stage.agents = (0..AGENTS).map(|number| stage.agent(number)).collect();
        for seat in 0..REPLICAS {
            stage.serve(seat)?;
        }
        stage.until("the replicas answer", async |s| s.are_ready().await).await?;
        let policy = QueuePolicy { max_losses: MAX_LOSSES, ..QueuePolicy::default() };
        stage.client.put_queue("default", &policy).await.map_err(|e| e.to_string())?;
        let policy = QueuePolicy { max_running: Some(CAP), ..policy };
        stage.client.put_queue(CAPPED, &policy).await.map_err(|e| e.to_string())?;
        for number in 0..AGENTS {
            stage.hire(number)?;
        }
        stage.settle().await?;
        Ok(stage)
    }

    /// Its servers in an order of its own, so that homes are all over.
    fn agent(&self, number: usize) -> Agent {
        let linked = number % LINKED_EACH == LINKED_EACH - 1;
        let address = |seat: usize| if linked { self.ways[seat].address() } else { self.seats[seat].address.clone() };
        let servers: Vec<String> = (0..REPLICAS).map(|n| address((n + number) % REPLICAS)).collect();
        Agent { name: format!("w-{number}"), servers: servers.join(","), linked, process: RefCell::default() }
    }

    /// Starts a replica.
    pub(super) fn serve(&self, seat: usize) -> Result<(), String> {
        let seat = &self.seats[seat];
        let url = {
            let database = self.database();
            let (there, way) = (format!(":{}/", database.port()), format!(":{}/", seat.link.port));
            database.url("postgres").replace(&there, &way)
        };
        let process = self.house.replica(&seat.name, &seat.address, &url).map_err(said("a replica does not start"))?;
        seat.process.replace(Some(process));
        Ok(())
    }

    /// Starts an agent.
    pub(super) fn hire(&self, number: usize) -> Result<(), String> {
        let agent = &self.agents[number];
        let post = Post { name: &agent.name, slots: SLOTS, server: &agent.servers, through: &[] };
        let process = self.house.agent(&post, &format!("default,{CAPPED}")).map_err(said("a worker does not start"))?;
        agent.process.replace(Some(process));
        Ok(())
    }

    pub(super) fn database(&self) -> std::sync::MutexGuard<'_, Server> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is so.
    pub(super) async fn until(&self, what: &str, so: impl AsyncFn(&Self) -> bool) -> Result<(), String> {
        let begun = nanos();
        while !so(self).await {
            if u128::from(nanos() - begun) > PATIENCE.as_nanos() {
                return Err(format!("did not come true: {what}; {}", self.how_it_is().await));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn how_it_is(&self) -> String {
        let online = self.online().await;
        let missing: Vec<_> = self.agents.iter().map(|a| a.name.clone()).filter(|n| !online.contains(n)).collect();
        let mut ready = Vec::new();
        for seat in &self.seats {
            let client = Client::new(&seat.address, "default");
            let said = match client {
                Ok(client) => tokio::time::timeout(Duration::from_secs(2), client.server()).await.map_or_else(
                    |_| "no answer".to_owned(),
                    |answer| answer.map_or_else(|e| e.to_string(), |s| format!("{:?}", s.judge)),
                ),
                Err(e) => e.to_string(),
            };
            ready.push(format!("{}: {said}", seat.name));
        }
        format!("not online: {missing:?}; {}", ready.join("; "))
    }

    /// Whether every replica takes requests, and could judge.
    async fn are_ready(&self) -> bool {
        for seat in &self.seats {
            let Ok(client) = Client::new(&seat.address, "default") else { return false };
            let answer = tokio::time::timeout(Duration::from_secs(2), client.server()).await;
            if !matches!(answer, Ok(Ok(server)) if server.judge.punctual && server.judge.breaker.is_none()) {
                return false;
            }
        }
        true
    }

    async fn online(&self) -> BTreeSet<String> {
        let workers = self.client.workers().await.map(|w| w.workers).unwrap_or_default();
        workers.into_iter().filter(|w| w.status == "online").map(|w| w.name).collect()
    }

    /// Waits until every replica answers and could judge, and every agent is online.
    pub(super) async fn settle(&self) -> Result<(), String> {
        self.until("all replicas answer", async |s| s.are_ready().await).await?;
        let all = |online: &BTreeSet<String>| self.agents.iter().all(|agent| online.contains(&agent.name));
        self.until("all workers are online", async |s| all(&s.online().await)).await
    }

    pub(super) fn note(&self, note: &str) {
        let at = (nanos() - self.begun) / 1_000_000;
        self.notes.borrow_mut().push(format!("{:>5}.{:03} s  {note}", at / 1_000, at % 1_000));
    }

    pub(super) fn doubt(&self, doubt: String) {
        self.doubts.borrow_mut().push(doubt);
    }

    /// Writes down what is being done to a worker; the line's number.
    pub(super) fn deed(&self, deed: Deed, agent: usize) -> usize {
        let agent = &self.agents[agent];
        let line = Line { deed, worker: agent.name.clone(), linked: agent.linked, from: now(), to: None };
        let mut ledger = self.ledger.borrow_mut();
        ledger.deeds.push(line);
        ledger.deeds.len() - 1
    }

    pub(super) fn deed_is_over(&self, line: usize) {
        self.ledger.borrow_mut().deeds[line].to = Some(now());
    }

    /// Writes down that something is not as it should be; the trouble's number.
    pub(super) fn trouble(&self, what: String) -> usize {
        self.note(&what);
        let mut ledger = self.ledger.borrow_mut();
        ledger.troubles.push(Trouble { what, from: now(), to: None });
        ledger.troubles.len() - 1
    }

    /// Everything answers: whatever was not as it should be is over.
    pub(super) fn troubles_are_over(&self) {
        for trouble in &mut self.ledger.borrow_mut().troubles {
            trouble.to.get_or_insert_with(now);
        }
    }

    pub(super) fn signal(process: &RefCell<Option<Process>>, signal: Signal) -> Result<(), String> {
        process.borrow().as_ref().ok_or("no such process")?.signal(signal).map_err(said("the signal cannot be sent"))
    }
}

/// The machine's wall clock, which is the database's.
pub(super) fn now() -> Wall {
    SystemClock.wall()
}

/// Does something that blocks beside everything else.
pub(super) async fn blocking<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(what).await.map_err(said("a thread failed"))
}
