//! Messages for running attempts.

use crate::support::{Worker, noop, registration, world};
use outlive_api::report::{OpName, WireItem};
use outlive_api::runs::{NewRun, SignalBody};
use outlive_api::session::ServerMessage;
use outlive_api::workers::{ClaimBody, ReportBody, WireLiveness, WireOrder};
use outlive_core::{Json, Millis};

fn steer(data: &str) -> SignalBody {
    SignalBody { name: "steer".into(), data: Some(Json::parse(data.into()).unwrap()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_follows_the_lease_down_the_session_and_nobody_else_gets_it() {
    let world = world().await;
    let mut session = Worker::connect(&world, "w-1").await;
    session.beat(1, &[]).await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    let leases = session.leases().await;
    let refused = world.client.signal_run(run.id, &steer("1")).await.unwrap_err();
    assert_eq!(refused.code(), Some("wrong_state"), "claimed is not running");
    session.report(vec![WireItem::bare(OpName::Start, Some(leases[0].lease()))]).await;
    world.client.signal_run(run.id, &steer(r#"{"i":1.50}"#)).await.unwrap();
    let told = session.until(|m| {
        if let ServerMessage::Signal { name, data, epoch, .. } = m { Some((name, data, epoch)) } else { None }
    });
    let (name, data, epoch) = told.await;
    assert_eq!((name.as_str(), data.text(), epoch), ("steer", r#"{"i":1.50}"#, leases[0].epoch));
    session.die();
    let refused = loop {
        // The end of the connection is on its way.
        if let Err(refused) = world.client.signal_run(run.id, &steer("1")).await {
            break refused;
        }
    };
    assert_eq!(refused.code(), Some("wrong_state"));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_polls_finds_it_in_the_answer_of_its_next_report() {
    let world = world().await;
    let registered = world.client.register(&registration("p-1", WireLiveness::Poll)).await.unwrap();
    let worker = world.client.with_token(&registered.session_token);
    let run = world.client.create_run(&noop(), None).await.unwrap();
    let body = ClaimBody { request_id: uuid::Uuid::new_v4(), max: 1, wait: Some(Millis::secs(20)) };
    let lease = worker.claim(registered.worker_id, &body).await.unwrap().leases.remove(0);
    let report = |op| ReportBody { beat: None, items: vec![WireItem::bare(op, Some(lease.lease()))], replay: false };
    worker.report(registered.worker_id, &report(OpName::Start)).await.unwrap();
    world.client.signal_run(run.id, &steer("7")).await.unwrap();
    world.client.signal_run(run.id, &steer("7")).await.unwrap();
    let answer = worker.report(registered.worker_id, &report(OpName::Start)).await.unwrap();
    let order = WireOrder::Signal {
        run_id: run.id,
        epoch: lease.epoch,
        name: "steer".into(),
        data: Json::parse("7".into()).unwrap(),
    };
    assert_eq!(answer.orders, [order.clone(), order], "two signals are two, even if they are equal");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_nobody_would_read_is_refused_with_what_to_do() {
    let world = world().await;
    let held = world.client.create_run(&NewRun { hold: true, ..noop() }, None).await.unwrap();
    let refused = world.client.signal_run(held.id, &steer("1")).await.unwrap_err();
    assert_eq!(refused.code(), Some("wrong_state"));
    assert!(refused.to_string().contains("release it with data"), "{refused}");
    let unnamed = SignalBody { name: String::new(), data: None };
    assert_eq!(world.client.signal_run(held.id, &unnamed).await.unwrap_err().code(), Some("invalid_request"));
    let large = steer(&format!("\"{}\"", "x".repeat(70_000)));
    assert_eq!(world.client.signal_run(held.id, &large).await.unwrap_err().code(), Some("too_large"));
    world.client.cancel_run(held.id, &outlive_api::runs::CancelBody::default()).await.unwrap();
    assert_eq!(world.client.signal_run(held.id, &steer("1")).await.unwrap_err().code(), Some("already_terminal"));
    world.server.stop().await;
}
