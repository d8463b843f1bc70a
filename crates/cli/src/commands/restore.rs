//! `outlive restore`: a store out of a copy, safe against the workers of the store that was lost.

use super::backup::{number, refused};
use super::{Done, server};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::render::{one, say, text};
use outlive_server::{Restored, Restoring};
use std::path::PathBuf;

/// Make a store out of a saved one
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:
  outlive restore /backups/monday.db --store sqlite:/var/lib/outlive/outlive.db
  outlive restore monday.db --overwrite          the store that is there is kept beside it
",
    after_help = "Stop the server first. Runs that were leased when the copy was made are queued again, from their last checkpoint. What was
accepted later is gone, and what has ended since runs again. Workers register anew by themselves; what they still do for the
lost store is refused and killed. So that nothing runs twice at once, this waits until no worker can believe in an old lease:
the longest lease_ttl of a queue that has something to do."
)]
pub(crate) struct Args {
    /// The copy
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The store to make: sqlite:PATH
    #[arg(long, env = "OUTLIVE_STORE", value_name = "STORE", default_value = server::DEFAULT_STORE, hide_env_values = true)]
    store: String,
    /// Replace a store that is there; it is kept beside it, under another name
    #[arg(long)]
    overwrite: bool,
    /// Do not wait: no worker of the lost store lives any more, or its server stopped long ago
    #[arg(long)]
    no_wait: bool,
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    let store = server::store(&args.store)?;
    let restoring = Restoring::begin(&args.file, &store, args.overwrite).map_err(refused)?;
    let trusted = restoring.trusted();
    if !args.no_wait && trusted.0 > 0 {
        say(&format!(
            "waiting {trusted}: for so long a worker may believe in a lease of the lost store. --no-wait if none is alive"
        ));
        tokio::select! {
            () = tokio::time::sleep(trusted.duration()) => {}
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new(Exit::Interrupted, "nothing was restored; what was there is as it was"));
            }
        }
    }
    let restored = restoring.finish().map_err(refused)?;
    let file = restored.file.display().to_string();
    one(&cx.look, &restored, &file, || file.clone())?;
    say(&told(&restored));
    Ok(Exit::Ok)
}

fn told(restored: &Restored) -> String {
    let count = |n, what| text::count(number(n), what);
    let mut told = vec![
        format!("restored {}", count(restored.runs, "run")),
        format!(
            "{} that a worker had: queued again, from the last checkpoint, at no cost",
            count(restored.requeued, "run")
        ),
    ];
    if restored.cancelled > 0 {
        told.push(format!("{} that somebody had asked to end: cancelled", count(restored.cancelled, "run")));
    }
    if let Some(kept) = &restored.replaced {
        told.push(format!("what was there before is kept at {}", kept.display()));
    }
    told.push("start the server; its workers come back by themselves".to_owned());
    told.join("\n")
}
