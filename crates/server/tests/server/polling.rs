//! Workers that poll, in any language.

use crate::support::{noop, registration, until_run, world};
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::workers::{ClaimBody, ReportBody, WireLiveness};
use outlive_core::{Millis, State};

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_waits_for_work_and_the_same_request_gets_the_same_leases() {
    let world = world().await;
    let registered = world.client.register(&registration("p-1", WireLiveness::Poll)).await.unwrap();
    let worker = world.client.with_token(&registered.session_token);
    let body = ClaimBody { request_id: uuid::Uuid::new_v4(), max: 2, wait: Some(Millis::secs(20)) };
    let (leases, run) = tokio::join!(worker.claim(registered.worker_id, &body), async {
        world.client.create_run(&noop(), None).await.unwrap()
    });
    let leases = leases.unwrap().leases;
    assert_eq!(leases.iter().map(|l| l.run_id).collect::<Vec<_>>(), [run.id]);
    let again = worker.claim(registered.worker_id, &body).await.unwrap().leases;
    assert_eq!(again.iter().map(|l| (l.run_id, l.epoch)).collect::<Vec<_>>(), [(run.id, leases[0].epoch)]);

    let complete =
        WireItem { stdout: Some("done\n".into()), ..WireItem::bare(OpName::Complete, Some(leases[0].lease())) };
    let report = ReportBody { beat: None, items: vec![complete], replay: false };
    let answer = worker.report(registered.worker_id, &report).await.unwrap();
    assert_eq!(answer.results, [WireResult::Ok]);
    until_run(&world, run.id, |r| r.state == State::Succeeded).await;
    assert_eq!(world.client.output_text(run.id, false).await.unwrap(), b"done\n");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_without_work_answers_empty_when_the_wait_is_over() {
    let world = world().await;
    let registered = world.client.register(&registration("p-1", WireLiveness::Poll)).await.unwrap();
    let worker = world.client.with_token(&registered.session_token);
    let body = ClaimBody { request_id: uuid::Uuid::new_v4(), max: 1, wait: Some(Millis(10)) };
    assert!(worker.claim(registered.worker_id, &body).await.unwrap().leases.is_empty());
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_needs_the_token_of_that_worker() {
    let world = world().await;
    let one = world.client.register(&registration("p-1", WireLiveness::Poll)).await.unwrap();
    let two = world.client.register(&registration("p-2", WireLiveness::Poll)).await.unwrap();
    let report = ReportBody::default();
    let refused = world.client.report(one.worker_id, &report).await.unwrap_err();
    assert_eq!(refused.code(), Some("unauthenticated"));
    let refused = world.client.with_token(&two.session_token).report(one.worker_id, &report).await.unwrap_err();
    assert_eq!(refused.code(), Some("not_owner"));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_poll_that_ends_late_does_not_silence_a_newer_one() {
    let world = world().await;
    let registered = world.client.register(&registration("p-1", WireLiveness::Poll)).await.unwrap();
    let worker = world.client.with_token(&registered.session_token);
    let ask = |wait| ClaimBody { request_id: uuid::Uuid::new_v4(), max: 1, wait: Some(wait) };
    // The older one waits for a second, and ends while the newer one waits.
    let (older, newer) = (ask(Millis::secs(1)), ask(Millis::secs(20)));
    let unheard_for = async || world.client.workers().await.unwrap().workers[0].last_heard_age_ms.unwrap_or(0);
    while unheard_for().await < 500 {}
    let older = tokio::spawn({
        let worker = worker.clone();
        async move { worker.claim(registered.worker_id, &older).await }
    });
    // A poll is a sign of life: now it has come.
    while unheard_for().await >= 500 {}
    let (newer, run) = tokio::join!(worker.claim(registered.worker_id, &newer), async {
        assert!(older.await.unwrap().unwrap().leases.is_empty());
        world.client.create_run(&noop(), None).await.unwrap()
    });
    assert_eq!(newer.unwrap().leases[0].run_id, run.id);
    world.server.stop().await;
}
