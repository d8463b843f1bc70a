//! Many workers fall silent at once, over the real interface: the breaker opens, everybody can see that it is open and why,
//! nothing is judged by absence meanwhile, and it closes.

use crate::events::{ALL, shown};
use crate::raw::Request;
use crate::support::{PATIENCE, Worker, World, noop, until_run, world};
use outlive_api::client::events::EventQuery;
use outlive_api::report::{OpName, WireItem};
use outlive_api::runs::{CancelBody, NewRun};
use outlive_api::session::Lease;
use outlive_core::policy::QueuePolicy;
use outlive_core::{Millis, Reason, State};

/// The types of all events that tell of the breaker and of losses, in order.
async fn told(world: &World) -> Vec<(String, Option<String>)> {
    let events = shown(world, EventQuery { types: "breaker.*,attempt.lost", ..ALL }).await;
    events.into_iter().map(|(_, event)| (event.r#type, event.detail)).collect()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let found = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(4 * PATIENCE, found).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

async fn working(world: &World, name: &str) -> (Worker, Lease) {
    let id = world.client.create_run(&noop(), None).await.unwrap().id;
    let mut worker = Worker::connect(world, name).await;
    worker.beat(1, &[]).await;
    let lease = worker.leases_in_time().await.remove(0);
    assert_eq!(lease.run_id, id);
    worker.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
    (worker, lease)
}

#[tokio::test]
async fn workers_that_fall_silent_together_open_the_breaker_for_all_to_see_and_are_judged_when_it_has_closed() {
    let world = world().await;
    let quick = QueuePolicy { lease_ttl: Millis::secs(4), ..QueuePolicy::default() };
    world.client.put_queue("default", &quick).await.unwrap();
    let mut silent = Vec::new();
    for name in ["a", "b", "c"] {
        silent.push(working(&world, name).await);
    }
    let mut other = Worker::connect(&world, "other").await;
    other.beat(0, &[]).await;
    for (worker, lease) in &mut silent {
        worker.beat(0, &[lease]).await;
    }
    // Nobody says anything any more; all connections stay open.
    until("the breaker opens", async || world.client.server().await.unwrap().judge.breaker.is_some()).await;
    let why = world.client.server().await.unwrap().judge.breaker.unwrap();
    assert!(why.ends_with("of 4 workers fell silent at once"), "{why}");
    let metrics = Request::new("GET", "/metrics").send(world.server.address()).await.body.to_string();
    assert!(metrics.contains("outlive_breaker_open 1"), "{metrics}");
    until("the feed tells it", async || !told(&world).await.is_empty()).await;
    assert_eq!(told(&world).await, [("breaker.opened".to_owned(), Some(why))]);
    let shown_as = world.client.stuck().await.unwrap().runs;
    let kinds: Vec<_> = shown_as.iter().map(|run| run.stuck.kind.as_str()).collect();
    assert_eq!(kinds, ["silent"; 3]);
    for (_, lease) in &silent {
        let run = world.client.run(lease.run_id).await.unwrap();
        assert_eq!((run.state, run.losses), (State::Running, 0), "no verdict while it is open");
    }
    // What needs no verdict goes on: a run that waits is cancelled, and evidence that is no absence acts at once.
    let waiting = world.client.create_run(&NewRun { queue: "elsewhere".into(), ..noop() }, None).await.unwrap().id;
    assert_eq!(world.client.cancel_run(waiting, &CancelBody::default()).await.unwrap().state, State::Cancelled);
    let (mut c, lease) = silent.pop().unwrap();
    let lost = WireItem::bare(OpName::Lost, Some(lease.lease()));
    c.report(vec![WireItem { reason: Some(Reason::ProcessKilled), ..lost }]).await;
    let killed = until_run(&world, lease.run_id, |run| run.losses == 1).await;
    assert_eq!(killed.reason, Some(Reason::ProcessKilled));
    // Another worker is heard: the judge hears, and those who are still silent are written off.
    until("it closes", async || {
        other.beat(0, &[]).await;
        world.client.server().await.unwrap().judge.breaker.is_none()
    })
    .await;
    for (_, lease) in &silent {
        let id = lease.run_id;
        until("the silent are judged", async || {
            other.beat(0, &[]).await;
            world.client.run(id).await.unwrap().reason == Some(Reason::WorkerHeartbeatLost)
        })
        .await;
    }
    let told = told(&world).await;
    let types: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    let lost = "attempt.lost";
    assert_eq!(types, ["breaker.opened", lost, "breaker.closed", lost, lost], "two were judged, after it had closed");
    assert!(world.client.stuck().await.unwrap().runs.iter().all(|run| run.stuck.kind != "silent"));
}
