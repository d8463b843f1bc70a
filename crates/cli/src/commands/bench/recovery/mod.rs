//! From a death to running again, as the new attempt itself tells it.
//!
//! Each row of the table is a kind of death with its target. Commands are this binary: they append their epoch, their process
//! and the monotonic time to a file and wait. The clock is one for all processes of the machine, so no polling interval and no
//! server's word is in the number.
//!
//! | file | measures |
//! |---|---|
//! | [`processes`] | real workers and commands |
//! | [`mass`] | ten thousand runs at once, on sessions without processes |
//! | [`replica`] | a server of three, with a thousand sessions |

mod mass;
mod processes;
mod replica;

use super::super::Done;
use super::{finish, probe};
use crate::backing::{Backing, StoreArg};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::stats::{Spread, figure};
use clap::ValueEnum;
use outlive_core::Millis;
use processes::Blow;
use serde::Serialize;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What dies; default: everything
    #[arg(value_name = "WHAT")]
    rows: Vec<Row>,
    #[command(flatten)]
    store: StoreArg,
    /// Deaths of each kind, at most; those that take long come less often
    #[arg(long, value_name = "N", default_value_t = 200)]
    kills: usize,
    /// Runs that the workers have when one of them dies
    #[arg(long, value_name = "N", default_value_t = 6)]
    runs: usize,
    /// Runs that are lost at once
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    mass: usize,
    /// Sessions of a server that dies
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    sessions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Row {
    /// A command, by SIGKILL
    Child,
    /// A worker, by SIGKILL
    Agent,
    /// A worker falls silent (SIGSTOP: its connection stays open), at defaults
    Silent,
    /// The same with a lease of 3 s
    #[value(name = "silent-3s")]
    #[serde(rename = "silent-3s")]
    Silent3s,
    /// A worker is drained: from the exit of each command
    Drain,
    /// Ten thousand runs: a quarter of the sessions end at once
    Mass,
    /// Ten thousand runs: two fifths of the sessions fall silent at once, so that the breaker opens
    MassSilent,
    /// One of three servers, by SIGKILL, with a thousand sessions that each have a run (PostgreSQL)
    Replica,
}

impl Row {
    const fn target_ms(self) -> f64 {
        match self {
            Self::Child => 100.0,
            Self::Agent => 1_300.0,
            Self::Silent => 12_000.0,
            Self::Silent3s => 4_000.0,
            Self::Drain => 300.0,
            Self::Mass => 10_000.0,
            Self::MassSilent => 25_000.0,
            Self::Replica => 2_000.0,
        }
    }

    /// How often, if so many are asked for.
    fn rounds(self, kills: usize) -> usize {
        match self {
            Self::Child | Self::Agent => kills,
            Self::Drain => kills.min(100),
            Self::Silent3s => kills.min(50),
            Self::Silent => kills.min(20),
            Self::Mass | Self::MassSilent | Self::Replica => kills.min(3),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }
}

/// Nanoseconds of each death.
#[derive(Debug, Default)]
struct Times {
    /// Until everything that was lost by it runs again.
    all: Vec<u64>,
    /// Until each run does.
    each: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Measured {
    machine: String,
    rows: Vec<Line>,
    held: bool,
}

#[derive(Debug, Serialize)]
struct Line {
    row: Row,
    /// Until everything that was lost by a death runs again.
    all_runs: Spread,
    each_run: Spread,
    target_p99_ms: f64,
    held: bool,
}

pub(super) async fn run(cx: &Context, args: &Args) -> Done {
    let shared = args.store.store != Backing::Sqlite;
    if !shared && args.rows.contains(&Row::Replica) {
        return Err(Failure::usage("replica needs a store that servers share: --store postgres"));
    }
    let all = || Row::value_variants().iter().copied().filter(|row| shared || *row != Row::Replica).collect();
    let rows: Vec<Row> = if args.rows.is_empty() { all() } else { args.rows.clone() };
    let mut m = Measured { machine: probe::machine(), rows: Vec::new(), held: true };
    let names: Vec<_> = rows.iter().map(|row| row.name()).collect();
    let mut lines = vec![
        format!("machine      {}", m.machine),
        format!(
            "command      outlive bench recovery {} --kills {} --runs {} --mass {} --sessions {} --store {}",
            names.join(" "),
            args.kills,
            args.runs,
            args.mass,
            args.sessions,
            args.store.store
        ),
    ];
    for row in rows {
        let line = line(row, &alone(measure(row, args)).await?);
        lines.extend([
            format!("{:12} {}", row.name(), line.all_runs.line()),
            format!("{:12} {}", "  each run", line.each_run.line()),
            format!(
                "{:12} p99 ≤ {}: {}",
                "  target",
                figure(line.target_p99_ms),
                if line.held { "held" } else { "NOT held" }
            ),
        ]);
        m.held &= line.held;
        m.rows.push(line);
    }
    finish(cx, &m, &lines, None)
}

fn line(row: Row, times: &Times) -> Line {
    let all_runs = Spread::of_nanos(&times.all);
    let target_p99_ms = row.target_ms();
    Line {
        row,
        all_runs,
        each_run: Spread::of_nanos(&times.each),
        target_p99_ms,
        held: all_runs.p99_ms <= target_p99_ms,
    }
}

async fn measure(row: Row, args: &Args) -> Result<Times, Failure> {
    let (rounds, runs, store) = (row.rounds(args.kills), args.runs.max(1), &args.store.store);
    match row {
        Row::Child => processes::children(rounds, store).await,
        Row::Agent => processes::workers(Blow::Kill, rounds, runs, None, store).await,
        Row::Silent => processes::workers(Blow::Stop, rounds, runs, None, store).await,
        Row::Silent3s => processes::workers(Blow::Stop, rounds, runs, Some(Millis::secs(3)), store).await,
        Row::Drain => processes::workers(Blow::Drain, rounds, runs, None, store).await,
        Row::Mass => mass::measure(mass::How::End, rounds, args.mass, store).await,
        Row::MassSilent => mass::measure(mass::How::Silence, rounds, args.mass, store).await,
        Row::Replica => replica::measure(rounds, args.sessions.max(1), store).await,
    }
}

async fn alone<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_holds_by_the_99th_percentile_of_whole_deaths() {
        let times = |ms: u64| Times { all: vec![ms * 1_000_000; 10], each: vec![1] };
        assert!(line(Row::Agent, &times(1_300)).held && !line(Row::Agent, &times(1_301)).held);
        assert_eq!(
            Row::value_variants().iter().map(|r| r.rounds(200)).collect::<Vec<_>>(),
            [200, 200, 20, 50, 100, 3, 3, 3]
        );
    }
}
