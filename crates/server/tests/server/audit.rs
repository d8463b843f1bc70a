//! I5, repaired from rows alone: every faster path is taken away under a running server, by hand in its file, and each run
//! comes home. Writing to the file from beside makes no hint, and the server's memory does not learn of it.

use crate::support::{Worker, World, noop, until_run, world_at};
use outlive_api::report::{OpName, WireItem};
use outlive_api::runs::{NewRun, Run};
use outlive_api::session::{Lease, ServerMessage};
use outlive_core::policy::QueuePolicy;
use outlive_core::{Millis, State};
use outlive_server::StoreLocation;
use std::path::PathBuf;

struct Damaged {
    world: World,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Damaged {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outlive.db");
        let world = world_at(StoreLocation::Sqlite(path.clone()), 0).await;
        let quick = QueuePolicy { lease_ttl: Millis::secs(2), ..QueuePolicy::default() };
        world.client.put_queue("default", &quick).await.unwrap();
        Self { world, path, _folder: folder }
    }

    async fn create(&self, run: &NewRun) -> Run {
        self.world.client.create_run(run, None).await.unwrap()
    }

    /// What no program does.
    fn damage(&self, statement: &str) {
        let conn = rusqlite::Connection::open(&self.path).unwrap();
        conn.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
        assert!(conn.execute(statement, []).unwrap() > 0, "{statement}");
    }

    /// A worker takes this run and ends it, however long that takes.
    async fn comes_home(&self, run: &Run) {
        let mut worker = Worker::connect(&self.world, "rescuer").await;
        worker.beat(1, &[]).await;
        let lease = taken(&mut worker, run).await;
        worker.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await;
        until_run(&self.world, run.id, |run| run.state == State::Succeeded).await;
    }
}

async fn taken(worker: &mut Worker, run: &Run) -> Lease {
    let lease = worker.leases_in_time().await.remove(0);
    assert_eq!(lease.run_id, run.id);
    lease
}

#[tokio::test]
async fn a_run_that_is_ready_and_that_nobody_was_told_of_is_claimed() {
    let store = Damaged::open().await;
    let run = store.create(&NewRun { hold: true, ..noop() }).await;
    let mut worker = Worker::connect(&store.world, "idle").await;
    worker.beat(1, &[]).await;
    store.damage("UPDATE run SET state = 2, due_at = NULL, queued_at = created_at");
    let lease = taken(&mut worker, &run).await;
    worker.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await;
    until_run(&store.world, run.id, |run| run.state == State::Succeeded).await;
}

#[tokio::test]
async fn a_blocked_flag_that_nothing_explains_is_taken_away() {
    let store = Damaged::open().await;
    let run = store.create(&noop()).await;
    store.damage("UPDATE run SET blocked = 1");
    store.comes_home(&run).await;
}

#[tokio::test]
async fn a_serial_key_whose_row_names_a_holder_that_is_none_is_freed() {
    let store = Damaged::open().await;
    let run = store.create(&NewRun { serial_key: Some("s".into()), ..noop() }).await;
    store.damage("UPDATE run SET blocked = 1");
    store.damage("UPDATE serial_slot SET holder = 999, head = NULL");
    store.comes_home(&run).await;
}

#[tokio::test]
async fn a_serial_key_without_its_row_gets_one() {
    let store = Damaged::open().await;
    let run = store.create(&NewRun { serial_key: Some("s".into()), ..noop() }).await;
    store.damage("UPDATE run SET blocked = 1");
    store.damage("DELETE FROM serial_slot");
    store.comes_home(&run).await;
}

#[tokio::test]
async fn a_scheduled_run_without_its_time_is_queued() {
    let store = Damaged::open().await;
    let later = store.world.client.server().await.unwrap().now + Millis::hours(5);
    let run = store.create(&NewRun { run_at: Some(later), ..noop() }).await;
    store.damage("UPDATE run SET due_at = NULL");
    store.comes_home(&run).await;
}

#[tokio::test]
async fn a_held_run_without_its_limit_gets_one() {
    let store = Damaged::open().await;
    let run = store.create(&NewRun { hold: true, ..noop() }).await;
    store.damage("UPDATE run SET due_at = NULL");
    let conn = rusqlite::Connection::open(&store.path).unwrap();
    let clock = async {
        loop {
            let due: Option<i64> = conn.query_row("SELECT due_at FROM run", [], |row| row.get(0)).unwrap();
            if let Some(due) = due {
                return due;
            }
            tokio::task::yield_now().await;
        }
    };
    let due = tokio::time::timeout(crate::support::PATIENCE, clock).await.expect("a limit in time");
    assert!(due > run.created_at.0);
}

#[tokio::test]
async fn a_lease_that_nobody_watches_is_lost_after_its_ttl_and_its_run_goes_on() {
    let store = Damaged::open().await;
    let run = store.create(&noop()).await;
    let gone = Worker::connect(&store.world, "gone").await;
    // Of a start before this one, of which no server remembers anything.
    store.damage("UPDATE run SET state = 4, worker = 1, incarnation = 0, epoch = 7, claimed_at = created_at, started_at = created_at");
    store.comes_home(&run).await;
    let epochs = store.world.client.attempts(run.id).await.unwrap().attempts;
    assert_eq!(epochs.iter().map(|a| a.epoch.0).collect::<Vec<_>>(), [7, 8]);
    drop(gone);
}

#[tokio::test]
async fn a_lease_of_a_worker_whose_row_is_gone_is_lost_too() {
    let store = Damaged::open().await;
    let run = store.create(&noop()).await;
    store.damage("UPDATE run SET state = 4, worker = 99, incarnation = 1, epoch = 7, claimed_at = created_at, started_at = created_at");
    store.comes_home(&run).await;
}

#[tokio::test]
async fn a_cancel_whose_order_was_lost_reaches_its_worker() {
    let store = Damaged::open().await;
    let run = store.create(&noop()).await;
    let mut worker = Worker::connect(&store.world, "w").await;
    worker.beat(1, &[]).await;
    let lease = taken(&mut worker, &run).await;
    worker.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
    store.damage("UPDATE run SET state = 5, reason = 19");
    let cancelled = async {
        loop {
            worker.beat(0, &[&lease]).await;
            if let Ok(Some(ServerMessage::Cancel { run_id, .. })) =
                tokio::time::timeout(std::time::Duration::from_millis(300), worker.next()).await
            {
                return run_id;
            }
        }
    };
    let told = tokio::time::timeout(crate::support::PATIENCE, cancelled).await.expect("the order in time");
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
    store.comes_home(&run).await;
    assert!(store.world.client.run(bad.id).await.is_err());
    let blocked = store.create(&noop()).await;
    store.damage("UPDATE run SET blocked = 1 WHERE seq = (SELECT max(seq) FROM run)");
    store.comes_home(&blocked).await;
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
