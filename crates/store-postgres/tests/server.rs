//! What a server must be, and what may stand before it: TLS, a pgbouncer, settings that cannot hold a store.

mod support;

use outlive_core::Json;
use outlive_core::class::MatchClass;
use outlive_core::clock::SimClock;
use outlive_pg_private::{Bouncer, Database, Options as ServerOptions, Server, Signed, shared, signed_for};
use outlive_store::{Catalog, Exchange, Runs, StoreError};
use outlive_store_postgres::{Options, PostgresStore, Time, examine};
use outlive_store_tests::{self as topics, Built, World};
use std::sync::Arc;
use support::{database, runtime};

async fn open(url: &str) -> Result<PostgresStore, StoreError> {
    let options = Options { time: Time::Process, ..Options::default() };
    PostgresStore::open(url, options, Arc::new(SimClock::default())).await
}

fn refusal(url: &str) -> String {
    match runtime().block_on(open(url)) {
        Err(StoreError::Refused(why) | StoreError::Unavailable(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn tls_is_what_the_url_says_on_every_connection() {
    let Signed { cert, key, authority } = signed_for(&["localhost"]).unwrap();
    let stranger = signed_for(&["localhost"]).unwrap().authority;
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let (authority, stranger) = (file("authority.pem", &authority), file("stranger.pem", &stranger));
    let server =
        Server::start(&ServerOptions { tls: Some((cert, key)), ..ServerOptions::default() }).expect("a server");
    let by_number = server.url("postgres");
    let by_name = by_number.replace("127.0.0.1", "localhost");
    let full = format!("{by_name}?sslmode=verify-full&sslrootcert={authority}");
    let store = runtime().block_on(open(&full)).expect("a store over TLS");
    runtime().block_on(async {
        let class = store.intern_class(class()).await.expect("a class");
        assert_eq!(store.load().await.expect("a store").classes, [class]);
    });
    let plain = server.sql("postgres", "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'outlive' AND NOT s.ssl");
    // `psql` itself comes over TLS, too: the server lets nobody in without.
    assert_eq!(plain.expect("an answer"), "0");
    let count = server.sql("postgres", "SELECT count(*) > 1 FROM pg_stat_activity WHERE application_name = 'outlive'");
    assert_eq!(count.expect("an answer"), "t");
    for mode in ["require", "prefer", &format!("verify-ca&sslrootcert={authority}")] {
        runtime().block_on(open(&format!("{by_number}?sslmode={mode}"))).unwrap_or_else(|e| panic!("{mode}: {e}"));
    }
    refusal(&format!("{by_name}?sslmode=disable"));
    assert!(refusal(&format!("{by_number}?sslmode=verify-full&sslrootcert={authority}")).contains("not valid for"));
    for mode in ["verify-full", "verify-ca", "require"] {
        let why = refusal(&format!("{by_name}?sslmode={mode}&sslrootcert={stranger}"));
        assert!(why.contains("certificate"), "{mode}: {why}");
    }
}

fn class() -> MatchClass {
    MatchClass {
        namespace: "default".into(),
        queue: "a".into(),
        kind: "exec".into(),
        requires: std::collections::BTreeMap::new(),
        pin: None,
    }
}

#[test]
fn all_of_the_contract_that_needs_a_session_holds_behind_a_pgbouncer_in_transaction_mode() {
    let server = Server::start(&ServerOptions::default()).expect("a server");
    // Fewer connections than the store has: its transactions are handed from one to another.
    let bouncer = Bouncer::start(&server, 2).expect("a pgbouncer");
    let behind = |clock: Arc<SimClock>| {
        let database = Database::empty(&server.url("postgres")).expect("a database");
        let options = Options { time: Time::Process, ..Options::default() };
        let store = runtime().block_on(PostgresStore::open(&bouncer.url(database.name()), options, clock));
        Built { store: Arc::new(store.expect("a store")), keep: Box::new(database) }
    };
    World::run(&behind, topics::report::a_normal_life_leaves_its_history);
    World::run(&behind, topics::loss::losses_in_a_row_wait_and_then_quarantine);
    World::run(&behind, topics::caps::max_running_holds_over_claims_and_frees_with_the_lease);
    World::run(&behind, topics::serial::the_next_in_rank_order_follows_when_the_lease_closes);
    World::run(&behind, topics::feed::a_reader_resumes_after_any_event_whatever_its_page);
    World::run(&behind, topics::idempotency::the_same_key_and_body_give_the_same_runs);
    World::run(&behind, topics::subjects::a_life_goes_from_idle_over_queued_and_working_to_idle);
    // Notices are not heard there: what others commit is found by looking.
    runtime().block_on(async {
        let database = Database::empty(&server.url("postgres")).expect("a database");
        let url = bouncer.url(database.name());
        let (here, there) = (support::store(&url, "a", clock()).await, support::store(&url, "b", clock()).await);
        let class = here.intern_class(class()).await.expect("a class");
        here.create(one(class.id, class.queue)).await.expect("a run");
        while !there.hints().await.ready.contains(&class.id) {}
    });
}

fn clock() -> Arc<SimClock> {
    Arc::new(SimClock::default())
}

fn one(class: outlive_core::ClassId, queue: outlive_core::QueueId) -> outlive_store::CreateRequest {
    let new = outlive_core::run::begin::NewRun {
        id: outlive_core::RunId::from_parts(outlive_core::Wall(0), 7),
        class,
        queue,
        priority: 0,
        run_at: None,
        hold: false,
        serial_key: None,
        key: None,
        queue_ttl: None,
    };
    let run = outlive_store::CreateRun {
        new,
        id_chosen: false,
        on_conflict: outlive_store::OnConflict::Reject,
        input: Json::null(),
        options: outlive_core::options::RunOptions::default(),
        checkpoint: None,
    };
    let (namespace, runs) = ("default".to_owned(), vec![run]);
    outlive_store::CreateRequest { namespace, runs, idempotency: None, claims: Vec::new(), only_known: false }
}

#[test]
fn a_server_that_answers_before_it_is_on_disk_is_refused_and_told_what_to_do() {
    let database = Database::empty(shared().expect("a server")).expect("a database");
    database.sql(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name())).expect("a setting");
    let why = refusal(&database.url());
    assert!(why.contains("synchronous_commit is off") && why.contains("SET synchronous_commit = on"), "{why}");
    assert!(examine(&database.url()).unwrap_err().contains("synchronous_commit"));
    database.sql(&format!("ALTER DATABASE {} SET synchronous_commit = local", database.name())).expect("a setting");
    runtime().block_on(open(&database.url())).expect("a store");
}

#[test]
fn another_encoding_a_newer_schema_and_an_unreachable_server_are_refused() {
    let admin = shared().expect("a server");
    let here = Database::empty(admin).expect("a database");
    let name = format!("latin_{}", here.name());
    let encoding = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'";
    here.sql(&format!("CREATE DATABASE {name} {encoding}")).expect("a database");
    let url = here.url().replace(here.name(), &name);
    let (opened, looked_at) = (refusal(&url), examine(&url).unwrap_err());
    here.sql(&format!("DROP DATABASE {name} WITH (FORCE)")).expect("it goes");
    for why in [opened, looked_at] {
        assert!(why.contains("encoding LATIN1") && why.contains("UTF8"), "{why}");
    }
    let newer = database();
    newer.sql("INSERT INTO outlive.schema_history (version, name) VALUES (99, 'later')").expect("a row");
    assert!(refusal(&newer.url()).contains("newer version"));
    // What the next version says of itself when it has only widened the schema.
    let known: i64 =
        newer.sql("SELECT max(version) FROM outlive.schema_history WHERE version < 99").unwrap().parse().unwrap();
    newer.sql(&format!("UPDATE outlive.schema_history SET least = {} WHERE version = 99", known + 1)).expect("a row");
    assert!(refusal(&newer.url()).contains("newer version"), "two versions apart");
    newer.sql(&format!("UPDATE outlive.schema_history SET least = {known} WHERE version = 99")).expect("a row");
    newer.sql("ALTER TABLE outlive.run ADD COLUMN later bigint NOT NULL DEFAULT 0").expect("a wider schema");
    // Not found by the role's own path, which leads to a schema of its name.
    newer.sql(&format!("ALTER DATABASE {} SET search_path = public", newer.name())).expect("a path");
    runtime().block_on(open(&newer.url())).expect("the version before works beside the next one");
    let closed = admin.replace(admin.rsplit(':').next().unwrap_or_default(), "1/postgres");
    assert!(refusal(&closed).contains("cannot be reached"), "{closed}");
    assert!(refusal("postgres://nobody@127.0.0.1:1/x?sslmode=sure").contains("sslmode"));
}

#[test]
fn replicas_that_start_at_once_make_one_schema() {
    let database = Database::empty(shared().expect("a server")).expect("a database");
    runtime().block_on(async {
        let starts = (0..4).map(|n| {
            let options = Options { replica: format!("r{n}"), ..Options::default() };
            let url = database.url();
            async move { PostgresStore::open(&url, options, clock()).await.expect("a store") }
        });
        let stores = futures_util::future::join_all(starts).await;
        let mut seen = std::collections::BTreeSet::new();
        let generation = stores[0].load().await.expect("a store").generation;
        for store in &stores {
            let snapshot = store.load().await.expect("a store");
            assert_eq!(snapshot.generation, generation);
            assert!(seen.insert(snapshot.replica));
        }
    });
    assert_eq!(database.sql("SELECT count(*) FROM outlive.meta").expect("an answer"), "1");
}

#[test]
fn a_server_that_crashes_loses_nothing_that_was_answered_and_the_store_goes_on() {
    let mut server = Server::start(&ServerOptions::default()).expect("a server");
    let store = runtime().block_on(open(&server.url("postgres"))).expect("a store");
    let class = runtime().block_on(store.intern_class(class())).expect("a class");
    for round in 0..3_u128 {
        let mut request = one(class.id, class.queue);
        request.runs[0].new.id = outlive_core::RunId::from_parts(outlive_core::Wall(0), (round + 1) << 64);
        request.runs[0].id_chosen = true;
        runtime().block_on(store.create(request.clone())).expect("a run");
        server.crash_and_restart().expect("a server");
        // Reads and writes find the server again by themselves.
        let row = runtime().block_on(store.get("default", request.runs[0].new.id)).expect("a store");
        assert!(row.is_some(), "an answered creation is gone");
        assert!(runtime().block_on(store.create(request)).expect("a run").runs[0].existed);
    }
    assert_eq!(runtime().block_on(store.queue_counts(class.queue)).expect("counts").queued, 3);
}
