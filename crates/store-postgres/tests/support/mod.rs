//! Fresh stores, each in a database of its own.

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part, and one uses all")]

use futures_executor::block_on;
use outlive_core::clock::{Clock, SimClock};
use outlive_pg_private::{Database, Template, shared};
use outlive_store_postgres::{Options, PostgresStore, Time};
use outlive_store_tests::Built;
use std::sync::Arc;

/// The schema is made once and copied; so each run of tests has migrated an empty database.
fn template() -> Template {
    let migrations = [
        include_str!("../../migrations/V1__runs.sql"),
        include_str!("../../migrations/V2__submit.sql"),
        include_str!("../../migrations/V3__held.sql"),
        include_str!("../../migrations/V4__limits.sql"),
        include_str!("../../migrations/V5__quiet.sql"),
        include_str!("../../migrations/V6__neighbours.sql"),
    ];
    let hash = migrations.concat().bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    Template { name: format!("outlive_{hash:x}"), fill }
}

fn fill(url: &str) -> Result<(), String> {
    let store = block_on(PostgresStore::open(url, Options::default(), Arc::new(SimClock::default())));
    store.map(drop).map_err(|error| error.to_string())
}

/// A database with the schema and nothing else.
pub(crate) fn database() -> Database {
    Database::copy_of(shared().expect("a server"), &template()).expect("a database")
}

/// A replica's store on a database.
pub(crate) async fn store(url: &str, replica: &str, clock: Arc<dyn Clock>) -> PostgresStore {
    let options = Options { replica: replica.to_owned(), time: Time::Process, ..Options::default() };
    PostgresStore::open(url, options, clock).await.expect("a store")
}

/// A runtime for a test that needs no timer of its own.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// A fresh store.
pub(crate) fn on_postgres(clock: Arc<SimClock>) -> Built {
    let database = database();
    let store = block_on(store(&database.url(), "one", clock));
    Built { store: Arc::new(store), keep: Box::new(database) }
}
