//! Settings over the interface: where each comes from, which are refused and with what, and that a queue's choices reach its
//! workers.

use crate::raw::Request;
use crate::support::{Worker, noop, until_run, world, world_at};
use outlive_api::client::Client;
use outlive_api::ops::Setting;
use outlive_api::report::{OpName, WireItem};
use outlive_api::runs::NewRun;
use outlive_core::given::GivenPolicy;
use outlive_core::policy::{OnIsolation, Takeover};
use outlive_core::{Millis, State};
use outlive_server::StoreLocation;

fn given(text: &str) -> GivenPolicy {
    serde_json::from_str(text).unwrap()
}

fn find<'a>(settings: &'a [Setting], name: &str) -> Option<(&'a str, &'a str)> {
    settings.iter().find(|s| s.name == name).map(|s| (s.value.as_str(), s.origin.as_str()))
}

#[tokio::test]
async fn the_server_shows_every_setting_with_its_origin_and_nothing_of_another_tenants_queues() {
    let world = world().await;
    world.client.put_queue("nightly", given(r#"{"lease_ttl":"3s","backoff":{"max":"1m"}}"#)).await.unwrap();
    let shown = world.client.server().await.unwrap().settings;
    for (name, value, origin) in [
        ("queue.lease_ttl", "10s", "default"),
        ("queue.hold_ttl", "7d", "default"),
        ("queue[nightly].lease_ttl", "3s", "queue policy"),
        ("queue[nightly].backoff.max", "1m", "queue policy"),
    ] {
        assert_eq!(find(&shown, name), Some((value, origin)), "{name}");
    }
    assert_eq!(find(&shown, "queue[nightly].hold_ttl"), None, "it was not set");
    for (name, value) in [("heartbeat", "2s"), ("trust", "8s"), ("judge.tick", "50ms"), ("limit.body", "4194304 bytes")]
    {
        let (found, origin) = find(&shown, name).expect(name);
        assert_eq!(found, value, "{name}");
        assert!(origin.starts_with("derived: ") || origin.starts_with("fixed: "), "{origin}");
    }
    let other = Client::new(&world.server.address().to_string(), "other").unwrap();
    assert_eq!(find(&other.server().await.unwrap().settings, "queue[nightly].lease_ttl"), None);
}

#[tokio::test]
async fn what_could_never_act_is_refused_with_the_inequality_and_changes_nothing() {
    let world = world().await;
    let before = world.client.put_queue("q", given(r#"{"run_timeout":"10m"}"#)).await.unwrap();
    for (body, says) in [
        (r#"{"progress_timeout":"11m","run_timeout":"10m"}"#, "progress_timeout <= run_timeout must hold; 11m > 10m"),
        (r#"{"start_timeout":"900ms"}"#, "start_timeout >= reconnect_window (1s) must hold; it is 900ms"),
        (r#"{"claim_ttl":"2h","run_timeout":"10m"}"#, "claim_ttl <= run_timeout + max(5 %, lease_ttl) (630s)"),
        (r#"{"on_loss":"fail","on_crash_loop":"lost"}"#, "on_loss = retry must hold for on_crash_loop to act"),
        (r#"{"queue_ttl":"0s"}"#, "queue_ttl > 0 must hold; it is 0s; none turns it off"),
        (r#"{"retention":{"runs":"1d","output":"2d"}}"#, "retention.output <= retention.runs must hold; 2d > 1d"),
    ] {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let refused = Request::new("PUT", "/v1/queues/q").json(&body).send(world.server.address()).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_request"), "{body}");
        assert!(refused.body.to_string().contains(says), "{body}: {}", refused.body);
    }
    assert_eq!(world.client.queue("q").await.unwrap().policy, before.policy);
    let run = |body: &str| serde_json::from_str::<NewRun>(&format!(r#"{{"kind":"noop","queue":"q",{body}}}"#)).unwrap();
    for (body, says) in [
        (r#""progress_timeout":"2m","run_timeout":"1m""#, "progress_timeout <= run_timeout must hold; 2m > 1m"),
        (r#""progress_timeout":"1h""#, "progress_timeout <= run_timeout must hold; 1h > 10m"),
        (r#""run_timeout":"0s""#, "run_timeout > 0 must hold"),
        (r#""queue_ttl":"400d""#, "queue_ttl <= 366d must hold; it is 400d"),
        (r#""backoff":{"factor":0.1}"#, "factor >= 1 must hold; it is 0.1"),
    ] {
        let refused = world.client.create_run(&run(body), None).await.unwrap_err();
        assert_eq!(refused.code(), Some("invalid_request"), "{body}");
        assert!(refused.to_string().contains(says), "{body}: {refused}");
    }
    let limited = run(r#""progress_timeout":"10m","run_timeout":"10m""#);
    assert_eq!(world.client.create_run(&limited, None).await.unwrap().state, State::Queued);
}

#[tokio::test]
async fn an_accepted_creation_is_answered_again_although_its_queues_policy_would_refuse_it_now() {
    let world = world().await;
    let run = NewRun { progress_timeout: Some(Millis::hours(1)), ..noop() };
    let first = world.client.create_run(&run, Some("once")).await.unwrap().id;
    world.client.put_queue("default", given(r#"{"run_timeout":"10m"}"#)).await.unwrap();
    assert_eq!(world.client.create_run(&run, Some("once")).await.unwrap().id, first);
    assert!(world.client.create_run(&run, Some("twice")).await.is_err());
}

#[tokio::test]
async fn a_queues_choice_of_isolation_and_takeover_reaches_its_workers_with_each_lease() {
    let folder = tempfile::tempdir().unwrap();
    let store = || StoreLocation::Sqlite(folder.path().join("outlive.db"));
    let world = world_at(store(), 0).await;
    let (freeze, stop) = (OnIsolation::Freeze, OnIsolation::Stop);
    for (said, isolation, takeover) in [
        ("{}", freeze, Takeover::Fast),
        (r#"{"on_isolation":"stop","takeover":"strict"}"#, stop, Takeover::Strict),
        (r#"{"on_isolation":"continue"}"#, OnIsolation::Continue, Takeover::Fast),
    ] {
        world.client.put_queue("default", given(said)).await.unwrap();
        world.client.create_run(&noop(), None).await.unwrap();
        let mut worker = Worker::connect(&world, said).await;
        worker.beat(1, &[]).await;
        let lease = worker.leases_in_time().await.remove(0);
        assert_eq!((lease.on_isolation, lease.takeover), (isolation, takeover), "{said}");
        worker.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await;
    }
    world.client.put_queue("default", given(r#"{"on_isolation":"stop","takeover":"strict"}"#)).await.unwrap();
    world.server.stop().await;
    let again = world_at(store(), 0).await;
    let kept = again.client.queue("default").await.unwrap();
    assert_eq!((kept.policy.on_isolation, kept.policy.takeover), (stop, Takeover::Strict), "over a restart");
    assert_eq!(kept.set, ["on_isolation", "takeover"]);
}

#[tokio::test]
async fn under_strict_takeover_a_worker_that_is_back_after_the_window_still_has_its_run() {
    let world = world().await;
    world.client.put_queue("default", given(r#"{"lease_ttl":"2m","takeover":"strict"}"#)).await.unwrap();
    let id = world.client.create_run(&noop(), None).await.unwrap().id;
    let mut worker = Worker::connect(&world, "w").await;
    worker.beat(1, &[]).await;
    let lease = worker.leases_in_time().await.remove(0);
    worker.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
    // The judge's own time tells when a fast queue would have taken it: its window and more have been observed.
    let observed = || async { world.client.server().await.unwrap().judge.observed_ms };
    let registered = worker.die();
    let over = observed().await + 3_000;
    while observed().await < over {
        tokio::task::yield_now().await;
    }
    let mut worker = Worker::resume(&world, registered).await;
    worker.beat(1, &[&lease]).await;
    worker.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await;
    let run = until_run(&world, id, |run| run.state.is_terminal()).await;
    assert_eq!((run.state, run.losses, run.epoch), (State::Succeeded, 0, lease.epoch));
}
