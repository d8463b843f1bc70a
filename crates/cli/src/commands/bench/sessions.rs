//! What a server needs for sessions that only beat.

use super::super::Done;
use super::session::{self, Handle, Told};
use super::{finish, probe};
use crate::backing::{Backing, Counted, StoreArg};
use crate::context::Context;
use crate::exit::Failure;
use crate::fleet::Fleet;
use outlive_api::clock::nanos;
use outlive_core::Millis;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Sessions, each beating at the default interval
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sessions: usize,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "30s")]
    time: Millis,
}

#[derive(Debug, Serialize)]
struct Measured {
    machine: String,
    sessions: usize,
    online: u64,
    seconds: f64,
    beats_per_second: f64,
    /// Beats that were due and not acknowledged, of all that were due.
    unanswered: f64,
    server_core_share: f64,
    load_core_share: f64,
    /// By SQLite's own counter.
    transactions_per_second: Option<f64>,
    /// By `pg_stat_statements`: about replicas, workers and the observed clock; and all, with those that frame transactions.
    liveness_statements_per_second: Option<f64>,
    statements_per_second: Option<f64>,
    /// What the others are, the most frequent first.
    other_statements_per_second: Vec<(String, f64)>,
    server_bytes_per_session: f64,
    held: bool,
}

const TARGET_SHARE: f64 = 0.15;
const TARGET_STATEMENTS: f64 = 2.0;
/// Sessions that are being opened at the same time.
const OPENING: usize = 64;
/// Files beside sessions, of each process.
const OTHER_FILES: u64 = 256;
/// Other statements that are named.
const OTHERS: usize = 8;
/// After the last session is open: everything that its opening started is over.
const SETTLE: Duration = Duration::from_secs(10);

pub(super) async fn run(cx: &Context, args: &Args) -> Done {
    allow_files(args.sessions)?;
    let fleet = Fleet::start(&args.store.store).await?;
    let measured = measure(&fleet, args).await;
    fleet.stop().await;
    let m = measured?;
    let others = m.other_statements_per_second.iter().take(OTHERS).map(|(text, n)| format!("{n:.1} × {text}"));
    let others: Vec<_> = others.collect();
    let lines = [
        format!("machine       {}", m.machine),
        format!(
            "command       outlive bench sessions --sessions {} --time {} --store {}",
            args.sessions, args.time, args.store.store
        ),
        format!(
            "sessions      {} online, {:.0} beats/s acknowledged over {:.0} s ({:.1} % of those due were not)",
            m.online,
            m.beats_per_second,
            m.seconds,
            100.0 * m.unanswered
        ),
        format!(
            "server        {:.1} % of a core (target < {:.0} %); the load beside it {:.1} %",
            100.0 * m.server_core_share,
            100.0 * TARGET_SHARE,
            100.0 * m.load_core_share
        ),
        store_line(&m),
        format!("others        {}", if others.is_empty() { "-".to_owned() } else { others.join(", ") }),
        format!("memory        {:.0} bytes of the server per session", m.server_bytes_per_session),
        format!("targets       {}", if m.held { "held" } else { "NOT held" }),
    ];
    let wrong = (m.online < args.sessions as u64).then(|| "not every session stayed online".to_owned());
    finish(cx, &m, &lines, wrong)
}

/// Each session is a file here and in the server, which inherits the limit.
pub(super) fn allow_files(sessions: usize) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    let needed = sessions as u64 + OTHER_FILES;
    if limit.maximum.is_some_and(|most| most < needed) {
        return Err(Failure::failed(format!("{needed} open files are not allowed here; raise the limit (ulimit -Hn)")));
    }
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, wanted).map_err(|e| Failure::failed(format!("the limit of open files stays: {e}")))
}

async fn measure(fleet: &Fleet, args: &Args) -> Result<Measured, Failure> {
    let (started, _nothing_starts) = mpsc::channel(1);
    let acknowledged = Arc::<AtomicU64>::default();
    let told = Told { started, acknowledged: Arc::clone(&acknowledged), elsewhere: None };
    let before = probe::memory(fleet.server.pid);
    let sessions = open(fleet, args.sessions, 1, &told).await?;
    tokio::time::sleep(SETTLE).await;
    let sqlite = args.store.store == Backing::Sqlite;
    let shm = fleet.path("outlive.db-shm");
    let look = || -> Result<_, Failure> {
        let cpu = [fleet.server.pid, std::process::id()].map(probe::cpu_seconds);
        let written = if sqlite { transactions(&shm)? } else { 0 };
        Ok((nanos(), cpu, written, acknowledged.load(Ordering::Relaxed)))
    };
    if !sqlite {
        fleet.kept.count_statements()?;
    }
    let (began, [server, load], written, beats) = look()?;
    tokio::time::sleep(args.time.duration()).await;
    let (ended, [server_after, load_after], written_after, beats_after) = look()?;
    let counted = if sqlite { Vec::new() } else { fleet.kept.statements()? };
    let online = fleet.client.server().await?.sessions;
    let used = probe::memory(fleet.server.pid).resident().saturating_sub(before.resident());
    drop(sessions);
    let seconds = float(ended - began) / 1e9;
    let beats_per_second = float(beats_after - beats) / seconds;
    let due = float(args.sessions as u64) / INTERVAL_SECONDS;
    let server_core_share = (server_after - server) / seconds;
    let (about_liveness, all) = statements(&counted);
    let transactions_per_second = f64::from(written_after.wrapping_sub(written)) / seconds;
    let liveness_statements_per_second = float(about_liveness) / seconds;
    let written_per_second = if sqlite { transactions_per_second } else { liveness_statements_per_second };
    Ok(Measured {
        machine: probe::machine(),
        sessions: args.sessions,
        online,
        seconds,
        beats_per_second,
        unanswered: (1.0 - beats_per_second / due).max(0.0),
        server_core_share,
        load_core_share: (load_after - load) / seconds,
        transactions_per_second: sqlite.then_some(transactions_per_second),
        liveness_statements_per_second: (!sqlite).then_some(liveness_statements_per_second),
        statements_per_second: (!sqlite).then_some(float(all) / seconds),
        other_statements_per_second: others(&counted, seconds),
        server_bytes_per_session: float(used) / float(args.sessions as u64),
        held: server_core_share < TARGET_SHARE && written_per_second <= TARGET_STATEMENTS,
    })
}

/// Rows of replicas, moves of sessions and the observed clock.
fn is_about_liveness(text: &str) -> bool {
    ["UPDATE replica", "FROM replica", "UPDATE worker", "SET observed"].iter().any(|word| text.contains(word))
}

/// What the statements are that are not about who is there: how each begins, and how often it comes.
fn others(counted: &[Counted], seconds: f64) -> Vec<(String, f64)> {
    let begins = |text: &str| {
        text.lines().find(|line| !line.starts_with("--")).unwrap_or_default().trim().chars().take(40).collect()
    };
    let mut others: Vec<&Counted> = counted.iter().filter(|counted| !is_about_liveness(&counted.text)).collect();
    others.sort_by_key(|counted| std::cmp::Reverse(counted.calls));
    others.into_iter().map(|counted| (begins(&counted.text), float(counted.calls) / seconds)).collect()
}

/// Statements about who is there; and all of them.
fn statements(counted: &[Counted]) -> (u64, u64) {
    let liveness = counted.iter().filter(|counted| is_about_liveness(&counted.text));
    (liveness.map(|counted| counted.calls).sum(), counted.iter().map(|counted| counted.calls).sum())
}

fn store_line(m: &Measured) -> String {
    let target = format!("target ≤ {TARGET_STATEMENTS} statements");
    match (m.transactions_per_second, m.liveness_statements_per_second, m.statements_per_second) {
        (_, Some(liveness), Some(all)) => {
            format!(
                "store         {liveness:.2} statements/s about liveness by pg_stat_statements ({target}); {all:.1} of all kinds"
            )
        }
        (transactions, ..) => {
            let transactions = transactions.unwrap_or_default();
            format!("store         {transactions:.2} transactions/s by SQLite's counter ({target})")
        }
    }
}

/// A fifth of the default lease.
const INTERVAL_SECONDS: f64 = 2.0;

#[expect(clippy::cast_precision_loss, reason = "measurements are far below 2^52")]
fn float(n: u64) -> f64 {
    n as f64
}

/// Opens them all, some at a time; they have no credit yet.
pub(super) async fn open(fleet: &Fleet, count: usize, slots: u32, told: &Told) -> Result<Vec<Handle>, Failure> {
    let gate = Arc::new(Semaphore::new(OPENING));
    let mut opening = JoinSet::new();
    for number in 0..count {
        let (gate, client, told) = (Arc::clone(&gate), fleet.client.clone(), told.clone());
        opening.spawn(async move {
            let _in = gate.acquire_owned().await;
            session::open(&client, format!("s-{number:05}"), slots, 0, told).await
        });
    }
    let mut open = Vec::with_capacity(count);
    while let Some(session) = opening.join_next().await {
        open.push(session.map_err(|e| Failure::failed(e.to_string()))??);
    }
    Ok(open)
}

/// `iChange` of the WAL's index: SQLite raises it with each transaction that writes.
/// Source: <https://sqlite.org/walformat.html#the_wal_index_header>.
fn transactions(shm: &Path) -> Result<u32, Failure> {
    const I_CHANGE: u64 = 8;
    let mut bytes = [0; 4];
    std::fs::File::open(shm)?.read_exact_at(&mut bytes, I_CHANGE)?;
    Ok(u32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_liveness_are_told_from_others() {
        let counted = |text: &str, calls| Counted { text: text.to_owned(), calls };
        let all = [
            counted("UPDATE replica SET beat = $3", 10),
            counted("UPDATE worker SET home_seq = $1", 5),
            counted("SELECT id FROM worker", 9),
            counted("SELECT seq FROM run WHERE due_at < $1", 7),
            counted("SELECT set_config($1, $2, true), observed FROM outlive.meta", 20),
        ];
        assert_eq!(statements(&all), (15, 51));
        let named = others(&all, 10.0);
        assert_eq!(named[0], ("SELECT set_config($1, $2, true), observe".to_owned(), 2.0));
        assert_eq!(named.len(), 3);
    }
}
