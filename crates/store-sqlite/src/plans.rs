//! Every statement is prepared on a fresh schema, and none scans a table that grows.

use crate::{open, sql};
use outlive_core::clock::SimClock;

/// Statements that walk a whole table or index on purpose, and why that is bounded.
const WALKS: &[(&str, &str)] = &[
    ("class_all", "at start: what workers can tell apart"),
    ("count_all", "at start: queues times six"),
    ("event_expire", "the oldest ids only, by its inner limit"),
    ("feed_before", "as many of the newest rows as were asked for"),
    ("feed_bounds", "the first and the last key: two seeks"),
    ("feed_expire", "the oldest rows only, by its inner limit"),
    ("key_wait_all", "at start: runs whose key holder is being cancelled"),
    ("leased_page", "open leases, which are bounded by the fleet's slots"),
    ("policy_unfinished", "at a restore: queues times six"),
    ("queue_all", "at start: queues"),
    ("random_bytes", "no table at all"),
    ("ready_classes", "its own recursion, one seek for each class"),
    ("recovery_expire", "the oldest ids only, by its inner limit"),
    ("replica_all", "replicas: a handful"),
    ("run_renew", "at a restore: all of it"),
    ("run_totals", "of a copy: all of it"),
    ("store_bytes", "two numbers out of the header"),
    ("terms_open", "at a restore: open leases, which are bounded by the fleet's slots"),
    ("worker_gone_expire", "the oldest ids only, by its inner limit"),
    ("worker_renew", "at a restore: workers"),
];

/// The seeks that every life makes, and the index that each must use.
const SEEKS: &[(&str, &str)] = &[
    ("ready_after", "USING INDEX run_ready (class=? AND rank>?)"),
    ("held_page", "USING INDEX run_held (seq<?)"),
    ("ready_page", "USING INDEX run_ready (class=?)"),
    ("ready_first", "USING INDEX run_ready (class=?)"),
    ("run_by_id", "USING INDEX sqlite_autoindex_run_1 (id=?)"),
    ("run_by_key", "USING INDEX run_key (queue=? AND key=?)"),
    ("run_due", "USING INDEX run_due (due_at>? AND due_at<?)"),
    ("run_overdue", "USING INDEX run_overdue (due_at>? AND due_at<?)"),
    ("leases_of", "USING INDEX run_leased (worker=?)"),
    ("leases_after", "USING INDEX run_leased (worker>?)"),
    ("serial_waiting", "USING INDEX run_serial (slot=?)"),
    ("children", "USING INDEX run_parent (parent=? AND seq<?)"),
    ("subject_active", "USING INDEX run_subject_active (subject=?)"),
    ("feed_page", "USING INTEGER PRIMARY KEY (rowid>?)"),
];

fn plan(conn: &rusqlite::Connection, text: &str) -> Vec<String> {
    let parameters = conn.prepare(text).unwrap_or_else(|error| panic!("{text}: {error}")).parameter_count();
    let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
    let nothing = rusqlite::params_from_iter(vec![rusqlite::types::Null; parameters]);
    plan.query_map(nothing, |row| row.get(3)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn no_statement_walks_a_table_that_grows() {
    let conn = open::in_memory(&SimClock::default()).unwrap();
    let walk = |text| plan(&conn, text).into_iter().find(|step| step.starts_with("SCAN"));
    let walks: Vec<_> = sql::ALL.iter().filter_map(|(name, text)| walk(text).map(|step| (*name, step))).collect();
    let known: Vec<&str> = WALKS.iter().map(|(name, _)| *name).collect();
    let found: Vec<&str> = walks.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, known, "{walks:#?}");
}

#[test]
fn the_seeks_of_every_life_use_their_index_and_never_sort() {
    let conn = open::in_memory(&SimClock::default()).unwrap();
    for (name, index) in SEEKS {
        let (_, text) = sql::ALL.iter().find(|(known, _)| known == name).unwrap();
        let steps = plan(&conn, text);
        assert_eq!(steps.len(), 1, "{name}: {steps:?}");
        assert!(steps[0].replace("COVERING ", "").ends_with(index), "{name}: {steps:?}");
    }
}
