//! `lobu-connectors.toml`: lanes that beat each 30 s and are stale after 120 s, one retry for syncs alone, lanes that never beat.

use super::support::{House, SOON, Worker, hours};
use outlive_core::Millis;
use serde_json::json;

const POLICY: &str = include_str!("../../../../examples/policies/lobu-connectors.toml");
const INTERVAL: Millis = Millis::secs(30);
const SYNCS: &str = "connector-syncs";
const DRY_RUNS: &str = "connector-dry-runs";

async fn lane(house: &House, name: &str) -> Worker {
    house.worker(name, &[SYNCS, DRY_RUNS], "poll", Some(INTERVAL)).await
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_beats_each_30_s_keeps_its_run_however_long_it_takes() {
    let house = House::with(POLICY).await;
    let (lane, run) = (lane(&house, "lane").await, house.create(SYNCS).await);
    let held = lane.claims_one(&house).await;
    assert_eq!(lane.says(&house, &held, "start", json!({})).await, "ok");
    lane.beats_for(&house, hours(1), INTERVAL, &[&held]).await;
    assert_eq!(house.state(&run).await, "running");
    assert_eq!(lane.says(&house, &held, "complete", json!({"result": 7})).await, "ok");
    assert_eq!(house.state(&run).await, "succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_dies_after_its_claim_is_lost_120_s_after_it_and_its_sync_is_tried_once_more_at_once() {
    let house = House::with(POLICY).await;
    let run = house.create(SYNCS).await;
    for (n, then) in [(1, "queued worker_heartbeat_lost"), (2, "lost worker_heartbeat_lost")] {
        let lane = lane(&house, &format!("lane-{n}")).await;
        assert_eq!(lane.claims_one(&house).await.run, run);
        house.pass(Millis::secs(119)).await;
        assert_eq!(house.state(&run).await, "claimed");
        house.pass(SOON).await;
        assert_eq!(house.state(&run).await, then);
    }
    assert_eq!(house.ends(&run).await, ["worker_heartbeat_lost", "worker_heartbeat_lost"]);
    // The loss and what follows from it are one transaction: they have one time.
    let events = house.get(&format!("/v1/runs/{run}/events")).await;
    let at = |kind: &str| {
        let all = events["events"].as_array().unwrap().iter();
        all.filter(|e| e["type"] == kind).map(|e| e["at"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(at("attempt.lost")[0], at("run.queued")[0]);
    assert_eq!(at("attempt.lost")[1], at("run.finished")[0]);
    let recoveries = house.get("/v1/recoveries").await;
    let first = &recoveries["recoveries"].as_array().unwrap()[1];
    assert_eq!((&first["requeue_ms"], &first["evidence"]), (&json!(0), &json!("silence")));
    let ended = house.run(&run).await;
    assert_eq!((&ended["losses"], &ended["failures"]), (&json!(2), &json!(0)));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_is_not_tried_again() {
    let house = House::with(POLICY).await;
    let (lane, run) = (lane(&house, "lane").await, house.create(DRY_RUNS).await);
    let held = lane.claims_one(&house).await;
    house.pass(Millis::secs(123)).await;
    assert_eq!(house.state(&run).await, "lost worker_heartbeat_lost");
    assert_eq!(lane.says(&house, &held, "complete", json!({})).await, "terminal");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_nobody_takes_expires_with_the_reason_and_is_not_tried_again() {
    let house = House::with(POLICY).await;
    let (sync, dry) = (house.create(SYNCS).await, house.create(DRY_RUNS).await);
    house.pass(Millis::mins(30) - SOON).await;
    assert_eq!(house.state(&sync).await, "queued");
    house.pass(SOON + SOON).await;
    for run in [sync, dry] {
        assert_eq!(house.state(&run).await, "expired queue_ttl_expired");
        let ended = house.run(&run).await;
        assert_eq!(ended["outcome"], "dispatch");
        assert_eq!(ended["reason_detail"]["because"][0]["code"], "no_worker_for_queue");
        assert!(ended["reason_text"].as_str().unwrap().contains("no worker is online"), "{ended}");
        assert_eq!((&ended["losses"], &ended["failures"]), (&json!(0), &json!(0)));
        assert!(house.ends(&run).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_never_beats_is_not_taken_at_120_s_and_succeeds() {
    let house = House::with(POLICY).await;
    let lane = house.worker("old", &[SYNCS], "none", None).await;
    let run = house.create(SYNCS).await;
    let held = lane.claims_one(&house).await;
    for minutes in [3, 30, 60] {
        house.pass(Millis::mins(minutes)).await;
        assert_eq!(house.state(&run).await, "claimed", "after {minutes} min more without a word");
    }
    assert_eq!(lane.says(&house, &held, "complete", json!({})).await, "ok");
    assert_eq!(house.state(&run).await, "succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_dead_lane_that_never_beat_gives_its_run_back_two_hours_after_its_last_word() {
    let house = House::with(POLICY).await;
    let lane = house.worker("old", &[SYNCS], "none", None).await;
    let run = house.create(SYNCS).await;
    let held = lane.claims_one(&house).await;
    house.pass(hours(1)).await;
    assert_eq!(lane.says(&house, &held, "progress", json!({"note": "half"})).await, "ok");
    house.pass(hours(2) - SOON).await;
    assert_eq!(house.state(&run).await, "running");
    house.pass(SOON + SOON).await;
    assert_eq!(house.state(&run).await, "queued claim_ttl_exceeded");
}
