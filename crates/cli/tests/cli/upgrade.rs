//! An upgrade by two builds side by side on one database: this version, and the next one, which has a migration, a protocol and a
//! message of its own. Servers become it one by one, then workers; on the way back workers are first. No run notices.

use crate::cluster::{Cluster, REPLICAS, WORKERS, is_whole, printing};
use crate::support::{Answer, build, outlive, server, until};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs that are at work while servers are replaced.
const LONG: usize = 12;
/// Runs that each worker's replacement meets.
const SHORT: usize = 8;

/// The build that `cargo xtask test` has made, or one that is made now.
fn next_version() -> PathBuf {
    std::env::var_os("OUTLIVE_TEST_NEXT").map_or_else(
        || {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let built = Answer::of(&Command::new(cargo).args(["xtask", "next"]).output().unwrap());
            assert_eq!(built.code, 0, "{}", built.err);
            built.out.trim().into()
        },
        PathBuf::from,
    )
}

/// What is to become of a cluster.
struct Upgrade {
    cluster: Cluster,
    /// Everything that was ever started.
    runs: Vec<String>,
}

impl Upgrade {
    fn start(&mut self, count: usize, script: &str) -> Vec<String> {
        let runs: Vec<_> = (0..count).map(|_| self.cluster.start(script)).collect();
        self.runs.extend(runs.iter().cloned());
        runs
    }

    fn all_are(&self, runs: &[String], state: &str) {
        until(&format!("they are {state}"), || self.cluster.are(runs, state));
    }

    /// Server after server, while runs are at work that began before the first and end after the last.
    fn servers_become(&mut self, phase: &str, program: &dyn Fn() -> Command, version: &str) {
        let go = self.cluster.folder.path().join(phase);
        let long = self.start(LONG, &printing(&go));
        self.all_are(&long, "running");
        for (seat, name) in REPLICAS.into_iter().enumerate() {
            let (mut old, url) = self.cluster.replicas[seat].take().unwrap();
            old.signal("-TERM");
            assert!(old.0.wait().unwrap().success(), "a replica stops in order");
            let new = self.cluster.serve_by(program(), name, url.trim_start_matches("http://"));
            assert_eq!(server(&new.1).version, version);
            self.cluster.replicas[seat] = Some(new);
            // Both versions take part in these.
            let more = self.start(SHORT, "echo 1; echo end 1");
            self.all_are(&more, "succeeded");
            until("all workers are online", || self.cluster.online() == WORKERS);
        }
        std::fs::write(go, "").unwrap();
        self.all_are(&long, "succeeded");
    }

    /// Worker after worker: each finishes what it has, and another build goes on in its place.
    fn workers_become(&mut self, program: &dyn Fn() -> Command, version: &str) {
        for number in 0..WORKERS {
            let script = "i=0; while [ $i -lt 10 ]; do i=$((i+1)); echo $i; sleep 0.1; done; echo end $i";
            let short = self.start(SHORT, script);
            let old = &mut self.cluster.workers[number];
            old.signal("-TERM");
            assert!(old.0.wait().unwrap().success(), "a worker finishes what it has");
            self.cluster.workers[number] = self.cluster.hire_by(program(), number, number);
            until("all workers are online", || self.cluster.online() == WORKERS);
            self.all_are(&short, "succeeded");
        }
        let workers = self.cluster.json(&["workers", "list"]);
        assert!(workers.as_array().unwrap().iter().all(|worker| worker["version"] == version), "{workers}");
    }
}

#[test]
fn servers_and_then_workers_become_the_next_version_one_by_one_and_go_back_and_no_run_is_lost_or_taken() {
    let program = next_version();
    let (this, next) = (outlive, || build(&program));
    let cluster = Cluster::open();
    let here = server(&cluster.replicas[0].as_ref().unwrap().1).version;
    let there = format!("{here}-next");
    let mut upgrade = Upgrade { cluster, runs: Vec::new() };

    // Workers are not first: a server does not know what comes after it, and says what to do.
    let early = too_early(&upgrade.cluster, &program);
    assert!(early.code != 0 && early.err.contains("upgrade the servers first"), "{early:?}");

    upgrade.servers_become("there", &next, &there);
    upgrade.workers_become(&next, &there);
    upgrade.workers_become(&this, &here);
    upgrade.servers_become("back", &this, &here);

    let Upgrade { cluster, runs } = upgrade;
    for run in &runs {
        let shown = cluster.json(&["runs", "show", run]);
        assert_eq!((shown["epoch"].as_u64(), shown["losses"].as_u64()), (Some(1), Some(0)), "{shown}");
        let log = cluster.call(&["runs", "output", run]).out;
        assert!(is_whole(&log), "no line is lost or doubled: {log}");
    }
    assert_eq!(cluster.json(&["recoveries", "list"]).as_array().map(Vec::len), Some(0));
}

fn too_early(cluster: &Cluster, program: &Path) -> Answer {
    let url = &cluster.replicas[0].as_ref().unwrap().1;
    let mut worker = build(program);
    worker.args(["worker", "--server", url, "--name", "early", "--allow-exec", "--state-dir"]);
    Answer::of(&worker.arg(cluster.folder.path().join("early")).output().unwrap())
}
