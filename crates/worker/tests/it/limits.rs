//! Limits of memory and processes, by whatever enforces them here; each test prints what that was.
//!
//! | hazard | without its remedy | remedy | test |
//! |---|---|---|---|
//! | a run takes the host's memory | the kernel ends whatever is largest | a limit for all processes of the attempt | `a_run_that_needs_more_than_its_memory_fails_by_its_limit` |
//! | the host is out of memory | the run is blamed | a kill counts as the run's only if *its* limit was reached | `a_run_within_its_limit_that_the_kernel_kills_is_a_loss` |
//! | the agent kills a run that has limits | the kill looks like its limit's | what was asked for is what is told | `a_kill_by_the_agent_is_neither` |
//! | a fork bomb | no process can be started on the host | a limit of processes; a kill is repeated until nothing is found | `a_fork_bomb_stays_within_its_limit_and_ends_with_its_attempt` |
//! | agent and guard are killed | groups and what is in them stay | swept at the next start | `groups_without_an_owner_are_swept_at_the_next_start` |

use crate::agent::Agent;
use crate::bench::Bench;
use crate::fake_server::FakeServer;
use crate::support::{carrying, guard_of, lease, shell, short_folder, unique, until};
use outlive_api::report::OpName;
use outlive_api::session::Lease;
use outlive_core::resources::{Bytes, Resources};
use outlive_core::{Millis, Reason};
use outlive_worker::agent::{End, Stop};
use outlive_worker::reach::limits::{Enforcement, Limiter};
use outlive_worker::reach::{Domain, Mode};
use outlive_worker::runtime::exit::{Verdict, verdict};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs;
use std::path::PathBuf;

/// With the variable that asks for them.
const MODES: [(Mode, &str); 3] = [(Mode::Auto, "auto"), (Mode::Signals, "signals"), (Mode::NoGroups, "no-groups")];
const MIB: u64 = 1 << 20;
/// Uses 256 MiB.
const HOG: &str = r#"perl -e '$x = "x" x (256 << 20); print length $x'"#;

fn domain(mode: Mode) -> Domain {
    Domain::new(format!("test.{:x}", unique()), mode)
}

/// By what limits would be enforced.
fn enforcement(mode: Mode) -> Enforcement {
    let domain = domain(mode);
    domain.kill_everything();
    domain.limiter.enforcement()
}

fn bench(domain: &Domain, limits: Resources) -> Bench {
    let folder = short_folder();
    let attempts = folder.path().to_owned();
    println!("enforced by {}", domain.limiter.enforcement());
    Bench::limited(domain.clone(), &attempts, folder, limits)
}

/// Where groups for limits would be.
fn limited_groups(domain: &Domain) -> Vec<PathBuf> {
    match (&domain.limiter, &domain.cgroup) {
        (Limiter::V1 { memory, pids }, _) => vec![memory.clone(), pids.clone()],
        (Limiter::V2, Some(base)) => vec![base.clone()],
        _ => vec![],
    }
}

fn limited(script: &str, limits: &serde_json::Value) -> serde_json::Value {
    json!({"command": ["sh", "-c", script], "limits": limits})
}

#[tokio::test]
async fn a_run_that_needs_more_than_its_memory_fails_by_its_limit() {
    for (mode, _) in MODES {
        let domain = domain(mode);
        let worker = Resources { memory: Some(Bytes(192 * MIB)), pids: None };
        let mut bench = bench(&domain, worker);
        // The main process itself, a command of a shell, and the worker's limit where the run asks for more.
        let cases =
            [(format!("exec {HOG}"), 64, 64), (format!("{HOG} || exit 9"), 64, 64), (HOG.to_owned(), 4_096, 192)];
        for (script, asked, counts) in cases {
            let seen = bench.run(limited(&script, &json!({"memory_bytes": asked * MIB}))).await;
            match (domain.limiter.enforcement(), seen.end) {
                (Enforcement::CgroupV1 | Enforcement::CgroupV2, End::OverMemory { exit, limit }) => {
                    assert_eq!((limit, exit.oom_killed), (Bytes(counts * MIB), true), "{script}");
                }
                (Enforcement::Rlimits, End::Exit { exit, .. }) => {
                    assert!(exit.code.is_some_and(|c| c != 0) && !exit.oom_killed, "a failed allocation: {exit:?}");
                }
                (by, end) => panic!("{by}: {end:?}"),
            }
        }
        let seen = bench.run(limited(HOG, &json!({"memory_bytes": 4_096 * MIB}))).await;
        assert!(!matches!(seen.end, End::Exit { exit, .. } if exit.code == Some(0)), "the worker's limit counts");
        let fits = bench.run(limited("echo fits", &json!({"memory_bytes": 64 * MIB, "pids": 64}))).await;
        assert_eq!((fits.text().as_str(), fits.exit().code), ("fits\n", Some(0)));
    }
}

#[tokio::test]
async fn the_limit_of_memory_is_named_in_the_runs_failure() {
    let server = FakeServer::start(Millis(100)).await;
    let _agent = Agent::started_by("exec \"$@\" 4 64MiB", &server);
    server.connected(1).await;
    let run = server.push(lease(&shell(HOG)));
    let end = server.item(run, |i| i.op == OpName::Fail).await;
    if enforcement(Mode::Auto) == Enforcement::Rlimits {
        assert_eq!(end.reason, Some(Reason::ExitCode));
        return;
    }
    assert_eq!(end.reason, Some(Reason::OomKilled));
    assert!(end.exit.unwrap().oom_killed);
    let message = end.error.unwrap().message;
    assert!(message.contains("64MiB"), "{message}");
}

#[tokio::test]
async fn a_run_within_its_limit_that_the_kernel_kills_is_a_loss() {
    for (mode, _) in MODES {
        let domain = domain(mode);
        let mut bench = bench(&domain, Resources::default());
        let input = limited(&format!("exec {HOG}"), &json!({"memory_bytes": 4_096 * MIB}));
        let seen = match &limited_groups(&domain)[..] {
            // The group above the lease's stands for the host.
            [host, ..] => {
                fs::create_dir_all(host).unwrap();
                let file = if domain.limiter == Limiter::V2 { "memory.max" } else { "memory.limit_in_bytes" };
                fs::write(host.join(file), (96 * MIB).to_string()).unwrap();
                bench.run(input).await
            }
            // Nothing counts for whom the kernel kills: any kill from outside is the same.
            [] => bench.run(limited("kill -KILL $$", &json!({"memory_bytes": 4_096 * MIB}))).await,
        };
        assert_eq!((seen.exit().signal.as_deref(), seen.exit().oom_killed), (Some("SIGKILL"), false));
        assert_eq!(verdict(seen.exit()), Verdict::Killed);
    }
}

#[tokio::test]
async fn a_kill_by_the_agent_is_neither() {
    let server = FakeServer::start(Millis(100)).await;
    let _agent = Agent::start(&server, "auto");
    server.connected(1).await;
    let input = limited("trap '' TERM; echo ready; while :; do sleep 0.01; done", &json!({"memory_bytes": 64 * MIB}));
    let body = Lease { cancel_grace_ms: 100, ..lease(&input) };
    let run_id = lease(&input).run_id;
    let (cancelled, late) = (body.clone(), Lease { run_timeout_ms: 300, run_id, ..body });
    let (cancelled, late) = (server.push(cancelled), server.push(late));
    server.item(cancelled, |i| i.op == OpName::Output).await;
    server.cancel(cancelled);
    let end = server.item(cancelled, |i| i.op == OpName::Cancelled).await.exit.unwrap();
    assert_eq!((end.signal.as_deref(), end.oom_killed), (Some("SIGKILL"), false));
    let end = server.item(late, |i| i.op == OpName::Fail).await;
    assert_eq!((end.reason, end.exit.unwrap().oom_killed), (Some(Reason::RunTimeout), false));
}

#[tokio::test]
async fn limits_that_cannot_be_are_refused_in_a_sentence() {
    let mut bench = Bench::new(Mode::Auto);
    let cases = [
        (json!({"memory_bytes": 0}), "limits.memory_bytes must be at least 1"),
        (json!({"pids": -4}), "limits.pids must be at least 1"),
        (json!({"cpus": 2}), "unknown field `cpus`"),
    ];
    for (limits, part) in cases {
        let seen = bench.run(limited("exit 0", &limits)).await;
        assert!(seen.rejection().contains(part), "{}", seen.rejection());
    }
}

#[tokio::test]
async fn groups_for_limits_are_there_only_for_who_has_limits_and_only_while_it_runs() {
    for (mode, _) in MODES {
        let domain = domain(mode);
        let mut bench = bench(&domain, Resources::default());
        let is_limited = |lease| {
            let name = outlive_worker::reach::name(lease);
            let groups = limited_groups(&domain);
            let memory =
                groups.iter().any(|g| fs::read_to_string(g.join(&name).join("memory.max")).is_ok_and(|t| t != "max\n"));
            memory || (domain.limiter != Limiter::V2 && groups.iter().any(|g| g.join(&name).exists()))
        };
        let free = lease(&shell("echo ready; exec sleep 1000"));
        let name = free.lease();
        let handle = bench.begin(free);
        bench.says(b"ready\n").await;
        assert!(!is_limited(name));
        handle.stop(Stop::Kill);
        bench.finish(&handle).await;
        // What has left its environment behind is found by its group, if it has one.
        let mark = format!("MARK={:x}.", unique());
        let script = format!("env -i {mark} setsid sleep 1000 & echo ready; exec sleep 1000");
        let body = lease(&limited(&script, &json!({"memory_bytes": 64 * MIB, "pids": 20})));
        let name = body.lease();
        let handle = bench.begin(body);
        bench.says(b"ready\n").await;
        until("it has left", || carrying(&mark).len() == 1).await;
        let (by, has_groups) = (domain.limiter.enforcement(), domain.cgroup.is_some());
        assert_eq!(is_limited(name), by != Enforcement::Rlimits, "{by}");
        handle.stop(Stop::Kill);
        bench.finish(&handle).await;
        until("its groups are gone", || !is_limited(name)).await;
        if by == Enforcement::Rlimits && !has_groups {
            // Without any group it is out of reach: that is what groups are for.
            carrying(&mark).iter().for_each(|&pid| kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap());
        }
        until("nothing is left of it", || carrying(&mark).is_empty()).await;
    }
}

#[tokio::test]
async fn a_fork_bomb_stays_within_its_limit_and_ends_with_its_attempt() {
    const PIDS: usize = 32;
    for (mode, variable) in MODES {
        let by = enforcement(mode);
        println!("{variable}: enforced by {by}");
        let server = FakeServer::start(Millis(100)).await;
        let mut agent = Agent::start(&server, variable);
        server.connected(1).await;
        let mark = format!("MARK={:x}.", unique());
        let (name, value) = mark.split_once('=').unwrap();
        // Twelve generations: 4,096 processes, if nothing holds them back.
        let bomb = "syswrite STDOUT, qq(ready\\n); $SIG{TERM} = q(IGNORE); my $n = 0; \
                    while ($n < 12) { if (defined fork) { $n++ } else { select(undef, undef, undef, 0.05) } } sleep 1000";
        // Limits of the user do not hold for root: there each bomb is of a user who has no processes yet, not even dead ones.
        let is_root = may_be_somebody_else();
        let body = || {
            let user = format!("--reuid={}", 100_000 + unique() % 1_000_000);
            let prefix = ["setpriv", &user, "--clear-groups"];
            let prefix = if by == Enforcement::Rlimits && is_root { &prefix[..] } else { &[] };
            let command: Vec<&str> = prefix.iter().copied().chain(["perl", "-e", bomb]).collect();
            let input = json!({"command": command, "env": {name: value}, "limits": {"pids": PIDS}});
            Lease { cancel_grace_ms: 50, ..lease(&input) }
        };
        let most = if by == Enforcement::Rlimits { PIDS + threads_of_this_user() } else { PIDS };
        let run = server.push(body());
        until("it has what it can get", || carrying(&mark).len() >= PIDS).await;
        for _ in 0..10 {
            let other = server.push(lease(&shell("seq 100 | tail -n 1")));
            let said = server.item(other, |i| i.op == OpName::Output).await;
            assert_eq!(said.text.as_deref(), Some("100\n"), "others go on");
            let there = carrying(&mark).len();
            assert!(there <= most, "{by}: {there} processes");
        }
        server.cancel(run);
        let end = server.item(run, |i| i.op == OpName::Cancelled).await;
        assert_eq!(end.exit.unwrap().signal.as_deref(), Some("SIGKILL"));
        assert_eq!(carrying(&mark), Vec::<i32>::new(), "{by}: nothing is left when the end is told");
        server.push(body());
        until("there is another one", || carrying(&mark).len() >= PIDS).await;
        agent.signal(Signal::KILL);
        agent.child.wait().unwrap();
        until("the guard has ended it", || carrying(&mark).is_empty()).await;
    }
}

/// Whether processes can be given to another user: as root, but not as root of a user namespace, for whom limits hold.
fn may_be_somebody_else() -> bool {
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=100000", "--clear-groups", "true"]).stderr(std::process::Stdio::null());
    command.status().is_ok_and(|s| s.success())
}

/// And some more: others on this machine come and go.
fn threads_of_this_user() -> usize {
    usize::try_from(outlive_worker::reach::procfs::own_users_threads()).unwrap() + 200
}

#[tokio::test]
async fn groups_without_an_owner_are_swept_at_the_next_start() {
    for (mode, variable) in MODES {
        let server = FakeServer::start(Millis(100)).await;
        let mut agent = Agent::start(&server, variable);
        server.connected(1).await;
        let mark = format!("MARK={:x}.", unique());
        let (name, value) = mark.split_once('=').unwrap();
        let script = "setsid sleep 1000 & echo ready; exec sleep 1000";
        let limits = json!({"memory_bytes": 64 * MIB, "pids": 20});
        let run = server.push(lease(&json!({"command": ["sh", "-c", script], "env": {name: value}, "limits": limits})));
        server.item(run, |i| i.op == OpName::Output).await;
        until("all of it is there", || carrying(&mark).len() == 2).await;
        let identity = fs::read_to_string(agent.folder.path().join("state/identity.json")).unwrap();
        let identity: serde_json::Value = serde_json::from_str(&identity).unwrap();
        let of_folder = format!("outlive-{}.", identity["folder"].as_str().unwrap());
        let own = domain(mode);
        let left = || {
            let places = limited_groups(&own).into_iter().filter_map(|base| Some(base.parent()?.to_owned()));
            let names = places.flat_map(|place| fs::read_dir(place).unwrap().flatten());
            names.filter(|e| e.file_name().to_str().is_some_and(|n| n.starts_with(&of_folder))).count()
        };
        let groups = left();
        assert_eq!(groups, limited_groups(&own).len());
        // The guard stands still while its agent dies: it cannot clean up.
        let guard = Pid::from_raw(guard_of(&agent.child).unwrap()).unwrap();
        kill_process(guard, Signal::STOP).unwrap();
        agent.signal(Signal::KILL);
        kill_process(guard, Signal::KILL).unwrap();
        agent.child.wait().unwrap();
        until("the child of the agent is gone", || carrying(&mark).len() == 1).await;
        assert_eq!(left(), groups);
        server.lost(run);
        agent.again(&server);
        server.connected(2).await;
        assert_eq!((carrying(&mark), left()), (vec![], 0), "{variable}");
        own.kill_everything();
    }
}
