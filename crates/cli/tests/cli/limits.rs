//! Every limit of a run with real processes: what it does, whose budget it uses, and how the run ends (design, section 3).

use crate::support::House;
use outlive_api::client::Client;
use outlive_api::workers::{ClaimBody, PollBeat, Register, ReportBody, WireLiveness};
use serde_json::{Value, json};

/// Says what it hears of TERM and does not obey.
const STUBBORN: &str = "trap 'echo asked to stop' TERM; echo ready; while :; do sleep 0.1; done";

impl House {
    fn policy(&self, values: &[&str]) {
        let set = self.call(&[&["queues", "set", "default"], values].concat());
        assert_eq!(set.code, 0, "{set:?}");
    }

    fn start_with(&self, flags: &[&str], script: &str) -> String {
        let answer = self.call(&[&["run", "--detach"], flags, &["--", "sh", "-c", script]].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out.trim().to_owned()
    }

    fn ends(&self, run: &str) -> Value {
        self.until("it has ended", |h| !h.show(run)["finished_at"].is_null());
        self.show(run)
    }
}

/// State, reason, failures, losses.
fn brief(run: &Value) -> Value {
    json!([run["state"], run["reason"], run["failures"], run["losses"]])
}

#[test]
fn run_timeout_is_kept_by_the_agent_with_term_then_kill_and_is_final() {
    let house = House::open(1);
    house.policy(&["cancel_grace=3s"]);
    let answer = house.call(&["run", "--timeout", "3s", "--", "sh", "-c", STUBBORN]);
    assert_eq!(answer.code, 12, "{answer:?}");
    assert_eq!(answer.out, "ready\nasked to stop\n", "TERM, and the grace to answer it");
    let run = house.json(&["runs", "list"])[0]["id"].as_str().unwrap().to_owned();
    let run = house.show(&run);
    // No budget: two of three attempts are left, and none of them is used.
    assert_eq!((&run["state"], &run["reason"]), (&json!("timed_out"), &json!("run_timeout")), "{run}");
    assert_eq!((&run["epoch"], &run["losses"]), (&json!(1), &json!(0)));
    assert_eq!(
        (&run["exit"]["timed_out"], &run["exit"]["signal"]),
        (&json!(true), &json!("SIGKILL")),
        "KILL after the grace"
    );
}

#[test]
fn work_without_progress_is_shown_as_stalled_at_half_of_its_limit_then_stopped_at_the_cost_of_an_attempt() {
    let house = House::open(1);
    house.policy(&["cancel_grace=1s", "max_attempts=1"]);
    let run = house.start_with(&["--progress-timeout", "8s"], "echo one; exec sleep 600");
    house.until("it is shown as stalled", |h| h.show(&run)["stuck"]["kind"] == "stalled");
    assert_eq!(house.show(&run)["state"], "running", "shown before it is stopped");
    let ended = house.ends(&run);
    assert_eq!(brief(&ended), json!(["timed_out", "progress_timeout", 1, 0]), "{ended}");
    // With an attempt left, it is tried again.
    house.policy(&["max_attempts=2", "backoff.initial=100ms"]);
    let again = "test -f tried || { touch tried; exec sleep 600; }; echo moved";
    let run = house.start_with(&["--progress-timeout", "3s"], again);
    let ended = house.ends(&run);
    assert_eq!(brief(&ended), json!(["succeeded", null, 1, 0]), "{ended}");
}

#[test]
fn what_waits_too_long_expires_with_the_reason_why_nobody_took_it() {
    let house = House::open(0);
    house.policy(&["hold_ttl=2s"]);
    let queued = house.start_with(&["--queue-ttl", "1s"], "true");
    let held = house.start_with(&["--hold"], "true");
    let ended = house.ends(&queued);
    assert_eq!(brief(&ended), json!(["expired", "queue_ttl_expired", 0, 0]), "{ended}");
    assert_eq!(ended["outcome"], "dispatch");
    assert_eq!(ended["reason_detail"]["because"][0]["code"], "no_worker_for_queue", "{ended}");
    assert_eq!(brief(&house.ends(&held)), json!(["expired", "hold_expired", 0, 0]));
}

/// A worker that claims over plain HTTP and says nothing more about what it got.
struct Mute {
    runtime: tokio::runtime::Runtime,
    client: Client,
    registered: outlive_api::workers::Registered,
}

impl Mute {
    fn hired(house: &House, liveness: WireLiveness) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = Client::new(&house.url, outlive_api::DEFAULT_NAMESPACE).unwrap();
        let register: Register = serde_json::from_value(json!({
            "protocol": outlive_api::PROTOCOL, "name": "mute", "instance": uuid::Uuid::new_v4(), "outbox_key": "k",
            "queues": ["default"], "kinds": ["exec"], "slots": 1, "liveness": liveness,
        }))
        .unwrap();
        let registered = runtime.block_on(client.register(&register)).unwrap();
        let client = client.with_token(&registered.session_token);
        Self { runtime, client, registered }
    }

    fn claims(&self, run: &str) {
        let claim = ClaimBody { request_id: uuid::Uuid::new_v4(), max: 1, wait: None };
        let leases = self.runtime.block_on(self.client.claim(self.registered.worker_id, &claim)).unwrap().leases;
        assert_eq!(leases.iter().map(|l| l.run_id.to_string()).collect::<Vec<_>>(), [run]);
    }

    /// It is there, and that is all it says.
    fn beats(&self) {
        let body = ReportBody { beat: Some(PollBeat::default()), ..ReportBody::default() };
        self.runtime.block_on(self.client.report(self.registered.worker_id, &body)).unwrap();
    }
}

#[test]
fn a_claim_that_nothing_follows_goes_back_to_the_queue_as_a_loss_and_runs_elsewhere() {
    for (policy, liveness, reason) in [
        ("start_timeout=2s", WireLiveness::Poll, "start_timeout"),
        ("claim_ttl=2s", WireLiveness::None, "claim_ttl_exceeded"),
    ] {
        let mut house = House::open(0);
        house.policy(&[policy]);
        let run = house.start_with(&[], "echo done");
        let mute = Mute::hired(&house, liveness);
        mute.claims(&run);
        assert_eq!(house.show(&run)["state"], "claimed", "{reason}");
        house.until("it is taken back", |h| {
            if liveness == WireLiveness::Poll {
                mute.beats();
            }
            h.show(&run)["state"] == "queued"
        });
        assert_eq!(brief(&house.show(&run)), json!(["queued", reason, 0, 1]));
        house.hire("w-1");
        let ended = house.ends(&run);
        assert_eq!((&ended["state"], &ended["epoch"]), (&json!("succeeded"), &json!(2)), "{ended}");
    }
}

#[test]
fn a_run_that_takes_its_workers_down_again_and_again_is_held_until_somebody_releases_it() {
    let house = House::open(1);
    house.policy(&["max_losses=2"]);
    // Killed from outside, as far as its agent can tell: evidence 1, and a loss.
    let run = house.start_with(&[], "test -f mended && echo whole || kill -9 $$");
    house.until("it is in quarantine", |h| h.show(&run)["state"] == "held");
    let held = house.show(&run);
    assert_eq!(brief(&held), json!(["held", "crash_loop", 0, 2]), "{held}");
    assert_eq!(held["stuck"]["kind"], "crash_loop");
    let stuck = house.json(&["stuck"]);
    assert!(stuck.to_string().contains(&run), "{stuck}");
    let attempts = house.json(&["runs", "attempts", &run]);
    let reasons: Vec<_> = attempts.as_array().unwrap().iter().map(|a| a["reason"].clone()).collect();
    assert_eq!(reasons, ["process_killed", "process_killed"]);
    std::fs::write(house.folder.path().join("mended"), "").unwrap();
    assert_eq!(house.call(&["runs", "release", &run]).code, 0);
    let ended = house.ends(&run);
    assert_eq!((&ended["state"], &ended["epoch"]), (&json!("succeeded"), &json!(3)), "{ended}");
}
