//! What a server holds for runs that are leased, and what a tick of its judge costs beside them.

use super::super::Done;
use super::session::{KIND, Order, Started, Told};
use super::{bar, finish, probe};
use crate::backing::StoreArg;
use crate::context::Context;
use crate::exit::Failure;
use crate::fleet::Fleet;
use outlive_api::runs::{NewRun, NewRuns};
use outlive_core::{Json, Millis};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Runs that are leased at the same time
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    runs: usize,
    /// Sessions that share them evenly; each beats at the default interval and names all that it holds
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    sessions: usize,
    /// How long to watch the judge tick
    #[arg(long, value_name = "TIME", default_value = "10s")]
    time: Millis,
}

#[derive(Debug, Serialize)]
struct Measured {
    machine: String,
    sessions: usize,
    /// By the server's own count.
    leased: u64,
    /// Until the server had heard the start of every run, from the first credit.
    leasing_seconds: f64,
    server_bytes_per_lease: f64,
    /// Of anonymous memory, with the runs queued and the sessions open; then with the runs leased.
    server_bytes_before: u64,
    server_bytes_after: u64,
    /// Pages of the database's file that are mapped: the kernel's cache, not in the numbers above.
    file_bytes_after: u64,
    ticks: Ticks,
    server_core_share: f64,
    load_core_share: f64,
    held: bool,
}

/// How long ticks held the engine, by the bounds of a histogram: each is an upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Ticks {
    count: u64,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
}

const TARGET_BYTES: f64 = 200.0;
const TARGET_TICK_US: f64 = 100.0;
/// Runs in one request.
const BATCH: usize = 1_000;
/// Requests at the same time.
const CREATING: usize = 4;
/// After the sessions, and after the starts: what they caused is over.
const SETTLE: Duration = Duration::from_secs(5);
/// Starts that wait to be counted.
const STARTS: usize = 10_000;
/// Until all runs have started: two thousand in a second are far fewer than any machine leases.
const LEAST_RATE: usize = 2_000;

pub(super) async fn run(cx: &Context, args: &Args) -> Done {
    super::sessions::allow_files(args.sessions)?;
    let fleet = Fleet::start(&args.store.store).await?;
    let measured = measure(&fleet, args).await;
    fleet.stop().await;
    let m = measured?;
    let lines = [
        format!("machine       {}", m.machine),
        format!(
            "command       outlive bench leases --runs {} --sessions {} --time {} --store {}",
            args.runs, args.sessions, args.time, args.store.store
        ),
        format!("leased        {} runs over {} sessions, in {:.0} s", m.leased, m.sessions, m.leasing_seconds),
        format!(
            "memory        {:.0} bytes of the server for each (target ≤ {TARGET_BYTES:.0}): {} before, {} after, by the kernel; {} of the database's file are mapped beside them",
            m.server_bytes_per_lease,
            mebibytes(m.server_bytes_before),
            mebibytes(m.server_bytes_after),
            mebibytes(m.file_bytes_after)
        ),
        format!(
            "idle tick     p50 ≤ {:.0} µs · p99 ≤ {:.0} µs · max ≤ {:.0} µs  ({} ticks; target ≤ {TARGET_TICK_US:.0} µs)",
            m.ticks.p50_us, m.ticks.p99_us, m.ticks.max_us, m.ticks.count
        ),
        format!(
            "processor     {:.1} % of a core for beats and audits; the load beside it {:.1} %",
            100.0 * m.server_core_share,
            100.0 * m.load_core_share
        ),
        format!("targets       {}", if m.held { "held" } else { "NOT held" }),
    ];
    let wrong = (m.leased != args.runs as u64).then(|| format!("{} of {} runs are leased", m.leased, args.runs));
    finish(cx, &m, &lines, wrong)
}

async fn measure(fleet: &Fleet, args: &Args) -> Result<Measured, Failure> {
    let slots = u32::try_from(args.runs.div_ceil(args.sessions)).unwrap_or(u32::MAX);
    let (started, mut starts) = mpsc::channel(STARTS);
    let told = Told { started, acknowledged: Arc::default(), elsewhere: None };
    let sessions = super::sessions::open(fleet, args.sessions, slots, &told).await?;
    create(fleet, args.runs).await?;
    tokio::time::sleep(SETTLE).await;
    let before = probe::memory(fleet.server.pid);
    let began = outlive_api::clock::nanos();
    for session in &sessions {
        session.tell(Order::Credit(slots.into())).await?;
    }
    all_start(&mut starts, args.runs).await?;
    let leasing_seconds = seconds_since(began);
    tokio::time::sleep(SETTLE).await;
    let look = || [fleet.server.pid, std::process::id()].map(probe::cpu_seconds);
    let (ticks_before, [server, load], began) = (ticks(fleet).await?, look(), outlive_api::clock::nanos());
    tokio::time::sleep(args.time.duration()).await;
    let ([server_after, load_after], seconds) = (look(), seconds_since(began));
    let ticks = spread(&ticks_before, &ticks(fleet).await?)
        .ok_or_else(|| Failure::failed("the server does not say how long its judge's ticks take"))?;
    let after = probe::memory(fleet.server.pid);
    let leased = fleet.client.server().await?.leases;
    drop(sessions);
    let server_bytes_per_lease = float(after.anonymous.saturating_sub(before.anonymous)) / float(args.runs as u64);
    Ok(Measured {
        machine: probe::machine(),
        sessions: args.sessions,
        leased,
        leasing_seconds,
        server_bytes_per_lease,
        server_bytes_before: before.anonymous,
        server_bytes_after: after.anonymous,
        file_bytes_after: after.file,
        ticks,
        server_core_share: (server_after - server) / seconds,
        load_core_share: (load_after - load) / seconds,
        held: server_bytes_per_lease <= TARGET_BYTES && ticks.p99_us <= TARGET_TICK_US,
    })
}

/// Queues them: nobody has credit yet.
async fn create(fleet: &Fleet, runs: usize) -> Result<(), Failure> {
    let bar = bar("creating runs", runs);
    let mut creating = JoinSet::new();
    for first in (0..runs).step_by(BATCH) {
        if creating.len() >= CREATING {
            creating.join_next().await.transpose().map_err(|e| Failure::failed(e.to_string()))?.transpose()?;
        }
        let count = BATCH.min(runs - first);
        let (client, new) = (fleet.client.clone(), vec![NewRun::of(KIND, Json::null()); count]);
        let bar = bar.clone();
        creating.spawn(async move {
            client.create_runs(&NewRuns { runs: new }).await?;
            bar.inc(count as u64);
            Ok::<_, Failure>(())
        });
    }
    while let Some(created) = creating.join_next().await {
        created.map_err(|e| Failure::failed(e.to_string()))??;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Waits until so many runs have started.
async fn all_start(starts: &mut mpsc::Receiver<Started>, runs: usize) -> Result<(), Failure> {
    let bar = bar("leasing runs", runs);
    let limit = Duration::from_secs((60 + runs / LEAST_RATE) as u64);
    let all = async {
        for _ in 0..runs {
            starts.recv().await?;
            bar.inc(1);
        }
        Some(())
    };
    let done = tokio::time::timeout(limit, all).await;
    bar.finish_and_clear();
    match done {
        Ok(Some(())) => Ok(()),
        Ok(None) => Err(Failure::failed("every session has ended")),
        Err(_) => Err(Failure::failed(format!("not all of {runs} runs started within {limit:?}"))),
    }
}

/// The judge's histogram: upper bounds in seconds, with how many ticks were not above.
async fn ticks(fleet: &Fleet) -> Result<Vec<(f64, u64)>, Failure> {
    Ok(buckets(&fleet.client.metrics().await?))
}

fn buckets(text: &str) -> Vec<(f64, u64)> {
    let bucket = |line: &str| {
        let rest = line.strip_prefix("outlive_judge_tick_seconds_bucket{le=\"")?;
        let (bound, count) = rest.split_once("\"} ")?;
        Some((bound.replace("+Inf", "inf").parse().ok()?, count.trim().parse().ok()?))
    };
    text.lines().filter_map(bucket).collect()
}

/// Of the ticks between two looks.
fn spread(before: &[(f64, u64)], after: &[(f64, u64)]) -> Option<Ticks> {
    let earlier = |bound: f64| before.iter().find(|(b, _)| b.total_cmp(&bound).is_eq()).map_or(0, |(_, n)| *n);
    let between: Vec<_> = after.iter().map(|(bound, n)| (*bound, n - earlier(*bound))).collect();
    let count = between.last()?.1;
    let at = |percent: u64| {
        let rank = (count * percent).div_ceil(100).max(1);
        between.iter().find(|(_, n)| *n >= rank).map(|(bound, _)| bound * 1e6)
    };
    Some(Ticks { count, p50_us: at(50)?, p99_us: at(99)?, max_us: at(100)? })
}

fn seconds_since(began: u64) -> f64 {
    float(outlive_api::clock::nanos() - began) / 1e9
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", float(bytes) / f64::from(1 << 20))
}

#[expect(clippy::cast_precision_loss, reason = "measurements are far below 2^52")]
fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_between_two_looks_are_read_from_the_histogram() {
        let text = |counts: [u64; 3]| {
            let [low, high, all] = counts;
            let name = "outlive_judge_tick_seconds_bucket";
            format!(
                "# TYPE x histogram\n{name}{{le=\"0.00001\"}} {low}\n{name}{{le=\"0.0001\"}} {high}\n{name}{{le=\"+Inf\"}} {all}\nother 3\n"
            )
        };
        let found = spread(&buckets(&text([50, 60, 70])), &buckets(&text([148, 160, 170]))).unwrap();
        assert_eq!((found.count, found.p50_us.round(), found.p99_us.round()), (100, 10.0, 100.0));
        assert_eq!(spread(&[], &buckets(&text([1, 1, 2]))).unwrap().max_us.to_string(), "inf");
        assert_eq!(spread(&[], &buckets("nothing of it")), None);
    }
}
