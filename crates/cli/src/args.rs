//! The tree of commands.

use crate::commands::{
    backup, bench, completions, demo, dev, doctor, events, explain, openapi, queues, recoveries, restore, run, runs,
    server, step, stuck, subjects, worker, workers,
};
use crate::context::Global;
use clap::{Parser, Subcommand};

const EXAMPLES: &str = "When a worker dies, its work is running again in about a second.

Examples:
  outlive demo                      see a worker killed and its work go on
  outlive dev                       a server and two workers here, data in ./.outlive
  outlive run -- sh -c 'echo hi'    any command as a durable run, with live output
  outlive runs list                 what there is
  outlive stuck                     what does not move, and why
  outlive doctor                    what is wrong here, and what to do
  outlive recoveries report         what was lost, and how fast it was back
";

/// A durable run queue: leases, fences, fast takeover
#[derive(Debug, Parser)]
#[command(name = "outlive", version = crate::VERSION, before_help = EXAMPLES, disable_help_subcommand = true, max_term_width = 110,
          infer_long_args = false, propagate_version = false,
          after_help = "Settings: flag, else OUTLIVE_… variable, else outlive.toml, else default; outlive config explain shows where each came from.
Exit codes: 0 ok · 1 failed · 2 usage · 3 not found · 4 not allowed · 5 conflict · 6 no server · 7 wait timed out · 10 run failed · 11 run cancelled · 12 run lost or timed out · 130 interrupted")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Args),
    Dev(dev::Args),
    Server(server::Args),
    Worker(worker::Args),
    Run(Box<run::Args>),
    Runs(Box<runs::Args>),
    Workers(workers::Args),
    Queues(queues::Args),
    Recoveries(recoveries::Args),
    Stuck(stuck::Args),
    Subjects(subjects::Args),
    Events(events::Args),
    Step(step::Args),
    Bench(bench::Args),
    Doctor(doctor::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Config(explain::Args),
    Openapi(openapi::Args),
    Completions(completions::Args),
    /// Watches over a worker's processes; started by the worker
    #[command(hide = true)]
    Guard,
}
