//! Workers with a session.

use crate::support::{Worker, noop, until_run, world};
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::runs::{CancelBody, NewRun};
use outlive_api::session::ServerMessage;
use outlive_core::{Json, Reason, State};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_pushed_to_a_free_slot_and_finished_once() {
    let world = world().await;
    let mut worker = Worker::connect(&world, "w-1").await;
    worker.beat(4, &[]).await;
    worker.until(|m| matches!(m, ServerMessage::BeatAck { .. }).then_some(())).await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    assert_eq!(run.state, State::Claimed, "created and claimed in one transaction");
    let leases = worker.leases().await;
    assert_eq!(leases[0].run_id, run.id);
    let complete = WireItem::bare(OpName::Complete, Some(leases[0].lease()));
    assert_eq!(worker.report(vec![complete.clone()]).await, [WireResult::Ok]);
    assert_eq!(worker.report(vec![complete]).await, [WireResult::Ok], "a repetition gets the first answer");
    assert_eq!(world.client.run(run.id).await.unwrap().state, State::Succeeded);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_moves_the_run_after_the_window_and_the_zombie_is_fenced() {
    let world = world().await;
    let mut first = Worker::connect(&world, "w-1").await;
    first.beat(1, &[]).await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    let lease = first.leases().await.remove(0);
    assert_eq!(first.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await, [WireResult::Ok]);
    let registered = first.die();

    let mut second = Worker::connect(&world, "w-2").await;
    second.beat(1, &[]).await;
    let taken = second.leases_in_time().await.remove(0);
    assert_eq!((taken.run_id, taken.epoch.0, taken.recovered), (run.id, 2, true));
    // A machine that stood still meanwhile makes the end of a connection mere silence: rightly so.
    let judge = world.client.server().await.unwrap().judge;
    let stood_still = judge.lag_ms >= 100;

    let mut zombie = Worker::resume(&world, registered).await;
    zombie.beat(0, &[&lease]).await;
    zombie.until(|m| matches!(m, ServerMessage::Lost { .. }).then_some(())).await;
    let late = zombie.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await;
    assert!(matches!(late[..], [WireResult::Fenced { .. }]), "{late:?}");

    assert_eq!(second.report(vec![WireItem::bare(OpName::Complete, Some(taken.lease()))]).await, [WireResult::Ok]);
    let attempts = world.client.attempts(run.id).await.unwrap().attempts;
    assert_eq!(attempts.len(), 2);
    let recovery = world.client.recoveries(Some(run.id), 10, "").await.unwrap().recoveries.remove(0);
    if !stood_still {
        assert_eq!(attempts[0].reason, Some(Reason::WorkerDisconnected));
        assert!((900..3_000).contains(&recovery.detect_ms), "{recovery:?}");
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_within_the_window_keeps_the_lease() {
    let world = world().await;
    let mut worker = Worker::connect(&world, "w-1").await;
    worker.beat(1, &[]).await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    let lease = worker.leases().await.remove(0);
    worker.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
    let registered = worker.die();
    let mut worker = Worker::resume(&world, registered).await;
    worker.beat(0, &[&lease]).await;
    let confirmed = worker.until(|m| match m {
        ServerMessage::Lost { .. } => Some(false),
        ServerMessage::BeatAck { .. } => Some(true),
        _ => None,
    });
    assert!(confirmed.await);
    assert_eq!(worker.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await, [WireResult::Ok]);
    assert_eq!(world.client.attempts(run.id).await.unwrap().attempts.len(), 1);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_holds_and_did_not_name_is_given_again() {
    let world = world().await;
    let mut worker = Worker::connect(&world, "w-1").await;
    worker.beat(1, &[]).await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    worker.leases().await;
    let registered = worker.die();
    let mut worker = Worker::resume(&world, registered).await;
    worker.beat(0, &[]).await;
    let again = worker.until(|m| match m {
        ServerMessage::Leases { push_seq: 0, leases } => Some(leases),
        _ => None,
    });
    let again = again.await;
    assert_eq!((again[0].run_id, again[0].epoch.0), (run.id, 1));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_in_several_messages_is_seen_with_its_last() {
    let world = world().await;
    let large = Json::parse(format!("\"{}\"", "x".repeat(20 << 10))).unwrap();
    let runs = [(); 3].map(|()| NewRun { input: large.clone(), ..noop() });
    for run in &runs {
        world.client.create_run(run, None).await.unwrap();
    }
    let mut worker = Worker::connect(&world, "w-1").await;
    worker.beat(3, &[]).await;
    let mut parts = Vec::new();
    while parts.len() < runs.len() {
        let part = worker.until(|m| match m {
            ServerMessage::Leases { push_seq: seq @ 1.., leases } => Some((seq, leases.len())),
            _ => None,
        });
        parts.push(part.await);
    }
    // A beat after the first part says that it has seen the number of that: the last, under which the engine has them, it has not.
    assert_eq!(parts, [(1, 1), (1, 1), (2, 1)]);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_worker_and_ends_the_run() {
    let world = world().await;
    let mut worker = Worker::connect(&world, "w-1").await;
    worker.beat(1, &[]).await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    let lease = worker.leases().await.remove(0);
    let cancelled = world.client.cancel_run(run.id, &CancelBody::default()).await.unwrap();
    assert_eq!(cancelled.state, State::Cancelling);
    worker.until(|m| matches!(m, ServerMessage::Cancel { .. }).then_some(())).await;
    worker.report(vec![WireItem::bare(OpName::Cancelled, Some(lease.lease()))]).await;
    until_run(&world, run.id, |r| r.state == State::Cancelled).await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_worker_gives_its_run_up_when_it_names_it_no_more() {
    let world = world().await;
    let mut worker = Worker::connect(&world, "w-1").await;
    worker.beat(1, &[]).await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    let lease = worker.leases().await.remove(0);
    world.client.worker_action(worker.registered.worker_id, "evict").await.unwrap();
    worker.until(|m| matches!(m, ServerMessage::Lost { .. }).then_some(())).await;
    worker.beat(1, &[&lease]).await;
    assert_ne!(world.client.run(run.id).await.unwrap().state, State::Queued, "its process is still there");
    worker.beat(1, &[]).await;
    let run = until_run(&world, run.id, |r| r.state == State::Queued).await;
    assert_eq!(run.reason, Some(Reason::Evicted));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_whose_session_answers_is_refused_unless_taken_over() {
    let world = world().await;
    let mut worker = Worker::connect(&world, "w-1").await;
    worker.beat(1, &[]).await;
    worker.until(|m| matches!(m, ServerMessage::BeatAck { .. }).then_some(())).await;
    let again = crate::support::registration("w-1", outlive_api::workers::WireLiveness::Session);
    let refused = world.client.register(&again).await.unwrap_err();
    assert_eq!(refused.code(), Some("name_in_use"), "{refused}");
    let taken = outlive_api::workers::Register { takeover: true, ..again };
    let registered = world.client.register(&taken).await.unwrap();
    assert_eq!(registered.incarnation.0, 2);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_not_understood_closes_the_session() {
    let world = world().await;
    let mut worker = Worker::connect(&world, "w-1").await;
    worker.beat(1, &[]).await;
    let bad = outlive_api::session::WorkerMessage::Report { report_seq: 1, items: vec![], replay: false };
    worker.say(&bad).await;
    worker.raw("{\"type\":\"song\"}").await;
    let closed = worker.until(|m| matches!(m, ServerMessage::Close { .. }).then_some(()));
    closed.await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_with_large_inputs_come_in_messages_that_can_be_read() {
    let world = world().await;
    let large = outlive_core::Json::of(&"x".repeat(900 << 10)).unwrap();
    for _ in 0..20 {
        let run = outlive_api::runs::NewRun { input: large.clone(), ..noop() };
        world.client.create_run(&run, None).await.unwrap();
    }
    let mut registration = crate::support::registration("w-1", outlive_api::workers::WireLiveness::Session);
    registration.slots = 20;
    let registered = world.client.register(&registration).await.unwrap();
    let mut worker = Worker::resume(&world, registered).await;
    worker.beat(20, &[]).await;
    let mut got = 0;
    while got < 20 {
        let leases = worker.leases().await;
        assert!(leases.len() <= 4, "each message stays small: {}", leases.len());
        got += leases.len();
    }
    world.server.stop().await;
}
