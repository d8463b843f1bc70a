//! `attune.toml`: beats each 30 s, inactive after 90 s, never beaten is inactive, 300 s from scheduled to started.

use super::support::{House, SOON};
use axum::http::Method;
use outlive_core::Millis;
use serde_json::{Value, json};

const POLICY: &str = include_str!("../../../../examples/policies/attune.toml");
const QUEUE: &str = "actions";
const INTERVAL: Millis = Millis::secs(30);

#[tokio::test(start_paused = true)]
async fn a_worker_is_inactive_after_three_beats_and_comes_back_by_itself() {
    let house = House::with(POLICY).await;
    let worker = house.worker("w", &[QUEUE], "poll", Some(INTERVAL)).await;
    let run = house.create(QUEUE).await;
    let held = worker.claims_one(&house).await;
    worker.says(&house, &held, "start", json!({})).await;
    worker.beats_for(&house, Millis::mins(10), INTERVAL, &[&held]).await;
    assert_eq!(house.status("w").await.as_deref(), Some("online"));
    house.pass(Millis::secs(90) - SOON).await;
    assert_eq!((house.status("w").await.as_deref(), house.state(&run).await.as_str()), (Some("suspect"), "running"));
    house.pass(SOON + SOON).await;
    assert_eq!(house.status("w").await.as_deref(), Some("offline"));
    assert_eq!(house.state(&run).await, "queued worker_heartbeat_lost");
    // Nobody has to help it: it is heard again, so it is online again, and gets work.
    assert_eq!(worker.claims_one(&house).await.run, run);
    assert_eq!(house.status("w").await.as_deref(), Some("online"));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_has_never_beaten_is_inactive_and_gets_nothing() {
    let house = House::with(POLICY).await;
    house.worker("never", &[QUEUE], "session", None).await;
    let run = house.create(QUEUE).await;
    house.pass(Millis::mins(5)).await;
    assert_eq!(house.status("never").await.as_deref(), Some("offline"));
    assert_eq!(house.state(&run).await, "queued");
    let explained = house.get(&format!("/v1/runs/{run}/explain")).await;
    assert_eq!(explained["because"][0]["code"], "no_worker_for_queue");
}

#[tokio::test(start_paused = true)]
async fn what_is_scheduled_on_a_worker_and_not_started_for_300_s_is_taken_back() {
    let house = House::with(POLICY).await;
    let worker = house.worker("w", &[QUEUE], "poll", Some(INTERVAL)).await;
    let run = house.create(QUEUE).await;
    let held = worker.claims_one(&house).await;
    worker.beats_for(&house, Millis::secs(270), INTERVAL, &[&held]).await;
    house.pass(INTERVAL - SOON).await;
    assert_eq!(house.state(&run).await, "claimed");
    house.pass(SOON + SOON).await;
    assert_eq!(house.state(&run).await, "queued start_timeout");
    assert_eq!(house.status("w").await.as_deref(), Some("online"), "the worker itself is well");
}

#[tokio::test(start_paused = true)]
async fn one_setting_moves_everything_that_follows_from_it() {
    let house = House::with(POLICY).await;
    let told = async |name: &str| {
        let registration = json!({
            "protocol": 1, "name": name, "instance": uuid::Uuid::new_v4(), "outbox_key": name,
            "queues": [QUEUE], "kinds": ["work"], "slots": 1, "liveness": "session",
        });
        let answer = house.ok(Method::POST, "/v1/workers", None, registration).await;
        (answer["lease_ttl"].clone(), answer["heartbeat_interval"].clone())
    };
    assert_eq!(told("a").await, (json!("90s"), json!("18s")));
    house.ok(Method::PUT, "/v1/queues/actions", None, json!({"lease_ttl": "30s", "start_timeout": "300s"})).await;
    assert_eq!(told("b").await, (json!("30s"), json!("6s")));
    let worker = house.worker("w", &[QUEUE], "poll", Some(Millis::secs(10))).await;
    let run = house.create(QUEUE).await;
    worker.claims_one(&house).await;
    house.pass(Millis::secs(30) + SOON).await;
    assert_eq!(house.state(&run).await, "queued worker_heartbeat_lost");
    // Impossible values are refused, with what must hold.
    let impossible = json!({"lease_ttl": "500ms"});
    let (status, problem): (u16, Value) = house.call(Method::PUT, "/v1/queues/actions", None, impossible).await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("lease_ttl + offline_grace >= reconnect_window"), "{problem}");
}
