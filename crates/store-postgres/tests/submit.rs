//! `outlive.submit`: runs that applications enqueue in their own transactions.

mod support;

use outlive_core::clock::SimClock;
use outlive_core::options::RunOptions;
use outlive_core::run::begin::NewRun;
use outlive_core::{Json, Millis, RunId, State, Wall};
use outlive_pg_private::Database;
use outlive_store::{CreateRequest, CreateRun, OnConflict, RunQuery, RunRow, Runs, Sweeps};
use outlive_store_postgres::PostgresStore;
use std::sync::Arc;
use support::{database, runtime, store};

const NOW: Wall = Wall(1_700_000_000_000);

fn world() -> (Database, PostgresStore) {
    let database = database();
    let clock = Arc::new(SimClock::starting_at(NOW));
    let store = runtime().block_on(store(&database.url(), "one", clock));
    (database, store)
}

fn submit(database: &Database, call: &str) -> RunId {
    let id = database.sql(&format!("SELECT outlive.submit({call})"));
    id.unwrap_or_else(|why| panic!("{call}: {why}")).parse().expect("an id")
}

fn refusal(database: &Database, call: &str) -> String {
    database.sql(&format!("SELECT outlive.submit({call})")).expect_err(call)
}

/// A replica looks; every run that there is then.
fn runs(store: &PostgresStore) -> Vec<RunRow> {
    runtime().block_on(async {
        while store.due(2).await.expect("a sweep").more {}
        let query = RunQuery { namespace: "default".into(), limit: 100, ..RunQuery::default() };
        store.list(query).await.expect("a page").rows
    })
}

#[test]
fn a_submitted_run_is_the_same_as_one_that_was_created_with_the_same_options() {
    let (database, store) = world();
    let id = submit(
        &database,
        r#"'email', '{"to": "a@b"}', '{"queue": "mail", "priority": 7, "key": "k", "serial_key": "s", "subjects": ["user 1"],
            "tags": {"team": "x"}, "requires": {"gpu": "a100"}, "max_attempts": 5, "run_timeout": "90s", "queue_ttl": "2h",
            "backoff": {"initial": "2s", "factor": 3}}'"#,
    );
    let submitted = runs(&store).pop().expect("the run");
    assert_eq!((submitted.run.id, submitted.run.state, submitted.run.is_ready()), (id, State::Queued, true));
    let (class, queue) = (submitted.run.class, submitted.run.queue);
    assert_eq!((submitted.class.queue.as_str(), submitted.class.kind.as_str()), ("mail", "email"));
    let options = RunOptions {
        max_attempts: Some(5),
        run_timeout: Some(Millis::secs(90)),
        queue_ttl: Some(Millis::hours(2)),
        backoff: Some(outlive_core::policy::Backoff { initial: Millis::secs(2), factor: 3.0, ..Default::default() }),
        subjects: vec!["user 1".into()],
        tags: [("team".to_owned(), "x".to_owned())].into(),
        ..RunOptions::default()
    };
    let new = NewRun {
        id: RunId::from_parts(NOW, 77),
        class,
        queue,
        priority: 7,
        run_at: None,
        hold: false,
        serial_key: Some("other".into()),
        key: Some("other".into()),
        queue_ttl: options.queue_ttl,
    };
    let input = Json::parse(r#"{"to": "a@b"}"#.into()).expect("JSON");
    let run = CreateRun { new, id_chosen: true, on_conflict: OnConflict::Reject, input, options, checkpoint: None };
    let (namespace, list) = ("default".to_owned(), vec![run]);
    let request = CreateRequest { namespace, runs: list, idempotency: None, claims: Vec::new(), only_known: false };
    runtime().block_on(store.create(request)).expect("a run");
    let mut created = runs(&store).remove(0);
    (created.run.id, created.run.seq) = (submitted.run.id, submitted.run.seq);
    (created.run.key, created.run.serial_key) = (Some("k".into()), Some("s".into()));
    assert_eq!(submitted, created);
}

#[test]
fn it_waits_for_its_transaction_and_goes_with_it() {
    let (database, store) = world();
    database.sql("BEGIN; SELECT outlive.submit('a'); ROLLBACK").expect("a transaction");
    assert_eq!(runs(&store), []);
    database
        .sql("BEGIN; SELECT outlive.submit('a'), outlive.submit('b'), outlive.submit('c'); COMMIT")
        .expect("a transaction");
    let kinds: Vec<String> = runs(&store).iter().rev().map(|row| row.class.kind.clone()).collect();
    assert_eq!(kinds, ["a", "b", "c"], "in their order");
}

#[test]
fn times_and_holds_are_those_of_any_creation() {
    let (database, store) = world();
    submit(&database, r#"'a', 'null', '{"run_at": "2023-11-14T22:14:00Z"}'"#);
    submit(&database, r#"'b', 'null', '{"hold": true}'"#);
    let states: Vec<_> = runs(&store).iter().map(|row| (row.run.state, row.run.due_at)).collect();
    let week = Millis::hours(7 * 24);
    assert_eq!(states, [(State::Held, Some(NOW + week)), (State::Scheduled, Some(Wall(1_700_000_040_000)))]);
}

#[test]
fn an_id_or_a_key_makes_one_run() {
    let (database, store) = world();
    let id = RunId::from_parts(NOW, 5 << 64);
    let call = format!(r#"'a', 'null', '{{"id": "{id}"}}'"#);
    assert_eq!((submit(&database, &call), submit(&database, &call)), (id, id));
    assert_eq!(runs(&store).len(), 1);
    assert_eq!(submit(&database, &call), id);
    assert_eq!(runs(&store).len(), 1, "also when the run has been made");
    let keyed = |on| format!(r#"'a', 'null', '{{"key": "k", "on_conflict": "{on}"}}'"#);
    let first = submit(&database, &keyed("reject"));
    for _ in 0..2 {
        assert!(refusal(&database, &keyed("reject")).contains(&format!("taken by the active run {first}")));
        assert_eq!(submit(&database, &keyed("return")), first);
        assert_eq!(runs(&store).len(), 2);
    }
    let second = submit(&database, &keyed("replace"));
    let states: Vec<_> = runs(&store).iter().map(|row| (row.run.id, row.run.state)).collect();
    assert_eq!(states[..2], [(second, State::Queued), (first, State::Cancelled)]);
}

#[test]
fn what_a_request_over_http_would_refuse_is_refused_in_the_transaction() {
    let (database, store) = world();
    let long = "x".repeat(201);
    for (call, why) in [
        ("''".to_owned(), "kind must have 1 to 200 characters"),
        (format!("'{long}'"), "kind must have 1 to 200 characters"),
        ("'exec'".to_owned(), "input.command must be a list"),
        (r#"'exec', '{"command": []}'"#.to_owned(), "input.command must be a list"),
        ("'a', '1', '[]'".to_owned(), "options must be an object"),
        (r#"'a', '1', '{"quue": "x"}'"#.to_owned(), "unknown option quue"),
        (r#"'a', '1', '{"run_timeout": "0s"}'"#.to_owned(), "run_timeout > 0 must hold"),
        (r#"'a', '1', '{"queue_ttl": "367d"}'"#.to_owned(), "queue_ttl <= 366d must hold"),
        (
            r#"'a', '1', '{"run_timeout": "10m", "progress_timeout": "601s"}'"#.to_owned(),
            "progress_timeout <= run_timeout must hold",
        ),
        (r#"'a', '1', '{"backoff": {"factor": 0.5}}'"#.to_owned(), "factor >= 1 must hold"),
        (r#"'a', '1', '{"backoff": {"jitter": 1.5}}'"#.to_owned(), "0 <= jitter <= 1 must hold"),
        (r#"'a', '1', '{"backoff": {"initial": "6m"}}'"#.to_owned(), "initial <= max must hold"),
        (r#"'a', '1', '{"backoff": {"max": "367d"}}'"#.to_owned(), "max <= 366d must hold"),
        (r#"'a', '1', '{"queue": 3}'"#.to_owned(), "queue must have 1 to 200 characters"),
        (r#"'a', '1', '{"priority": 101}'"#.to_owned(), "priority must be between -100 and 100"),
        (r#"'a', '1', '{"priority": 1.5}'"#.to_owned(), "priority must be between -100 and 100"),
        (r#"'a', '1', '{"run_timeout": "10 seconds"}'"#.to_owned(), "run_timeout must be a number and a unit"),
        (r#"'a', '1', '{"run_at": "tomorrowish"}'"#.to_owned(), "invalid input syntax"),
        (r#"'a', '1', '{"max_attempts": 0}'"#.to_owned(), "max_attempts must be a whole number"),
        (r#"'a', '1', '{"subjects": ["1","2","3","4","5"]}'"#.to_owned(), "at most 4"),
        (r#"'a', '1', '{"tags": {"a": 1}}'"#.to_owned(), "tags must have 1 to 200 characters"),
        (r#"'a', '1', '{"on_conflict": "win"}'"#.to_owned(), "on_conflict must be"),
        (r#"'a', '1', '{"backoff": {"speed": 1}}'"#.to_owned(), "backoff has initial"),
        (r#"'a', '1', '{"id": "4f9f4b2e-7b1c-4d8e-9a3b-0d6f5f3f2a11"}'"#.to_owned(), "UUID of version 7"),
        (r#"'a', '1', '{"parent": "018bcfe5-6800-78dd-a6e5-fd29f057ce73"}'"#.to_owned(), "the parent"),
        ("'a', to_jsonb(repeat('x', 1048577))".to_owned(), "larger than 1048576 bytes"),
    ] {
        let said = refusal(&database, &call);
        assert!(said.contains(why), "{call}: {said}");
    }
    assert_eq!(runs(&store), []);
}

#[test]
fn an_application_s_role_needs_no_right_but_to_call_it() {
    let (database, store) = world();
    let role = format!("app_{}", database.name());
    database
        .sql(&format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA outlive TO {role}; SET ROLE {role}; SELECT outlive.submit('a');"
        ))
        .expect("a submission");
    let denied = database.sql(&format!("SET ROLE {role}; SELECT * FROM outlive.run"));
    assert!(denied.expect_err("a refusal").contains("permission denied"));
    assert_eq!(runs(&store).len(), 1);
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).expect("no role");
}

#[test]
fn a_key_that_is_taken_before_its_run_is_made_keeps_its_run_and_the_sweep_counts_it() {
    let (database, store) = world();
    let first = submit(&database, r#"'a', 'null', '{"key": "k"}'"#);
    assert_eq!(runs(&store).len(), 1);
    // As if it had been free still when the second one was submitted.
    database.sql("UPDATE outlive.run SET key = 'other'").expect("a row");
    submit(&database, r#"'a', 'null', '{"key": "k"}'"#);
    database.sql("UPDATE outlive.run SET key = 'k'").expect("a row");
    let swept = runtime().block_on(store.due(100)).expect("a sweep");
    assert_eq!((swept.lost_race, swept.acted), (1, 0));
    assert_eq!(runs(&store).iter().map(|row| row.run.id).collect::<Vec<_>>(), [first]);
}
