//! Servers on PostgreSQL.

use crate::support::{Worker, World, config, noop, until_run};
use outlive_api::client::Client;
use outlive_api::report::{OpName, WireItem};
use outlive_core::State;
use outlive_pg_private::{Database, shared};
use outlive_server::{StoreLocation, start};

async fn replica(database: &Database, name: &str) -> World {
    let mut config = config(StoreLocation::Postgres(database.url()), 0, 0);
    config.replica = name.into();
    let server = start(config).await.expect("the server starts");
    let client = Client::new(&server.address().to_string(), "default").expect("an address");
    World { server, client }
}

fn database() -> Database {
    Database::empty(shared().expect("a server")).expect("a database")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_submitted_at_one_replica_runs_on_a_worker_of_another() {
    let database = database();
    let (here, there) = (replica(&database, "a").await, replica(&database, "b").await);
    let mut worker = Worker::connect(&there, "w").await;
    worker.beat(1, &[]).await;
    let run = here.client.create_run(&noop(), None).await.unwrap();
    let lease = worker.leases_in_time().await.remove(0);
    assert_eq!(lease.run_id, run.id);
    worker.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await;
    until_run(&here, run.id, |r| r.state == State::Succeeded).await;
    here.server.stop().await;
    there.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart_on_the_same_database() {
    let database = database();
    let world = replica(&database, "a").await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    world.server.stop().await;
    let world = replica(&database, "a").await;
    until_run(&world, run.id, |r| r.state == State::Queued).await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_an_application_enqueued_in_its_own_transaction_is_executed() {
    let database = database();
    let world = replica(&database, "a").await;
    let mut worker = Worker::connect(&world, "w").await;
    worker.beat(1, &[]).await;
    let submit = "BEGIN; CREATE TABLE orders (run uuid); INSERT INTO orders SELECT outlive.submit('noop', '{\"n\": 1}'); COMMIT; SELECT run FROM orders";
    let id = database.sql(submit).expect("a submission");
    let lease = worker.leases_in_time().await.remove(0);
    assert_eq!(lease.run_id.to_string(), id);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_a_name_and_a_database_that_is_not_there_are_refused_with_what_to_do() {
    let database = database();
    let nameless = config(StoreLocation::Postgres(database.url()), 0, 0);
    let refused = start(nameless).await.unwrap_err().to_string();
    assert!(refused.contains("--replica"), "{refused}");
    let mut nowhere = config(StoreLocation::Postgres("postgres://nobody:secret@127.0.0.1:1/none".into()), 0, 0);
    nowhere.replica = "a".into();
    let refused = start(nowhere).await.unwrap_err().to_string();
    assert!(refused.contains("cannot be reached") && !refused.contains("secret"), "{refused}");
}
