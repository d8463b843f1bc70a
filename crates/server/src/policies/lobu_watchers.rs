//! `lobu-watchers.toml`: three minutes of silence for runs that beat, two hours for those that never did, five minutes to start.

use super::support::{House, SOON, Worker, hours};
use outlive_core::Millis;
use serde_json::json;

const POLICY: &str = include_str!("../../../../examples/policies/lobu-watchers.toml");
const QUEUE: &str = "watchers";

async fn fleet(house: &House) -> Worker {
    house.worker("fleet", &[QUEUE], "none", Some(Millis::secs(60))).await
}

#[tokio::test(start_paused = true)]
async fn a_run_claimed_three_hours_ago_that_beat_30_s_ago_stays_running_beside_one_that_never_beat() {
    let house = House::with(POLICY).await;
    let fleet = fleet(&house).await;
    let (beating, silent) = (house.create(QUEUE).await, house.create(QUEUE).await);
    let held = fleet.claims(&house, 2).await;
    assert_eq!(held.iter().map(|h| h.run.clone()).collect::<Vec<_>>(), [beating.clone(), silent.clone()]);
    fleet.says(&house, &held[0], "start", json!({})).await;
    fleet.beats_for(&house, hours(2) - Millis::secs(30), Millis::secs(30), &[&held[0]]).await;
    assert_eq!(house.state(&silent).await, "claimed");
    fleet.beats_for(&house, hours(1) + Millis::secs(30), Millis::secs(30), &[&held[0]]).await;
    house.pass(Millis::secs(30)).await;
    assert_eq!(house.state(&beating).await, "running");
    assert_eq!(house.state(&silent).await, "queued claim_ttl_exceeded");
    assert_eq!(fleet.says(&house, &held[0], "complete", json!({})).await, "ok");
    assert_eq!(house.state(&beating).await, "succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_has_beaten_is_lost_after_three_minutes_of_silence() {
    let house = House::with(POLICY).await;
    let (fleet, run) = (fleet(&house).await, house.create(QUEUE).await);
    let held = fleet.claims_one(&house).await;
    fleet.beats_for(&house, Millis::mins(10), Millis::secs(60), &[&held]).await;
    house.pass(Millis::mins(3) - SOON).await;
    assert_eq!(house.state(&run).await, "claimed");
    house.pass(SOON + SOON).await;
    assert_eq!(house.state(&run).await, "queued worker_heartbeat_lost");
    // Late, and a zombie: it is told so, and writes nothing.
    assert_eq!(fleet.says(&house, &held, "progress", json!({"fraction": 1.0})).await, "fenced");
    let orders = fleet.beats(&house, &[&held]).await;
    assert_eq!(orders[0]["type"], "lost");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_not_started_within_five_minutes_goes_back_to_the_queue() {
    let house = House::with(POLICY).await;
    let worker = house.worker("w", &[QUEUE], "poll", Some(Millis::secs(60))).await;
    let run = house.create(QUEUE).await;
    let held = worker.claims_one(&house).await;
    worker.beats_for(&house, Millis::mins(4), Millis::secs(60), &[&held]).await;
    house.pass(Millis::secs(60) - SOON).await;
    assert_eq!(house.state(&run).await, "claimed");
    house.pass(SOON + SOON).await;
    assert_eq!(house.state(&run).await, "queued start_timeout");
    assert_eq!(house.run(&run).await["losses"], 1);
}
