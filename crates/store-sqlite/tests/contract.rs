//! The conformance suite, in both modes.

use outlive_core::clock::SimClock;
use outlive_store_sqlite::SqliteStore;
use outlive_store_tests::Built;
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

mod inline {
    outlive_store_tests::suite!(super::in_memory);
}

mod threads {
    outlive_store_tests::suite!(super::on_disk);
}
