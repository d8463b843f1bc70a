//! `outlive doctor`: what is wrong with this machine, this store and this server, and what to do about each.
//!
//! ```text
//!   machine (disk, clock, files, groups, jitter) ─┐
//!   server  (port, version, judge, phases, way)  ─┼─► measurements ─► judge: pure, one function each ─► findings
//!   store   (a file that no server has open;     ─┘
//!            a database, and the way to it)
//! ```
//!
//! Nothing is changed: what is made for a measurement is removed after it.

mod finding;
mod jitter;
mod machine;
mod postgres;
mod server;
mod store;
mod way;

use super::Done;
use crate::context::{Context, is_local};
use crate::exit::{Exit, Failure};
use crate::render::{Format, list, print, say};
use finding::{Finding, Verdict};
use outlive_server::StoreLocation;
use std::path::PathBuf;

/// Examine this machine, the store and the server, and say what to do
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:
  outlive doctor                                            where a server or worker runs, or is to run
  outlive doctor --store sqlite:/var/lib/outlive/outlive.db
  outlive doctor --store postgres://outlive@db/outlive      version, durability, rights, connections, clock, commits
  outlive doctor -o json | jq '.[] | select(.verdict != \"ok\")'
",
    after_help = "Exit code: 0 if nothing must be changed, 1 if something must. Takes about three seconds."
)]
pub(crate) struct Args {
    /// The store, as the server is given it: its file is examined if no server has it open
    #[arg(long, env = "OUTLIVE_STORE", value_name = "STORE", default_value = super::server::DEFAULT_STORE, hide_env_values = true)]
    store: String,
    /// Where a server would listen, if none answers
    #[arg(long, env = "OUTLIVE_LISTEN", value_name = "ADDRESS", default_value = outlive_api::DEFAULT_ADDRESS, hide_env_values = true)]
    listen: String,
    /// A worker's state folder
    #[arg(
        long,
        env = "OUTLIVE_STATE_DIR",
        value_name = "DIR",
        default_value = ".outlive-worker",
        hide_env_values = true
    )]
    state_dir: PathBuf,
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    let location = super::server::store(&args.store)?;
    let address = super::server::address(&args.listen)?;
    let client = cx.client()?;
    if matches!(cx.look.format, Format::Table | Format::Wide) {
        say("examining, about three seconds…");
    }
    // Measured beside everything else: a machine that is busy with that is a busy machine.
    let lateness = tokio::task::spawn_blocking(|| jitter::measure(jitter::WAKES));
    let seen = server::look(&client).await;
    let walked = {
        let client = client.clone();
        tokio::spawn(async move { way::measure(&client).await })
    };
    let mut findings = server::findings(&seen, address);
    let folder = store::folder(&location);
    findings.extend(store::findings(&location, seen.store_is_open_here(&location, is_local(&client))));
    if let StoreLocation::Postgres(url) = &location {
        findings.extend(postgres::findings(&super::server::without_password(url), &outlive_server::survey(url).await));
    }
    let state_dir = args.state_dir;
    let machine = tokio::task::spawn_blocking(move || machine::findings(&folder, &state_dir));
    findings.extend(machine.await.map_err(|e| Failure::failed(format!("the examination failed: {e}")))?);
    let walked = walked.await.map_err(|e| Failure::failed(format!("the examination failed: {e}")))?;
    findings.extend(way::finding(&walked));
    let lateness = lateness.await.map_err(|e| Failure::failed(format!("the examination failed: {e}")))?;
    findings.extend(jitter::findings(&lateness, seen.least_ttl()));
    show(cx, &findings)?;
    Ok(if findings.iter().any(|f| f.verdict == Verdict::Problem) { Exit::Failed } else { Exit::Ok })
}

fn show(cx: &Context, findings: &[Finding]) -> Result<(), Failure> {
    if !matches!(cx.look.format, Format::Table | Format::Wide) {
        return list(&cx.look, findings, "nothing to say");
    }
    findings.iter().try_for_each(|f| print(&f.lines(&cx.look)))?;
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    let (problems, warnings) = (count(Verdict::Problem), count(Verdict::Warning));
    say(&match (problems, warnings) {
        (0, 0) => "all is well".to_owned(),
        (0, w) => format!("nothing must be changed; {w} to think about"),
        (p, w) => format!("{p} must be changed, {w} to think about"),
    });
    Ok(())
}

/// The file of a store, if it is one.
pub(crate) fn file(location: &StoreLocation) -> Option<&PathBuf> {
    match location {
        StoreLocation::Sqlite(path) => Some(path),
        StoreLocation::Postgres(_) | StoreLocation::Memory => None,
    }
}
