//! Every statement is prepared on a fresh schema, and none walks a table that grows.
//!
//! Plans are those of values that are not known, under the settings that every transaction begins with: a sequential scan
//! then means that no index could serve.

use crate::{PostgresStore, sql};
use outlive_core::clock::SimClock;
use outlive_pg_private::{Database, shared};
use std::fmt::Write as _;
use std::sync::Arc;

/// Statements that walk a table or a whole index on purpose, and why that is bounded.
const WALKS: &[(&str, &str)] = &[
    ("class_all", "at start, and by the sweep of workers: what workers can tell apart"),
    ("count_wrong", "the audit, once in a pass: what waits or is leased, and the counts"),
    ("errand_expire", "the oldest ids only, by its inner limit"),
    ("errand_renew", "at a start with another history: what waits for replicas"),
    ("event_expire", "the oldest ids only, by its inner limit"),
    ("feed_expire", "the oldest places only, by its inner limit"),
    ("holders_open", "at a start with another history: open leases"),
    ("leased_page", "open leases, which are bounded by the fleet's slots"),
    ("levels", "the last ids"),
    ("queue_all", "at start, and when queues have changed"),
    ("queue_quiet", "at a start with another history: every queue"),
    ("ready_classes", "its own recursion, one seek for each class"),
    ("recovery_expire", "the oldest ids only, by its inner limit"),
    ("replica_beat", "replicas: a handful"),
    ("replica_expire", "replicas: a handful"),
    ("request_renew", "at a start with another history"),
    ("run_next_due", "one entry"),
    ("schema_version", "at start: a row for each migration"),
    ("submission_take", "the oldest numbers only, by its inner limit"),
    ("terms_open", "at a start with another history: open leases"),
    ("worker_gone_expire", "the oldest ids only, by its inner limit"),
    ("worker_renew", "at a start with another history: every worker"),
];

/// The seeks that every life makes, and the index that each must use.
const SEEKS: &[(&str, &str)] = &[
    ("ready_after", "run_ready"),
    ("ready_first", "run_ready"),
    ("ready_page", "run_ready"),
    ("held_page", "run_held"),
    ("run_lock_ids", "run_id_key"),
    ("run_lock_seqs", "run_pkey"),
    ("run_lock_ready", "run_pkey"),
    ("run_update", "run_pkey"),
    ("run_claim", "run_pkey"),
    ("run_claim_alike", "run_pkey"),
    ("run_end", "run_pkey"),
    ("run_end_alike", "run_pkey"),
    ("run_touch", "run_pkey"),
    ("run_same", "run_pkey"),
    ("run_by_key", "run_key"),
    ("run_due", "run_due"),
    ("run_overdue", "run_overdue"),
    ("lease_body", "run_input_pkey"),
    ("run_rest", "run_input_pkey"),
    ("run_seq_page", "run_pkey"),
    ("means", "run_input_pkey"),
    ("leases_of", "run_leased"),
    ("leases_after", "run_leased"),
    ("leased_page", "run_leased"),
    ("serial_heads", "run_serial"),
    ("serial_lock", "serial_slot_pkey"),
    ("children", "run_parent"),
    ("subject_active", "run_subject_active"),
    ("subject_lock", "subject_pkey"),
    ("worker_guards", "worker_pkey"),
    ("idempotency_get", "idempotency_pkey"),
    ("feed_page", "feed_pkey"),
    ("errand_take", "errand_replica"),
    ("worker_homed", "worker_home"),
    ("worker_adopt_page", "worker_home"),
];

/// What is no query, or prepares nothing; and what `doctor` asks once, of the server and not of tables that grow.
const COMMANDS: &[&str] =
    &["begin", "begin_read", "commit", "listen", "rollback", "survey", "survey_commit", "survey_history"];

/// Rows as a store has them after some time: of an empty table, nothing is worth an index.
const FULL: &str = "
INSERT INTO queue (namespace, name, policy, paused, created_at) VALUES ('default', 'a', '{}', false, 0);
INSERT INTO match_class (queue, class) SELECT 1, 'class ' || n FROM generate_series(1, 5) n;
INSERT INTO run (seq, id, class, queue, rank, epoch, created_at, due_at, worker, incarnation, lease_observed, output_next,
    output_seq, output_bytes, output_marker, terms, failures, losses, losses_in_row, state, priority, closed_by, blocked,
    subjects, slot, key)
SELECT n, gen_random_uuid(), n % 5 + 1, 1, n, 1, n, CASE WHEN n % 10 = 1 THEN n END, n % 50, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0,
    CASE n % 10 WHEN 0 THEN 2 WHEN 1 THEN 1 WHEN 2 THEN 4 ELSE 6 END, 0, 0, n % 20 = 0, false,
    CASE WHEN n % 7 = 0 THEN 'slot ' || n % 900 END, CASE WHEN n % 3 = 0 THEN 'key ' || n END
FROM generate_series(1, 30000) n;
INSERT INTO run_input SELECT n, '{}', NULL, gen_random_uuid() FROM generate_series(1, 30000) n;
INSERT INTO run_detail (seq, note) SELECT n, 'note' FROM generate_series(1, 30000) n;
INSERT INTO run_tag SELECT 'name', 'value ' || n % 99, n FROM generate_series(1, 20000) n;
INSERT INTO run_subject SELECT 'subject ' || n % 99, n, n % 9 = 0 FROM generate_series(1, 20000) n;
INSERT INTO subject (name, active, working) SELECT 'subject ' || n, 0, 0 FROM generate_series(1, 9999) n;
INSERT INTO idempotency SELECT 'default', 'key ' || n, '', '', n FROM generate_series(1, 20000) n;
INSERT INTO serial_slot SELECT 'slot ' || n FROM generate_series(1, 9999) n;
INSERT INTO key_wait SELECT n, n + 1 FROM generate_series(1, 5000) n;
INSERT INTO attempt SELECT n, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1 FROM generate_series(1, 20000) n;
INSERT INTO run_event (seq, at, epoch, kind, state) SELECT n, n, 1, 1, 1 FROM generate_series(1, 20000) n;
INSERT INTO output SELECT n % 99, n, 1, n, 0, 'stdout', '' FROM generate_series(1, 20000) n;
INSERT INTO output_gap SELECT n, 1, 2, 3, 'limit' FROM generate_series(1, 5000) n;
INSERT INTO recovery (id, namespace, run, queue, from_epoch, from_worker, from_incarnation, last_heard_at, lost_at, evidence,
    reason, outcome, had_checkpoint)
SELECT n, 'default', gen_random_uuid(), 'a', 1, 'w', 1, 0, n, 1, 1, 0, false FROM generate_series(1, 20000) n;
INSERT INTO worker (namespace, name, profile, incarnation, instance, outbox_key, presence, version, host, pid, first_seen_at,
    registered_at, last_heard_at, draining, departed, session_open, replica, home_seq, losses)
SELECT 'default', 'w' || n, '{}', 1, gen_random_uuid(), '', 0, '', '', 1, 0, 0, 0, false, false, true, n % 50, 1, 0
FROM generate_series(1, 5000) n;
INSERT INTO worker_gone SELECT n, 'w', n FROM generate_series(10001, 15000) n;
INSERT INTO claim_request SELECT n, 1, gen_random_uuid(), '', 0 FROM generate_series(1, 5000) n;
INSERT INTO queue_claim SELECT n % 9, n, 0 FROM generate_series(1, 5000) n;
INSERT INTO queue_count SELECT n, 1, 2, 3 FROM generate_series(1, 2000) n;
INSERT INTO class_count SELECT n, 1, 2 FROM generate_series(1, 2000) n;
INSERT INTO submission (id, namespace, kind, input, options) SELECT gen_random_uuid(), '', '', '', '{}' FROM generate_series(1, 5000);
INSERT INTO errand (replica, at, body) SELECT n % 5, 0, '' FROM generate_series(1, 5000) n;
INSERT INTO feed (xid, at, body) SELECT n::text::xid8, 0, '[]' FROM generate_series(1, 20000) n;
ANALYZE;";

/// Name and plan of every statement.
fn plans() -> Vec<(&'static str, String)> {
    let database = Database::empty(shared().expect("a server")).expect("a database");
    let url = database.url();
    let open = PostgresStore::open(&url, crate::Options::default(), Arc::new(SimClock::default()));
    drop(futures_executor::block_on(open).expect("a store"));
    let mut script = format!("SET search_path = outlive;\n{FULL}\nSET plan_cache_mode = force_generic_plan;\n");
    let head = sql::HEAD.replace(", true)", ", false)");
    let _ = writeln!(script, "{head};");
    let statements = sql::ALL.iter().filter(|(name, _)| !COMMANDS.contains(name));
    for (name, text) in statements.clone() {
        let values = (1..=64).take_while(|n| text.contains(&format!("${n}"))).count();
        let nothing = if values == 0 { String::new() } else { format!("({})", vec!["NULL"; values].join(",")) };
        let _ = writeln!(
            script,
            "PREPARE s_{name} AS {text};\nSELECT '@{name}';\nEXPLAIN (COSTS OFF) EXECUTE s_{name}{nothing};"
        );
    }
    let printed = database.sql(&script).expect("every statement can be prepared");
    let plan = |name: &str| {
        let begun = printed.split(&format!("@{name}\n")).nth(1).unwrap_or_else(|| panic!("{name} has no plan"));
        begun.split("\n@").next().unwrap_or_default().to_owned()
    };
    statements.map(|(name, _)| (*name, plan(name))).collect()
}

/// Whether a plan reads a table, or an index, from its beginning to its end.
fn walks(plan: &str) -> bool {
    let nodes: Vec<&str> = plan.split("->").collect();
    nodes.iter().any(|node| {
        let by_index = node.contains("Scan using")
            || node.contains("Scan Backward using")
            || node.contains("Bitmap Index Scan on");
        node.contains("Seq Scan on") || (by_index && !node.contains("Index Cond"))
    })
}

#[test]
fn no_statement_walks_a_table_that_grows_and_the_seeks_of_every_life_use_their_index() {
    let plans = plans();
    let walks: Vec<_> = plans.iter().filter(|(_, plan)| walks(plan)).collect();
    let found: Vec<&str> = walks.iter().map(|(name, _)| *name).collect();
    let mut known: Vec<&str> = WALKS.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(found, known, "{walks:#?}");
    for (name, index) in SEEKS {
        let (_, plan) = plans.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no statement {name}"));
        assert!(plan.contains(index), "{name} does not use {index}:\n{plan}");
    }
}
