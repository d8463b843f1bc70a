//! `multica.toml`: absent and written off are two decisions; every limit has an end; queues expire in batches; registries forget.

use super::support::{House, SOON, Worker, hours};
use axum::http::Method;
use outlive_core::Millis;
use serde_json::{Value, json};

const POLICY: &str = include_str!("../../../../examples/policies/multica.toml");
const QUEUE: &str = "agent-tasks";
const INTERVAL: Millis = Millis::secs(15);

async fn laptop(house: &House) -> Worker {
    house.worker("laptop", &[QUEUE], "poll", Some(INTERVAL)).await
}

#[tokio::test(start_paused = true)]
async fn silence_makes_a_worker_absent_at_once_and_writes_its_work_off_only_three_hours_later() {
    let house = House::with(POLICY).await;
    let (laptop, run) = (laptop(&house).await, house.create(QUEUE).await);
    let held = laptop.claims_one(&house).await;
    laptop.says(&house, &held, "start", json!({})).await;
    laptop.beats_for(&house, Millis::mins(5), INTERVAL, &[&held]).await;
    house.pass(Millis::secs(150) + SOON).await;
    assert_eq!(house.status("laptop").await.as_deref(), Some("suspect"), "absent: it takes nothing new");
    assert_eq!(house.run(&run).await["stuck"]["kind"], "silent");
    house.pass(hours(2)).await;
    assert_eq!(house.state(&run).await, "running");
    // It was closed over lunch. It comes back, and its work goes on where it stood.
    laptop.beats(&house, &[&held]).await;
    assert_eq!(house.status("laptop").await.as_deref(), Some("online"));
    laptop.beats_for(&house, Millis::mins(2), INTERVAL, &[&held]).await;
    // Now for good.
    house.pass(hours(3) + Millis::secs(150) - SOON).await;
    assert_eq!(house.state(&run).await, "running");
    house.pass(SOON + SOON).await;
    assert_eq!(house.state(&run).await, "queued worker_heartbeat_lost");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_dispatched_and_not_started_for_300_s_goes_back() {
    let house = House::with(POLICY).await;
    let (laptop, run) = (laptop(&house).await, house.create(QUEUE).await);
    let held = laptop.claims_one(&house).await;
    laptop.beats_for(&house, Millis::secs(285), INTERVAL, &[&held]).await;
    assert_eq!(house.state(&run).await, "claimed");
    laptop.beats_for(&house, Millis::secs(30), INTERVAL, &[&held]).await;
    assert_eq!(house.state(&run).await, "queued start_timeout");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_runs_for_9000_s_ends_although_its_worker_goes_on_beating() {
    let house = House::with(POLICY).await;
    let (laptop, run) = (laptop(&house).await, house.create(QUEUE).await);
    let held = laptop.claims_one(&house).await;
    laptop.says(&house, &held, "start", json!({})).await;
    laptop.beats_for(&house, Millis::secs(9_000), INTERVAL, &[&held]).await;
    assert_eq!(house.state(&run).await, "running", "its worker is given 5 % to say so itself");
    assert_eq!(house.run(&run).await["stuck"]["kind"], "overdue");
    let orders = laptop.beats_for(&house, Millis::secs(480), INTERVAL, &[&held]).await;
    assert_eq!(house.state(&run).await, "timed_out run_timeout");
    assert_eq!((&orders[0]["type"], &orders[0]["reason"]), (&json!("lost"), &json!("run_timeout")));
}

#[tokio::test(start_paused = true)]
async fn a_terminal_report_whose_answer_was_lost_is_said_again_and_counts_once() {
    let house = House::with(POLICY).await;
    let (laptop, run) = (laptop(&house).await, house.create(QUEUE).await);
    let held = laptop.claims_one(&house).await;
    for _ in 0..3 {
        assert_eq!(laptop.says(&house, &held, "complete", json!({"result": {"pr": 7}})).await, "ok");
        house.pass(INTERVAL).await;
    }
    assert_eq!(house.state(&run).await, "succeeded");
    // And a worker that never says it: its task does not run for 13 h.
    let lost = house.create(QUEUE).await;
    let held = laptop.claims_one(&house).await;
    laptop.says(&house, &held, "start", json!({})).await;
    house.pass(hours(3) + Millis::secs(150) + SOON).await;
    assert_eq!(house.state(&lost).await, "queued worker_heartbeat_lost");
    // Its report comes after all, before anybody has begun again: the work is not done twice.
    assert_eq!(laptop.says(&house, &held, "complete", json!({"result": {"pr": 8}})).await, "ok");
    assert_eq!(house.state(&lost).await, "succeeded");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_nobody_takes_for_7200_s_end_in_batches_each_with_its_reason() {
    let house = House::with(POLICY).await;
    let batch = |n: usize, more: &Value| {
        let mut run = json!({"kind": "work", "queue": QUEUE});
        if let (Value::Object(run), Value::Object(more)) = (&mut run, more) {
            run.extend(more.clone());
        }
        json!({"runs": vec![run; n]})
    };
    for (n, more) in [(700, json!({})), (500, json!({"requires": {"os": "mac"}})), (1, json!({"pin": "nobody"}))] {
        house.ok(Method::POST, "/v1/runs/batch", None, batch(n, &more)).await;
    }
    house.worker("linux", &[QUEUE], "none", None).await;
    house.pass(Millis::secs(7_200) - SOON).await;
    let count = async |state: &str| {
        let queue = house.get("/v1/queues/agent-tasks").await;
        queue["counts"][state].as_i64().unwrap()
    };
    assert_eq!(count("queued").await, 1_201);
    house.pass(SOON + SOON).await;
    assert_eq!(count("queued").await, 0);
    let ended = house.get("/v1/runs?state=expired&reason=queue_ttl_expired&limit=1000").await;
    assert_eq!(ended["runs"].as_array().unwrap().len(), 1_000);
    let codes = async |query: &str| {
        let found = house.get(&format!("/v1/runs?state=expired&limit=1000{query}")).await;
        let all = found["runs"].as_array().unwrap().iter();
        let mut codes: Vec<_> = all.map(|run| run["reason_detail"]["because"][0]["code"].to_string()).collect();
        codes.dedup();
        codes
    };
    // Newest first: the pinned one, then those that need a Mac, then those that anybody could have taken who asked.
    assert_eq!(codes("").await, ["\"pin_unknown\"", "\"requirements_unmatched\"", "null"]);
    let server = house.get("/v1/server").await;
    let phase = server["phases"].as_array().unwrap().iter().find(|p| p["name"] == "expiry").unwrap().clone();
    assert_eq!((&phase["found"], &phase["acted"]), (&json!(1_201), &json!(1_201)));
}

/// What a subject shows: status, how many runs of it are active, how the last one ended.
async fn shows(house: &House, subject: &str) -> Value {
    let shown = house.get(&format!("/v1/subjects/{subject}")).await;
    json!([
        shown["status"],
        shown["active_count"],
        shown["last"]["state"],
        shown["last"]["outcome"],
        shown["last"]["reason"]
    ])
}

#[tokio::test(start_paused = true)]
async fn an_agent_and_its_issues_have_the_status_that_follows_from_their_tasks() {
    let house = House::with(POLICY).await;
    let laptop = laptop(&house).await;
    let of = |issue: &str| json!({"kind": "work", "queue": QUEUE, "subjects": ["agent:7", issue]});
    assert_eq!(shows(&house, "agent:7").await, json!(["idle", 0, null, null, null]));
    let (first, _) = (house.create_with(of("issue:1")).await, house.create_with(of("issue:2")).await);
    assert_eq!(shows(&house, "agent:7").await, json!(["queued", 2, null, null, null]));
    assert_eq!(shows(&house, "issue:1").await, json!(["queued", 1, null, null, null]));
    let held = laptop.claims_one(&house).await;
    assert_eq!(held.run, first);
    laptop.says(&house, &held, "start", json!({})).await;
    assert_eq!(shows(&house, "agent:7").await, json!(["working", 2, null, null, null]));
    assert_eq!(shows(&house, "issue:2").await, json!(["queued", 1, null, null, null]), "its task waits");

    // A lost attempt rolls its issue back to where it was, and is no end of it.
    house.pass(hours(3) + Millis::secs(150) + SOON).await;
    assert_eq!(shows(&house, "issue:1").await, json!(["queued", 1, null, null, null]));
    let laptop = house.worker("laptop", &[QUEUE], "poll", Some(INTERVAL)).await;
    // The other one has meanwhile waited longer than anybody may.
    assert_eq!(shows(&house, "issue:2").await, json!(["idle", 0, "expired", "dispatch", "queue_ttl_expired"]));
    let held = laptop.claims_one(&house).await;
    assert_eq!((held.run.as_str(), held.epoch), (first.as_str(), 2));
    laptop.says(&house, &held, "start", json!({})).await;
    laptop.says(&house, &held, "fail", json!({"reason": "handler_error", "permanent": true})).await;
    assert_eq!(house.state(&first).await, "failed handler_error");
    let failed = json!(["idle", 0, "failed", "user", "handler_error"]);
    assert_eq!((shows(&house, "issue:1").await, shows(&house, "agent:7").await), (failed.clone(), failed));

    // Each change was told where it happened: in the transaction of the event that made it.
    let told = house.told("run.*,attempt.*,subject.changed").await;
    let changes = |subject: &str| {
        let of_subject = told.iter().filter(|(_, e)| e["type"] == "subject.changed" && e["subject"] == subject);
        of_subject.cloned().collect::<Vec<_>>()
    };
    let brief =
        |e: &Value| json!([e["previous"], e["status"], e["active_count"], e["last"]["state"], e["last"]["reason"]]);
    let of_issue = changes("issue:1");
    let briefs: Vec<_> = of_issue.iter().map(|(_, e)| brief(e)).collect();
    assert_eq!(
        briefs,
        [
            json!(["idle", "queued", 1, null, null]),
            json!(["queued", "working", 1, null, null]),
            json!(["working", "queued", 1, null, null]),
            json!(["queued", "working", 1, null, null]),
            json!(["working", "idle", 0, "failed", "handler_error"]),
        ]
    );
    let causes = ["run.created", "run.claimed", "attempt.lost", "run.claimed", "run.finished"];
    for ((row, change), cause) in of_issue.iter().zip(causes) {
        let with_it = told.iter().any(|(r, e)| r == row && e["type"] == cause && e["run_id"] == change["run_id"]);
        assert!(with_it, "{cause} beside {change} in {row}: {told:#?}");
    }
    let counts: Vec<_> = changes("agent:7").iter().map(|(_, e)| json!([e["status"], e["active_count"]])).collect();
    assert_eq!(counts.last(), Some(&json!(["idle", 0])));
    assert!(counts.contains(&json!(["queued", 2])) && counts.contains(&json!(["working", 2])), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_nobody_has_heard_of_for_7_days_goes_and_its_history_stays() {
    let house = House::with(POLICY).await;
    let (laptop, run) = (laptop(&house).await, house.create(QUEUE).await);
    let held = laptop.claims_one(&house).await;
    laptop.says(&house, &held, "complete", json!({})).await;
    house.pass(hours(3) + Millis::mins(3)).await;
    assert_eq!(house.status("laptop").await.as_deref(), Some("offline"));
    house.sleeps(hours(6 * 24)).await;
    house.pass(Millis::mins(11)).await;
    assert_eq!(house.status("laptop").await.as_deref(), Some("offline"));
    house.sleeps(hours(24)).await;
    house.pass(Millis::mins(11)).await;
    assert_eq!(house.status("laptop").await, None);
    let attempts = house.get(&format!("/v1/runs/{run}/attempts")).await;
    assert_eq!(attempts["attempts"][0]["worker_name"], "laptop");
}
