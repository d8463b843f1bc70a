//! Random histories: the invariants hold, and the answers are those of the store on SQLite.

mod support;

use outlive_core::clock::SimClock;
use outlive_store_sqlite::SqliteStore;
use outlive_store_tests::{Built, World, compare, play, steps};
use proptest::prelude::*;
use std::sync::Arc;
use support::on_postgres;

/// Histories of a test, each with databases of its own; `PROPTEST_CASES` plays more.
const CASES: u32 = 12;

fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(CASES),
        max_shrink_iters: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn in_memory(clock: Arc<SimClock>) -> Built {
    let store = SqliteStore::in_memory(clock).expect("a store in memory");
    Built { store: Arc::new(store), keep: Box::new(()) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_invariants_hold_after_every_step_of_any_history(steps in steps(60)) {
        World::run(&on_postgres, |world| play(world, steps));
    }

    #[test]
    fn any_history_gives_the_same_answers_and_rows_as_on_sqlite(steps in steps(60)) {
        World::run_both([&in_memory, &on_postgres], |sqlite, postgres| compare(sqlite, postgres, steps));
    }
}
