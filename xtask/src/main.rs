//! What people and machines type to work on Outlive: `cargo xtask setup|test|lint|openapi|acceptance|chaos|sim`.
//!
//! ```text
//!   lint ──► rules (absences, read from the sources) · sizes · rustfmt · clippy · rustdoc · cargo-deny
//!   test ──► needs (provided, or named) · build · doc tests · simulation · tests
//! ```
//!
//! Nothing here needs a terminal, a service that happens to run, or anything but a Rust toolchain and a C compiler.

mod chaos;
mod clock;
mod house;
mod lint;
mod needs;
mod next;
mod openapi;
mod proc;
mod rules;
mod shell;
mod sizes;
mod source;
mod test;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Sets up, tests, lints.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Provides what tests and lints need, and says what it could not provide
    Setup,
    /// Sets up, builds, and runs every test; the runner's summary is the last line
    Test {
        /// Given to the test runner: a filter, or its options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        runner: Vec<OsString>,
    },
    /// Formatting, clippy, rustdoc, layering rules, sizes, licences
    Lint {
        /// Only what needs no compiler: layering rules and sizes
        #[arg(long)]
        quick: bool,
    },
    /// Writes openapi/v1.json from the code
    Openapi {
        /// Writes nothing; fails if the file differs
        #[arg(long)]
        check: bool,
    },
    /// Builds the version after this one, which the test of an upgrade runs beside it, and prints where it is
    Next,
    /// Plays every scenario of acceptance/ with the worker that this command starts
    Acceptance {
        /// For example: python3 examples/worker.py
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        worker: Vec<OsString>,
    },
    /// Kills real processes under load and checks that nothing acknowledged is lost: `chaos store [--kills N] [--seed S]`
    Chaos {
        /// What to kill, and its options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Runs the simulation, optimised; everything after it is given to the simulation
    Sim {
        /// For example a seed
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Setup => needs::provide(needs::ALL),
        Task::Test { runner } => test::all(&runner),
        Task::Lint { quick } => lint::all(quick),
        Task::Openapi { check } => openapi::write(check),
        Task::Next => next::build().map(|program| println!("{}", program.display())),
        Task::Acceptance { worker } => acceptance(worker),
        Task::Chaos { args } => chaos::run(&args),
        Task::Sim { args } => {
            shell::Cargo::new(["run", "--release", "--package", "outlive-sim", "--"]).args(args).run()
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Words that name a file here become its path: the worker runs in a folder of its own.
fn acceptance(worker: Vec<OsString>) -> shell::Done {
    shell::Cargo::new(["build", "--package", "outlive-cli", "--package", "outlive-acceptance"]).run()?;
    let found = |word: OsString| std::fs::canonicalize(&word).map_or(word, Into::into);
    let outlive = std::env::current_exe().map_err(|e| e.to_string())?.with_file_name("outlive");
    shell::Cargo::built("outlive-acceptance").args([outlive]).args(worker.into_iter().map(found)).run()
}
