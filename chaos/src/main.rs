//! `cargo xtask chaos …`: builds the binary and starts this.

use clap::{Parser, Subcommand};
use outlive_chaos::store;
use std::path::PathBuf;
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
        #[arg(long)]
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
}

fn main() -> ExitCode {
    let What::Store { binary, kills, seed, keep } = Args::parse().what;
    match store::run(&store::Plan { binary, kills, seed, keep }) {
        Ok(report) => {
            println!("{report}");
            if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::FAILURE
        }
    }
}
