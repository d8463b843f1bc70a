//! Deaths of real processes.

use super::super::bar;
use super::Times;
use crate::backing::Backing;
use crate::commands::runs::{Filter, matching};
use crate::config;
use crate::exit::Failure;
use crate::fleet::{Fleet, LOOK};
use outlive_api::clock::nanos;
use outlive_api::runs::{CancelBody, ExecInput, NewRun, OutputFormat};
use outlive_core::policy::QueuePolicy;
use outlive_core::stamps::{self, Stamp};
use outlive_core::{Epoch, Json, Millis, RunId};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Longer than this is not slow but wrong.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at a stamp file. Not in the measured time.
const GLANCE: Duration = Duration::from_millis(1);
/// Between the two signals of a drain: a worker tells one from the other.
const DRAIN_FIRST: Duration = Duration::from_millis(300);
/// So many workers; one of them is struck.
const WORKERS: usize = 3;

/// What is done to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    Kill,
    /// SIGSTOP to the agent: nothing comes from it any more, and no connection ends. To the server that is a silent host; its
    /// guard freezes the work, as it would there.
    Stop,
    /// SIGTERM twice; measured from the exit of each command.
    Drain,
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

fn process(pid: u32) -> Result<Pid, Failure> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| Failure::failed("no such process"))
}

/// Kills the command of one run after the other; the other worker has free slots.
pub(super) async fn children(kills: usize, backing: &Backing) -> Result<Times, Failure> {
    let mut fleet = Fleet::start(backing).await?;
    fleet.add_worker("w-1", 4)?;
    fleet.add_worker("w-2", 4)?;
    fleet.online(2).await?;
    let bar = bar("killing commands", kills);
    let mut times = Times::default();
    for number in 0..kills {
        let file = fleet.path(&format!("stamp-{number}"));
        let run = submit(&fleet, &file).await?;
        let first = stamped(&file, Epoch(0)).await?;
        let killed_at = nanos();
        kill_process(process(first.pid)?, Signal::KILL).map_err(std::io::Error::from)?;
        let took = stamped(&file, first.epoch).await?.at.saturating_sub(killed_at);
        times.all.push(took);
        times.each.push(took);
        fleet.client.cancel_run(run, &CancelBody::default()).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    fleet.stop().await;
    Ok(times)
}

/// A run that is on the struck worker.
struct Struck {
    id: RunId,
    file: PathBuf,
    first: Stamp,
    /// The end of its process, for a drain.
    exit: Option<JoinHandle<std::io::Result<u64>>>,
}

/// Strikes one of three workers after the other.
pub(super) async fn workers(
    blow: Blow,
    rounds: usize,
    runs: usize,
    ttl: Option<Millis>,
    backing: &Backing,
) -> Result<Times, Failure> {
    let mut fleet = Fleet::start(backing).await?;
    if let Some(lease_ttl) = ttl {
        fleet.client.put_queue("default", &QueuePolicy { lease_ttl, ..QueuePolicy::default() }).await?;
    }
    for number in 1..=WORKERS {
        fleet.add_worker(&format!("w-{number}"), runs)?;
    }
    let what = match blow {
        Blow::Kill => "killing workers",
        Blow::Stop => "stopping workers",
        Blow::Drain => "draining workers",
    };
    let bar = bar(what, rounds);
    let mut times = Times::default();
    for number in 0..rounds {
        fleet.online(WORKERS).await?;
        let mut all: Vec<Struck> = Vec::with_capacity(runs);
        for n in 0..runs {
            let file = fleet.path(&format!("stamp-{number}-{n}"));
            let id = submit(&fleet, &file).await?;
            let first = stamped(&file, Epoch(0)).await?;
            all.push(Struck { id, file, first, exit: None });
        }
        let (victim, had) = busiest(&fleet).await?;
        let (mut struck, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|run| had.contains(&run.id));
        if blow == Blow::Drain {
            struck.iter_mut().try_for_each(watch_exit)?;
        }
        let at = strike(&fleet, blow, &victim).await?;
        let mut slowest = 0;
        for run in &mut struck {
            let again = stamped(&run.file, run.first.epoch).await?;
            let from = match run.exit.take() {
                Some(exit) => exit.await.map_err(|e| Failure::failed(e.to_string()))??,
                None => at,
            };
            let took = again.at.saturating_sub(from);
            slowest = slowest.max(took);
            times.each.push(took);
            if blow == Blow::Drain {
                let spent = fleet.client.run(run.id).await?;
                if (spent.losses, spent.failures) != (0, 0) {
                    return Err(Failure::failed("a drain spent a budget"));
                }
            }
        }
        times.all.push(slowest);
        heal(&mut fleet, blow, &victim, number, runs)?;
        for run in struck.iter().chain(&others) {
            fleet.client.cancel_run(run.id, &CancelBody::default()).await?;
        }
        idle(&fleet).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    fleet.stop().await;
    Ok(times)
}

/// Does it; when.
async fn strike(fleet: &Fleet, blow: Blow, victim: &str) -> Result<u64, Failure> {
    let worker = fleet.workers.iter().find(|w| w.name == victim);
    let worker = worker.ok_or_else(|| Failure::failed(format!("{victim} is not ours")))?;
    let at = nanos();
    match blow {
        Blow::Kill => worker.signal(Signal::KILL),
        Blow::Stop => worker.signal(Signal::STOP),
        Blow::Drain => {
            worker.signal(Signal::TERM);
            tokio::time::sleep(DRAIN_FIRST).await;
            worker.signal(Signal::TERM);
        }
    }
    Ok(at)
}

/// Three workers again.
fn heal(fleet: &mut Fleet, blow: Blow, victim: &str, round: usize, slots: usize) -> Result<(), Failure> {
    if blow == Blow::Stop {
        let worker = fleet.workers.iter().find(|w| w.name == victim);
        worker.into_iter().for_each(|w| w.signal(Signal::CONT));
        return Ok(());
    }
    drop(fleet.take(victim));
    fleet.add_worker(&format!("w-{}", round + WORKERS + 1), slots)
}

/// Notes the moment at which its process ends.
fn watch_exit(run: &mut Struck) -> Result<(), Failure> {
    let handle = pidfd_open(process(run.first.pid)?, PidfdFlags::empty()).map_err(std::io::Error::from)?;
    run.exit = Some(tokio::task::spawn_blocking(move || {
        poll(&mut [PollFd::new(&handle, PollFlags::IN)], None)?;
        Ok(nanos())
    }));
    Ok(())
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
