//! Whole lives per second (create, claim, complete) through the store on PostgreSQL.
//!
//! ```sh
//! cargo run --release -p outlive-store-postgres --example lives_postgres -- [lives] [url of an empty database]
//! ```
//!
//! Without a URL it starts a server of its own, with PostgreSQL's defaults. Three ways through the store: batches that are
//! claimed at their creation (what a busy server does), batches that are claimed later, and many clients with one run each,
//! which share batches; the last also over two replicas at once.

use futures_util::future::join_all;
use outlive_core::class::{MatchClass, WorkerProfile};
use outlive_core::clock::Clock;
use outlive_core::options::RunOptions;
use outlive_core::report::{Completion, Item, Op};
use outlive_core::run::begin::NewRun;
use outlive_core::{Json, LeaseRef, Mono, RunId, Wall};
use outlive_pg_private::{Options as ServerOptions, Server};
use outlive_store::{
    Catalog, ClaimOrder, ClassRow, CreateRequest, CreateRun, LeaseRow, Leases, OnConflict, Presence, Registration,
    Runs, Workers,
};
use outlive_store_postgres::{Options, PostgresStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use uuid::Uuid;

const BATCH: usize = 500;
const CLIENTS: usize = 512;
const INPUT: &str = r#"{"command":["true"],"cwd":null,"env":{},"stdin":null,"output_format":"text"}"#;

struct Machine(Instant);

impl Clock for Machine {
    fn wall(&self) -> Wall {
        Wall(1_700_000_000_000 + i64::try_from(self.mono().0).unwrap_or(0))
    }
    fn mono(&self) -> Mono {
        Mono(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(0))
    }
    fn boot(&self) -> Mono {
        self.mono()
    }
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    Instant::now()
}

fn main() {
    let mut args = std::env::args().skip(1);
    let lives: usize = args.next().map_or(50_000, |n| n.parse().expect("a number of lives"));
    let server = args.len() == 0;
    let server = server.then(|| Server::start(&ServerOptions::default()).expect("a server"));
    let url = server.as_ref().map(|server| server.url("postgres")).or_else(|| args.next()).expect("a URL");
    println!("{lives} lives, batches of {BATCH}, {CLIENTS} clients");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let bench = Bench::open(&url, "one").await;
        let started = now();
        bench.claimed_at_creation(lives).await;
        println!("claimed at creation              {:>8.0} /s", per_second(lives, started));
        let started = now();
        bench.claimed_later(lives).await;
        println!("claimed later                    {:>8.0} /s", per_second(lives, started));
        let started = now();
        bench.many_clients(lives).await;
        println!("clients with one run each        {:>8.0} /s", per_second(lives, started));
        let other = Bench::open(&url, "two").await;
        let started = now();
        futures_util::future::join(bench.many_clients(lives / 2), other.many_clients(lives / 2)).await;
        println!("the same over two replicas       {:>8.0} /s", per_second(lives, started));
    });
}

fn per_second(lives: usize, started: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let lives = lives as f64;
    lives / started.elapsed().as_secs_f64()
}

fn random(n: u64) -> u128 {
    let mut x = u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    x ^= x >> 61;
    x.wrapping_mul(0xD6E8_FEB8_6659_FD93_A5A3_5650_F27D_9D3B)
}

struct Bench {
    store: PostgresStore,
    class: ClassRow,
    order: ClaimOrder,
    numbers: AtomicU64,
}

impl Bench {
    async fn open(url: &str, name: &str) -> Self {
        let options = Options { replica: name.to_owned(), ..Options::default() };
        let store = PostgresStore::open(url, options, Arc::new(Machine(now()))).await.expect("a store");
        let class = MatchClass {
            namespace: "default".to_owned(),
            queue: "default".to_owned(),
            kind: "exec".to_owned(),
            requires: std::collections::BTreeMap::new(),
            pin: None,
        };
        let class = store.intern_class(class).await.expect("a class");
        let registration = Registration {
            profile: WorkerProfile {
                namespace: "default".to_owned(),
                name: name.to_owned(),
                ..WorkerProfile::default()
            },
            instance: Uuid::from_u128(u128::from(name.len() as u64)),
            outbox_key: String::new(),
            presence: Presence::Session,
            version: String::new(),
            host: String::new(),
            pid: 1,
            may_replace: false,
        };
        let holder = store.register(registration).await.expect("a worker").worker.holder();
        let replica = store.load().await.expect("a store").replica;
        let opened = store.open_session(holder, replica).await.expect("a store").expect("a session");
        let max = u32::try_from(BATCH).expect("a small number");
        let home_seq = opened.home_seq;
        let order = ClaimOrder { holder, replica, home_seq, max, classes: vec![class.id], request: None };
        Self { store, class, order, numbers: AtomicU64::new(if name == "one" { 1 } else { 1 << 40 }) }
    }

    fn request(&self, runs: usize, claims: Vec<ClaimOrder>) -> CreateRequest {
        let runs = (0..runs).map(|_| self.draft()).collect();
        CreateRequest { namespace: "default".to_owned(), runs, idempotency: None, claims, only_known: false }
    }

    fn draft(&self) -> CreateRun {
        let n = self.numbers.fetch_add(1, Ordering::Relaxed);
        let at = Wall(1_700_000_000_000 + i64::try_from(n / 50).expect("a time"));
        let new = NewRun {
            id: RunId::from_parts(at, random(n)),
            class: self.class.id,
            queue: self.class.queue,
            priority: 0,
            run_at: None,
            hold: false,
            serial_key: None,
            key: None,
            queue_ttl: None,
        };
        let input = Json::parse(INPUT.to_owned()).expect("JSON");
        let on_conflict = OnConflict::Reject;
        CreateRun { new, id_chosen: false, on_conflict, input, options: RunOptions::default(), checkpoint: None }
    }

    async fn complete(&self, leases: &[LeaseRow]) {
        let end = |lease: &LeaseRow| Item {
            lease: LeaseRef { run_id: lease.run.id, epoch: lease.run.epoch },
            op: Op::Complete(Completion::default()),
        };
        self.store.report(self.order.holder, leases.iter().map(end).collect()).await.expect("a report");
    }

    async fn claimed_at_creation(&self, lives: usize) {
        for _ in 0..lives / BATCH {
            let request = self.request(BATCH, vec![self.order.clone()]);
            let created = self.store.create(request).await.expect("runs");
            assert_eq!(created.claimed[0].leases.len(), BATCH);
            self.complete(&created.claimed[0].leases).await;
        }
    }

    async fn claimed_later(&self, lives: usize) {
        for _ in 0..lives / BATCH {
            self.store.create(self.request(BATCH, Vec::new())).await.expect("runs");
            let claimed = self.store.claim(self.order.clone()).await.expect("leases");
            assert_eq!(claimed.leases.len(), BATCH);
            self.complete(&claimed.leases).await;
        }
    }

    async fn many_clients(&self, lives: usize) {
        let client = async || {
            for _ in 0..lives / CLIENTS {
                let order = ClaimOrder { max: 1, ..self.order.clone() };
                let created = self.store.create(self.request(1, vec![order])).await.expect("a run");
                self.complete(&created.claimed[0].leases).await;
            }
        };
        join_all((0..CLIENTS).map(|_| client())).await;
    }
}
