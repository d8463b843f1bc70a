//! I5, repaired from rows alone: every faster path is taken away under a running server, by hand in its file, and each run
//! comes home. Writing to the file from beside makes no hint, and the server's memory does not learn of it.

use crate::support::{PATIENCE, Worker, World, config, noop, registration, until_run};
use futures_util::FutureExt as _;
use outlive_api::client::Client;
use outlive_api::clock::SystemClock;
use outlive_api::report::{OpName, WireItem};
use outlive_api::runs::{NewRun, ReleaseBody, Run};
use outlive_api::session::{CloseReason, Lease, ServerMessage};
use outlive_api::workers::WireLiveness;
use outlive_core::policy::QueuePolicy;
use outlive_core::{Millis, RunId, State};
use outlive_server::{Backend, StoreLocation, start_on};
use outlive_store::faults::{Call, Fault, Faulty};
use outlive_store_sqlite::SqliteStore;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

/// How a run stands whose path is taken away.
#[derive(Clone, Copy, Debug)]
enum Given {
    /// Queued.
    Ready,
    /// Queued, under a serial key.
    Serial,
    /// Held.
    Held,
    /// Held, and let go by a person.
    Released,
    /// Due in hours.
    Later,
    /// Due in a moment.
    Soon,
    /// Running on a worker that dies.
    Running,
}

/// How its path is taken away.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// By hand, in its rows.
    Rows(&'static [&'static str]),
    /// The same, and the server starts again on them.
    AtStart(&'static [&'static str]),
    /// The next call of that name is carried out and its answer is lost, with every hint that was in it.
    Answer(&'static str),
    /// So many calls of that name are refused.
    Refused(&'static str, u32),
}

use Damage::{Answer, AtStart, Refused, Rows};
use Given::{Held, Later, Ready, Released, Running, Serial, Soon};

/// What no program does: the run is leased to the worker that takes everything in the end (1), to one that is registered and has no
/// session (2), or to one that there is not.
const TO_RESCUER: &str = "UPDATE run SET state = 4, worker = 1, incarnation = 1, epoch = 7, claimed_at = created_at, started_at = created_at, terms = 4000";
const TO_AN_EARLIER_START: &str = "UPDATE run SET state = 4, worker = 1, incarnation = 0, epoch = 7, claimed_at = created_at, started_at = created_at, terms = 4000";
const TO_GONE: &str = "UPDATE run SET state = 4, worker = 2, incarnation = 1, epoch = 7, claimed_at = created_at, started_at = created_at, terms = 4000";
const TO_NOBODY: &str = "UPDATE run SET state = 4, worker = 99, incarnation = 1, epoch = 7, claimed_at = created_at, started_at = created_at, terms = 4000";
const GONE_IS_HERE: &str =
    "UPDATE worker SET session_open = 1, replica = (SELECT min(id) FROM replica), home_seq = 1 WHERE id = 2";

/// Every path that is quicker than the audit, and how it is lost.
const PATHS: &[(&str, Given, Damage)] = &[
    (
        "the hint of a run that became ready",
        Held,
        Rows(&["UPDATE run SET state = 2, due_at = NULL, queued_at = created_at"]),
    ),
    ("the hint of a creation", Ready, Answer("create")),
    ("the hint of a release", Released, Answer("release")),
    ("the hint of a scheduled run that became due", Soon, Answer("due")),
    ("the ticks at which a scheduled run is due", Soon, Refused("due", 20)),
    ("the time of a scheduled run", Later, Rows(&["UPDATE run SET due_at = NULL"])),
    ("the answer to a claim", Ready, Answer("claim")),
    ("the answer to a verdict, and its hint", Running, Answer("lose")),
    ("the moment of a verdict", Running, Refused("lose", 5)),
    ("the engine's knowledge of one lease", Ready, Rows(&[TO_RESCUER])),
    ("the engine's knowledge of a session", Ready, Rows(&[GONE_IS_HERE, TO_GONE])),
    ("the open session of a lease's holder", Ready, Rows(&[TO_GONE])),
    (
        "the home of a lease's holder",
        Ready,
        Rows(&[GONE_IS_HERE, "UPDATE worker SET replica = 77 WHERE id = 2", TO_GONE]),
    ),
    (
        "the home of a lease's holder, at the start",
        Ready,
        AtStart(&[GONE_IS_HERE, "UPDATE worker SET replica = 77 WHERE id = 2", TO_GONE]),
    ),
    ("the open session of a lease's holder, at the start", Ready, AtStart(&[TO_GONE])),
    ("the home of a connected worker", Ready, Rows(&["UPDATE worker SET replica = 77 WHERE id = 1"])),
    ("the open session of a connected worker", Ready, Rows(&["UPDATE worker SET session_open = 0 WHERE id = 1"])),
    ("the turn of a connected worker's home", Ready, Rows(&["UPDATE worker SET home_seq = 0 WHERE id = 1"])),
    ("the start of which a lease is", Ready, Rows(&[TO_AN_EARLIER_START])),
    ("the row of a lease's holder", Ready, Rows(&[TO_NOBODY])),
    ("the row of the server that runs", Ready, AtStart(&[GONE_IS_HERE, TO_GONE, "DELETE FROM replica"])),
    ("the store's observed clock, set back", Ready, AtStart(&[GONE_IS_HERE, TO_GONE, "UPDATE meta SET observed = 0"])),
    (
        "the store's observed clock, set ahead",
        Ready,
        AtStart(&[GONE_IS_HERE, TO_GONE, "UPDATE meta SET observed = 1000000000000"]),
    ),
    ("a flag that the run is blocked", Ready, Rows(&["UPDATE run SET blocked = 1"])),
    (
        "a wait for a business key that nobody has",
        Ready,
        AtStart(&["UPDATE run SET blocked = 1", "INSERT INTO key_wait SELECT seq, 999 FROM run"]),
    ),
    (
        "the holder of a serial key",
        Serial,
        Rows(&["UPDATE run SET blocked = 1", "UPDATE serial_slot SET holder = 999, head = NULL"]),
    ),
    ("the row of a serial key", Serial, Rows(&["UPDATE run SET blocked = 1", "DELETE FROM serial_slot"])),
    (
        "the count of a queue's open leases",
        Ready,
        AtStart(&["INSERT OR REPLACE INTO queue_count SELECT id, 4, 5 FROM queue"]),
    ),
    ("the recovery of a run", Ready, Rows(&["UPDATE run SET recovery = 999"])),
];

/// From the loss of its path until a run has succeeded: two rounds of the audit (5 s each), a TTL of 2 s, two beats of its worker, and
/// what a machine with as many servers as there are paths needs.
const BOUND: Duration = Duration::from_secs(25);

/// What befalls calls on the store: of that name, so many, and whether they are carried out.
type Befalls = Arc<Mutex<Option<(&'static str, u32, bool)>>>;

struct Damaged {
    world: World,
    befalls: Befalls,
    folder: tempfile::TempDir,
}

impl Damaged {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let befalls = Befalls::default();
        let world = serve(folder.path(), &befalls).await;
        let quick = QueuePolicy { lease_ttl: Millis::secs(2), max_running: Some(1), ..QueuePolicy::default() };
        world.client.put_queue("default", &quick).await.unwrap();
        Self { world, befalls, folder }
    }

    async fn starts_again(self) -> Self {
        let Self { world, befalls, folder } = self;
        world.server.stop().await;
        let world = serve(folder.path(), &befalls).await;
        Self { world, befalls, folder }
    }

    async fn create(&self, run: &NewRun) -> Run {
        self.world.client.create_run(run, None).await.unwrap()
    }

    /// What no program does.
    fn damage(&self, statement: &str) {
        let conn = rusqlite::Connection::open(file(self.folder.path())).unwrap();
        conn.busy_timeout(Duration::from_secs(30)).unwrap();
        assert!(conn.execute(statement, []).unwrap() > 0, "{statement}");
    }

    /// The run, as it stands when its path goes.
    async fn given(&self, given: Given) -> RunId {
        let client = &self.world.client;
        let now = client.server().await.unwrap().now;
        let id = RunId::from_parts(now, uuid::Uuid::new_v4().as_u128());
        let new = NewRun { id: Some(id), ..noop() };
        let new = match given {
            Ready | Running => new,
            Serial => NewRun { serial_key: Some("s".into()), ..new },
            Held | Released => NewRun { hold: true, ..new },
            Later => NewRun { run_at: Some(now + Millis::hours(5)), ..new },
            Soon => NewRun { run_at: Some(now + Millis(300)), ..new },
        };
        // Its answer may be the one that is lost; the repetition carries no hint.
        if client.create_run(&new, None).await.is_err() {
            self.create(&new).await;
        }
        match given {
            Released => drop(client.release_run(id, &ReleaseBody::default()).await),
            Running => {
                let mut dies = Worker::connect(&self.world, "dies").await;
                dies.beat(1, &[]).await;
                let lease = taken(&mut dies, id).await;
                dies.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
            }
            _ => {}
        }
        id
    }

    /// A worker takes this run and ends it, however long that takes. It may have to open its session again.
    async fn comes_home(&self, mut worker: Worker, run: RunId) {
        loop {
            let message = if worker.beats(1, &[]).await {
                let Ok(message) = tokio::time::timeout(Duration::from_millis(500), worker.next()).await else {
                    continue;
                };
                message
            } else {
                None
            };
            let leases = match message {
                Some(ServerMessage::Leases { leases, .. }) => leases,
                Some(_) => continue,
                None => {
                    worker = Worker::resume(&self.world, worker.die()).await;
                    continue;
                }
            };
            if let Some(lease) = leases.iter().find(|lease| lease.run_id == run) {
                worker.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await;
                until_run(&self.world, run, |run| run.state == State::Succeeded).await;
                return;
            }
        }
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("outlive.db")
}

async fn serve(folder: &Path, befalls: &Befalls) -> World {
    let script = {
        let befalls = Arc::clone(befalls);
        move |call: Call| {
            let mut befalls = befalls.lock().unwrap();
            match &mut *befalls {
                Some((method, left, is_made)) if *method == call.method && *left > 0 => {
                    *left -= 1;
                    if *is_made { Fault::LoseReply } else { Fault::Refuse }
                }
                _ => Fault::None,
            }
        }
    };
    let store = SqliteStore::open(file(folder), Arc::new(SystemClock)).unwrap();
    let backend = Backend { store: Arc::new(Faulty::new(Arc::new(store), script)), exchange: None };
    let server = start_on(config(StoreLocation::Memory, 0, 0), backend).await.expect("the server starts");
    let client = Client::new(&server.address().to_string(), "default").expect("an address");
    World { server, client }
}

async fn taken(worker: &mut Worker, run: RunId) -> Lease {
    let lease = worker.leases_in_time().await.remove(0);
    assert_eq!(lease.run_id, run);
    lease
}

/// One path is lost, and the run comes home all the same.
async fn survives(given: Given, damage: Damage) {
    let mut store = Damaged::open().await;
    let mut rescuer = Worker::connect(&store.world, "rescuer").await;
    rescuer.beat(0, &[]).await;
    store.world.client.register(&registration("gone", WireLiveness::Session)).await.unwrap();
    let befalls = match damage {
        Answer(method) => Some((method, 1, true)),
        Refused(method, times) => Some((method, times, false)),
        Rows(_) | AtStart(_) => None,
    };
    *store.befalls.lock().unwrap() = befalls;
    let run = store.given(given).await;
    if let AtStart(statements) = damage {
        statements.iter().for_each(|statement| store.damage(statement));
        store = store.starts_again().await;
        rescuer = Worker::resume(&store.world, rescuer.die()).await;
    }
    if let Rows(statements) = damage {
        statements.iter().for_each(|statement| store.damage(statement));
    }
    store.comes_home(rescuer, run).await;
    if let Answer(_) | Refused(..) = damage {
        let left = store.befalls.lock().unwrap().map(|(_, left, _)| left);
        assert!(left < befalls.map(|(_, times, _)| times), "it befell no call");
    }
    store.world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_path_is_lost_every_run_comes_home_in_time() {
    let mut all = JoinSet::new();
    for &(what, given, damage) in PATHS {
        all.spawn(async move {
            let survives = AssertUnwindSafe(survives(given, damage)).catch_unwind();
            match tokio::time::timeout(BOUND, survives).await {
                Ok(Ok(())) => None,
                Ok(Err(_)) => Some(format!("{what}: see above")),
                Err(_) => Some(format!("{what}: not within {BOUND:?}")),
            }
        });
    }
    let lost: Vec<_> = all.join_all().await.into_iter().flatten().collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

#[tokio::test]
async fn a_held_run_without_its_limit_gets_one() {
    let store = Damaged::open().await;
    let run = store.create(&NewRun { hold: true, ..noop() }).await;
    store.damage("UPDATE run SET due_at = NULL");
    let conn = rusqlite::Connection::open(file(store.folder.path())).unwrap();
    let clock = async {
        loop {
            let due: Option<i64> = conn.query_row("SELECT due_at FROM run", [], |row| row.get(0)).unwrap();
            if let Some(due) = due {
                return due;
            }
            tokio::task::yield_now().await;
        }
    };
    let due = tokio::time::timeout(PATIENCE, clock).await.expect("a limit in time");
    assert!(due > run.created_at.0);
}

#[tokio::test]
async fn a_cancel_whose_order_was_lost_reaches_its_worker() {
    let store = Damaged::open().await;
    let run = store.create(&noop()).await;
    let mut worker = Worker::connect(&store.world, "w").await;
    worker.beat(1, &[]).await;
    let lease = taken(&mut worker, run.id).await;
    worker.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
    store.damage("UPDATE run SET state = 5, reason = 19");
    let cancelled = async {
        loop {
            worker.beat(0, &[&lease]).await;
            if let Ok(Some(ServerMessage::Cancel { run_id, .. })) =
                tokio::time::timeout(Duration::from_millis(300), worker.next()).await
            {
                return run_id;
            }
        }
    };
    let told = tokio::time::timeout(PATIENCE, cancelled).await.expect("the order in time");
    assert_eq!(told, run.id);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_holds_up_nobody_and_is_told() {
    let store = Damaged::open().await;
    let later = store.world.client.server().await.unwrap().now + Millis::hours(5);
    let bad = store.create(&NewRun { run_at: Some(later), ..noop() }).await;
    let run = store.create(&NewRun { run_at: Some(later), ..noop() }).await;
    // Both are due now; the first is nothing that any version wrote. And a third one wants the audit.
    store.damage("UPDATE run SET due_at = 1");
    store.damage("UPDATE run SET outcome = 999 WHERE seq = (SELECT min(seq) FROM run)");
    store.comes_home(Worker::connect(&store.world, "rescuer").await, run.id).await;
    assert!(store.world.client.run(bad.id).await.is_err());
    let blocked = store.create(&noop()).await;
    store.damage("UPDATE run SET blocked = 1 WHERE seq = (SELECT max(seq) FROM run)");
    store.comes_home(Worker::connect(&store.world, "another").await, blocked.id).await;
    let phases = store.world.client.server().await.unwrap().phases;
    for name in ["due", "audit"] {
        let phase = phases.iter().find(|phase| phase.name == name).unwrap();
        assert!(phase.failed_rows > 0 && phase.failed == 0, "{phase:?}");
        assert!(phase.last_success_at.is_some() && phase.last_error.is_some(), "{phase:?}");
    }
    let told =
        outlive_api::client::events::EventQuery { types: "sweep.failed", stored_only: true, ..Default::default() };
    let mut stream = store.world.client.events(told).await.unwrap();
    let mut named = Vec::new();
    while let Some(item) = stream.next().await.unwrap() {
        if let outlive_api::client::events::FeedItem::Event(event) = item {
            named.extend(event.phase);
        }
    }
    named.sort_unstable();
    assert_eq!(named, ["audit", "due"], "each once, however often it ran");
}

/// No run leads there: nothing is claimed for it, and it holds nothing that anybody judges.
#[tokio::test]
async fn an_idle_worker_that_the_store_has_at_another_home_opens_a_session_again() {
    for elsewhere in ["", ", replica = 77"] {
        let store = Damaged::open().await;
        let mut worker = Worker::connect(&store.world, "w").await;
        worker.beat(1, &[]).await;
        store.damage(&format!("UPDATE worker SET home_seq = home_seq + 1{elsewhere}"));
        let told = async {
            loop {
                worker.beats(1, &[]).await;
                if let Ok(Some(ServerMessage::Close { why, .. })) =
                    tokio::time::timeout(Duration::from_millis(300), worker.next()).await
                {
                    return why;
                }
            }
        };
        let why = tokio::time::timeout(PATIENCE, told).await.expect("its end in time");
        assert_eq!(why, CloseReason::Superseded);
    }
}

#[tokio::test]
async fn a_session_of_which_only_the_store_knows_is_known_and_ends_like_any_other() {
    let store = Damaged::open().await;
    *store.befalls.lock().unwrap() = Some(("open_session", 1, true));
    let client = &store.world.client;
    let registered = client.register(&registration("w", WireLiveness::Session)).await.unwrap();
    let asked = client.with_token(&registered.session_token).session(registered.worker_id).await;
    assert!(asked.is_err(), "its answer is lost");
    let sessions = async |wanted| {
        while client.server().await.unwrap().sessions != wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, sessions(1)).await.expect("it is known in time");
    tokio::time::timeout(PATIENCE, sessions(0)).await.expect("its silence ends it");
}
