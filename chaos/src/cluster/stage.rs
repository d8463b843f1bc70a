//! The processes of a cluster, what is between them, and waiting until something is so.
//!
//! ```text
//!   clients, pollers ──► balancer ──┐
//!                                   ├──► replica a ──► link ──┐
//!   agents ─────────────────────────┼──► replica b ──► link ──┼──► [pgbouncer ──►] PostgreSQL      and all three: redis
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
use outlive_core::clock::Clock as _;
use outlive_core::policy::QueuePolicy;
use outlive_core::{Incarnation, Wall};
use outlive_pg_private::{Bouncer, Options, Redis, Server, Signed, signed_for};
use rustix::process::Signal;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
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
/// Connections that the database gives, and those that the pgbouncer shares out. Replicas need fewer than either.
const CONNECTIONS: u32 = 90;
pub(super) const POOL: u32 = 20;
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
    /// Which of its starts was online when everything was well the last time, and which one is the least that may be now.
    incarnation: Cell<Incarnation>,
    least: Cell<Incarnation>,
    pub(super) process: RefCell<Option<Process>>,
}

pub(super) struct Stage {
    pub(super) house: House,
    pub(super) database: Arc<Mutex<Server>>,
    /// Between the links and it.
    pub(super) bouncer: Option<Bouncer>,
    /// Beside the rows by which replicas tell each other whom they heard.
    pub(super) redis: RefCell<Redis>,
    pub(super) redis_is_struck: Cell<bool>,
    /// What stands at the end of the replicas' URLs.
    query: String,
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

/// Without any link in between, by the database's own socket.
pub(super) fn config(server: &Server, name: &str) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.host_path(server.folder()).port(server.port()).dbname("postgres");
    config.user("outlive").password(server.password()).application_name(name);
    config
}

/// The database, and what stands before it.
struct Store {
    server: Server,
    bouncer: Option<Bouncer>,
    query: String,
}

impl Store {
    async fn start(plan: &Plan, folder: &Path) -> Result<Self, String> {
        let mut options = Options { settings: vec![format!("max_connections = {CONNECTIONS}")], tls: None };
        let mut query = String::new();
        if plan.tls {
            let Signed { cert, key, authority } = signed_for(&["127.0.0.1", "localhost"])?;
            let file = folder.join("authority.pem");
            std::fs::write(&file, authority).map_err(said("no certificate"))?;
            options.tls = Some((cert, key));
            query = format!("?sslmode=verify-full&sslrootcert={}", file.display());
        }
        let pgbouncer = plan.pgbouncer;
        let started = blocking(move || {
            let server = Server::start(&options)?;
            let bouncer = if pgbouncer { Some(Bouncer::start(&server, POOL)?) } else { None };
            Ok::<_, String>((server, bouncer))
        });
        let (server, bouncer) = started.await?.map_err(said("no database"))?;
        Ok(Self { server, bouncer, query })
    }

    fn port(&self) -> u16 {
        self.bouncer.as_ref().map_or_else(|| self.server.port(), Bouncer::port)
    }
}

pub(super) fn said<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String + '_ {
    move |e| format!("{what}: {e}")
}

impl Stage {
    /// Starts everything; all answer, and all workers are online.
    pub(super) async fn set(plan: &Plan, folder: &Path, rng: &mut Rng) -> Result<Self, String> {
        let house = House::new(&plan.binary, folder, rng).map_err(said("no port"))?;
        let port = |rng: &mut Rng| free_port(rng).map_err(said("no port"));
        let store = Store::start(plan, folder).await?;
        let mut seats = Vec::new();
        let mut ways = Vec::new();
        for seat in 0..REPLICAS {
            let address = format!("127.0.0.1:{}", port(rng)?);
            let link = Link::new(port(rng)?, format!("127.0.0.1:{}", store.port())).await?;
            ways.push(Link::new(port(rng)?, address.clone()).await?);
            let name = format!("replica-{}", ["a", "b", "c"][seat]);
            seats.push(Seat { name, address, link, process: RefCell::default() });
        }
        let balancer = Balancer::new(port(rng)?, seats.iter().map(|seat| seat.address.clone()).collect()).await?;
        let client = Client::new(&balancer.address, "default").map_err(|e| e.to_string())?;
        let mut stage = Self {
            house,
            database: Arc::new(Mutex::new(store.server)),
            bouncer: store.bouncer,
            query: store.query,
            redis_is_struck: Cell::new(false),
            redis: RefCell::new(blocking(Redis::start).await?.map_err(said("no redis"))?),
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
        stage.policies(plan).await?;
        for number in 0..AGENTS {
            stage.hire(number)?;
        }
        stage.settle().await?;
        Ok(stage)
    }

    /// What queues are told; and what is broken, where that is wanted.
    async fn policies(&self, plan: &Plan) -> Result<(), String> {
        let policy = QueuePolicy { max_losses: MAX_LOSSES, ..QueuePolicy::default() };
        let capped = QueuePolicy { max_running: Some(CAP), ..policy };
        for (queue, policy) in [("default", policy), (CAPPED, capped)] {
            let policy = plan.twins.iter().fold(policy, |policy, twin| twin.policy(policy));
            self.client.put_queue(queue, &policy).await.map_err(|e| e.to_string())?;
        }
        for twin in &plan.twins {
            let (database, statements) = (Arc::clone(&self.database), twin.statements());
            let done = blocking(move || {
                let database = database.lock().unwrap_or_else(PoisonError::into_inner);
                database.sql("postgres", statements)
            });
            done.await?.map_err(said("nothing can be broken"))?;
        }
        Ok(())
    }

    /// Its servers in an order of its own, so that homes are all over.
    fn agent(&self, number: usize) -> Agent {
        let linked = number % LINKED_EACH == LINKED_EACH - 1;
        let address = |seat: usize| if linked { self.ways[seat].address() } else { self.seats[seat].address.clone() };
        let servers: Vec<String> = (0..REPLICAS).map(|n| address((n + number) % REPLICAS)).collect();
        let (name, servers) = (format!("w-{number}"), servers.join(","));
        Agent {
            name,
            servers,
            linked,
            incarnation: Cell::default(),
            least: Cell::default(),
            process: RefCell::default(),
        }
    }

    /// Starts a replica.
    pub(super) fn serve(&self, seat: usize) -> Result<(), String> {
        let seat = &self.seats[seat];
        let url = {
            let database = self.database();
            let (there, way) = (format!(":{}/", database.port()), format!(":{}/", seat.link.port));
            database.url("postgres").replace(&there, &way) + &self.query
        };
        let process = self
            .house
            .replica(&seat.name, &seat.address, &url, &self.redis.borrow().url())
            .map_err(said("a replica does not start"))?;
        seat.process.replace(Some(process));
        Ok(())
    }

    /// Starts an agent.
    pub(super) fn hire(&self, number: usize) -> Result<(), String> {
        let agent = &self.agents[number];
        let post = Post { name: &agent.name, slots: SLOTS, server: &agent.servers, through: &[] };
        let process = self.house.agent(&post, &format!("default,{CAPPED}")).map_err(said("a worker does not start"))?;
        agent.process.replace(Some(process));
        agent.least.set(Incarnation(agent.incarnation.get().0 + 1));
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
        let workers = self.client.workers().await.map(|w| w.workers).unwrap_or_default();
        let missing: Vec<_> = workers.into_iter().filter(|w| w.status != "online").collect();
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

    /// Whether a replica takes requests, and could judge.
    pub(super) async fn is_ready(&self, seat: usize) -> bool {
        let Ok(client) = Client::new(&self.seats[seat].address, "default") else { return false };
        let answer = tokio::time::timeout(Duration::from_secs(2), client.server()).await;
        matches!(answer, Ok(Ok(server)) if server.judge.punctual && server.judge.breaker.is_none())
    }

    async fn are_ready(&self) -> bool {
        for seat in 0..self.seats.len() {
            if !self.is_ready(seat).await {
                return false;
            }
        }
        true
    }

    /// Waits until a process has ended by itself, and takes it away.
    pub(super) async fn gone(&self, process: &RefCell<Option<Process>>, name: &str) -> Result<(), String> {
        let ended = || process.borrow_mut().as_mut().is_none_or(Process::has_ended);
        self.until(&format!("{name} has ended"), async |_| ended()).await?;
        drop(process.take());
        Ok(())
    }

    async fn online(&self) -> BTreeMap<String, Incarnation> {
        let workers = self.client.workers().await.map(|w| w.workers).unwrap_or_default();
        workers.into_iter().filter(|w| w.status == "online").map(|w| (w.name, w.incarnation)).collect()
    }

    /// As a supervisor does: a replica that ended since its database had no connection left is started again.
    fn supervise(&self) {
        for (number, seat) in self.seats.iter().enumerate() {
            let has_ended = seat.process.borrow_mut().as_mut().is_some_and(Process::has_ended);
            if has_ended && let Err(error) = self.serve(number) {
                self.note(&error);
            }
        }
    }

    /// Waits until every replica answers and could judge, and every agent is online.
    pub(super) async fn settle(&self) -> Result<(), String> {
        self.until("all replicas answer", async |s| {
            s.supervise();
            s.are_ready().await
        })
        .await?;
        self.until("all workers are online", async |s| {
            let online = s.online().await;
            for agent in &s.agents {
                // A start that was killed a moment ago may still be shown.
                let Some(incarnation) = online.get(&agent.name).filter(|i| **i >= agent.least.get()) else {
                    return false;
                };
                agent.incarnation.set(*incarnation);
            }
            true
        })
        .await
    }

    pub(super) fn note(&self, note: &str) {
        let at = (nanos() - self.begun) / 1_000_000;
        let note = format!("{:>5}.{:03} s  {note}", at / 1_000, at % 1_000);
        eprintln!("{note}");
        self.notes.borrow_mut().push(note);
    }

    pub(super) fn doubt(&self, doubt: String) {
        self.doubts.borrow_mut().push(doubt);
    }

    /// Writes down what is being done to a worker; the line's number.
    pub(super) fn deed(&self, deed: Deed, agent: usize) -> usize {
        let agent = &self.agents[agent];
        let (worker, incarnation) = (agent.name.clone(), agent.incarnation.get());
        let line = Line { deed, worker, incarnation, linked: agent.linked, from: now(), to: None };
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
