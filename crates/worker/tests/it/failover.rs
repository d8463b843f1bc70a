//! Several replicas: where an agent goes when its home falls silent, is not sure, goes away, or is dead from the start.

use crate::agent::Agent;
use crate::fake_server::FakeServer;
use crate::support::{lease, shell, size, ticking, until};
use outlive_api::report::OpName;
use outlive_api::session::{CloseReason, Lease, ServerMessage};
use outlive_core::Millis;
use rustix::process::Signal;
use std::path::Path;

async fn replicas() -> (FakeServer, FakeServer) {
    (FakeServer::start(Millis(100)).await, FakeServer::start(Millis(100)).await)
}

fn both(a: &FakeServer, b: &FakeServer) -> String {
    format!("{},{}", a.address, b.address)
}

/// Ticks until `gate` is there, then ends.
fn gated(ticks: &Path, gate: &Path) -> Lease {
    let script = ticking(ticks).replace("while :", &format!("while ! [ -e {} ]", gate.display()));
    lease(&shell(&script))
}

/// An agent at home at `a` with work that `b` knows of; the work ends when the gate is opened.
async fn at_work(a: &FakeServer, b: &FakeServer, servers: &str) -> (Agent, Lease) {
    let agent = Agent::start_at(servers, "auto");
    let (ticks, gate) = (agent.folder.path().join("ticks"), agent.folder.path().join("gate"));
    let work = gated(&ticks, &gate);
    a.connected(1).await;
    b.knows(&work);
    a.push(work.clone());
    until("it ticks", || size(&ticks) > 5).await;
    (agent, work)
}

/// The work goes on at `b` and ends there, without another registration.
async fn goes_on_at(b: &FakeServer, agent: &Agent, work: &Lease) {
    b.connected(1).await;
    let ticks = agent.folder.path().join("ticks");
    let before = size(&ticks);
    until("the work goes on", || size(&ticks) > before + 5).await;
    std::fs::write(agent.folder.path().join("gate"), "").unwrap();
    b.item(work.lease(), |item| item.op == OpName::Complete).await;
    let seen = b.seen();
    assert!(seen.registered.is_empty(), "the token of the first replica is good at the second");
    assert!(seen.beats[0].held.iter().any(|held| held.lease() == work.lease()), "it says at once what it holds");
    assert!(!seen.items.iter().any(|(item, _)| item.op == OpName::Lost));
}

#[tokio::test]
async fn a_home_that_falls_silent_is_left_and_the_work_goes_on() {
    let (a, b) = replicas().await;
    let (agent, work) = at_work(&a, &b, &both(&a, &b)).await;
    a.set(|seen| seen.mute = true);
    goes_on_at(&b, &agent, &work).await;
}

#[tokio::test]
async fn a_server_that_is_not_sure_to_be_the_home_is_left_and_the_work_goes_on() {
    let (a, b) = replicas().await;
    let (agent, work) = at_work(&a, &b, &both(&a, &b)).await;
    a.set(|seen| seen.unsure = true);
    goes_on_at(&b, &agent, &work).await;
}

#[tokio::test]
async fn a_server_that_goes_away_names_the_one_to_go_to() {
    let (a, b) = replicas().await;
    let (agent, work) = at_work(&a, &b, &a.address).await;
    let r#try = vec![format!("http://{}", b.address)];
    a.say(&ServerMessage::Close { why: CloseReason::Shutdown, keep_trust_ms: 5_000, r#try });
    goes_on_at(&b, &agent, &work).await;
}

#[tokio::test]
async fn dead_addresses_are_passed_over_at_the_start_and_at_the_goodbye() {
    let b = FakeServer::start(Millis(100)).await;
    let mut agent = Agent::start_at(&format!("127.0.0.1:1,127.0.0.1:9,{}", b.address), "auto");
    b.connected(1).await;
    agent.signal(Signal::TERM);
    assert_eq!(agent.ended().await, "Left");
    assert!(b.seen().calls.contains(&"/v1/workers/wk_1/leave".into()));
}
