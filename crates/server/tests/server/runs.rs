//! Runs as clients see them.

use crate::support::{noop, world};
use outlive_api::client::calls::RunFilter;
use outlive_api::runs::{CancelBody, NewRun, NewRuns, ReleaseBody, RetryBody};
use outlive_core::policy::{Admission, QueuePolicy};
use outlive_core::{Millis, State};

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_gives_the_same_run_and_refuses_another_body() {
    let world = world().await;
    let first = world.client.create_run(&noop(), Some("k")).await.unwrap();
    let again = world.client.create_run(&noop(), Some("k")).await.unwrap();
    assert_eq!(first.id, again.id);
    let other = NewRun { priority: 1, ..noop() };
    let refused = world.client.create_run(&other, Some("k")).await.unwrap_err();
    assert_eq!(refused.code(), Some("idempotency_mismatch"));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_all_or_nothing_and_names_the_bad_item() {
    let world = world().await;
    let bad = NewRun { priority: 101, ..noop() };
    let refused = world.client.create_runs(&NewRuns { runs: vec![noop(), bad] }).await.unwrap_err();
    assert!(refused.to_string().contains("runs[1].priority"), "{refused}");
    assert!(world.client.runs(&RunFilter::default()).await.unwrap().runs.is_empty());
    let created = world.client.create_runs(&NewRuns { runs: vec![noop(), noop()] }).await.unwrap();
    assert_eq!(created.runs.len(), 2);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_nobody_can_take_says_so_and_a_gated_queue_refuses_it() {
    let world = world().await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    assert!(run.warnings[0].contains("no worker is online"), "{:?}", run.warnings);
    let because = world.client.explain(run.id).await.unwrap().because;
    assert_eq!(because[0].code, "no_worker_for_queue");
    let gate = QueuePolicy { admission: Admission::Gate, ..QueuePolicy::default() };
    world.client.put_queue("gated", &gate).await.unwrap();
    let refused = world.client.create_run(&NewRun { queue: "gated".into(), ..noop() }, None).await.unwrap_err();
    assert_eq!(refused.code(), Some("not_admitted"));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_runs_wait_for_a_release_and_terminal_ones_can_be_tried_again_and_deleted() {
    let world = world().await;
    let run = world.client.create_run(&NewRun { hold: true, ..noop() }, None).await.unwrap();
    assert_eq!(run.state, State::Held);
    let released = world.client.release_run(run.id, &ReleaseBody::default()).await.unwrap();
    assert_eq!(released.state, State::Queued);
    assert_eq!(world.client.delete_run(run.id).await.unwrap_err().code(), Some("not_terminal"));
    assert_eq!(world.client.cancel_run(run.id, &CancelBody::default()).await.unwrap().state, State::Cancelled);
    assert_eq!(world.client.cancel_run(run.id, &CancelBody::default()).await.unwrap().state, State::Cancelled);
    let retried = world.client.retry_run(run.id, &RetryBody::default()).await.unwrap();
    assert_eq!((retried.retry_of, retried.state), (Some(run.id), State::Queued));
    world.client.delete_run(run.id).await.unwrap();
    assert_eq!(world.client.run(run.id).await.unwrap_err().code(), Some("run_not_found"));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_answers_as_soon_as_the_run_has_ended() {
    let world = world().await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    let why = outlive_api::runs::CancelBody::default();
    let (ended, _) =
        tokio::join!(world.client.run_wait(run.id, Millis::secs(30)), world.client.cancel_run(run.id, &why));
    assert_eq!(ended.unwrap().state, State::Cancelled);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_policy_is_refused_with_its_inequality() {
    let world = world().await;
    let policy = QueuePolicy { lease_ttl: Millis(500), ..QueuePolicy::default() };
    let refused = world.client.put_queue("q", &policy).await.unwrap_err();
    assert!(refused.to_string().contains(">= reconnect_window"), "{refused}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_starts_nothing_and_says_so() {
    let world = world().await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    world.client.queue_action("default", "pause").await.unwrap();
    let because = world.client.explain(run.id).await.unwrap().because;
    assert!(because.iter().any(|b| b.code == "queue_paused"), "{because:?}");
    let queue = world.client.queue_action("default", "resume").await.unwrap();
    assert!(!queue.paused);
    assert_eq!(queue.counts.queued, 1);
    world.server.stop().await;
}
