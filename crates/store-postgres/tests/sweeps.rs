//! Sweeps over rows that no command of the store could have left, and among replicas.

mod support;

use futures_executor::block_on;
use outlive_core::clock::SimClock;
use outlive_core::{Millis, State, Wall};
use outlive_pg_private::Database;
use outlive_store_tests::{Built, World};
use std::sync::{Arc, Mutex};
use support::{database, store};

/// A test over a store whose database it can reach past the store.
fn with_database<T: Future<Output = ()>>(test: impl FnOnce(World, Database) -> T) {
    let kept = Mutex::new(None);
    let factory = |clock: Arc<SimClock>| {
        let database = database();
        let store = block_on(store(&database.url(), "one", clock));
        *kept.lock().unwrap() = Some(database);
        Built { store: Arc::new(store), keep: Box::new(()) }
    };
    World::run(&factory, |w| test(w, kept.lock().unwrap().take().expect("a database")));
}

#[test]
fn the_audit_winds_up_the_clock_of_a_queued_run_that_lost_it() {
    with_database(async |w, database| {
        let class = w.class("a").await;
        let limited = w.one_with(&class, |new| {
            new.new.queue_ttl = Some(Millis::secs(60));
            new.options.queue_ttl = Some(Millis::secs(60));
        });
        let (limited, free) = (limited.await, w.one(&class).await);
        database.sql("UPDATE outlive.run SET due_at = NULL").unwrap();
        let swept = w.store.audit_waiting(100).await.unwrap();
        assert_eq!(swept.acted, 1);
        assert_eq!(w.row(limited.id).await.due_at, limited.due_at);
        assert_eq!(w.row(free.id).await.due_at, None, "nothing limits it");
        assert_eq!(w.store.audit_waiting(100).await.unwrap().acted, 0);
        w.pass(Millis::secs(61));
        assert_eq!(w.store.overdue(10).await.unwrap().len(), 1);
    });
}

#[test]
fn the_row_of_a_replica_goes_when_nobody_has_had_its_seat_for_a_week_and_it_is_nobody_s_home() {
    with_database(async |w, database| {
        for name in ["gone", "home", "told", "here"] {
            w.store.join(name, "").await.unwrap();
        }
        w.worker("w").await;
        let names = || database.sql("SELECT string_agg(name, ' ' ORDER BY id) FROM outlive.replica").unwrap();
        let number = |name: &str| format!("(SELECT id FROM outlive.replica WHERE name = '{name}')");
        database.sql(&format!("UPDATE outlive.worker SET replica = {}", number("home"))).unwrap();
        let errand = |at: Wall| {
            let put =
                format!("INSERT INTO outlive.errand (replica, at, body) VALUES ({}, {}, '')", number("told"), at.0);
            database.sql(&put).unwrap();
        };
        w.pass(Millis::hours(7 * 24 - 1));
        w.store.join("here", "").await.unwrap();
        errand(w.now() + Millis::hours(1));
        w.store.retention(100).await.unwrap();
        assert_eq!(names(), "one gone home told here");
        w.pass(Millis::hours(1) + Millis(1));
        w.store.retention(100).await.unwrap();
        assert_eq!(names(), "home told here", "somebody's home, and one that is to be told something");
        database.sql("UPDATE outlive.worker SET session_open = false; DELETE FROM outlive.errand").unwrap();
        w.store.retention(100).await.unwrap();
        assert_eq!(names(), "here");
        // Its name comes back as somebody else.
        let again = w.store.join("gone", "").await.unwrap();
        assert_eq!(names(), "here gone");
        assert_eq!(database.sql(&format!("SELECT {} = {}", number("gone"), again.seat.replica)).unwrap(), "t");
    });
}

#[test]
fn a_phase_that_another_replica_is_at_is_left_to_it() {
    with_database(async |w, database| {
        let class = w.class("a").await;
        let held = w.one_with(&class, |new| new.new.run_at = Some(w.now() + Millis::secs(1))).await;
        w.pass(Millis::secs(2));
        let at_it = OtherReplica::at_all_phases(&database);
        let all = [
            w.store.due(10).await.unwrap(),
            w.store.audit_waiting(10).await.unwrap(),
            w.store.retention(10).await.unwrap(),
            w.store.worker_gc(Millis::hours(1), 10).await.unwrap(),
            w.store.expire(Vec::new()).await.unwrap(),
        ];
        assert!(all.iter().all(|swept| swept.not_owner && swept.found == 0), "{all:?}");
        assert_eq!(w.row(held.id).await.state, State::Scheduled);
        drop(at_it);
        // The server lets the locks go when it sees the end of their connection.
        while w.store.due(10).await.unwrap().not_owner {}
        assert_eq!(w.row(held.id).await.state, State::Queued);
    });
}

/// Locks of another session.
struct OtherReplica {
    _client: tokio_postgres::Client,
    runtime: Option<tokio::runtime::Runtime>,
}

impl OtherReplica {
    fn at_all_phases(database: &Database) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let url = database.url();
        let connect = async move {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            let lock = "SELECT pg_advisory_lock(1869968492, n) FROM generate_series(1, 5) n";
            client.simple_query(lock).await.unwrap();
            client
        };
        let client = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(connect)).join().unwrap());
        Self { _client: client, runtime: Some(runtime) }
    }
}

impl Drop for OtherReplica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
