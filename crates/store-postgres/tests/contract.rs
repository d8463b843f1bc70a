//! The conformance suite.

mod support;

use futures_executor::block_on;
use outlive_core::clock::SimClock;
use outlive_store_tests::{Built, Harm};
use std::sync::Arc;
use support::{database, on_postgres, store};

fn on_postgres_and_past(clock: Arc<SimClock>) -> (Built, Harm) {
    let database = Arc::new(database());
    let store = block_on(store(&database.url(), "one", clock));
    let past = database.clone();
    let harm = move |text: &str| drop(past.sql(&format!("SET search_path = outlive; {text}")).expect("harm"));
    (Built { store: Arc::new(store), keep: Box::new(database) }, Box::new(harm))
}

mod damage {
    outlive_store_tests::damage_suite!(super::on_postgres_and_past);
}

outlive_store_tests::suite!(on_postgres);
