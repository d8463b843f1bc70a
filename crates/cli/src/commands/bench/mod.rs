//! `outlive bench`: what it can do on this machine, through the real interfaces, with every result checked.
//!
//! | file | measures |
//! |---|---|
//! | [`throughput`] | no-op runs per second, submit to finished, beside raw SQLite |
//! | [`latency`] | submit to handler started, idle |
//! | [`recovery`] | death to running again |
//! | [`sessions`] | what sessions cost that only beat |
//! | [`leases`] | what leased runs cost, up to a million |
//! | [`session`] | sessions without processes |
//! | [`agent`] | (hidden) the worker whose handler does nothing |
//! | [`stamp`] | (hidden) the command of runs that stamp a file while they execute |
//! | [`work`] | (hidden) the command of runs whose every byte is known |
//! | [`probe`] | this machine: fsync, processor time, its name |

pub(crate) mod agent;
mod latency;
mod leases;
pub(crate) mod probe;
mod recovery;
mod session;
mod sessions;
pub(crate) mod stamp;
mod throughput;
pub(crate) mod work;

use super::Done;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render::{Format, one, print};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

const EXAMPLES: &str = "Examples:
  outlive bench throughput --runs 50000
  outlive bench latency
  outlive bench recovery
  outlive bench recovery child agent --kills 200 -o json
  outlive bench sessions --sessions 10000
  outlive bench leases --runs 1000000
";

/// Measure throughput, latency, recovery and sessions on this machine
#[derive(Debug, clap::Args)]
#[command(before_help = EXAMPLES, arg_required_else_help = true, subcommand_required = true,
          after_help = "Measure with a release build on a quiet machine. Ratios and distributions travel between machines, times do not.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// No-op runs through the real interface, submit to finished, each checked for exactly one finish
    Throughput(throughput::Args),
    /// Submit to handler started, on an idle server
    Latency(latency::Args),
    /// Death to running again: of commands, of workers, of hosts, of ten thousand runs at once
    Recovery(recovery::Args),
    /// Processor, memory and store that sessions need which only beat
    Sessions(sessions::Args),
    /// Memory of the server for each leased run, and its judge's ticks beside them
    Leases(leases::Args),
    #[command(hide = true)]
    Agent(agent::Args),
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    match args.command {
        Command::Throughput(args) => throughput::run(cx, &args).await,
        Command::Latency(args) => latency::run(cx, &args).await,
        Command::Recovery(args) => recovery::run(cx, &args).await,
        Command::Sessions(args) => sessions::run(cx, &args).await,
        Command::Leases(args) => leases::run(cx, &args).await,
        Command::Agent(args) => agent::run(cx, args).await,
    }
}

fn bar(what: &str, rounds: usize) -> ProgressBar {
    let bar = ProgressBar::new(rounds as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

/// The result, and whether what was measured can be believed.
fn finish<T: Serialize>(cx: &Context, result: &T, lines: &[String], wrong: Option<String>) -> Done {
    match cx.look.format {
        Format::Table | Format::Wide => lines.iter().try_for_each(|line| print(line))?,
        _ => one(&cx.look, result, "bench", String::new)?,
    }
    match wrong {
        None => Ok(Exit::Ok),
        Some(wrong) => Err(Failure::failed(wrong)),
    }
}
