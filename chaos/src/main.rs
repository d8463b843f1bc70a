//! `cargo xtask chaos …`: builds the binary and starts this.

use clap::{Parser, Subcommand};
use outlive_chaos::cluster::{Length, schedule::Dealer};
use outlive_chaos::{cluster, liveness, store};
use outlive_core::policy::OnIsolation;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Real processes, killed under load.
#[derive(Parser)]
#[command(name = "chaos")]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Kills the server again and again; everything that was acknowledged must be there
    Store {
        /// The built binary `outlive`
        #[arg(long, value_parser = program)]
        binary: PathBuf,
        /// How often
        #[arg(long, default_value_t = 50)]
        kills: u32,
        /// By which the load and the moments of the kills are chosen
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Keeps the folder with database and logs
        #[arg(long)]
        keep: bool,
    },
    /// Replicas over a PostgreSQL of their own, and 20 workers, fail under load; everything that was seen is checked at the end
    Cluster {
        /// The built binary `outlive`
        #[arg(long, value_parser = program)]
        binary: PathBuf,
        /// For how long; 0: everything is done once
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// By which victims, moments and the load are chosen
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Replicas reach the database through a pgbouncer in transaction mode
        #[arg(long)]
        pgbouncer: bool,
        /// The database, and the pgbouncer, refuse what is not TLS
        #[arg(long)]
        tls: bool,
        /// Keeps the folder with logs and stamps
        #[arg(long)]
        keep: bool,
    },
    /// Stops, cuts, starves and kills around live runs; nobody who lives may be taken for dead, and nothing may run twice at once
    Liveness {
        /// The built binary `outlive`
        #[arg(long, value_parser = program)]
        binary: PathBuf,
        /// One of: server-stopped, agents-stopped, cut, cut-proxied, clock, starved, store, storm, silent-host (default: all)
        #[arg(long)]
        scenario: Option<String>,
        /// By which victims and moments are chosen
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// As the tests play it: fewer runs, shorter outages
        #[arg(long)]
        short: bool,
        /// Keeps the folder with database, logs and stamps
        #[arg(long)]
        keep: bool,
    },
}

/// A program by its whole path: workers start it in folders of their own.
fn program(path: &str) -> Result<PathBuf, String> {
    let whole = std::fs::canonicalize(path).map_err(|error| error.to_string())?;
    if whole.is_file() { Ok(whole) } else { Err("this is not a file".to_owned()) }
}

fn main() -> ExitCode {
    let good = match Args::parse().what {
        What::Store { binary, kills, seed, keep } => {
            told(store::run(&store::Plan { binary, kills, seed, keep }), |report| report.findings.is_empty())
        }
        What::Cluster { binary, minutes, seed, pgbouncer, tls, keep } => {
            let round = Length::Blows { skip: 0, take: Dealer::round() };
            let length = if minutes == 0 { round } else { Length::Minutes(minutes) };
            let plan = cluster::Plan { binary, seed, length, pgbouncer, tls, twins: Vec::new(), keep };
            told(cluster::run(&plan), |report| report.findings.is_empty())
        }
        What::Liveness { binary, scenario, seed, short, keep } => {
            liveness(&binary, scenario.as_deref(), seed, short, keep)
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn liveness(binary: &Path, name: Option<&str>, seed: u64, short: bool, keep: bool) -> bool {
    let chosen: Vec<_> = liveness::SCENARIOS.iter().filter(|s| name.is_none_or(|name| s.name == name)).collect();
    if chosen.is_empty() {
        eprintln!("chaos: there is no scenario of that name");
    }
    let mut good = !chosen.is_empty();
    for scenario in chosen {
        eprintln!("── {}: {}", scenario.name, scenario.what);
        let scale = if short { liveness::SHORT } else { liveness::LONG };
        let isolation = OnIsolation::Freeze;
        let plan = liveness::Plan { binary: binary.to_owned(), scenario, scale, isolation, seed, keep };
        good &= told(liveness::run(&plan), |report| report.findings.is_empty());
    }
    good
}

/// Prints what came of it; whether it is good.
fn told<R: std::fmt::Display>(done: Result<R, String>, good: impl Fn(&R) -> bool) -> bool {
    match done {
        Ok(report) => {
            println!("{report}");
            good(&report)
        }
        Err(error) => {
            eprintln!("chaos: {error}");
            false
        }
    }
}
