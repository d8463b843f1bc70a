//! Several servers over one PostgreSQL: the death of one is a non-event.

use crate::support::{Answer, Running, outlive, server, until};
use outlive_pg_private::{Database, shared};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub(crate) const REPLICAS: [&str; 3] = ["a", "b", "c"];
pub(crate) const WORKERS: usize = 4;
const RUNS: usize = 12;
const LINES: u64 = 60;

pub(crate) struct Cluster {
    pub(crate) folder: TempDir,
    pub(crate) database: Database,
    pub(crate) replicas: Vec<Option<(Running, String)>>,
    pub(crate) workers: Vec<Running>,
}

impl Cluster {
    pub(crate) fn open() -> Self {
        let database = Database::empty(shared().unwrap()).unwrap();
        let mut cluster =
            Self { folder: tempfile::tempdir().unwrap(), database, replicas: Vec::new(), workers: Vec::new() };
        for name in REPLICAS {
            let started = cluster.serve(name, "127.0.0.1:0");
            cluster.replicas.push(Some(started));
        }
        // Each worker knows the replicas in another order: they are at home all over.
        for number in 0..WORKERS {
            let worker = cluster.hire(number);
            cluster.workers.push(worker);
        }
        until("the workers are online", || cluster.online() == WORKERS);
        cluster
    }

    pub(crate) fn online(&self) -> usize {
        self.json(&["workers", "list"]).as_array().unwrap().iter().filter(|w| w["status"] == "online").count()
    }

    fn log(&self, name: &str) -> std::fs::File {
        let path = self.folder.path().join(format!("{name}.log"));
        std::fs::File::options().create(true).append(true).open(path).unwrap()
    }

    fn serve(&self, name: &str, listen: &str) -> (Running, String) {
        self.serve_by(outlive(), name, listen)
    }

    /// A replica of some build.
    pub(crate) fn serve_by(&self, mut build: Command, name: &str, listen: &str) -> (Running, String) {
        let mut child = build
            .args(["server", "--store", &self.database.url(), "--replica", name, "--listen", listen])
            .stdout(Stdio::piped())
            .stderr(self.log(name))
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let log = || std::fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default();
        assert!(url.starts_with("http://"), "the replica did not start: {}", log());
        (Running(child), url.trim().to_owned())
    }

    fn hire(&self, number: usize) -> Running {
        self.hire_at(number, number)
    }

    /// One that tries this replica first.
    fn hire_at(&self, number: usize, first: usize) -> Running {
        self.hire_by(outlive(), number, first)
    }

    /// A worker of some build.
    pub(crate) fn hire_by(&self, mut build: Command, number: usize, first: usize) -> Running {
        let mut urls: Vec<_> = self.replicas.iter().flatten().map(|(_, url)| url.clone()).collect();
        let turn = first % urls.len();
        urls.rotate_left(turn);
        let name = format!("w-{number}");
        let child = build
            .args([
                "worker",
                "--server",
                &urls.join(","),
                "--name",
                &name,
                "--slots",
                "8",
                "--allow-exec",
                "--state-dir",
            ])
            .arg(self.folder.path().join(&name))
            .stderr(self.log(&name))
            .spawn()
            .unwrap();
        Running(child)
    }

    /// A command line that knows all replicas that are up.
    fn command(&self, args: &[&str]) -> Command {
        let urls: Vec<_> = self.replicas.iter().flatten().map(|(_, url)| url.as_str()).collect();
        let mut command = outlive();
        command.args(args).env("OUTLIVE_SERVER", urls.join(",")).current_dir(self.folder.path());
        command
    }

    pub(crate) fn call(&self, args: &[&str]) -> Answer {
        Answer::of(&self.command(args).output().unwrap())
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let answer = self.call(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{args:?}: {e}: {answer:?}"))
    }

    pub(crate) fn start(&self, script: &str) -> String {
        let answer = self.call(&["run", "--detach", "--", "sh", "-c", script]);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out.trim().to_owned()
    }

    /// Whether each of these runs is in a state, in one look.
    pub(crate) fn are(&self, runs: &[String], state: &str) -> bool {
        let all = self.json(&["runs", "list", "--limit", "1000"]);
        let is = |run: &Value| run["state"] == state && runs.iter().any(|id| run["id"] == id.as_str());
        all.as_array().unwrap().iter().filter(|run| is(run)).count() == runs.len()
    }

    pub(crate) fn state(&self, run: &str) -> String {
        self.json(&["runs", "show", run])["state"].as_str().unwrap().to_owned()
    }

    fn kill(&mut self, replica: usize) -> String {
        let (mut process, url) = self.replicas[replica].take().unwrap();
        process.signal("-9");
        process.0.wait().unwrap();
        url
    }
}

/// Prints numbers until it may end, and then how many there were.
pub(crate) fn printing(go: &Path) -> String {
    format!("i=0; until [ -e {} ]; do i=$((i+1)); echo $i; sleep 0.1; done; echo end $i", go.display())
}

/// Whether a log is all of it, each line once.
pub(crate) fn is_whole(log: &str) -> bool {
    let lines: Vec<_> = log.lines().collect();
    let count = lines.len() - 1;
    lines[..count].iter().enumerate().all(|(i, line)| *line == (i + 1).to_string())
        && lines[count] == format!("end {count}")
}

fn counting(folder: &Path) -> String {
    let go = folder.join("go").display().to_string();
    format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo $i; [ -e {go} ] || sleep 0.2; done")
}

fn every_line() -> String {
    (1..=LINES).flat_map(|n| [n.to_string(), "\n".to_owned()]).collect()
}

#[test]
fn a_replica_that_is_killed_takes_nothing_with_it_and_its_sessions_find_another_home() {
    let mut cluster = Cluster::open();
    let script = counting(cluster.folder.path());
    let runs: Vec<_> = (0..RUNS).map(|_| cluster.start(&script)).collect();
    until("all of them run", || cluster.are(&runs, "running"));
    let url = cluster.kill(0);
    until("its sessions are at home elsewhere", || {
        let workers = cluster.json(&["workers", "list"]);
        workers.as_array().unwrap().iter().all(|w| w["status"] == "online" && w["home"] != 1)
    });
    // It comes back in its seat, and another one goes.
    let address = url.trim_start_matches("http://").to_owned();
    cluster.replicas[0] = Some(cluster.serve(REPLICAS[0], &address));
    cluster.kill(1);
    std::fs::write(cluster.folder.path().join("go"), "").unwrap();
    until("all of them end", || cluster.are(&runs, "succeeded"));
    for run in &runs {
        let shown = cluster.json(&["runs", "show", run]);
        assert_eq!(
            (shown["epoch"].as_u64(), shown["losses"].as_u64()),
            (Some(1), Some(0)),
            "nothing is reaped: {shown}"
        );
        assert_eq!(cluster.call(&["runs", "output", run]).out, every_line(), "no line is lost or doubled");
    }
    assert_eq!(cluster.json(&["recoveries", "list"]).as_array().map(Vec::len), Some(0));
}

#[test]
fn a_worker_s_death_is_noticed_at_its_home_and_its_run_goes_on_at_a_worker_of_another() {
    let cluster = Cluster::open();
    let script = counting(cluster.folder.path());
    let run = cluster.start(&script);
    until("it runs", || cluster.state(&run) == "running");
    let first = cluster.json(&["runs", "show", &run])["lease"]["worker_name"].as_str().unwrap().to_owned();
    let number: usize = first.trim_start_matches("w-").parse().unwrap();
    cluster.workers[number].signal("-9");
    until("another has it", || {
        let shown = cluster.json(&["runs", "show", &run]);
        shown["state"] == "running" && shown["lease"]["worker_name"] != first.as_str()
    });
    std::fs::write(cluster.folder.path().join("go"), "").unwrap();
    until("it ends", || cluster.state(&run) == "succeeded");
    let attempts = cluster.json(&["runs", "attempts", &run]);
    assert_eq!(attempts.as_array().map(Vec::len), Some(2), "{attempts}");
    assert_eq!(cluster.call(&["runs", "output", &run]).out, every_line());
}

#[test]
fn a_worker_that_is_killed_while_its_home_stands_still_is_let_in_at_another_replica() {
    let mut cluster = Cluster::open();
    let home = cluster.json(&["workers", "list"]);
    let home = home.as_array().unwrap().iter().find(|w| w["name"] == "w-0").unwrap()["home"].clone();
    let (stopped, _) = cluster.replicas[0].take().unwrap();
    stopped.signal("-STOP");
    cluster.workers[0].signal("-9");
    cluster.workers[0].0.wait().unwrap();
    // At a replica that hears its home, so far, and cannot know that the session is over.
    let again = cluster.hire_at(0, 0);
    until("its next start is online elsewhere", || {
        let workers = cluster.json(&["workers", "list"]);
        let worker = workers.as_array().unwrap().iter().find(|w| w["name"] == "w-0").unwrap().clone();
        worker["status"] == "online" && worker["incarnation"] == 2 && worker["home"] != home
    });
    drop((again, stopped));
}

#[test]
fn a_replica_that_stands_still_for_longer_than_a_lease_loses_its_workers_to_others_and_takes_nothing_back() {
    /// The TTL, twice, by the clock of the judges: whatever would be reaped has been.
    const LONG_MS: u64 = 6_000;
    let mut cluster = Cluster::open();
    assert_eq!(cluster.call(&["queues", "set", "default", "lease_ttl=3s"]).code, 0);
    let go = cluster.folder.path().join("go");
    let script = printing(&go);
    let runs: Vec<_> = (0..RUNS).map(|_| cluster.start(&script)).collect();
    until("all of them run", || cluster.are(&runs, "running"));
    let homed = |cluster: &Cluster, home: i64| {
        let workers = cluster.json(&["workers", "list"]);
        workers.as_array().unwrap().iter().filter(|w| w["status"] == "online" && w["home"] == home).count()
    };
    let (stopped, url) = cluster.replicas[0].take().unwrap();
    let home = server(&url).replica;
    assert!(homed(&cluster, home) > 0, "it is the home of some, with runs");
    let other = cluster.replicas[1].as_ref().unwrap().1.clone();
    let passed = |url: &str, since: u64| server(url).judge.observed_ms >= since + LONG_MS;
    let began = server(&other).judge.observed_ms;
    stopped.signal("-STOP");
    until("its workers are at home elsewhere", || cluster.online() == WORKERS && homed(&cluster, home) == 0);
    until("the others would have noticed", || passed(&other, began));
    assert!(cluster.are(&runs, "running"));
    stopped.signal("-CONT");
    until("it knows that it is nobody's home", || server(&url).sessions == 0 && server(&url).leases == 0);
    let woke = server(&url).judge.observed_ms;
    cluster.replicas[0] = Some((stopped, url.clone()));
    let more: Vec<_> = (0..RUNS / 2).map(|_| cluster.start("echo more")).collect();
    until("what is begun meanwhile ends", || cluster.are(&more, "succeeded"));
    until("it would have given its verdicts", || passed(&url, woke));
    assert_eq!((server(&url).sessions, homed(&cluster, home)), (0, 0), "it takes nobody back");
    std::fs::write(go, "").unwrap();
    until("all of them end", || cluster.are(&runs, "succeeded"));
    for run in runs.iter().chain(&more) {
        let shown = cluster.json(&["runs", "show", run]);
        assert_eq!((shown["epoch"].as_u64(), shown["losses"].as_u64()), (Some(1), Some(0)), "{shown}");
    }
    assert!(runs.iter().all(|run| is_whole(&cluster.call(&["runs", "output", run]).out)));
    assert_eq!(cluster.json(&["recoveries", "list"]).as_array().map(Vec::len), Some(0));
}

#[test]
fn servers_go_on_and_start_again_where_the_next_version_has_widened_the_schema() {
    let mut cluster = Cluster::open();
    let script = counting(cluster.folder.path());
    let runs: Vec<_> = (0..RUNS).map(|_| cluster.start(&script)).collect();
    until("all of them run", || cluster.are(&runs, "running"));
    // What the next version does when its first server starts: it adds, and says that the version before may stay.
    cluster
        .database
        .sql(
            "BEGIN; INSERT INTO outlive.schema_history (version, name, least) \
             SELECT max(version) + 1, 'next', max(version) FROM outlive.schema_history; \
             ALTER TABLE outlive.run ADD COLUMN next bigint NOT NULL DEFAULT 0; \
             ALTER TABLE outlive.worker ADD COLUMN next text; CREATE INDEX run_next ON outlive.run (next); COMMIT",
        )
        .unwrap();
    let more: Vec<_> = (0..RUNS / 2).map(|_| cluster.start("echo more")).collect();
    for (seat, name) in REPLICAS.into_iter().enumerate() {
        let url = cluster.kill(seat);
        cluster.replicas[seat] = Some(cluster.serve(name, url.trim_start_matches("http://")));
    }
    std::fs::write(cluster.folder.path().join("go"), "").unwrap();
    until("all of them end", || cluster.are(&runs, "succeeded") && cluster.are(&more, "succeeded"));
    for run in &runs {
        assert_eq!(cluster.call(&["runs", "output", run]).out, every_line());
    }
    assert_eq!(cluster.json(&["recoveries", "list"]).as_array().map(Vec::len), Some(0));
}
