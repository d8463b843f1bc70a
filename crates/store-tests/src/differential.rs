//! The same history into two stores: every answer is the same, and so is everything that can be read afterwards.
//!
//! Numbers of rows are a store's own affair and are left out; identities, states, times, orders and logs are not.

use crate::World;
use crate::history::{Seen, Step};
use crate::world::{TENANT, told};
use outlive_core::RunId;
use outlive_store::{OutputFrom, RunQuery};
use std::fmt::Write as _;

/// Plays a history into both and compares after each step.
///
/// # Panics
/// If they differ.
pub async fn compare(one: World, other: World, steps: Vec<Step>) {
    let (mut left, mut right) = (Seen::begin(&one).await, Seen::begin(&other).await);
    for step in steps {
        let answers = (left.take(&one, &step).await, right.take(&other, &step).await);
        assert_eq!(answers.0, answers.1, "the answers to {step:?}");
        assert_eq!(rows(&one).await, rows(&other).await, "the rows after {step:?}");
        for (here, there) in left.classes.iter().zip(&right.classes) {
            assert_eq!(one.counts(here).await, other.counts(there).await, "the counts after {step:?}");
        }
        let ready =
            (one.store.ready_classes().await.expect("classes"), other.store.ready_classes().await.expect("classes"));
        assert_eq!(ready.0, ready.1, "the ready classes after {step:?}");
    }
    assert_eq!(left.runs, right.runs);
    for id in left.runs {
        assert_eq!(story(&one, id).await, story(&other, id).await, "the story of {id}");
    }
    assert_eq!(workers(&one).await, workers(&other).await);
}

/// All runs, newest first, without the numbers of their rows.
async fn rows(w: &World) -> Vec<String> {
    let query = RunQuery { namespace: TENANT.to_owned(), limit: 5_000, ..RunQuery::default() };
    let page = w.store.list(query).await.expect("a page");
    let words = |mut row: outlive_store::RunRow| {
        row.run.seq = 0;
        row.run.recovery = row.run.recovery.map(|_| 0);
        format!("{row:?}")
    };
    page.rows.into_iter().map(words).collect()
}

/// What was: attempts, events, recoveries, the log.
async fn story(w: &World, id: RunId) -> String {
    let mut story = String::new();
    let attempts = w.store.attempts(TENANT, id).await.expect("a store").expect("a run");
    let events = w.store.events(TENANT, id).await.expect("a store").expect("a run");
    let recoveries: Vec<_> =
        w.recoveries(id).await.into_iter().map(|row| outlive_store::RecoveryRow { id: 0, ..row }).collect();
    let log: Vec<String> = w.log_by(id, OutputFrom::After(0), 3).await.iter().map(told).collect();
    let _ = write!(story, "{attempts:?} {events:?} {recoveries:?} {log:?}");
    story
}

async fn workers(w: &World) -> Vec<String> {
    let all = w.store.workers(Some(TENANT), None, 100).await.expect("workers");
    all.into_iter().map(|row| format!("{row:?}")).collect()
}
