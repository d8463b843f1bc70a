//! Whole lives per second (create, claim, complete), against the same rows written by bare statements with the same syncs.
//!
//! ```sh
//! cargo run --release -p outlive-store-sqlite --example lives -- [lives] [folder]
//! ```
//!
//! Three ways through the store: batches that are claimed at their creation (what a busy server does), batches that are
//! claimed later, and many clients with one run each, which share commits. Ratios are within one run of this program; the
//! time of an `fsync` is printed beside them.

use futures_util::future::join_all;
use outlive_core::class::{MatchClass, WorkerProfile};
use outlive_core::clock::Clock;
use outlive_core::options::RunOptions;
use outlive_core::report::{Completion, Item, Op};
use outlive_core::run::begin::NewRun;
use outlive_core::{Json, LeaseRef, Mono, RunId, Wall};
use outlive_store::{
    Catalog, ClaimOrder, ClassRow, CreateRequest, CreateRun, LeaseRow, Leases, OnConflict, Presence, Registration,
    Runs, Workers,
};
use outlive_store_sqlite::SqliteStore;
use rusqlite::{Connection, params};
use std::io::Write;
use std::path::Path;
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
    let lives: usize = args.next().map_or(100_000, |n| n.parse().expect("a number of lives"));
    let parent = args.next().unwrap_or_else(|| ".".to_owned());
    let folder = tempfile::tempdir_in(parent).expect("a folder");
    println!("fsync p50 {:.3} ms, {lives} lives, batches of {BATCH}", fsync_p50(folder.path()));
    let raw_two = rate(lives, || raw(&folder.path().join("raw2.db"), lives, false));
    let raw_three = rate(lives, || raw(&folder.path().join("raw3.db"), lives, true));
    println!("bare statements, claimed at creation   {raw_two:>8.0} /s");
    println!("bare statements, claimed later         {raw_three:>8.0} /s");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let two = runtime.block_on(async {
        let bench = Bench::open(&folder.path().join("two.db")).await;
        let started = now();
        bench.claimed_at_creation(lives).await;
        per_second(lives, started)
    });
    println!("store, claimed at creation             {two:>8.0} /s  ratio {:.2}", two / raw_two);
    let three = runtime.block_on(async {
        let bench = Bench::open(&folder.path().join("three.db")).await;
        let started = now();
        bench.claimed_later(lives).await;
        per_second(lives, started)
    });
    println!("store, claimed later                   {three:>8.0} /s  ratio {:.2}", three / raw_three);
    let many = runtime.block_on(async {
        let bench = Bench::open(&folder.path().join("many.db")).await;
        let started = now();
        bench.many_clients(lives).await;
        per_second(lives, started)
    });
    println!("store, {CLIENTS} clients with one run each  {many:>8.0} /s  ratio {:.2}", many / raw_two);
}

fn per_second(lives: usize, started: Instant) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let lives = lives as f64;
    lives / started.elapsed().as_secs_f64()
}

fn rate(lives: usize, work: impl FnOnce()) -> f64 {
    let started = now();
    work();
    per_second(lives, started)
}

/// The middle of 200 appends of a page, each synced.
fn fsync_p50(folder: &Path) -> f64 {
    let mut file = std::fs::File::create(folder.join("probe")).expect("a file");
    let mut times: Vec<f64> = (0..200)
        .map(|_| {
            let started = now();
            file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("a write");
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[100]
}

/// What the store writes, without the store: no decisions, no answers, values out of a counter.
fn raw(path: &Path, lives: usize, claim_later: bool) {
    drop(SqliteStore::open(path, Arc::new(Machine(now()))).expect("a store, for its schema"));
    let conn = Connection::open(path).expect("a connection");
    conn.set_prepared_statement_cache_capacity(64);
    for (pragma, value) in [("synchronous", "full"), ("wal_autocheckpoint", "4096"), ("cache_size", "-65536")] {
        conn.pragma_update(None, pragma, value).expect("a setting");
    }
    let feed = format!(
        "[{}]",
        vec![r#"[4,"01900000-0000-7000-8000-000000000000",1,3,null,1700000000000,1]"#; BATCH].join(",")
    );
    let queued = if claim_later { 2 } else { 3 };
    for batch in 0..lives / BATCH {
        let seqs = || (0..BATCH).map(|i| i64::try_from(batch * BATCH + i + 1).expect("a row"));
        transaction(&conn, &feed, || {
            for seq in seqs() {
                insert(&conn, seq, queued);
            }
        });
        if claim_later {
            transaction(&conn, &feed, || seqs().for_each(|seq| update(&conn, seq, 3)));
        }
        transaction(&conn, &feed, || seqs().for_each(|seq| update(&conn, seq, 6)));
    }
}

fn transaction(conn: &Connection, feed: &str, work: impl FnOnce()) {
    conn.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
    work();
    let mut row = conn.prepare_cached(include_str!("../sql/feed_insert.sql")).expect("a statement");
    row.execute(params![1, feed]).expect("a row");
    conn.execute_batch("COMMIT").expect("a commit");
}

fn insert(conn: &Connection, seq: i64, state: i64) {
    let id = RunId::from_parts(Wall(1_700_000_000_000 + seq / 50), random(seq.unsigned_abs()));
    let holder = (state == 3).then_some(1);
    let none: Option<i64> = None;
    let mut run = conn.prepare_cached(include_str!("../sql/run_insert.sql")).expect("a statement");
    run.execute(params![
        seq,
        id.0,
        1,
        1,
        state,
        0,
        1_700_000_000_000_i64 + seq,
        0,
        1,
        0,
        0,
        0,
        none,
        none,
        1_700_000_000_000_i64,
        1_700_000_000_000_i64,
        none,
        1_700_000_000_000_i64,
        none,
        none,
        0,
        holder,
        holder,
        0,
        1,
        0,
        0,
        0,
        none,
        none,
        none,
        0,
        0,
        0
    ])
    .expect("a row");
    let mut input = conn.prepare_cached(include_str!("../sql/input_insert.sql")).expect("a statement");
    input.execute(params![seq, INPUT, none, none]).expect("a row");
}

fn update(conn: &Connection, seq: i64, state: i64) {
    let none: Option<i64> = None;
    let at = 1_700_000_000_000_i64 + seq;
    let mut run = conn.prepare_cached(include_str!("../sql/run_update.sql")).expect("a statement");
    run.execute(params![
        seq, state, 0, at, 1, 0, 0, 0, 0, none, at, none, at, at, at, 0, 1, 1, 1, 2, 0, 0, 1, none, none, 0, 0
    ])
    .expect("a row");
}

fn random(n: u64) -> u128 {
    let mut x = u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    x ^= x >> 61;
    x.wrapping_mul(0xD6E8_FEB8_6659_FD93_A5A3_5650_F27D_9D3B)
}

struct Bench {
    store: SqliteStore,
    class: ClassRow,
    order: ClaimOrder,
    numbers: AtomicU64,
}

impl Bench {
    async fn open(path: &Path) -> Self {
        let store = SqliteStore::open(path, Arc::new(Machine(now()))).expect("a store");
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
                name: "w".to_owned(),
                ..WorkerProfile::default()
            },
            instance: Uuid::from_u128(1),
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
        Self { store, class, order, numbers: AtomicU64::new(1) }
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
