//! Whom a claim waits for, and whom it passes over.

use super::*;
use outlive_store::Claimed;
use tokio_postgres::{Client, NoTls};

/// With timers and sockets of its own: for who comes beside the replicas.
fn run(test: impl AsyncFnOnce(Cluster)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { test(Cluster::start().await).await });
}

async fn stranger(cluster: &Cluster) -> Client {
    let (client, connection) = tokio_postgres::connect(&cluster.database.url(), NoTls).await.expect("a connection");
    drop(tokio::spawn(connection));
    client
}

/// Looks at a run, and keeps its row.
async fn look_at(stranger: &Client, run: RunId) {
    let lock = format!("BEGIN; SELECT 1 FROM outlive.run WHERE id = '{}' FOR UPDATE", run.0);
    stranger.batch_execute(&lock).await.expect("a lock");
}

async fn claim(here: &Replica, classes: &[&ClassRow], max: u32) -> Claimed {
    let classes = classes.iter().map(|class| class.id).collect();
    here.store.claim(ClaimOrder { max, classes, ..here.order.clone() }).await.expect("a claim")
}

#[test]
fn what_somebody_only_looked_at_is_claimed_soon_although_nobody_tells() {
    run(async |cluster| {
        let class = cluster.class("free", QueuePolicy::default()).await;
        let here = &cluster.replicas[0];
        let ids = here.create(vec![cluster.draft(&class)]).await;
        let stranger = stranger(&cluster).await;
        look_at(&stranger, ids[0]).await;
        let nothing = claim(here, &[&class], 1).await;
        assert!(nothing.leases.is_empty());
        assert_eq!(nothing.retry_after, Some(Millis(20)));
        stranger.batch_execute("ROLLBACK").await.expect("the end");
        let claimed = claim(here, &[&class], 1).await;
        assert_eq!(claimed.leases.iter().map(|row| row.run.id).collect::<Vec<_>>(), ids);
        assert_eq!(claimed.retry_after, None);
    });
}

#[test]
fn claims_from_the_same_queues_with_caps_do_not_wait_for_each_other_in_a_circle() {
    run(async |cluster| {
        let cap = QueuePolicy { max_running: Some(100), ..QueuePolicy::default() };
        let (a, b) = (cluster.class("a", cap.clone()).await, cluster.class("b", cap).await);
        let [here, there] = [&cluster.replicas[0], &cluster.replicas[1]];
        for replica in [here, there] {
            claim(replica, &[&a, &b], 1).await;
        }
        for _ in 0..100 {
            futures_util::future::join(claim(here, &[&a, &b], 1), claim(there, &[&b, &a], 1)).await;
        }
        let stranger = stranger(&cluster).await;
        drop(cluster.replicas);
        // What a connection has counted is told when it ends.
        let others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'outlive'";
        while !stranger.query(others, &[]).await.expect("an answer").is_empty() {}
        let circles = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        let circles: i64 = stranger.query_one(circles, &[]).await.expect("an answer").get(0);
        assert_eq!(circles, 0);
    });
}
