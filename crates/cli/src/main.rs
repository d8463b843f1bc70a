//! The binary `outlive`: server, worker and command line.
//!
//! ```text
//! args → config (environment and outlive.toml become defaults) → args::Cli → commands/*.rs → exit.rs
//! ```
//!
//! Data goes to stdout, talk to stderr; every end has its exit code in [`exit`].

mod args;
mod backing;
mod bytes;
mod children;
mod commands;
mod config;
mod context;
mod exit;
mod fleet;
mod follow;
mod ids;
mod logs;
mod render;
mod stats;

use args::{Cli, Command};
use clap::{CommandFactory as _, FromArgMatches as _};
use commands::Done;
use context::Context;
use exit::{Exit, Failure};
use render::say;
use std::future::Future;
use std::process::ExitCode;

/// Gives memory back that a burst needed: of a million leases the system's own allocator kept twice what was in use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The version of this build.
pub(crate) const VERSION: &str =
    if cfg!(feature = "next") { concat!(env!("CARGO_PKG_VERSION"), "-next") } else { env!("CARGO_PKG_VERSION") };

fn main() -> ExitCode {
    // The guard must be there in a millisecond and must not depend on anything of ours.
    if config::args().get(1).is_some_and(|arg| arg == "guard") {
        return outlive_worker::guard_main();
    }
    // So must what stamps the time of its own start.
    if let [_, bench, what, rest @ ..] = config::args().as_slice()
        && bench == "bench"
    {
        if what == "stamp" {
            return ended(commands::bench::stamp::run(rest));
        } else if what == "work" {
            return ended(commands::bench::work::run(rest));
        }
    }
    ended(start())
}

fn ended(done: Done) -> ExitCode {
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.silent {
                say(&format!("error: {}", failure.message));
                if let Some(hint) = &failure.hint {
                    say(&format!("  {}", hint.replace('\n', "\n  ")));
                }
            }
            failure.exit.into()
        }
    }
}

fn start() -> Done {
    let line = config::args();
    let file = config::File::load(&line)?;
    let mut tree = config::equip(Cli::command(), &file)?;
    let bare_command = line.get(1).is_some_and(|a| a == "run") && !line.iter().any(|a| a == "--");
    let matches = match tree.try_get_matches_from_mut(line) {
        Ok(matches) => matches,
        Err(e) => {
            let done = usage(&e);
            if bare_command && e.kind() == clap::error::ErrorKind::UnknownArgument {
                say("\nThe command goes after a double dash: outlive run -- echo hello");
            }
            return done;
        }
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(e) => return usage(&e.format(&mut tree)),
    };
    let Some(command) = cli.command else {
        render::print(&tree.render_help().to_string())?;
        return Ok(Exit::Ok);
    };
    let cx = Context::new(cli.global);
    match command {
        Command::Demo(args) => wait(commands::demo::run(&cx, args)),
        Command::Dev(args) => wait(commands::dev::run(&cx, args, config::settings_in_use(&tree, &file, &matches))),
        Command::Server(args) => {
            wait(commands::server::run(&cx, args, config::settings_in_use(&tree, &file, &matches)))
        }
        Command::Worker(args) => wait(commands::worker::run(&cx, args)),
        Command::Run(args) => wait(commands::run::run(&cx, *args)),
        Command::Runs(args) => wait(commands::runs::run(&cx, *args)),
        Command::Workers(args) => wait(commands::workers::run(&cx, args)),
        Command::Queues(args) => wait(commands::queues::run(&cx, args)),
        Command::Recoveries(args) => wait(commands::recoveries::run(&cx, args)),
        Command::Stuck(args) => wait(commands::stuck::run(&cx, args)),
        Command::Subjects(args) => wait(commands::subjects::run(&cx, args)),
        Command::Events(args) => wait(commands::events::run(&cx, args)),
        Command::Step(args) => commands::step::run(args),
        Command::Doctor(args) => wait(commands::doctor::run(&cx, args)),
        Command::Backup(args) => commands::backup::run(&cx, &args),
        Command::Restore(args) => wait(commands::restore::run(&cx, args)),
        Command::Bench(args) => wait(commands::bench::run(&cx, args)),
        Command::Openapi(args) => commands::openapi::run(&args),
        Command::Guard => Err(Failure::usage("guard is started by a worker")),
        Command::Config(args) => wait(commands::explain::run(&cx, args, &tree, &file, &matches)),
        Command::Completions(args) => commands::completions::run(&args, tree),
    }
}

/// Runs a command that talks to a server.
fn wait(command: impl Future<Output = Done>) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build()?;
    let done = runtime.block_on(command);
    // Nothing that is still under way may hold up the end.
    runtime.shutdown_background();
    done
}

/// Help and version are no errors; anything else is told by clap, with its suggestions.
fn usage(e: &clap::Error) -> Done {
    let wanted = e.exit_code() == 0;
    drop(e.print());
    Err(Failure { silent: true, ..Failure::new(if wanted { Exit::Ok } else { Exit::Usage }, "") })
}
