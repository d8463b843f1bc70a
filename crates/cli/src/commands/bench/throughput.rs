//! No-op runs per second, from submit to finished, through HTTP, a session and SQLite with its syncs.
//!
//! Server and worker are processes of their own; the load is this one. Beside it, in the same minute: what SQLite alone can
//! do with the same rows and syncs (`examples/lives` of the store's crate, if it has been built). A run that finds no slot
//! free is claimed later, in a transaction of its own; the bare statements are weighed by how many runs that were.

use super::super::Done;
use super::super::runs::{Filter, matching};
use super::{finish, probe};
use crate::backing::{Backing, StoreArg};
use crate::config;
use crate::context::Context;
use crate::exit::Failure;
use crate::fleet::{Fleet, LOOK};
use crate::render::say;
use crate::stats::figure;
use outlive_api::client::Client;
use outlive_api::clock::nanos;
use outlive_api::runs::{NewRun, NewRuns};
use outlive_core::{Json, RunId, State};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Runs
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    runs: usize,
    /// Connections that submit
    #[arg(long, value_name = "N", default_value_t = 4)]
    connections: usize,
    /// Runs in one request
    #[arg(long, value_name = "N", default_value_t = 500)]
    batch: usize,
    /// Runs at once in the worker
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    slots: usize,
    /// Queue all of them first; the clock starts with the first claim
    #[arg(long)]
    backlog: bool,
    /// Program that measures raw SQLite; default: examples/lives beside this one
    #[arg(long, value_name = "PROGRAM")]
    raw: Option<PathBuf>,
}

#[derive(Debug, Default, Serialize)]
struct Measured {
    machine: String,
    runs: usize,
    seconds: f64,
    runs_per_second: f64,
    submitted_per_second: f64,
    claimed_later: usize,
    raw_per_second: Option<f64>,
    store_per_second: Option<f64>,
    ratio: Option<f64>,
    fsync_p50_ms: f64,
    cpu_server_s: f64,
    cpu_worker_s: f64,
    cpu_load_s: f64,
    /// Of a PostgreSQL server of its own.
    cpu_postgres_s: Option<f64>,
    finished_once: usize,
    held: bool,
}

/// Of raw SQLite.
const RATIO_TARGET: f64 = 0.4;
/// Runs per second on PostgreSQL.
const POSTGRES_TARGET: f64 = 10_000.0;
/// Where the runs go.
const QUEUE: &str = "default";
/// Runs before the clock starts: connections, caches, page cache.
const WARM_UP: usize = 2_000;

pub(super) async fn run(cx: &Context, args: &Args) -> Done {
    let mut fleet = Fleet::start(&args.store.store).await?;
    let measured = measure(&mut fleet, args).await;
    fleet.stop().await;
    let m = measured?;
    let raw = match (m.raw_per_second, m.store_per_second, m.ratio) {
        (Some(raw), Some(store), Some(ratio)) => {
            format!(
                "raw SQLite    {raw:.0} lives/s, same rows and syncs: ratio {ratio:.2} (aim ≥ 0.40); the store alone {store:.0}/s; {:.0} % claimed later",
                100.0 * share_of(m.claimed_later, m.runs)
            )
        }
        _ if args.backlog => "beside        bench/peers/".to_owned(),
        _ if args.store.store != Backing::Sqlite => {
            format!("target        ≥ {POSTGRES_TARGET:.0} runs/s: {}", if m.held { "held" } else { "NOT held" })
        }
        _ => "raw SQLite    not measured; first: cargo build --release -p outlive-store-sqlite --example lives"
            .to_owned(),
    };
    let share = |s: f64| format!("{s:.2} s ({:.0} %)", 100.0 * s / m.seconds);
    let lines = [
        format!("machine       {}", m.machine),
        format!(
            "command       outlive bench throughput --runs {} --connections {} --batch {} --slots {} --store {}{}",
            args.runs,
            args.connections,
            args.batch,
            args.slots,
            args.store.store,
            if args.backlog { " --backlog" } else { "" }
        ),
        format!(
            "throughput    {:.0} runs/s, {} to finished ({} in {:.2} s; submitted at {:.0}/s)",
            m.runs_per_second,
            if args.backlog { "claim" } else { "submit" },
            m.runs,
            m.seconds,
            m.submitted_per_second
        ),
        raw,
        format!("fsync p50     {}", figure(m.fsync_p50_ms)),
        format!(
            "time goes to  server {}, worker {}, load {}, PostgreSQL {} of one core",
            share(m.cpu_server_s),
            share(m.cpu_worker_s),
            share(m.cpu_load_s),
            m.cpu_postgres_s.map_or("-".to_owned(), share)
        ),
        format!("checked       {} of {} runs finished exactly once", m.finished_once, m.runs),
    ];
    let wrong = (m.finished_once != m.runs).then(|| "not every run finished exactly once".to_owned());
    finish(cx, &m, &lines, wrong)
}

async fn measure(fleet: &mut Fleet, args: &Args) -> Result<Measured, Failure> {
    fleet.add_idle_worker("bench", args.slots)?;
    fleet.online(1).await?;
    load(fleet, args, WARM_UP).await?;
    drained(&fleet.client).await?;
    let (server, worker, load_pid) = (fleet.server.pid, fleet.workers[0].pid, std::process::id());
    let postgres = fleet.kept.server_pid();
    let cpu = || ([server, worker, load_pid].map(probe::cpu_seconds), postgres.map(probe::cpu_seconds_of_all));
    if args.backlog {
        fleet.client.queue_action(QUEUE, "pause").await?;
    }
    let ((mut before, mut postgres_before), mut began) = (cpu(), nanos());
    let Loaded { ids, claimed_later } = load(fleet, args, args.runs).await?;
    let submitted = nanos() - began;
    if args.backlog {
        ((before, postgres_before), began) = (cpu(), nanos());
        fleet.client.queue_action(QUEUE, "resume").await?;
    }
    drained(&fleet.client).await?;
    let took = nanos() - began;
    let (after, postgres_after) = cpu();
    let fsync = probe::fsync(&fleet.path(""))?;
    let raw = if args.store.store == Backing::Sqlite && !args.backlog { raw(args, &fleet.path("")) } else { None };
    let raw = raw.map(|raw| raw.weighed(share_of(claimed_later, ids.len())));
    let [cpu_server_s, cpu_worker_s, cpu_load_s] = [0, 1, 2].map(|i| after[i] - before[i]);
    let finished_once = finished_once(&fleet.client, &ids, WARM_UP).await?;
    let per_second = rate(ids.len(), took);
    Ok(Measured {
        machine: probe::machine(),
        runs: ids.len(),
        seconds: seconds(took),
        runs_per_second: per_second,
        submitted_per_second: rate(ids.len(), submitted),
        claimed_later,
        raw_per_second: raw.map(|r| r.bare),
        store_per_second: raw.map(|r| r.store),
        ratio: raw.map(|r| per_second / r.bare),
        fsync_p50_ms: fsync.p50_ms,
        cpu_server_s,
        cpu_worker_s,
        cpu_load_s,
        cpu_postgres_s: postgres_after.zip(postgres_before).map(|(after, before)| after - before),
        held: match args.store.store {
            Backing::Sqlite => raw.is_none_or(|r| per_second / r.bare >= RATIO_TARGET),
            _ => args.backlog || per_second >= POSTGRES_TARGET,
        },
        finished_once,
    })
}

#[expect(clippy::cast_precision_loss, reason = "measurements are far below 2^52")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn rate(count: usize, nanos: u64) -> f64 {
    count as f64 / seconds(nanos)
}

/// What was submitted.
#[derive(Default)]
struct Loaded {
    ids: Vec<RunId>,
    /// How many found no free slot at their creation.
    claimed_later: usize,
}

/// Submits that many over all connections.
async fn load(fleet: &Fleet, args: &Args, count: usize) -> Result<Loaded, Failure> {
    let connections = args.connections.max(1);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..connections {
        let client = Client::new(&fleet.url, outlive_api::DEFAULT_NAMESPACE)?;
        let share = count / connections + usize::from(number < count % connections);
        let batch = args.batch.clamp(1, outlive_core::limits::sizes::BATCH);
        tasks.spawn(async move {
            let mut loaded = Loaded::default();
            while loaded.ids.len() < share {
                let size = batch.min(share - loaded.ids.len());
                let runs = vec![NewRun::of(super::agent::KIND, Json::null()); size];
                let created = client.create_runs(&NewRuns { runs }).await?.runs;
                loaded.claimed_later += created.iter().filter(|run| run.state == State::Queued).count();
                loaded.ids.extend(created.iter().map(|run| run.id));
            }
            Ok::<_, Failure>(loaded)
        });
    }
    let mut all = Loaded::default();
    while let Some(loaded) = tasks.join_next().await {
        let loaded = loaded.map_err(|e| Failure::failed(e.to_string()))??;
        all.claimed_later += loaded.claimed_later;
        all.ids.extend(loaded.ids);
    }
    Ok(all)
}

/// Waits until nothing is queued or leased any more.
async fn drained(client: &Client) -> Result<(), Failure> {
    loop {
        let counts = client.queue(QUEUE).await?.counts;
        if counts.queued + counts.running + counts.scheduled + counts.held == 0 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Runs of ours that succeeded in their first and only attempt. One claim (epoch 1) can be finished once: the fence sees to
/// it; here it is counted.
async fn finished_once(client: &Client, ids: &[RunId], others: usize) -> Result<usize, Failure> {
    say("checking every run…");
    let ours: BTreeSet<_> = ids.iter().collect();
    let (runs, _) = matching(client, &Filter::default(), ids.len() + others).await?;
    let good =
        runs.iter().filter(|r| r.state == State::Succeeded && r.epoch.0 == 1 && r.losses == 0 && r.failures == 0);
    Ok(good.map(|r| r.id).filter(|id| ours.contains(id)).collect::<BTreeSet<_>>().len())
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn share_of(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Lives per second: bare statements, and the store without network and session.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Lives {
    bare: f64,
    store: f64,
}

/// What the store's example measures in the same folder, for both ways to be claimed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Raw {
    at_creation: Lives,
    later: Lives,
}

impl Raw {
    /// Lives per second if that share of the runs is claimed later.
    fn weighed(self, later: f64) -> Lives {
        let mix = |a: f64, b: f64| ((1.0 - later) / a + later / b).recip();
        Lives {
            bare: mix(self.at_creation.bare, self.later.bare),
            store: mix(self.at_creation.store, self.later.store),
        }
    }
}

/// Times that the example runs; the middle one counts.
const ROUNDS: usize = 3;

fn raw(args: &Args, folder: &Path) -> Option<Raw> {
    let beside = || config::this_binary().ok().map(|binary| binary.with_file_name("examples").join("lives"));
    let program = args.raw.clone().or_else(beside).filter(|p| p.is_file())?;
    say("measuring raw SQLite…");
    let once = || {
        let output = std::process::Command::new(&program).arg(args.runs.to_string()).arg(folder).output().ok()?;
        read_raw(&String::from_utf8_lossy(&output.stdout))
    };
    let mut rounds = (0..ROUNDS).map(|_| once()).collect::<Option<Vec<_>>>()?;
    rounds.sort_by(|a, b| a.at_creation.bare.total_cmp(&b.at_creation.bare));
    rounds.get(ROUNDS / 2).copied()
}

fn read_raw(text: &str) -> Option<Raw> {
    let of = |what: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(what))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let lives = |claimed: &str| {
        let (bare, store) =
            (of(&format!("bare statements, claimed {claimed}"))?, of(&format!("store, claimed {claimed}"))?);
        Some(Lives { bare, store })
    };
    Some(Raw { at_creation: lives("at creation")?, later: lives("later")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "fsync p50 0.1 ms\nbare statements, claimed at creation      60000 /s\n\
        bare statements, claimed later      30000 /s\nstore, claimed at creation   40000 /s  ratio 0.67\n\
        store, claimed later   20000 /s  ratio 0.67\n";

    #[test]
    fn the_raw_numbers_are_read_out_of_the_example_s_text() {
        let raw = read_raw(TEXT).unwrap();
        assert_eq!(raw.at_creation, Lives { bare: 60_000.0, store: 40_000.0 });
        assert_eq!(raw.later, Lives { bare: 30_000.0, store: 20_000.0 });
        assert_eq!(read_raw("nothing"), None);
    }

    #[test]
    fn what_raw_sqlite_could_do_is_weighed_by_how_the_runs_were_claimed() {
        let raw = read_raw(TEXT).unwrap();
        let about = |lives: Lives| (lives.bare.round(), lives.store.round());
        assert_eq!(about(raw.weighed(0.0)), (60_000.0, 40_000.0));
        assert_eq!(about(raw.weighed(1.0)), (30_000.0, 20_000.0));
        assert_eq!(about(raw.weighed(0.5)), (40_000.0, 26_667.0));
    }
}
