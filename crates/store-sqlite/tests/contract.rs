//! The conformance suite, in both modes.

use outlive_core::clock::SimClock;
use outlive_store_sqlite::SqliteStore;
use outlive_store_tests::{Built, Harm};
use std::sync::Arc;

fn in_memory(clock: Arc<SimClock>) -> Built {
    let store = SqliteStore::in_memory(clock).expect("a store in memory");
    Built { store: Arc::new(store), keep: Box::new(()) }
}

fn on_disk(clock: Arc<SimClock>) -> Built {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path().join("outlive.db"), clock).expect("a store on disk");
    Built { store: Arc::new(store), keep: Box::new(folder) }
}

fn on_disk_and_past(clock: Arc<SimClock>) -> (Built, Harm) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("outlive.db");
    let store = SqliteStore::open(path.clone(), clock).expect("a store on disk");
    let harm = move |text: &str| rusqlite::Connection::open(&path).and_then(|it| it.execute_batch(text)).expect("harm");
    (Built { store: Arc::new(store), keep: Box::new(folder) }, Box::new(harm))
}

mod damage {
    outlive_store_tests::damage_suite!(super::on_disk_and_past);
}

mod inline {
    outlive_store_tests::suite!(super::in_memory);
}

mod threads {
    outlive_store_tests::suite!(super::on_disk);
}
