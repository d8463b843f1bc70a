//! Server, workers and runs of a scenario; and waiting until something is so.

use super::check::{Rights, Seen, Tried};
use super::means::clock::Clock;
use super::means::namespace::Namespace;
use super::scenario::{Scale, Scenario, Setting};
use crate::link::Link;
use crate::process::{House, Post, Process, free_port};
use crate::read;
use crate::rng::Rng;
use outlive_api::client::Client;
use outlive_api::clock::nanos;
use outlive_api::ops::Server;
use outlive_api::runs::{ExecInput, NewRun, NewRuns, OutputFormat, Run};
use outlive_core::policy::{OnIsolation, QueuePolicy};
use outlive_core::stamps::{self, Stamp};
use outlive_core::{Epoch, Json, RunId, State};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between looks at a level.
const LOOK: Duration = Duration::from_millis(50);
/// Whatever is waited for is there by then, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(90);
/// A run whose last stamp is younger executes.
const FRESH_NANOS: u64 = 1_000_000_000;

pub(super) struct Stage {
    pub(super) house: House,
    pub(super) client: Client,
    pub(super) server: Process,
    pub(super) workers: BTreeMap<String, Process>,
    pub(super) runs: BTreeSet<RunId>,
    pub(super) scale: Scale,
    pub(super) rng: Rng,
    pub(super) rights: Rights,
    /// What was seen of the fault, for people.
    pub(super) notes: Vec<String>,
    /// What kept the fault from being one.
    pub(super) doubts: Vec<String>,
    pub(super) proxy: Option<Link>,
    pub(super) namespace: Option<Namespace>,
    pub(super) clock: Option<Clock>,
}

fn said(what: &str) -> impl Fn(std::io::Error) -> String + '_ {
    move |e| format!("{what}: {e}")
}

impl Stage {
    /// Starts everything; all runs are executing.
    pub(super) async fn set(
        scenario: &Scenario,
        scale: Scale,
        isolation: OnIsolation,
        binary: &Path,
        folder: &Path,
        mut rng: Rng,
    ) -> Result<Self, String> {
        let mut house = House::new(binary, folder, &mut rng).map_err(said("no port"))?;
        let clock = if scenario.setting == Setting::OwnClock { Some(Clock::new(folder)?) } else { None };
        house.env = clock.as_ref().map(Clock::env).unwrap_or_default();
        house.open = scenario.setting == Setting::OwnHost;
        let namespace = if house.open { Some(Namespace::new(&mut rng)?) } else { None };
        let client = Client::new(&house.address, "default").map_err(|e| e.to_string())?;
        let server = house.server().map_err(said("the server does not start"))?;
        let proxy = if scenario.setting == Setting::Proxied {
            let port = free_port(&mut rng).map_err(said("no port"))?;
            Some(Link::new(port, house.address.clone()).await?)
        } else {
            None
        };
        let mut stage = Self {
            house,
            client,
            server,
            workers: BTreeMap::new(),
            runs: BTreeSet::new(),
            scale,
            rng,
            rights: Rights::default(),
            notes: Vec::new(),
            doubts: Vec::new(),
            proxy,
            namespace,
            clock,
        };
        stage.until("the server answers", async |s| s.client.server().await.is_ok()).await?;
        let policy = QueuePolicy { on_isolation: isolation, ..QueuePolicy::default() };
        stage.client.put_queue("default", &policy).await.map_err(|e| e.to_string())?;
        stage.hire(scenario).await?;
        stage.submit().await?;
        stage.until("all runs execute", Self::all_execute).await?;
        Ok(stage)
    }

    async fn hire(&mut self, scenario: &Scenario) -> Result<(), String> {
        let slots = self.scale.runs.div_ceil(scenario.workers - scenario.go);
        for number in 1..=scenario.workers {
            let name = format!("w-{number}");
            let (mut server, mut through) = (self.house.address.clone(), Vec::new());
            if let Some(proxy) = &self.proxy {
                server = proxy.address();
            }
            if let Some(namespace) = self.namespace.as_ref().filter(|_| number == 1) {
                server = format!("{}:{}", namespace.gateway, self.house.port());
                through = namespace.through();
            }
            let post = Post { name: &name, slots, server: &server, through: &through };
            let worker = self.house.worker(&post).map_err(said("a worker does not start"))?;
            self.workers.insert(name, worker);
        }
        let all = scenario.workers;
        self.until("all workers are online", async |s| s.online().await.is_some_and(|n| n.len() == all)).await
    }

    async fn submit(&mut self) -> Result<(), String> {
        let ids: Vec<_> = (0..self.scale.runs).map(|_| self.rng.run_id()).collect();
        let runs = ids.iter().map(|&id| self.command(id)).collect::<Result<_, _>>()?;
        self.client.create_runs(&NewRuns { runs }).await.map_err(|e| e.to_string())?;
        self.runs.extend(ids);
        Ok(())
    }

    /// A run that stamps until the end.
    fn command(&self, id: RunId) -> Result<NewRun, String> {
        let [binary, file, end] =
            [self.house.binary.clone(), self.stamps(id), self.end()].map(|p| p.display().to_string());
        let input = ExecInput {
            command: vec![binary, "bench".into(), "stamp".into(), file, self.scale.every_ms.to_string(), end],
            cwd: None,
            env: BTreeMap::new(),
            stdin: None,
            output_format: OutputFormat::Text,
            strict_output: true,
            limits: None,
        };
        let input = Json::of(&input).map_err(|e| e.to_string())?;
        Ok(NewRun { id: Some(id), ..NewRun::of("exec", input) })
    }

    /// When this file is there, the commands end.
    fn end(&self) -> PathBuf {
        self.house.folder.join("end")
    }

    fn stamps(&self, id: RunId) -> PathBuf {
        self.house.folder.join(id.to_string())
    }

    /// Waits until something is so.
    pub(super) async fn until(&mut self, what: &str, so: impl AsyncFn(&Self) -> bool) -> Result<(), String> {
        let begun = nanos();
        while !so(self).await {
            if self.server.has_ended() {
                return Err(format!("the server ended by itself while it was waited for that {what}; see server.log"));
            }
            if u128::from(nanos() - begun) > PATIENCE.as_nanos() {
                return Err(format!("did not come true: {what}; {}", self.how_it_is().await));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn how_it_is(&self) -> String {
        let runs = read::all(&self.client).await.unwrap_or_default();
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        for run in &runs {
            let fresh = if self.is_fresh(run.id) { "executing" } else { "still" };
            let worker = run.lease.as_ref().map_or("nobody", |l| l.worker_name.as_str());
            *states.entry(format!("{} at {worker}, {fresh}", run.state)).or_default() += 1;
        }
        format!("online: {:?}; runs: {states:?}", self.online().await)
    }

    pub(super) async fn server(&self) -> Option<Server> {
        self.client.server().await.ok()
    }

    /// For how long the server's judge has held nothing against anybody since its start.
    pub(super) async fn lag_ms(&self) -> u64 {
        self.server().await.map_or(0, |s| s.judge.lag_ms)
    }

    /// Names of workers that are online.
    pub(super) async fn online(&self) -> Option<BTreeSet<String>> {
        let workers = self.client.workers().await.ok()?.workers;
        Some(workers.into_iter().filter(|w| w.status == "online").map(|w| w.name).collect())
    }

    fn is_fresh(&self, id: RunId) -> bool {
        last_stamp(&self.stamps(id)).is_some_and(|s| nanos().saturating_sub(s.at) < FRESH_NANOS)
    }

    /// Whether every run is running, and its current attempt executes.
    pub(super) async fn all_execute(&self) -> bool {
        let Ok(runs) = read::all(&self.client).await else { return false };
        let fresh = |run: &Run| {
            let stamp = last_stamp(&self.stamps(run.id));
            stamp.is_some_and(|s| s.epoch == run.epoch) && self.is_fresh(run.id)
        };
        runs.len() == self.runs.len() && runs.iter().all(|run| run.state == State::Running && fresh(run))
    }

    /// What these workers hold.
    pub(super) async fn held_by(&self, names: &[String]) -> Result<BTreeMap<RunId, Epoch>, String> {
        let runs = read::all(&self.client).await?;
        let theirs = |run: &&Run| run.lease.as_ref().is_some_and(|l| names.contains(&l.worker_name));
        Ok(runs.iter().filter(theirs).map(|run| (run.id, run.epoch)).collect())
    }

    /// All that these have will be elsewhere, and rightly so. How much that is.
    pub(super) async fn give_up(&mut self, names: &[String]) -> Result<usize, String> {
        let held = self.held_by(names).await?;
        let many = held.len();
        self.rights.must_move.extend(held);
        self.rights.may_lose.extend(names.iter().cloned());
        Ok(many)
    }

    /// Waits until everything that must move has begun elsewhere.
    pub(super) async fn until_moved(&mut self) -> Result<(), String> {
        let moved = async |s: &Self| {
            s.rights.must_move.iter().all(|(&run, &epoch)| last_stamp(&s.stamps(run)).is_some_and(|s| s.epoch > epoch))
        };
        self.until("what was lost executes elsewhere", moved).await
    }

    pub(super) fn signal(&self, worker: &str, signal: Signal) -> Result<(), String> {
        let process = self.workers.get(worker).ok_or("no such worker")?;
        process.signal(signal).map_err(said("the signal cannot be sent"))
    }

    /// Names of the workers, in an order that follows from the seed.
    pub(super) fn shuffled(&mut self) -> Vec<String> {
        let mut names: Vec<_> = self.workers.keys().cloned().collect();
        self.rng.shuffle(&mut names);
        names
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Lets all commands end, and reads everything.
    pub(super) async fn end_all(&mut self) -> Result<Vec<Seen>, String> {
        File::create(self.end()).map_err(said("the end cannot be told"))?;
        let ended = async |s: &Self| read::all(&s.client).await.is_ok_and(|r| r.iter().all(|r| r.state.is_terminal()));
        if let Err(why) = self.until("all runs end", ended).await {
            // What does not end is for the check to find.
            self.note(why);
        }
        let mut seen = Vec::with_capacity(self.runs.len());
        for run in read::all(&self.client).await? {
            let whole = read::whole(&self.client, run.id).await?;
            let text = std::fs::read_to_string(self.stamps(run.id)).unwrap_or_default();
            let attempts = whole.attempts.into_iter().map(|a| Tried {
                epoch: a.epoch,
                worker: a.worker_name,
                started: a.started_at.is_some(),
                reason: a.reason,
            });
            seen.push(Seen {
                run: run.id,
                state: whole.run.state,
                attempts: attempts.collect(),
                log: whole.log,
                stamps: stamps::read(&text),
            });
        }
        Ok(seen)
    }
}

/// The last whole stamp of a file.
fn last_stamp(file: &Path) -> Option<Stamp> {
    /// A few lines.
    const TAIL: u64 = 256;
    let mut file = File::open(file).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL))).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let whole = if len > TAIL { text.split_once('\n')?.1 } else { &text };
    stamps::read(whole).last().copied()
}
