//! `outlive backup`: the whole store in one file, while its server goes on.

use super::{Done, server};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render::{one, say, text};
use outlive_server::StoreError;
use std::path::PathBuf;

/// Save the store in one file, while its server goes on
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:
  outlive backup /backups/monday.db --store sqlite:/var/lib/outlive/outlive.db
  outlive backup today.db --overwrite
",
    after_help = "Everything that was acknowledged before it began is in it. It is read through before it gets its name, so a file of that name is
always whole. It reads the store's file itself: run it on the server's machine, as the server's user. A server on PostgreSQL is
saved with PostgreSQL's own tools."
)]
pub(crate) struct Args {
    /// The file; it holds the store's secret and is readable by its owner alone
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The store: sqlite:PATH
    #[arg(long, env = "OUTLIVE_STORE", value_name = "STORE", default_value = server::DEFAULT_STORE, hide_env_values = true)]
    store: String,
    /// Replace a file of that name
    #[arg(long)]
    overwrite: bool,
}

pub(crate) fn run(cx: &Context, args: &Args) -> Done {
    let store = server::store(&args.store)?;
    let saved = outlive_server::backup(&store, &args.file, args.overwrite).map_err(refused)?;
    let file = saved.file.display().to_string();
    one(&cx.look, &saved, &file, || file.clone())?;
    let (runs, leased) = (text::count(number(saved.runs), "run"), saved.leased);
    say(&format!("saved {runs}, {leased} of them at work, in {} KiB; read through and found whole", saved.bytes >> 10));
    Ok(Exit::Ok)
}

/// Why a copy could not be made or used, in the store's words.
pub(crate) fn refused(e: StoreError) -> Failure {
    match e {
        StoreError::Refused(why) => Failure::failed(why),
        other => Failure::failed(other.to_string()),
    }
}

pub(crate) fn number(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
