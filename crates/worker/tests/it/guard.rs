//! The guard's process, driven by a test in the place of an agent.

use crate::support::{MODES, Metronome, carrying, guard_command, lease, size, ticking, unique, until};
use outlive_api::clock::SystemClock;
use outlive_core::clock::Clock as _;
use outlive_core::policy::OnIsolation;
use outlive_core::resources::Resources;
use outlive_core::{LeaseRef, Millis, Mono};
use outlive_worker::agent::GuardEvent;
use outlive_worker::guard::{Command, Guard, Reply, Started};
use outlive_worker::reach::{Domain, LEASE_VARIABLE, Mode};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout};

struct Watched {
    guard: Child,
    stdin: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    domain: Domain,
}

impl Watched {
    fn new(mode: Mode) -> Self {
        let domain = Domain::new(format!("test.{:x}", unique()), mode);
        let guard = Guard { command: guard_command(), domain: domain.clone() };
        let Started { child, stdin, stdout } = guard.start().unwrap();
        Self { guard: child, stdin: Some(stdin), replies: BufReader::new(stdout), domain }
    }

    fn tell(&mut self, command: &Command) {
        self.stdin.as_mut().unwrap().write_all(command.to_string().as_bytes()).unwrap();
    }

    /// The next thing that the guard did.
    fn did(&mut self) -> (LeaseRef, GuardEvent) {
        let mut line = String::new();
        self.replies.read_line(&mut line).unwrap();
        match Reply::parse(line.trim_end()) {
            Some(Reply::Did(lease, event, at)) if at <= SystemClock.boot() => (lease, event),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn track(&mut self, isolation: OnIsolation, deadline: Mono) -> LeaseRef {
        let lease = lease(&serde_json::Value::Null).lease();
        self.tell(&Command::Track { lease, isolation, deadline });
        lease
    }

    /// Work of a lease, as an agent would start it.
    fn work(&self, lease: LeaseRef, script: &str) -> Child {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).env(LEASE_VARIABLE, self.domain.id(lease));
        match self.domain.group(lease) {
            Some(_) => {
                let confined = self.domain.confine(lease, Resources::default()).unwrap();
                outlive_worker::sys::contain(&mut command, confined);
            }
            None => {
                command.process_group(0);
            }
        }
        command.spawn().unwrap()
    }

    fn trust(&mut self, at: Mono, lease: LeaseRef) {
        self.tell(&Command::Trust { at, leases: vec![lease] });
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.guard.wait();
    }
}

fn soon(millis: u64) -> Mono {
    SystemClock.boot() + Millis(millis)
}

#[tokio::test]
async fn work_stands_still_at_its_deadline_and_goes_on_when_it_moves() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let (inner, outer) = (folder.path().join("inner"), folder.path().join("outer"));
        let metronome = Metronome::start(folder.path());
        let mut watched = Watched::new(mode);
        let lease = watched.track(OnIsolation::Freeze, soon(60_000));
        let script = format!("setsid sh -c '{}' & {}", ticking(&inner), ticking(&outer));
        let mut work = watched.work(lease, &script);
        until("both tick", || size(&inner) > 3 && size(&outer) > 3).await;
        watched.trust(soon(200), lease);
        assert_eq!(watched.did(), (lease, GuardEvent::Frozen));
        metronome.until_still(&inner).await;
        metronome.until_still(&outer).await;
        let still = (size(&inner), size(&outer));
        metronome.ticks(50).await;
        assert_eq!((size(&inner), size(&outer)), still, "{mode:?}: frozen");
        watched.trust(soon(60_000), lease);
        assert_eq!(watched.did(), (lease, GuardEvent::Thawed));
        until("both tick again", || size(&inner) > still.0 && size(&outer) > still.1).await;
        drop(watched);
        work.wait().unwrap();
    }
}

/// A process that waits for its child to begin (`vfork`), or for a processor, shows no sign of the stop that awaits it.
#[tokio::test]
async fn a_stop_that_has_not_taken_effect_is_taken_back_too() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ticks");
        let mut watched = Watched::new(mode);
        let lease = watched.track(OnIsolation::Continue, soon(60_000));
        let mut work = watched.work(lease, &ticking(&path));
        until("it ticks", || size(&path) > 3).await;
        let leases = BTreeMap::from([(lease, None)]);
        for _ in 0..200 {
            let _ = watched.domain.set_frozen(&leases, true);
            let _ = watched.domain.set_frozen(&leases, false);
        }
        let before = size(&path);
        until("it goes on", || size(&path) > before + 3).await;
        drop(watched);
        work.wait().unwrap();
    }
}

#[tokio::test]
async fn when_the_agents_pipe_closes_everything_dies_frozen_or_not() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ticks");
        let mut watched = Watched::new(mode);
        let frozen = watched.track(OnIsolation::Freeze, soon(60_000));
        let free = watched.track(OnIsolation::Freeze, soon(60_000));
        let untracked = lease(&serde_json::Value::Null).lease();
        let script = format!("(setsid sh -c 'sleep 1000 & sleep 1000' &); {}", ticking(&path));
        let children = [frozen, free, untracked].map(|lease| watched.work(lease, &script));
        until("one ticks", || size(&path) > 3).await;
        watched.trust(soon(0), frozen);
        assert_eq!(watched.did(), (frozen, GuardEvent::Frozen));
        let mark = format!("{LEASE_VARIABLE}={}.", watched.domain.prefix);
        let cgroup = watched.domain.cgroup.clone();
        drop(watched);
        for mut child in children {
            child.wait().unwrap();
        }
        assert_eq!(carrying(&mark), Vec::<i32>::new(), "{mode:?}: the guard ends when a pass finds nothing");
        assert!(cgroup.is_none_or(|path| !Path::exists(&path)), "and takes its groups along");
    }
}

#[tokio::test]
async fn on_isolation_stop_kills_and_continue_does_nothing() {
    for mode in MODES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ticks");
        let mut watched = Watched::new(mode);
        let goes_on = watched.track(OnIsolation::Continue, soon(0));
        let stops = watched.track(OnIsolation::Stop, soon(60_000));
        let (mut first, mut second) = (watched.work(goes_on, &ticking(&path)), watched.work(stops, "sleep 1000"));
        watched.trust(soon(0), stops);
        // The work leads its own group, which this process has not reaped: the guard finds only what carries the lease.
        let killed = std::thread::spawn(move || second.wait().unwrap());
        assert_eq!(watched.did(), (stops, GuardEvent::Stopped));
        assert!(!killed.join().unwrap().success());
        let before = size(&path);
        until("it goes on", || size(&path) > before).await;
        drop(watched);
        first.wait().unwrap();
    }
}

#[tokio::test]
async fn signals_to_the_agents_group_do_not_reach_the_guard() {
    let watched = Watched::new(Mode::Signals);
    let pid = i32::try_from(watched.guard.id()).unwrap();
    let seen = outlive_worker::reach::procfs::read(pid).unwrap();
    assert_eq!((seen.group, seen.session), (pid, pid), "it leads a session of its own");
}
