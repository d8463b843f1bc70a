//! What a hostile process can do to its agent.
//!
//! | hazard | without its remedy | remedy | test |
//! |---|---|---|---|
//! | stdin larger than a pipe, never read | agent and child wait for each other | stdin is written while output is read | `stdin_that_is_never_read_holds_nothing_up` |
//! | stdout closed, child lives on | told as ended | only the exit of the main process ends an attempt | `a_command_that_closes_its_output_is_still_running` |
//! | a grandchild keeps the pipe | the end is never told | the exit ends it, whoever holds its pipes | `the_end_of_the_main_process_ends_the_attempt_and_what_it_left_behind` |
//! | double fork with `setsid`, pipelines; the agent gets SIGKILL | processes without an owner | the guard, control groups, the lease variable | `nothing_is_left_half_a_second_after_its_agent_was_killed` |
//! | TERM ignored | a cancel that never ends | grace, then KILL | `cancel_ends_a_command_that_ignores_term` |
//! | SIGSTOP by others | TERM waits for ever; a stopped attempt counts as frozen | limits go on counting, KILL ends it | `a_child_that_others_have_stopped_runs_into_its_limits` |
//! | 200,000 lines a second | an event and a report for each line | frames, gathered for 4 ms | `a_million_lines_arrive_in_order_in_few_frames` |
//! | a line of 2 GiB | a line buffer of 2 GiB | bytes in frames of 256 KiB, a window of one frame | `a_line_of_two_gib_is_never_in_memory` |
//! | NUL, invalid UTF-8 | replaced, or the agent ends | bytes are never looked at; base64 on the wire | `bytes_that_are_no_text_arrive_as_they_are` |
//! | death by any signal | losses told as failures, or the reverse | the table in `runtime/exit.rs` | `the_end_by_each_signal_is_judged_by_the_table` |
//! | an agent started with signals ignored | its commands ignore them too | dispositions are reset before `exec` | `commands_of_an_agent_that_ignores_signals_do_not` |
//! | the wall clock is stepped | limits that end work early, or never | monotonic clocks alone | `steps_of_the_wall_clock_change_no_limit` |
//! | no place for the attempt's folder or socket | a sick host spends the attempts of a whole queue | a loss; the worker's log names the path | `an_attempt_without_a_place_is_the_hosts_fault_and_names_the_path` |
//! | fork bomb, memory hog, the host out of memory | see `limits.rs` | | |

use crate::agent::{Agent, MODES};
use crate::bench::Bench;
use crate::fake_server::FakeServer;
use crate::support::{carrying, lease, resident, shell, short_folder, unique, until};
use outlive_api::clock::{SystemClock, nanos};
use outlive_api::report::OpName;
use outlive_api::session::Lease;
use outlive_core::clock::Clock;
use outlive_core::resources::Resources;
use outlive_core::{Millis, Mono, Reason, Wall};
use outlive_worker::agent::{ChildEvent, End, Stop};
use outlive_worker::reach::{Domain, Mode};
use outlive_worker::runtime::exit::{Verdict, verdict};
use outlive_worker::{AgentConfig, AgentExit, AgentStatus, Shutdown};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::watch;

async fn server() -> FakeServer {
    FakeServer::start(Millis(100)).await
}

#[tokio::test]
async fn stdin_that_is_never_read_holds_nothing_up() {
    let mut bench = Bench::new(Mode::Auto);
    let stdin = "x".repeat(500_000);
    let writes = json!({"command": ["sh", "-c", "head -c 300000 /dev/zero; exit 3"], "stdin": stdin});
    let seen = bench.run(writes).await;
    assert_eq!((seen.stdout.len(), seen.exit().code), (300_000, Some(3)));
    let handle = bench.begin(lease(&json!({"command": ["sleep", "1000"], "stdin": stdin})));
    bench.group().await;
    handle.stop(Stop::Term);
    assert_eq!(bench.finish(&handle).await.exit().signal.as_deref(), Some("SIGTERM"), "orders are still obeyed");
}

#[tokio::test]
async fn a_command_that_closes_its_output_is_still_running() {
    for mode in [Mode::Auto, Mode::Signals] {
        let mut bench = Bench::new(mode);
        let folder = tempfile::tempdir().unwrap();
        let gate = folder.path().join("gate");
        let script = format!("exec >&- 2>&-; while ! [ -e {} ]; do sleep 0.01; done; exit 3", gate.display());
        let handle = bench.begin(lease(&shell(&script)));
        let group = bench.group().await;
        let pipes = || {
            let open = std::fs::read_dir(format!("/proc/{group}/fd")).into_iter().flatten().flatten();
            open.filter_map(|e| std::fs::read_link(e.path()).ok()).filter(|to| to.starts_with("pipe:")).count()
        };
        until("its pipes are closed", || pipes() == 0 && std::fs::read_dir(format!("/proc/{group}/fd")).is_ok()).await;
        assert_eq!(Bench::new(mode).run(shell("exit 0")).await.exit().code, Some(0), "others begin and end meanwhile");
        assert!(bench.nothing_happened(), "its end is not told");
        std::fs::write(&gate, "").unwrap();
        assert_eq!(bench.finish(&handle).await.exit().code, Some(3));
    }
}

#[tokio::test]
async fn nothing_is_left_half_a_second_after_its_agent_was_killed() {
    for mode in MODES {
        let server = server().await;
        let mut agent = Agent::start(&server, mode);
        server.connected(1).await;
        let mark = format!("MARK={:x}.", unique());
        let (name, value) = mark.split_once('=').unwrap();
        let env = json!({name: value});
        let double_fork = "(setsid sh -c 'sleep 1000 & sleep 1000' &); echo ready; sleep 1000 | cat";
        for script in ["echo ready; sleep 1000 | cat", double_fork] {
            let run = server.push(lease(&json!({"command": ["sh", "-c", script], "env": env})));
            server.item(run, |i| i.op == OpName::Output).await;
        }
        until("all of it is there", || carrying(&mark).len() >= 9).await;
        let killed = nanos();
        agent.signal(Signal::KILL);
        until("nothing of it is there", || carrying(&mark).is_empty()).await;
        let millis = (nanos() - killed) / 1_000_000;
        println!("{mode}: nothing was left after {millis} ms");
        assert!(millis < 500, "{mode}: {millis} ms");
        agent.child.wait().unwrap();
    }
}

#[tokio::test]
async fn a_child_that_others_have_stopped_runs_into_its_limits() {
    for mode in MODES {
        let server = server().await;
        let _agent = Agent::start(&server, mode);
        server.connected(1).await;
        let body = Lease { cancel_grace_ms: 100, ..lease(&shell("echo $$; exec sleep 1000")) };
        let stuck = server.push(Lease { progress_timeout_ms: Some(400), ..body.clone() });
        let again = lease(&serde_json::Value::Null).run_id;
        let long = server.push(Lease { run_id: again, ..body });
        for run in [stuck, long] {
            let output = server.item(run, |i| i.op == OpName::Output).await;
            let pid = output.text.unwrap().trim().parse().unwrap();
            kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
        }
        let end = server.item(stuck, |i| i.op == OpName::Fail).await;
        assert_eq!(end.reason, Some(Reason::ProgressTimeout));
        let exit = end.exit.unwrap();
        assert_eq!(
            (exit.timed_out, exit.signal.as_deref()),
            (true, Some("SIGKILL")),
            "TERM reaches nobody who is stopped"
        );
        let seen_stopped = server.seen().beats.len();
        let held = |seen: &crate::fake_server::Seen| {
            let mut held = seen.beats.iter().skip(seen_stopped).filter(|b| b.timer).flat_map(|b| &b.held);
            held.find(|h| h.lease() == long).map(|h| h.frozen_ms)
        };
        assert_eq!(server.until("a beat that names it", held).await, 0, "what others stop does not count as frozen");
        server.cancel(long);
        let end = server.item(long, |i| i.op == OpName::Cancelled).await;
        assert_eq!(end.exit.unwrap().signal.as_deref(), Some("SIGKILL"));
    }
}

#[tokio::test]
async fn a_million_lines_arrive_in_order_in_few_frames() {
    const LINES: u64 = 1_000_000;
    let server = FakeServer::start(Millis(2_000)).await;
    let agent = Agent::start(&server, "auto");
    server.connected(1).await;
    let began = nanos();
    let run = server.push(lease(&json!({"command": ["seq", LINES.to_string()]})));
    server.item(run, |i| i.op == OpName::Complete).await;
    let rate = LINES * 1_000_000_000 / (nanos() - began);
    let (text, frames) = {
        let seen = server.seen();
        let frames: Vec<_> = seen.items.iter().map(|(i, _)| i).filter(|i| i.op == OpName::Output).collect();
        (frames.iter().filter_map(|i| i.text.as_deref()).collect::<String>(), frames.len())
    };
    assert!(text.lines().map(str::parse).eq((1..=LINES).map(Ok)), "each line once, in order");
    let peak = resident(agent.child.id().cast_signed(), "VmHWM");
    println!("{rate} lines/s in {frames} frames; the agent used at most {} KiB", peak >> 10);
    assert!(rate > 200_000, "{rate} lines/s");
    assert!(frames < 1_000, "{frames} frames");
    assert!(peak < 64 << 20, "{peak} bytes");
}

/// Tests may run in one process: what others use meanwhile must fit into the bound as well.
#[tokio::test]
async fn a_line_of_two_gib_is_never_in_memory() {
    const LINE: usize = 2 << 30;
    let mut bench = Bench::new(Mode::Auto);
    let handle = bench.begin(lease(&shell(&format!("head -c {LINE} /dev/zero; printf end"))));
    let own = std::process::id().cast_signed();
    let before = resident(own, "VmRSS");
    let (mut taken, mut frames, mut peak, mut last) = (0, 0_u64, before, Vec::new());
    loop {
        match bench.event().await {
            ChildEvent::Output { bytes, .. } => {
                handle.widen(bytes.len());
                (taken, frames) = (taken + bytes.len(), frames + 1);
                if frames % 64 == 0 {
                    peak = peak.max(resident(own, "VmRSS"));
                }
                last = bytes;
            }
            ChildEvent::Ended(end) => break assert!(matches!(end, End::Exit { exit, .. } if exit.code == Some(0))),
            _ => {}
        }
    }
    assert_eq!((taken, last.ends_with(b"\0end") || last == b"end"), (LINE + 3, true));
    println!("{frames} frames; {} KiB more than before", (peak - before) >> 10);
    assert!(peak - before < 64 << 20, "{} bytes more than before", peak - before);
}

#[tokio::test]
async fn bytes_that_are_no_text_arrive_as_they_are() {
    let server = server().await;
    let _agent = Agent::start(&server, "auto");
    server.connected(1).await;
    let run = server.push(lease(&shell(r"printf 'a\000b\377\376c\355\240\200'; printf 'text \303\251\000' >&2")));
    server.item(run, |i| i.op == OpName::Complete).await;
    let seen = server.seen();
    let of = |channel: &str| {
        let frames = seen.items.iter().map(|(i, _)| i).filter(|i| i.channel.as_deref() == Some(channel));
        let frames = frames.filter_map(|i| match i.clone().into_item().unwrap().op {
            outlive_core::report::Op::Output(frame) => Some(frame.bytes),
            _ => None,
        });
        frames.flatten().collect::<Vec<u8>>()
    };
    assert_eq!(of("stdout"), b"a\0b\xff\xfec\xed\xa0\x80");
    assert_eq!(of("stderr"), "text é\0".as_bytes());
}

#[tokio::test]
async fn the_end_by_each_signal_is_judged_by_the_table() {
    const LOSSES: [i32; 3] = [1, 9, 15];
    /// CHLD, CONT, URG, WINCH: nothing happens. STOP, TSTP, TTIN, TTOU: it stands still.
    const IGNORED: [i32; 4] = [17, 18, 23, 28];
    const STOPS: [i32; 4] = [19, 20, 21, 22];
    /// The C library keeps these to itself.
    const RESERVED: [i32; 2] = [32, 33];
    let mut bench = Bench::new(Mode::Auto);
    for signal in (1..=64).filter(|n| !STOPS.contains(n) && !RESERVED.contains(n)) {
        let seen = bench.run(shell(&format!("ulimit -c 0; kill -{signal} $$; exit 0"))).await;
        let judged = verdict(seen.exit());
        if IGNORED.contains(&signal) {
            assert_eq!(judged, Verdict::Done, "signal {signal}");
        } else if LOSSES.contains(&signal) {
            assert_eq!(judged, Verdict::Killed, "signal {signal}");
        } else {
            assert!(matches!(judged, Verdict::Failed(Reason::Signal, _)), "signal {signal}: {judged:?}");
        }
    }
}

#[tokio::test]
async fn commands_of_an_agent_that_ignores_signals_do_not() {
    let server = server().await;
    let _agent = Agent::started_by("trap '' HUP INT QUIT; exec \"$@\"", &server);
    server.connected(1).await;
    let run = server.push(lease(&shell("kill -INT $$; echo ignored")));
    let end = server.item(run, |i| matches!(i.op, OpName::Fail | OpName::Complete)).await;
    assert_eq!(end.exit.unwrap().signal.as_deref(), Some("SIGINT"));
}

/// A clock whose wall goes an hour forth, or back, each time that somebody looks.
#[derive(Default)]
struct Stepped(AtomicI64);

impl Clock for Stepped {
    fn wall(&self) -> Wall {
        const HOUR: i64 = 3_600_000;
        let looks = self.0.fetch_add(1, Ordering::Relaxed);
        Wall(SystemClock.wall().0 + if looks % 2 == 0 { HOUR } else { -HOUR })
    }

    fn mono(&self) -> Mono {
        self.wall();
        SystemClock.mono()
    }

    fn boot(&self) -> Mono {
        self.wall();
        SystemClock.boot()
    }
}

#[tokio::test]
async fn steps_of_the_wall_clock_change_no_limit() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let config = AgentConfig {
        servers: vec![server.address.clone()],
        namespace: "default".into(),
        name: None,
        queues: vec!["default".into()],
        labels: BTreeMap::new(),
        slots: 4,
        allow_exec: true,
        limits: Resources::default(),
        state_dir: folder.path().join("state"),
        takeover: false,
        guard: crate::support::guard_command(),
        handlers: BTreeMap::new(),
        version: "test".into(),
    };
    let (wanted, shutdown) = watch::channel(Shutdown::No);
    let (status, _) = watch::channel(AgentStatus::Starting);
    let agent = tokio::spawn(outlive_worker::run(config, Arc::new(Stepped::default()), shutdown, status));
    server.connected(1).await;
    let gate = folder.path().join("gate");
    let waits = format!("echo ready; while ! [ -e {} ]; do sleep 0.01; done", gate.display());
    let limited = |input: &serde_json::Value, ms: u64| {
        let hour = Some(3_000_000);
        server.push(Lease { run_timeout_ms: ms, progress_timeout_ms: hour, lease_ttl_ms: 2_000, ..lease(input) })
    };
    let patient = limited(&shell(&waits), 3_000_000);
    let began = nanos();
    let short = limited(&shell("echo ready; exec sleep 1000"), 500);
    let end = server.item(short, |i| i.op == OpName::Fail).await;
    let millis = (nanos() - began) / 1_000_000;
    assert_eq!(end.reason, Some(Reason::RunTimeout));
    assert!((500..5_000).contains(&millis), "{millis} ms");
    // Its trust is renewed, its limits are far: only the gate ends it.
    let held = |seen: &crate::fake_server::Seen| {
        let beats = seen.beats.iter().filter(|b| b.timer && b.held.iter().any(|h| h.lease() == patient));
        (beats.count() > 25).then_some(())
    };
    server.until("beats over more than its trust", held).await;
    let frozen = |h: &outlive_api::session::Held| h.lease() == patient && h.frozen_ms > 0;
    assert!(!server.seen().beats.iter().flat_map(|b| &b.held).any(frozen));
    std::fs::write(&gate, "").unwrap();
    server.item(patient, |i| i.op == OpName::Complete).await;
    wanted.send_replace(Shutdown::Drain);
    assert_eq!(agent.await.unwrap().unwrap(), AgentExit::Left);
}

#[tokio::test]
async fn an_attempt_without_a_place_is_the_hosts_fault_and_names_the_path() {
    let folder = short_folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let long = folder.path().join("x".repeat(100));
    for (place, part) in [(long, "socket"), (file, "folder")] {
        let domain = Domain::new(format!("test.{:x}", unique()), Mode::Auto);
        let mut bench = Bench::with(domain, &place, short_folder());
        match bench.run(shell("exit 0")).await.end {
            End::HostFailed { message } => {
                assert!(message.contains(&place.display().to_string()) && message.contains(part), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}
