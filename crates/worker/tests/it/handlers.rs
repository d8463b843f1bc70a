//! Handlers inside the agent.

use crate::fake_server::FakeServer;
use crate::support::{PATIENCE, lease};
use outlive_api::clock::{SystemClock, nanos};
use outlive_api::report::OpName;
use outlive_api::session::Lease;
use outlive_core::resources::Resources;
use outlive_core::{Json, Millis, Reason};
use outlive_worker::{AgentConfig, AgentExit, AgentStatus, Attempt, Handler, Shutdown};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Done at once.
struct Noop;

impl Handler for Noop {
    fn start(&self, _: Lease, attempt: Attempt) {
        attempt.complete(None);
    }
}

/// Says something, and does what its input names.
struct Actor;

impl Handler for Actor {
    fn start(&self, lease: Lease, attempt: Attempt) {
        attempt.progress(Some(0.5), None).unwrap();
        attempt.output("stdout", b"line").unwrap();
        match lease.input.text() {
            "\"fail\"" => attempt.fail("it did not work"),
            "\"vanish\"" => drop(attempt),
            "\"panic\"" => panic!("the handler's own fault"),
            "\"wait\"" => {
                std::thread::spawn(move || {
                    let mut stop = attempt.stop();
                    futures_util::FutureExt::now_or_never(stop.changed());
                    while stop.borrow_and_update().is_none() {
                        std::thread::yield_now();
                    }
                    drop(attempt);
                });
            }
            _ => attempt.complete(Some(Json::parse("{\"done\":true}".into()).unwrap())),
        }
    }
}

struct Running {
    agent: JoinHandle<Result<AgentExit, outlive_worker::AgentError>>,
    wanted: watch::Sender<Shutdown>,
    status: watch::Receiver<AgentStatus>,
    _folder: tempfile::TempDir,
}

fn start(server: &FakeServer, slots: u32) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let handlers: [(String, Arc<dyn Handler>); 2] =
        [("noop".into(), Arc::new(Noop)), ("actor".into(), Arc::new(Actor))];
    let config = AgentConfig {
        servers: vec![server.address.clone()],
        namespace: "default".into(),
        name: Some("bench".into()),
        queues: vec!["default".into()],
        labels: BTreeMap::new(),
        slots,
        allow_exec: false,
        limits: Resources::default(),
        state_dir: folder.path().join("state"),
        takeover: false,
        guard: vec![],
        handlers: handlers.into(),
        version: "test".into(),
    };
    let (wanted, shutdown) = watch::channel(Shutdown::No);
    let (sender, status) = watch::channel(AgentStatus::Starting);
    let agent = tokio::spawn(outlive_worker::run(config, Arc::new(SystemClock), shutdown, sender));
    Running { agent, wanted, status, _folder: folder }
}

impl Running {
    async fn leaves(self) {
        self.wanted.send_replace(Shutdown::Drain);
        let left = tokio::time::timeout(PATIENCE, self.agent).await.unwrap().unwrap();
        assert_eq!(left.unwrap(), AgentExit::Left);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn runs_that_do_nothing_cost_nearly_nothing() {
    const RUNS: u64 = 20_000;
    let server = FakeServer::start(Millis(2_000)).await;
    server.set(|seen| seen.stock = RUNS);
    let began = nanos();
    let running = start(&server, 1_000);
    server.until("all of them", |seen| (seen.ends == RUNS).then_some(())).await;
    let rate = RUNS * 1_000_000_000 / (nanos() - began);
    let (beats, items) = {
        let seen = server.seen();
        (seen.beats.len(), seen.items.len())
    };
    println!("{rate} runs/s with {beats} beats and {items} items");
    assert!(items < (3 * RUNS / 2).try_into().unwrap(), "most starts are implied by their ends");
    running.leaves().await;
}

#[tokio::test]
async fn a_handler_speaks_ends_and_fails() {
    let server = FakeServer::start(Millis(100)).await;
    let mut running = start(&server, 8);
    let connected = running.status.wait_for(|s| matches!(s, AgentStatus::Connected { name, .. } if name == "bench"));
    tokio::time::timeout(PATIENCE, connected).await.unwrap().unwrap();
    let push = |input: &str| server.push(Lease { kind: "actor".into(), ..lease(&serde_json::json!(input)) });
    let well = push("well");
    let end = server.item(well, |i| i.op == OpName::Complete).await;
    assert_eq!((end.result.unwrap().text(), end.last_output_seq), ("{\"done\":true}", Some(1)));
    for (input, part) in [("fail", "did not work"), ("vanish", "went away"), ("panic", "went away")] {
        let end = server.item(push(input), |i| i.op == OpName::Fail).await;
        assert_eq!(end.reason, Some(Reason::HandlerError));
        assert!(end.error.unwrap().message.contains(part), "{input}");
    }
    let waits = push("wait");
    server.item(waits, |i| i.op == OpName::Output).await;
    server.cancel(waits);
    server.item(waits, |i| i.op == OpName::Cancelled).await;
    running.leaves().await;
}
