//! A server that stops and starts again: nothing is taken from anybody.

use crate::support::{Worker, noop, world_at};
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::session::{CloseReason, ServerMessage};
use outlive_core::State;
use outlive_server::StoreLocation;

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_stop_tells_sessions_to_come_back_and_a_restart_reaps_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreLocation::Sqlite(folder.path().join("outlive.db"));
    let world = world_at(store.clone(), 0).await;
    let mut worker = Worker::connect(&world, "w-1").await;
    worker.beat(1, &[]).await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    let lease = worker.leases().await.remove(0);
    worker.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
    let port = world.server.address().port();
    let (closed, ()) = tokio::join!(
        worker.until(|m| match m {
            ServerMessage::Close { why, keep_trust_ms, .. } => Some((why, keep_trust_ms)),
            _ => None,
        }),
        world.server.stop()
    );
    assert_eq!(closed.0, CloseReason::Shutdown);
    assert!(closed.1 > 0);

    let world = world_at(store, port).await;
    let mut worker = Worker::resume(&world, worker.die()).await;
    worker.beat(0, &[&lease]).await;
    let confirmed = worker.until(|m| match m {
        ServerMessage::Lost { .. } => Some(false),
        ServerMessage::BeatAck { .. } => Some(true),
        _ => None,
    });
    assert!(confirmed.await, "the token and the lease are those of before");
    assert_eq!(worker.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await, [WireResult::Ok]);
    let run = world.client.run(run.id).await.unwrap();
    assert_eq!((run.state, run.losses), (State::Succeeded, 0));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = StoreLocation::Sqlite(folder.path().join("outlive.db"));
    let world = world_at(store.clone(), 0).await;
    let config = outlive_server::Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        store,
        advertise: String::new(),
        insecure_listen: false,
        replica: String::new(),
        low_disk: 0,
        liveness: None,
        settings: Vec::new(),
        version: "test".into(),
    };
    let refused = outlive_server::start(config).await.unwrap_err();
    assert!(refused.to_string().contains("cannot be opened"), "{refused}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named_with_the_next_free_one() {
    let world = world_at(StoreLocation::Memory, 0).await;
    let config = outlive_server::Config {
        listen: world.server.address(),
        store: StoreLocation::Memory,
        advertise: String::new(),
        insecure_listen: false,
        replica: String::new(),
        low_disk: 0,
        liveness: None,
        settings: Vec::new(),
        version: "test".into(),
    };
    let refused = outlive_server::start(config).await.unwrap_err().to_string();
    assert!(refused.contains("is taken; 127.0.0.1:"), "{refused}");
    world.server.stop().await;
}
