//! Whole agents, as processes of their own, against a server.

use crate::fake_server::FakeServer;
use crate::support::{Metronome, agent_binary, carrying, guard_of, lease, shell, size, ticking, unique, until};
use outlive_api::report::OpName;
use outlive_api::session::Lease;
use outlive_core::{LeaseRef, Millis, Reason};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::process::{Child, Command, Stdio};

pub(crate) const MODES: [&str; 2] = ["auto", "signals"];

/// An agent and its state folder.
pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) folder: tempfile::TempDir,
    mode: &'static str,
}

impl Agent {
    pub(crate) fn start(server: &FakeServer, mode: &'static str) -> Self {
        Self::start_at(&server.address, mode)
    }

    /// With these addresses, separated by commas.
    pub(crate) fn start_at(servers: &str, mode: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Self::spawn(servers, &folder, mode);
        Self { child, folder, mode }
    }

    /// Started by a shell, with its path and arguments as `$@`.
    pub(crate) fn started_by(script: &str, server: &FakeServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(agent_binary()).arg(&server.address).arg(folder.path().join("state"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child, folder, mode: "auto" }
    }

    fn spawn(servers: &str, folder: &tempfile::TempDir, mode: &str) -> Child {
        let mut command = Command::new(agent_binary());
        command.arg(servers).arg(folder.path().join("state")).env("OUTLIVE_ISOLATION", mode);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) async fn ended(&mut self) -> String {
        let mut status = None;
        until("the agent ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.child.stdout.take().unwrap(), &mut text).unwrap();
        text.trim().to_owned()
    }

    pub(crate) fn again(&mut self, server: &FakeServer) {
        self.child = Self::spawn(&server.address, &self.folder, self.mode);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server whose TTLs are short enough for a test to wait for.
async fn server() -> FakeServer {
    FakeServer::start(Millis(100)).await
}

fn brief(input: &serde_json::Value) -> Lease {
    Lease { lease_ttl_ms: 500, ..lease(input) }
}

#[tokio::test]
async fn a_command_runs_and_its_output_and_end_arrive_in_order() {
    let server = server().await;
    let _agent = Agent::start(&server, "auto");
    server.connected(1).await;
    let run = server.push(lease(&shell("echo hello; echo oops >&2; exit 3")));
    let end = server.item(run, |i| i.op == OpName::Fail).await;
    assert_eq!((end.reason, end.last_output_seq), (Some(Reason::ExitCode), Some(2)));
    assert_eq!(end.exit.unwrap().code, Some(3));
    let seen = server.seen();
    let ops: Vec<_> = seen.items.iter().filter(|(i, _)| i.run_id == Some(run.run_id)).map(|(i, _)| i.op).collect();
    let after_start = ops.strip_prefix(&[OpName::Start]).unwrap_or(&ops);
    assert_eq!(after_start, [OpName::Output, OpName::Output, OpName::Fail], "a start is implied by what follows it");
    let register = &seen.registered[0];
    assert_eq!((register.kinds.as_slice(), register.slots), (&["exec".to_owned()][..], 4));
    assert!(!register.outbox_key.is_empty() && register.name.contains('-'));
}

#[tokio::test]
async fn a_child_that_is_killed_from_outside_is_reported_lost() {
    let server = server().await;
    let _agent = Agent::start(&server, "auto");
    server.connected(1).await;
    let run = server.push(lease(&shell("echo $$; exec sleep 1000")));
    let output = server.item(run, |i| i.op == OpName::Output).await;
    let pid: i32 = output.text.unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let end = server.item(run, |i| i.op == OpName::Lost).await;
    assert_eq!(end.reason, Some(Reason::ProcessKilled));
    assert_eq!(end.exit.unwrap().signal.as_deref(), Some("SIGKILL"));
    server.until("a free slot", |seen| seen.beats.iter().any(|b| b.credit == 5).then_some(())).await;
}

#[tokio::test]
async fn cancel_ends_a_command_that_ignores_term() {
    let server = server().await;
    let _agent = Agent::start(&server, "auto");
    server.connected(1).await;
    let input = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done");
    let run = server.push(Lease { cancel_grace_ms: 200, ..lease(&input) });
    server.item(run, |i| i.op == OpName::Output).await;
    server.cancel(run);
    let end = server.item(run, |i| i.op == OpName::Cancelled).await;
    assert_eq!(end.exit.unwrap().signal.as_deref(), Some("SIGKILL"));
}

#[tokio::test]
async fn when_the_agent_is_killed_everything_that_it_started_dies() {
    for mode in MODES {
        let server = server().await;
        let mut agent = Agent::start(&server, mode);
        server.connected(1).await;
        let mark = format!("MARK={:x}.", unique());
        let (name, value) = mark.split_once('=').unwrap();
        let script = "(setsid sh -c 'sleep 1000 & setsid sleep 1000' &); setsid sleep 1000 & echo ready; sleep 1000";
        let run = server.push(lease(&json!({"command": ["sh", "-c", script], "env": {name: value}})));
        server.item(run, |i| i.op == OpName::Output).await;
        until("all of it is there", || carrying(&mark).len() >= 5).await;
        agent.signal(Signal::KILL);
        agent.child.wait().unwrap();
        until("nothing of it is there", || carrying(&mark).is_empty()).await;
    }
}

#[tokio::test]
async fn a_stopped_agents_work_freezes_at_its_deadline_and_goes_on_when_it_is_confirmed() {
    for mode in MODES {
        let server = server().await;
        let agent = Agent::start(&server, mode);
        let ticks = agent.folder.path().join("ticks");
        let metronome = Metronome::start(agent.folder.path());
        server.connected(1).await;
        let run = server.push(brief(&shell(&ticking(&ticks))));
        until("it ticks", || size(&ticks) > 5).await;
        agent.signal(Signal::STOP);
        metronome.until_still(&ticks).await;
        let still = size(&ticks);
        metronome.ticks(50).await;
        assert_eq!(size(&ticks), still, "{mode}: frozen without its agent");
        agent.signal(Signal::CONT);
        until("it goes on", || size(&ticks) > still + 5).await;
        let frozen = |seen: &crate::fake_server::Seen| {
            seen.beats.iter().flat_map(|b| &b.held).any(|h| h.lease() == run && h.frozen_ms >= 100).then_some(())
        };
        server.until("a beat that tells it", frozen).await;
        assert!(!server.seen().items.iter().any(|(i, _)| i.op == OpName::Lost), "nothing was killed");
    }
}

#[tokio::test]
async fn work_freezes_when_the_server_is_silent_and_is_killed_without_a_thaw_when_it_is_lost() {
    for mode in MODES {
        let server = server().await;
        let agent = Agent::start(&server, mode);
        let ticks = agent.folder.path().join("ticks");
        let metronome = Metronome::start(agent.folder.path());
        server.connected(1).await;
        let mark = format!("MARK={:x}.", unique());
        let (name, value) = mark.split_once('=').unwrap();
        let run = server.push(brief(&json!({"command": ["sh", "-c", ticking(&ticks)], "env": {name: value}})));
        until("it ticks", || size(&ticks) > 5).await;
        server.set(|seen| seen.mute = true);
        metronome.until_still(&ticks).await;
        let still = size(&ticks);
        server.lost(run);
        until("it is gone", || carrying(&mark).is_empty()).await;
        assert_eq!(size(&ticks), still, "{mode}: not one more tick");
        server.set(|seen| seen.mute = false);
        let gone =
            |seen: &crate::fake_server::Seen| seen.beats.last().filter(|b| b.timer && b.held.is_empty()).map(drop);
        server.until("a beat without it", gone).await;
        assert!(!server.seen().items.iter().any(|(i, _)| i.op != OpName::Start), "nothing more is said about it");
    }
}

#[tokio::test]
async fn a_cut_connection_is_opened_again_and_unanswered_reports_are_said_again() {
    let server = server().await;
    let _agent = Agent::start(&server, "auto");
    server.connected(1).await;
    server.set(|seen| seen.deaf = true);
    let run = server.push(lease(&shell("echo one; sleep 0.05; echo two")));
    server.item(run, |i| i.op == OpName::Complete).await;
    server.set(|seen| {
        seen.deaf = false;
        seen.items.clear();
    });
    server.cut();
    server.connected(2).await;
    let end = server.item(run, |i| i.op == OpName::Complete).await;
    let frames: String = end.frames.iter().filter_map(|f| f.text.clone()).collect();
    assert_eq!((frames.as_str(), end.last_output_seq), ("one\ntwo\n", Some(2)));
    assert_eq!(server.seen().registered.len(), 1, "a resume needs no registration");
}

#[tokio::test]
async fn a_finished_attempt_survives_its_agent() {
    let server = server().await;
    let mut agent = Agent::start(&server, "auto");
    server.connected(1).await;
    server.set(|seen| seen.deaf = true);
    let run = server.push(lease(&shell("echo kept")));
    server.item(run, |i| i.op == OpName::Complete).await;
    agent.signal(Signal::KILL);
    agent.child.wait().unwrap();
    server.set(|seen| {
        seen.deaf = false;
        seen.items.clear();
    });
    agent.again(&server);
    let done = |seen: &crate::fake_server::Seen| {
        let all = seen.items.iter().map(|(i, replay)| (i.op, *replay)).collect::<Vec<_>>();
        (all.len() == 2).then_some(all)
    };
    let replayed = server.until("the replay", done).await;
    assert_eq!(replayed, [(OpName::Complete, true), (OpName::OutboxDone, true)]);
    let seen = server.seen();
    assert_eq!(seen.items[0].0.frames[0].text.as_deref(), Some("kept\n"));
    assert_eq!(seen.items[0].0.run_id, Some(run.run_id));
    let [first, second] = &seen.registered[..] else { panic!("two registrations") };
    assert_eq!((first.outbox_pending, second.outbox_pending), (0, 1));
    assert_eq!((&first.name, &first.outbox_key), (&second.name, &second.outbox_key));
    assert_ne!(first.instance, second.instance);
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_a_second_wish_hands_it_back() {
    let server = server().await;
    let mut agent = Agent::start(&server, "auto");
    server.connected(1).await;
    let gate = agent.folder.path().join("gate");
    let waits = format!("echo ready; while ! [ -e {} ]; do sleep 0.01; done", gate.display());
    let finishes = server.push(lease(&shell(&waits)));
    server.item(finishes, |i| i.op == OpName::Output).await;
    agent.signal(Signal::TERM);
    server.until("it asks for a drain", |s| s.calls.contains(&"/v1/workers/wk_1/drain".into()).then_some(())).await;
    std::fs::write(&gate, "").unwrap();
    server.item(finishes, |i| i.op == OpName::Complete).await;
    assert_eq!(agent.ended().await, "Left");
    assert!(server.seen().calls.contains(&"/v1/workers/wk_1/leave".into()));

    agent.again(&server);
    server.connected(2).await;
    let goes_back = server.push(lease(&shell("echo ready; exec sleep 1000")));
    server.item(goes_back, |i| i.op == OpName::Output).await;
    agent.signal(Signal::TERM);
    server.until("it drains", |s| (s.calls.iter().filter(|c| c.ends_with("drain")).count() == 2).then_some(())).await;
    agent.signal(Signal::TERM);
    server.item(goes_back, |i| i.op == OpName::Release).await;
    assert_eq!(agent.ended().await, "Left");
}

#[tokio::test]
async fn a_name_in_use_is_an_error_that_says_how_to_take_it() {
    let server = server().await;
    let problem =
        json!({"type":"t","title":"t","status":409,"code":"name_in_use","detail":"w-7 answers","request_id":"1"});
    server.set(|seen| seen.refusal = Some((409, problem.to_string())));
    let mut agent = Agent::start(&server, "auto");
    until("it ends", || agent.child.try_wait().unwrap().is_some()).await;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut agent.child.stderr.take().unwrap(), &mut text).unwrap();
    assert!(text.contains("--takeover") && text.contains("w-7 answers"), "{text}");
}

#[tokio::test]
async fn a_name_that_its_own_dead_predecessor_still_has_is_asked_for_again_and_not_given_up() {
    let server = server().await;
    let mut agent = Agent::start(&server, "auto");
    server.connected(1).await;
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    // What a replica says that is not its home, and does not know of its end yet.
    let problem = json!({"type":"t","title":"t","status":409,"code":"name_in_use","detail":"w-7","request_id":"1"});
    server.set(|seen| seen.refusal = Some((409, problem.to_string())));
    let before = server.seen().registered.len();
    agent.again(&server);
    server.until("it asks again", |s| (s.registered.len() > before + 1).then_some(())).await;
    server.set(|seen| seen.refusal = None);
    server.connected(2).await;
}

#[tokio::test]
async fn a_guard_that_dies_is_replaced_and_the_new_one_knows_everything() {
    let server = server().await;
    let agent = Agent::start(&server, "signals");
    let ticks = agent.folder.path().join("ticks");
    let metronome = Metronome::start(agent.folder.path());
    server.connected(1).await;
    server.push(brief(&shell(&ticking(&ticks))));
    until("it ticks", || size(&ticks) > 5).await;
    let old = guard_of(&agent.child);
    kill_process(Pid::from_raw(old.unwrap()).unwrap(), Signal::KILL).unwrap();
    until("another guard", || guard_of(&agent.child).is_some_and(|pid| Some(pid) != old)).await;
    let before = size(&ticks);
    until("the work goes on", || size(&ticks) > before + 5).await;
    // Its commands to the new guard are in the pipe once a beat has been acknowledged after it.
    let beats = server.seen().beats.len();
    server.until("two beats", |seen| (seen.beats.len() >= beats + 3).then_some(())).await;
    agent.signal(Signal::STOP);
    metronome.until_still(&ticks).await;
    agent.signal(Signal::CONT);
}

#[tokio::test]
async fn a_newer_epoch_of_a_run_never_runs_beside_the_older_one() {
    let server = server().await;
    let agent = Agent::start(&server, "auto");
    server.connected(1).await;
    let stamps = agent.folder.path().join("stamps");
    let script = format!("while :; do echo $OUTLIVE_EPOCH >> {}; sleep 0.002; done", stamps.display());
    let old = lease(&shell(&script));
    let new = Lease { epoch: outlive_core::Epoch(2), ..old.clone() };
    server.push(old);
    until("the first one runs", || size(&stamps) > 10).await;
    let new: LeaseRef = server.push(new);
    let text = || std::fs::read_to_string(&stamps).unwrap();
    until("the second one runs", || text().contains('2')).await;
    server.item(new, |i| i.op == OpName::Start).await;
    let text = text();
    let after = text.split_once('2').unwrap().1;
    assert!(!after.contains('1'), "a stamp of the first after one of the second: {text}");
}
