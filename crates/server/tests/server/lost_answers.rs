//! The connection is cut after the commit and before the answer, for every call that changes something; then the call is
//! repeated, byte by byte. The repetition gets the first answer, and nothing has happened twice. The table is held against the
//! OpenAPI document: a call that changes something and is not in it fails the last test.

use crate::cut::lose;
use crate::raw::{Answer, Request};
use crate::support::{World, noop, registration, until_run, world};
use outlive_api::client::calls::RunFilter;
use outlive_api::report::{OpName, WireItem};
use outlive_api::runs::{CancelBody, NewRun, NewRuns, OnConflict, ReleaseBody, RetryBody, SignalBody};
use outlive_api::session::Lease;
use outlive_api::workers::{ClaimBody, Register, Registered, ReportBody, WireLiveness, WireOrder};
use outlive_core::{LeaseRef, Millis, RunId, State};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

type Test = fn(Arc<World>) -> Pin<Box<dyn Future<Output = ()>>>;

/// A call that changes something: method, path as in the OpenAPI document, what is repeated, and how.
const CALLS: &[(&str, &str, &str, Test)] = &[
    ("post", "/v1/runs", "with an id of the client's", |w| Box::pin(create_with_id(w))),
    ("post", "/v1/runs", "with an idempotency key", |w| Box::pin(create_with_idempotency_key(w))),
    ("post", "/v1/runs", "with a business key", |w| Box::pin(create_with_business_key(w))),
    ("post", "/v1/runs", "behind a gate that has closed since", |w| Box::pin(create_behind_a_gate(w))),
    ("post", "/v1/runs/batch", "with an idempotency key", |w| Box::pin(batch(w))),
    ("post", "/v1/runs/{id}/cancel", "of a queued run", |w| Box::pin(cancel_queued(w))),
    ("post", "/v1/runs/{id}/cancel", "of a leased run", |w| Box::pin(cancel_leased(w))),
    ("post", "/v1/runs/{id}/retry", "with an idempotency key", |w| Box::pin(retry(w))),
    ("post", "/v1/runs/{id}/release", "with an idempotency key", |w| Box::pin(release(w))),
    ("post", "/v1/runs/{id}/signal", "is told again, as it says", |w| Box::pin(signal(w))),
    ("delete", "/v1/runs/{id}", "is not found any more", |w| Box::pin(delete(w))),
    ("post", "/v1/runs/{id}/report", "of an end", |w| Box::pin(single_report(w))),
    ("put", "/v1/queues/{name}", "", |w| Box::pin(put_queue(w))),
    ("post", "/v1/queues/{name}/pause", "", |w| Box::pin(pause(w))),
    ("post", "/v1/queues/{name}/resume", "", |w| Box::pin(resume(w))),
    ("post", "/v1/workers", "of the same process", |w| Box::pin(register(w))),
    ("post", "/v1/workers/{id}/claim", "of the same request", |w| Box::pin(claim(w))),
    ("post", "/v1/workers/{id}/report", "with every op", |w| Box::pin(report(w))),
    ("post", "/v1/workers/{id}/report", "whose answer had orders", |w| Box::pin(orders(w))),
    ("post", "/v1/workers/{id}/drain", "", |w| Box::pin(drain(w))),
    ("post", "/v1/workers/{id}/undrain", "", |w| Box::pin(undrain(w))),
    ("post", "/v1/workers/{id}/leave", "", |w| Box::pin(leave(w))),
    ("post", "/v1/workers/{id}/evict", "", |w| Box::pin(evict(w))),
];

fn call(method: &str, path: &str) {
    for (m, p, what, test) in CALLS.iter().filter(|(m, p, ..)| (*m, *p) == (method, path)) {
        println!("{m} {p} {what}");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = Arc::new(world().await);
            test(Arc::clone(&world)).await;
            Arc::into_inner(world).expect("nothing else uses it").server.stop().await;
        });
    }
}

macro_rules! repeated {
    ($($name:ident: $method:literal $path:literal;)*) => {
        $(#[test] fn $name() { call($method, $path); })*

        #[test]
        fn every_call_that_changes_something_is_in_the_table_and_is_tested() {
            let tested = [$(($method, $path)),*];
            let document: serde_json::Value = serde_json::from_str(&outlive_server::openapi()).unwrap();
            for (path, calls) in document["paths"].as_object().unwrap() {
                for method in calls.as_object().unwrap().keys().filter(|m| *m != "get") {
                    assert!(tested.contains(&(method, path)), "{method} {path} has no test of a lost answer");
                    assert!(CALLS.iter().any(|(m, p, ..)| (m, p) == (&method.as_str(), &path.as_str())), "{method} {path}");
                }
            }
        }
    };
}

repeated! {
    a_creation_is_made_once: "post" "/v1/runs";
    a_batch_is_made_once: "post" "/v1/runs/batch";
    a_cancel_is_answered_again: "post" "/v1/runs/{id}/cancel";
    a_retry_is_made_once: "post" "/v1/runs/{id}/retry";
    a_release_ends_one_wait: "post" "/v1/runs/{id}/release";
    a_signal_is_answered_again: "post" "/v1/runs/{id}/signal";
    a_deletion_leaves_nothing: "delete" "/v1/runs/{id}";
    a_single_report_is_stored_once: "post" "/v1/runs/{id}/report";
    a_policy_is_the_same: "put" "/v1/queues/{name}";
    a_pause_is_answered_again: "post" "/v1/queues/{name}/pause";
    a_resumption_is_answered_again: "post" "/v1/queues/{name}/resume";
    a_registration_is_one_incarnation: "post" "/v1/workers";
    a_claim_gives_the_same_leases: "post" "/v1/workers/{id}/claim";
    a_report_is_stored_once_and_its_orders_come_again: "post" "/v1/workers/{id}/report";
    a_drain_is_answered_again: "post" "/v1/workers/{id}/drain";
    an_undrain_is_answered_again: "post" "/v1/workers/{id}/undrain";
    a_goodbye_is_answered_again: "post" "/v1/workers/{id}/leave";
    an_eviction_is_answered_again: "post" "/v1/workers/{id}/evict";
}

/// Loses the answer, repeats the call; both answers.
async fn twice(world: &World, request: &Request) -> (Answer, Answer) {
    let first = lose(request, world.server.address()).await;
    let again = request.send(world.server.address()).await;
    (first, again)
}

/// The answers are the same, but for what goes on by itself; both were successes.
fn same(first: &Answer, again: &Answer, but: &[&str]) {
    assert!((200..300).contains(&first.status) && (200..300).contains(&again.status), "{first:?} {again:?}");
    let strip = |answer: &Answer| {
        let mut body = answer.body.clone();
        if let Some(fields) = body.as_object_mut() {
            fields.retain(|name, _| !but.contains(&name.as_str()));
        }
        body
    };
    assert_eq!(strip(first), strip(again));
}

async fn runs(world: &World) -> usize {
    world.client.runs(&RunFilter::default()).await.unwrap().runs.len()
}

async fn events(world: &World, id: RunId) -> Vec<String> {
    world.client.run_events(id).await.unwrap().events.into_iter().map(|e| e.r#type).collect()
}

fn an_id() -> RunId {
    let random = uuid::Uuid::new_v4().as_u128();
    RunId::from_parts(outlive_core::Wall(1_700_000_000_000), random)
}

async fn create_with_id(w: Arc<World>) {
    let request = Request::new("POST", "/v1/runs").json(&NewRun { id: Some(an_id()), ..noop() });
    let (first, again) = twice(&w, &request).await;
    assert_eq!((first.status, again.status), (201, 200));
    same(&first, &again, &[]);
    assert_eq!(runs(&w).await, 1);
}

async fn create_with_idempotency_key(w: Arc<World>) {
    let request = Request::new("POST", "/v1/runs").header("idempotency-key", "once").json(&noop());
    let (first, again) = twice(&w, &request).await;
    assert_eq!((first.status, again.status), (201, 200));
    same(&first, &again, &[]);
    assert_eq!(runs(&w).await, 1);
}

async fn create_with_business_key(w: Arc<World>) {
    let keyed = |on_conflict| NewRun { key: Some("order-7".into()), on_conflict, ..noop() };
    let (first, again) = twice(&w, &Request::new("POST", "/v1/runs").json(&keyed(OnConflict::Return))).await;
    same(&first, &again, &[]);
    // By default the second is refused, and the answer names the run that the first made.
    let refused = Request::new("POST", "/v1/runs").json(&keyed(OnConflict::Reject)).send(w.server.address()).await;
    assert_eq!((refused.status, refused.code()), (409, "key_conflict"));
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains(first.body["id"].as_str().unwrap()), "{detail}");
    assert_eq!(runs(&w).await, 1);
}

async fn create_behind_a_gate(w: Arc<World>) {
    let policy = outlive_core::policy::QueuePolicy {
        admission: outlive_core::policy::Admission::Gate,
        ..outlive_core::policy::QueuePolicy::default()
    };
    w.client.put_queue("default", &policy).await.unwrap();
    let worker = poller(&w, "p-1").await;
    let request = Request::new("POST", "/v1/runs").header("idempotency-key", "once").json(&noop());
    let first = lose(&request, w.server.address()).await;
    assert_eq!(first.status, 201, "{first:?}");
    w.client.with_token(&worker.session_token).worker_action(worker.worker_id, "leave").await.unwrap();
    let other = Request::new("POST", "/v1/runs").header("idempotency-key", "two").json(&noop());
    assert_eq!(other.send(w.server.address()).await.code(), "not_admitted");
    let again = request.send(w.server.address()).await;
    same(&first, &again, &["warnings", "stuck"]);
    assert_eq!(runs(&w).await, 1);
}

async fn batch(w: Arc<World>) {
    let body = NewRuns { runs: vec![noop(), noop(), noop()] };
    let request = Request::new("POST", "/v1/runs/batch").header("idempotency-key", "once").json(&body);
    let (first, again) = twice(&w, &request).await;
    same(&first, &again, &[]);
    assert_eq!(runs(&w).await, 3);
}

async fn cancel_queued(w: Arc<World>) {
    let id = w.client.create_run(&noop(), None).await.unwrap().id;
    let body = CancelBody { reason: Some("no".into()) };
    let (first, again) = twice(&w, &Request::new("POST", format!("/v1/runs/{id}/cancel")).json(&body)).await;
    same(&first, &again, &[]);
    assert_eq!(events(&w, id).await.iter().filter(|e| *e == "run.finished" || *e == "finished").count(), 1);
}

async fn cancel_leased(w: Arc<World>) {
    let (worker, lease) = leased(&w, "p-1").await;
    let request = Request::new("POST", format!("/v1/runs/{}/cancel", lease.run_id)).json(&CancelBody::default());
    let (first, again) = twice(&w, &request).await;
    assert_eq!(first.body["state"], "cancelling");
    same(&first, &again, &["lease", "progress"]);
    say(&w, &worker, vec![WireItem::bare(OpName::Cancelled, Some(lease.lease()))]).await;
    let late = request.send(w.server.address()).await;
    assert_eq!((late.status, late.body["state"].as_str()), (200, Some("cancelled")), "a repetition that comes late");
}

async fn retry(w: Arc<World>) {
    let id = w.client.create_run(&noop(), None).await.unwrap().id;
    w.client.cancel_run(id, &CancelBody::default()).await.unwrap();
    let request = Request::new("POST", format!("/v1/runs/{id}/retry"));
    let request = request.header("idempotency-key", "once").json(&RetryBody::default());
    let (first, again) = twice(&w, &request).await;
    assert_eq!((first.status, again.status), (201, 200));
    same(&first, &again, &[]);
    assert_eq!(runs(&w).await, 2);
    // The key belongs to that run's retry.
    let other = w.client.create_run(&noop(), None).await.unwrap().id;
    w.client.cancel_run(other, &CancelBody::default()).await.unwrap();
    let mixed = Request { path: format!("/v1/runs/{other}/retry"), ..request };
    assert_eq!(mixed.send(w.server.address()).await.code(), "idempotency_mismatch");
}

async fn release(w: Arc<World>) {
    let held = NewRun { hold: true, ..noop() };
    let id = w.client.create_run(&held, None).await.unwrap().id;
    let body = ReleaseBody { data: Some(outlive_core::Json::of(&"yes").unwrap()) };
    let request = Request::new("POST", format!("/v1/runs/{id}/release"));
    let (first, again) = twice(&w, &request.clone().header("idempotency-key", "once").json(&body)).await;
    same(&first, &again, &[]);
    assert_eq!(again.body["state"], "queued");
    // Without a key, the refusal says what has become of it.
    let refused = request.json(&body).send(w.server.address()).await;
    assert_eq!((refused.status, refused.code()), (409, "wrong_state"));
    assert!(refused.body["detail"].as_str().unwrap().contains("is queued"), "{refused:?}");
    assert_eq!(events(&w, id).await.iter().filter(|e| e.ends_with("released")).count(), 1);
}

async fn signal(w: Arc<World>) {
    let (worker, lease) = leased(&w, "p-1").await;
    say(&w, &worker, vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
    let body = SignalBody { name: "steer".into(), data: None };
    let (first, again) =
        twice(&w, &Request::new("POST", format!("/v1/runs/{}/signal", lease.run_id)).json(&body)).await;
    same(&first, &again, &["lease"]);
    let told = say(&w, &worker, Vec::new()).await.orders;
    assert_eq!(told.iter().filter(|o| matches!(o, WireOrder::Signal { .. })).count(), 2);
    assert_eq!(w.client.run(lease.run_id).await.unwrap().state, State::Running);
}

async fn delete(w: Arc<World>) {
    let id = w.client.create_run(&noop(), None).await.unwrap().id;
    w.client.cancel_run(id, &CancelBody::default()).await.unwrap();
    let (first, again) = twice(&w, &Request::new("DELETE", format!("/v1/runs/{id}"))).await;
    assert_eq!((first.status, again.status, again.code()), (204, 404, "run_not_found"), "gone is gone");
    assert_eq!(runs(&w).await, 0);
}

async fn poller(w: &World, name: &str) -> Registered {
    w.client.register(&registration(name, WireLiveness::Poll)).await.unwrap()
}

/// A polling worker with the lease of a run.
async fn leased(w: &World, name: &str) -> (Registered, Lease) {
    let worker = poller(w, name).await;
    w.client.create_run(&noop(), None).await.unwrap();
    let body = ClaimBody { request_id: uuid::Uuid::new_v4(), max: 1, wait: Some(Millis::secs(20)) };
    let mut leases = w.client.with_token(&worker.session_token).claim(worker.worker_id, &body).await.unwrap().leases;
    (worker, leases.remove(0))
}

async fn say(w: &World, worker: &Registered, items: Vec<WireItem>) -> outlive_api::workers::ReportAnswer {
    let report = ReportBody { items, ..ReportBody::default() };
    w.client.with_token(&worker.session_token).report(worker.worker_id, &report).await.unwrap()
}

fn as_worker(worker: &Registered, path: impl Into<String>) -> Request {
    Request::new("POST", path).header("authorization", format!("Bearer {}", worker.session_token))
}

fn output(lease: LeaseRef, seq: i64, text: &str) -> WireItem {
    let bare = WireItem::bare(OpName::Output, Some(lease));
    WireItem { seq: Some(seq), channel: Some("stdout".into()), text: Some(text.into()), ..bare }
}

async fn single_report(w: Arc<World>) {
    let (worker, lease) = leased(&w, "p-1").await;
    let item = WireItem::bare(OpName::Complete, Some(lease.lease()));
    let (first, again) = twice(&w, &as_worker(&worker, format!("/v1/runs/{}/report", lease.run_id)).json(&item)).await;
    same(&first, &again, &[]);
    assert_eq!(w.client.attempts(lease.run_id).await.unwrap().attempts.len(), 1);
    assert_eq!(w.client.run(lease.run_id).await.unwrap().state, State::Succeeded);
}

async fn report(w: Arc<World>) {
    let (worker, lease) = leased(&w, "p-1").await;
    let name = lease.lease();
    let bare = |op| WireItem::bare(op, Some(name));
    let items = vec![
        bare(OpName::Start),
        output(name, 1, "one\n"),
        output(name, 2, "two\n"),
        WireItem { fraction: Some(0.5), ..bare(OpName::Progress) },
        WireItem { data: Some(outlive_core::Json::of(&7).unwrap()), ..bare(OpName::Checkpoint) },
        WireItem { last_output_seq: Some(2), ..bare(OpName::Complete) },
    ];
    let body = ReportBody { items, ..ReportBody::default() };
    let request = as_worker(&worker, format!("/v1/workers/{}/report", worker.worker_id)).json(&body);
    let first = lose(&request, w.server.address()).await;
    let told = (events(&w, name.run_id).await, w.client.run(name.run_id).await.unwrap().finished_at);
    let again = request.send(w.server.address()).await;
    let ends = |answer: &Answer| answer.body["results"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(ends(&first)["status"], "ok");
    assert_eq!(ends(&again), ends(&first), "{again:?}");
    assert_eq!(w.client.output_text(name.run_id, true).await.unwrap(), b"one\ntwo\n", "no output twice");
    assert_eq!((events(&w, name.run_id).await, w.client.run(name.run_id).await.unwrap().finished_at), told);
    for op in [OpName::Fail, OpName::Release, OpName::Lost] {
        let lease = next_lease(&w, &worker).await;
        let body = ReportBody { items: vec![ending(op, lease)], ..ReportBody::default() };
        let request = as_worker(&worker, format!("/v1/workers/{}/report", worker.worker_id)).json(&body);
        let first = lose(&request, w.server.address()).await;
        let run = w.client.run(lease.run_id).await.unwrap();
        let again = request.send(w.server.address()).await;
        assert_eq!(first.body["results"][0]["status"], "ok", "{first:?}");
        assert_eq!(again.body["results"], first.body["results"], "{op:?}");
        let after = w.client.run(lease.run_id).await.unwrap();
        let budgets = |r: &outlive_api::runs::Run| (r.state, r.epoch, r.failures, r.losses);
        assert_eq!(budgets(&after), budgets(&run), "{op:?}: nothing is counted twice");
        w.client.cancel_run(lease.run_id, &CancelBody::default()).await.unwrap();
    }
}

/// An end without a success, after which the run waits for a long time.
fn ending(op: OpName, lease: LeaseRef) -> WireItem {
    let bare = WireItem::bare(op, Some(lease));
    match op {
        OpName::Fail => WireItem { retry_after: Some(Millis::hours(1)), ..bare },
        OpName::Release => WireItem { delay: Some(Millis::hours(1)), ..bare },
        _ => WireItem { reason: Some(outlive_core::Reason::ProcessKilled), ..bare },
    }
}

async fn next_lease(w: &World, worker: &Registered) -> LeaseRef {
    let run = NewRun { max_losses: Some(1), ..noop() };
    w.client.create_run(&run, None).await.unwrap();
    let body = ClaimBody { request_id: uuid::Uuid::new_v4(), max: 1, wait: Some(Millis::secs(20)) };
    let leases = w.client.with_token(&worker.session_token).claim(worker.worker_id, &body).await.unwrap().leases;
    leases[0].lease()
}

async fn orders(w: Arc<World>) {
    let (worker, lease) = leased(&w, "p-1").await;
    w.client.cancel_run(lease.run_id, &CancelBody::default()).await.unwrap();
    w.client.worker_action(worker.worker_id, "drain").await.unwrap();
    let body = ReportBody { items: vec![output(lease.lease(), 1, "x")], ..ReportBody::default() };
    let request = as_worker(&worker, format!("/v1/workers/{}/report", worker.worker_id)).json(&body);
    let (first, again) = twice(&w, &request).await;
    assert_eq!(first.body["orders"].as_array().unwrap().len(), 2, "{first:?}");
    assert_eq!(again.body["orders"], first.body["orders"], "a cancel is told until it is acknowledged");
    say(&w, &worker, vec![WireItem::bare(OpName::Cancelled, Some(lease.lease()))]).await;
    until_run(&w, lease.run_id, |r| r.state == State::Cancelled).await;
    assert_eq!(say(&w, &worker, Vec::new()).await.orders, [WireOrder::Drain]);
}

async fn put_queue(w: Arc<World>) {
    let policy = serde_json::json!({"max_running": 3, "lease_ttl": "7s"});
    let (first, again) = twice(&w, &Request::new("PUT", "/v1/queues/q").json(&policy)).await;
    same(&first, &again, &[]);
    assert_eq!(w.client.queues().await.unwrap().queues.len(), 1);
}

async fn paused(w: &World, action: &str) {
    w.client.create_run(&noop(), None).await.unwrap();
    let (first, again) = twice(w, &Request::new("POST", format!("/v1/queues/default/{action}"))).await;
    same(&first, &again, &["counts"]);
    assert_eq!(again.body["paused"], action == "pause");
}

async fn pause(w: Arc<World>) {
    paused(&w, "pause").await;
}

async fn resume(w: Arc<World>) {
    paused(&w, "pause").await;
    paused(&w, "resume").await;
}

async fn register(w: Arc<World>) {
    let body: Register = registration("p-1", WireLiveness::Poll);
    let (first, again) = twice(&w, &Request::new("POST", "/v1/workers").json(&body)).await;
    assert_eq!((first.status, again.status), (201, 200), "a resume of what was registered");
    same(&first, &again, &[]);
    assert_eq!(again.body["incarnation"], 1);
    assert_eq!(w.client.workers().await.unwrap().workers.len(), 1);
}

async fn claim(w: Arc<World>) {
    let worker = poller(&w, "p-1").await;
    for _ in 0..3 {
        w.client.create_run(&noop(), None).await.unwrap();
    }
    let path = format!("/v1/workers/{}/claim", worker.worker_id);
    let ask = |max, wait| {
        let body = ClaimBody { request_id: uuid::Uuid::new_v4(), max, wait };
        as_worker(&worker, path.clone()).json(&body)
    };
    let request = ask(2, None);
    let (first, again) = twice(&w, &request).await;
    same(&first, &again, &[]);
    assert_eq!(first.body["leases"].as_array().unwrap().len(), 2);
    let rest = ask(2, None).send(w.server.address()).await;
    assert_eq!(rest.body["leases"].as_array().unwrap().len(), 1, "the repetition took nothing more: {rest:?}");
}

async fn worker_call(w: &World, worker: &Registered, action: &str) -> Answer {
    let request = as_worker(worker, format!("/v1/workers/{}/{action}", worker.worker_id));
    let (first, again) = twice(w, &request).await;
    same(&first, &again, &["last_heard_age_ms"]);
    again
}

async fn drain(w: Arc<World>) {
    let worker = poller(&w, "p-1").await;
    assert_eq!(worker_call(&w, &worker, "drain").await.body["status"], "draining");
}

async fn undrain(w: Arc<World>) {
    let worker = poller(&w, "p-1").await;
    w.client.worker_action(worker.worker_id, "drain").await.unwrap();
    assert_eq!(worker_call(&w, &worker, "undrain").await.body["status"], "online");
}

async fn leave(w: Arc<World>) {
    let (worker, lease) = leased(&w, "p-1").await;
    assert_eq!(worker_call(&w, &worker, "leave").await.body["status"], "left");
    let run = w.client.run(lease.run_id).await.unwrap();
    assert_eq!((run.state, run.losses), (State::Queued, 0), "handed back without cost, once");
}

async fn evict(w: Arc<World>) {
    let (worker, lease) = leased(&w, "p-1").await;
    let request = Request::new("POST", format!("/v1/workers/{}/evict", worker.worker_id));
    let (first, again) = twice(&w, &request).await;
    same(&first, &again, &["last_heard_age_ms", "held", "losses", "status"]);
    let run = until_run(&w, lease.run_id, |r| r.losses > 0).await;
    assert_eq!(run.losses, 1, "lost once");
}
