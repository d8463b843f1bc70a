//! From SIGKILL to running again, as the new attempt itself stamps it.
//!
//! The command of each run is this binary: it appends its epoch, its process and the monotonic time to a file and waits. The
//! clock is one for all processes of the machine, so no polling interval and no server's word is in the number.

use super::super::Done;
use super::super::runs::{Filter, matching};
use super::{finish, probe};
use crate::config;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::fleet::{Fleet, LOOK};
use crate::render::say;
use crate::stats::{Spread, figure};
use indicatif::{ProgressBar, ProgressStyle};
use outlive_api::clock::nanos;
use outlive_api::runs::{CancelBody, ExecInput, NewRun, OutputFormat};
use outlive_core::stamps::{self, Stamp};
use outlive_core::{Epoch, Json, RunId};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kills of each kind
    #[arg(long, value_name = "N", default_value_t = 200)]
    kills: usize,
    /// Kill commands only
    #[arg(long, conflicts_with = "agent")]
    child: bool,
    /// Kill workers only
    #[arg(long)]
    agent: bool,
    /// Runs that the workers have when one of them is killed
    #[arg(long, value_name = "N", default_value_t = 6)]
    runs: usize,
}

#[derive(Debug, Serialize)]
struct Measured {
    machine: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    killed_child: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    killed_agent_all_runs: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    killed_agent_each_run: Option<Spread>,
    held: bool,
}

const TARGET_CHILD_MS: f64 = 100.0;
const TARGET_AGENT_MS: f64 = 1_300.0;
/// Longer than this is not slow but wrong.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at a stamp file. Not in the measured time.
const GLANCE: Duration = Duration::from_millis(1);

pub(super) async fn run(cx: &Context, args: &Args) -> Done {
    let mut m = Measured {
        machine: probe::machine(),
        killed_child: None,
        killed_agent_all_runs: None,
        killed_agent_each_run: None,
        held: true,
    };
    let mut lines = vec![
        format!("machine        {}", m.machine),
        format!(
            "command        outlive bench recovery --kills {} --runs {}{}",
            args.kills,
            args.runs,
            match (args.child, args.agent) {
                (true, _) => " --child",
                (_, true) => " --agent",
                _ => "",
            }
        ),
    ];
    let mut judge = |what: &str, spread: Spread, target: f64| {
        let held = spread.p99_ms <= target;
        lines.push(format!("{what:14} {}", spread.line()));
        lines.push(format!("{:14} p99 ≤ {}: {}", "  target", figure(target), if held { "held" } else { "NOT held" }));
        held
    };
    if !args.agent {
        let spread = Spread::of_nanos(&alone(children(args.kills)).await?);
        m.held &= judge("killed child", spread, TARGET_CHILD_MS);
        m.killed_child = Some(spread);
    }
    if !args.child {
        let (all, each) = alone(agents(args.kills, args.runs.max(1))).await?;
        let spread = Spread::of_nanos(&all);
        m.held &= judge("killed worker", spread, TARGET_AGENT_MS);
        m.killed_agent_all_runs = Some(spread);
        let each = Spread::of_nanos(&each);
        lines.push(format!("{:14} {}", "  each run", each.line()));
        m.killed_agent_each_run = Some(each);
    }
    finish(cx, &m, &lines, None)
}

async fn alone<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    }
}

fn stamps(file: &Path) -> Vec<Stamp> {
    stamps::read(&std::fs::read_to_string(file).unwrap_or_default())
}

/// Waits for the first stamp of an epoch after `epoch`.
async fn stamped(file: &Path, epoch: Epoch) -> Result<Stamp, Failure> {
    let wait = async {
        loop {
            if let Some(stamp) = stamps(file).into_iter().find(|s| s.epoch > epoch) {
                return stamp;
            }
            tokio::time::sleep(GLANCE).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.map_err(|_| Failure::failed(format!("no new attempt within {LIMIT:?}")))
}

async fn submit(fleet: &Fleet, file: &Path) -> Result<RunId, Failure> {
    let binary = config::this_binary()?.display().to_string();
    let command = vec![binary, "bench".into(), "stamp".into(), file.display().to_string()];
    let input = ExecInput {
        command,
        cwd: None,
        env: BTreeMap::new(),
        stdin: None,
        output_format: OutputFormat::Text,
        strict_output: true,
        limits: None,
    };
    Ok(fleet.client.create_run(&NewRun::of("exec", Json::of(&input)?), None).await?.id)
}

fn bar(what: &str, kills: usize) -> ProgressBar {
    let bar = ProgressBar::new(kills as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}") {
        bar.set_style(style);
    }
    bar.set_message(format!("killing {what}"));
    bar
}

/// Kills the command of one run after the other; the other worker has free slots.
async fn children(kills: usize) -> Result<Vec<u64>, Failure> {
    let mut fleet = Fleet::start().await?;
    fleet.add_worker("w-1", 4)?;
    fleet.add_worker("w-2", 4)?;
    fleet.online(2).await?;
    let bar = bar("commands", kills);
    let mut times = Vec::with_capacity(kills);
    for number in 0..kills {
        let file = fleet.path(&format!("stamp-{number}"));
        let run = submit(&fleet, &file).await?;
        let first = stamped(&file, Epoch(0)).await?;
        let killed_at = nanos();
        if let Some(pid) = i32::try_from(first.pid).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::KILL).map_err(std::io::Error::from)?;
        }
        times.push(stamped(&file, first.epoch).await?.at.saturating_sub(killed_at));
        fleet.client.cancel_run(run, &CancelBody::default()).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    fleet.stop().await;
    Ok(times)
}

/// Kills one of three workers after the other; for each kill until all its runs run elsewhere, and for each run.
async fn agents(kills: usize, count: usize) -> Result<(Vec<u64>, Vec<u64>), Failure> {
    let mut fleet = Fleet::start().await?;
    for number in 1..=3 {
        fleet.add_worker(&format!("w-{number}"), count)?;
    }
    let bar = bar("workers", kills);
    let (mut all, mut each) = (Vec::with_capacity(kills), Vec::new());
    for number in 0..kills {
        fleet.online(3).await?;
        let mut runs: Vec<(RunId, PathBuf, Stamp)> = Vec::with_capacity(count);
        for n in 0..count {
            let file = fleet.path(&format!("stamp-{number}-{n}"));
            let id = submit(&fleet, &file).await?;
            let first = stamped(&file, Epoch(0)).await?;
            runs.push((id, file, first));
        }
        let (victim, had) = busiest(&fleet).await?;
        let mut process = fleet.take(&victim).ok_or_else(|| Failure::failed(format!("{victim} is not ours")))?;
        let killed_at = nanos();
        process.signal(Signal::KILL);
        let mut slowest = 0;
        for (_, file, first) in runs.iter().filter(|(id, ..)| had.contains(id)) {
            let took = stamped(file, first.epoch).await?.at.saturating_sub(killed_at);
            slowest = slowest.max(took);
            each.push(took);
        }
        all.push(slowest);
        drop(process.wait().await);
        fleet.add_worker(&format!("w-{}", number + 4), count)?;
        for (id, ..) in &runs {
            fleet.client.cancel_run(*id, &CancelBody::default()).await?;
        }
        idle(&fleet).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    if each.is_empty() {
        say("no run was on a killed worker");
    }
    fleet.stop().await;
    Ok((all, each))
}

/// The worker with the most runs, and which.
async fn busiest(fleet: &Fleet) -> Result<(String, Vec<RunId>), Failure> {
    let (runs, _) = matching(&fleet.client, &Filter::states("active"), 1_000).await?;
    let mut by_worker: BTreeMap<String, Vec<RunId>> = BTreeMap::new();
    for run in runs {
        if let Some(lease) = run.lease {
            by_worker.entry(lease.worker_name).or_default().push(run.id);
        }
    }
    by_worker.into_iter().max_by_key(|(_, had)| had.len()).ok_or_else(|| Failure::failed("no worker has a run"))
}

async fn idle(fleet: &Fleet) -> Result<(), Failure> {
    while !matching(&fleet.client, &Filter::states("active"), 1).await?.0.is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
