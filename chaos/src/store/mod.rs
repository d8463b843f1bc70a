//! `kill -9` of the server in a loop under load: every acknowledged run, frame, checkpoint, end and cancel is there.
//!
//! The load asks until it is answered, as callers do: the same request, again and again, over every kill. What was answered goes
//! into the history. When the last kill is over, everything that was asked for is given time to end, and is read through the API.

mod collect;
mod load;

use crate::history::{Finding, History, check};
use crate::load::{LOOK, Load};
use crate::process::{House, Post, Process, ms_since};
use crate::rng::Rng;
use outlive_api::client::Client;
use outlive_api::clock::nanos;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What is done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary `outlive`.
    pub binary: PathBuf,
    /// How often the server is killed.
    pub kills: u32,
    /// By which the load and the moments of the kills are chosen.
    pub seed: u64,
    /// Keeps the folder with database and logs.
    pub keep: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The plan's seed.
    pub seed: u64,
    /// How often the server was killed, and came back.
    pub kills: u32,
    /// Runs that are there.
    pub runs: usize,
    /// Acknowledged: creations, frames, checkpoints, ends, cancels.
    pub acknowledged: [usize; 5],
    /// Repetitions that the load needed: answers that were lost, and connections that were refused.
    pub repeated: u64,
    /// Recoveries: from the kill to the first answer of the next server, in milliseconds, sorted.
    pub back_ms: Vec<u64>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Where database and logs are, if they were kept.
    pub folder: Option<PathBuf>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [created, frames, checkpoints, ends, cancels] = self.acknowledged;
        let duplicates = self.findings.iter().filter(|finding| finding.is_duplicate()).count();
        let at =
            |share: usize| self.back_ms.get(self.back_ms.len().saturating_sub(1) * share / 100).copied().unwrap_or(0);
        writeln!(f, "seed {}: {} kills, each followed by a restart", self.seed, self.kills)?;
        writeln!(f, "runs {}; repeated calls {}", self.runs, self.repeated)?;
        writeln!(
            f,
            "acknowledged: {created} creations, {frames} frames, {checkpoints} checkpoints, {ends} ends, {cancels} cancels"
        )?;
        writeln!(f, "lost or wrong {}, duplicates {duplicates}", self.findings.len() - duplicates)?;
        writeln!(f, "back after a kill: p50 {} ms, p99 {} ms, longest {} ms", at(50), at(99), at(100))?;
        for finding in self.findings.iter().take(20) {
            writeln!(f, "  {finding}")?;
        }
        match &self.folder {
            Some(folder) => write!(f, "kept: {}", folder.display()),
            None => Ok(()),
        }
    }
}

/// Real workers.
const WORKERS: u32 = 2;
/// A server must answer within this time.
const BACK: Duration = Duration::from_secs(30);
/// Everything must have ended this long after the last kill.
const DRAIN: Duration = Duration::from_mins(2);
/// A server lives this long before it is killed: at least, and up to so much more. Milliseconds.
const LIFE: (u64, u64) = (30, 500);
/// … and until it has acknowledged so many creations, however slow the machine is …
const LIFE_CREATED: usize = 8;
/// … but for each so-manieth, which may be killed before it has done anything …
const SHORT_LIFE: u32 = 4;
/// … or until this, when nobody asks for more.
const LONGEST_LIFE: Duration = Duration::from_secs(20);

/// Does it.
///
/// # Errors
/// What kept it from being done; what it found is in the report.
pub fn run(plan: &Plan) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    tokio::task::LocalSet::new().block_on(&runtime, carry_out(plan))
}

async fn carry_out(plan: &Plan) -> Result<Report, String> {
    let io = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let mut rng = Rng::new(plan.seed);
    let folder = tempfile::Builder::new().prefix("chaos-").tempdir().map_err(io("no folder"))?;
    let house = House::new(&plan.binary, folder.path(), &mut rng).map_err(io("no port"))?;
    let client = Client::new(&house.address, "default").map_err(|error| error.to_string())?;
    let mut server = house.server().map_err(io("the server does not start"))?;
    back(&client, &mut server).await?;
    let names = (1..=WORKERS).map(|n| format!("real-{n}"));
    let workers: Vec<Process> =
        names.map(|name| worker(&house, &name)).collect::<Result<_, _>>().map_err(io("a worker does not start"))?;
    let load = Arc::new(Load::new(client.clone()));
    let tasks = load::start(&load, &mut rng, plan.kills);

    let mut back_ms = Vec::new();
    for kill in 1..=plan.kills {
        let enough = load.created() + if kill % SHORT_LIFE == 0 { 0 } else { LIFE_CREATED };
        tokio::time::sleep(Duration::from_millis(LIFE.0 + rng.below(LIFE.1))).await;
        let busy = async {
            while load.created() < enough {
                tokio::time::sleep(LOOK).await;
            }
        };
        drop(tokio::time::timeout(LONGEST_LIFE, busy).await);
        let killed = nanos();
        server.kill().map_err(io("the server cannot be killed"))?;
        server = house.server().map_err(io("the server does not start again"))?;
        back(&client, &mut server).await?;
        back_ms.push(ms_since(killed));
    }
    load.ask_no_more();
    let found = tokio::time::timeout(DRAIN, collect::when_over(&load)).await;
    load.stop();
    for task in tasks {
        task.await.map_err(|error| format!("a part of the load failed: {error}"))?;
    }
    let found = match found {
        Ok(found) => found?,
        Err(_) => collect::all(&load).await?,
    };
    drop((workers, server));
    back_ms.sort_unstable();
    let history: History = load.history();
    let findings = check(&history, &found);
    let folder = if plan.keep || !findings.is_empty() { Some(folder.keep()) } else { None };
    Ok(Report {
        seed: plan.seed,
        kills: plan.kills,
        runs: found.len(),
        acknowledged: [
            history.created.len(),
            history.frames.len(),
            history.checkpoints.len(),
            history.finishes.len(),
            history.cancels.len(),
        ],
        repeated: load.repeated(),
        back_ms,
        findings,
        folder,
    })
}

fn worker(house: &House, name: &str) -> std::io::Result<Process> {
    house.worker(&Post { name, slots: 4, server: &house.address, through: &[] })
}

/// Waits until the server answers.
async fn back(client: &Client, server: &mut Process) -> Result<(), String> {
    let answers = async {
        while client.server().await.is_err() {
            if server.has_ended() {
                return Err("the server ended by itself; see server.log".to_owned());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    tokio::time::timeout(BACK, answers).await.map_err(|_| "the server does not answer".to_owned())?
}
