//! Random histories, inline.

use outlive_core::clock::SimClock;
use outlive_store_sqlite::SqliteStore;
use outlive_store_tests::{Built, World, play, steps};
use proptest::prelude::*;
use std::sync::Arc;

fn in_memory(clock: Arc<SimClock>) -> Built {
    let store = SqliteStore::in_memory(clock).expect("a store in memory");
    Built { store: Arc::new(store), keep: Box::new(()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_after_every_step_of_any_history(steps in steps(80)) {
        World::run(&in_memory, |world| play(world, steps));
    }
}
