//! `outlive demo`: a server, workers, runs; something happens to them, and the work goes on.
//!
//! Everything is real: processes of this binary in a temporary folder, commands that write and take checkpoints, SIGKILL and
//! SIGSTOP. A scenario is a value: whom it strikes, what is done to them, and what must hold afterwards.
//!
//! ```text
//!   Stage: fleet, runs, screen ── victims under way ──► Fault::strike ── moved ──► Fault::aftermath ── all ended ──► Facts
//!                                                                                                                     │
//!   exit code ◄──────────────────────────── each claim of the scenario ◄──────────────────────────────────────────────┘
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`scenario`] | the table of scenarios |
//! | [`fault`] | what is done |
//! | [`checks`] | what must hold, each a function of [`facts`] |
//! | [`log`], [`processes`] | a run's output as it was stored; processes and what they carry |
//! | [`stage`], [`screen`] | what all scenarios share; the live table |

mod checks;
mod facts;
mod fault;
mod log;
mod processes;
mod scenario;
mod screen;
mod stage;

use super::Done;
use crate::backing::Backing;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::fleet::Fleet;
use crate::render::table::{Tone, paint};
use crate::render::{Format, Look, list, one, print, say};
use checks::Check;
use clap::Subcommand;
use facts::Facts;
use outlive_api::clock::nanos;
use outlive_api::ops::Recovery;
use scenario::Scenario;
use serde::Serialize;
use stage::Stage;
use std::time::Duration;

/// See workers and servers die, and the work go on, with the times and checks
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:
  outlive demo                             a worker is killed
  outlive demo freeze                      a worker is stopped, and woken when its work is elsewhere
  outlive demo crash --workers 4 --runs 20
  outlive demo restart --keep              leave it running, to look around
  outlive demo --store postgres            three servers over a PostgreSQL of its own; one server is killed
",
    after_help = "Exit code 0 only if every check held."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    scenario: Option<Name>,
    /// Where runs are kept: sqlite (the default), postgres (a server of its own for the time), or the URL of a server on which
    /// a database is made for the time; with PostgreSQL the scenario is replica, if none is named
    #[arg(long, value_name = "STORE", global = true)]
    store: Option<Backing>,
    /// Leave everything running until Ctrl-C
    #[arg(long, global = true)]
    keep: bool,
    /// Worker processes, at least 2 [default: 3; storm: 6]
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u8).range(2..=20))]
    workers: Option<u8>,
    /// Runs
    #[arg(long, value_name = "N", default_value_t = 12, global = true, value_parser = clap::value_parser!(u8).range(1..=200))]
    runs: u8,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Name {
    /// One worker is killed with SIGKILL (the default)
    Crash,
    /// One worker is stopped: its guard freezes its work, others go on; then it wakes, and is fenced
    Freeze,
    /// The server is killed and started again: nothing is taken from anybody
    Restart,
    /// One worker is drained: it hands its work over, and no budget is spent
    Drain,
    /// Half of the workers are killed at once
    Storm,
    /// One of three servers over a PostgreSQL is killed: its workers go to the others, and nothing is taken from anybody
    Replica,
}

impl Name {
    const fn scenario(self) -> &'static Scenario {
        match self {
            Self::Crash => &scenario::CRASH,
            Self::Freeze => &scenario::FREEZE,
            Self::Restart => &scenario::RESTART,
            Self::Drain => &scenario::DRAIN,
            Self::Storm => &scenario::STORM,
            Self::Replica => &scenario::REPLICA,
        }
    }
}

/// All of it is over after this long, or something is wrong.
const LIMIT: Duration = Duration::from_secs(100);

#[derive(Debug, Serialize)]
struct Report<'a> {
    scenario: &'a str,
    ok: bool,
    seconds: f64,
    struck: &'a [String],
    recoveries: &'a [Recovery],
    checks: &'a [Check],
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    let (scenario, backing) = asked(args.scenario, args.store.clone())?;
    let mut fleet = Fleet::start(&backing).await?;
    let played = tokio::select! {
        played = tokio::time::timeout(LIMIT, play(cx, &args, scenario, &mut fleet)) => {
            played.unwrap_or_else(|_| Err(Failure::failed("the demo did not end in time")))
        }
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    if args.keep && played.is_ok() {
        say(&format!(
            "\nstill running at {url}\n    export OUTLIVE_SERVER={url}\n    outlive runs list\nCtrl-C ends it",
            url = fleet.addresses(0)
        ));
        super::server::asked_to_stop().await;
    }
    fleet.stop().await;
    played
}

/// The scenario and the store: each tells the other, if only one is named.
fn asked(name: Option<Name>, store: Option<Backing>) -> Result<(&'static Scenario, Backing), Failure> {
    let shared = store.as_ref().is_some_and(|store| *store != Backing::Sqlite);
    let scenario = name.unwrap_or(if shared { Name::Replica } else { Name::Crash }).scenario();
    let store = match store {
        Some(Backing::Sqlite) if scenario.servers > 1 => {
            let what = format!("{} needs a store that servers share: --store postgres", scenario.name);
            return Err(Failure::usage(what));
        }
        None if scenario.servers > 1 => Backing::OwnServer,
        store => store.unwrap_or_default(),
    };
    Ok((scenario, store))
}

async fn play(cx: &Context, args: &Args, scenario: &Scenario, fleet: &mut Fleet) -> Done {
    let began = nanos();
    let workers = usize::from(args.workers.unwrap_or(scenario.workers));
    let victims = (scenario.victims)(workers);
    let mut stage = Stage::set(cx, fleet, scenario.servers, workers, victims, usize::from(args.runs)).await?;
    let chosen = stage.until_under_way(victims).await?;
    let mut struck = scenario.fault.strike(&mut stage, &chosen).await?;
    stage.until_moved(&struck).await?;
    scenario.fault.aftermath(&mut stage, &mut struck)?;
    let ended = stage.until_ended().await?;
    let facts = Facts::gather(&stage, struck, ended).await?;
    let checks: Vec<_> = scenario.claims.iter().map(|claim| claim(&facts)).collect();
    #[expect(clippy::cast_precision_loss, reason = "a duration for people")]
    let seconds = (nanos() - began) as f64 / 1e9;
    let report = Report {
        scenario: scenario.name,
        ok: checks.iter().all(|c| c.ok),
        seconds,
        struck: &facts.struck.names,
        recoveries: &facts.recoveries,
        checks: &checks,
    };
    show(&cx.look, &report)
}

fn show(look: &Look, report: &Report<'_>) -> Done {
    if matches!(look.format, Format::Table | Format::Wide) {
        print("\nRecoveries")?;
        list(&Look { width: None, ..*look }, report.recoveries, "none: nothing was lost")?;
        if !report.recoveries.is_empty() {
            print("  detect   last sign of life to verdict     requeue  to queued     claim  to another worker")?;
            print("  resume   to started there                 redo     to where it was when it was lost")?;
        }
        print("")?;
        for check in report.checks {
            let (mark, tone) = if check.ok { ("✓", Tone::Good) } else { ("✗", Tone::Bad) };
            print(&format!("{} {}", paint(look, tone, mark), check.text))?;
        }
        let verdict = if report.ok { "all of it held" } else { "NOT all of it held" };
        print(&format!("\n{verdict}, in {:.1} s", report.seconds))?;
    } else {
        one(look, report, report.scenario, String::new)?;
    }
    if report.ok { Ok(Exit::Ok) } else { Err(Failure::failed("a check failed; see the ✗ above")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_and_the_store_tell_each_other() {
        let said = |name, store| asked(name, store).map(|(scenario, store)| (scenario.name, store));
        assert_eq!(said(None, None).unwrap(), ("crash", Backing::Sqlite));
        assert_eq!(said(None, Some(Backing::OwnServer)).unwrap(), ("replica", Backing::OwnServer));
        assert_eq!(said(Some(Name::Replica), None).unwrap(), ("replica", Backing::OwnServer));
        let server = Backing::Server("postgres://h/d".to_owned());
        assert_eq!(said(Some(Name::Drain), Some(server.clone())).unwrap(), ("drain", server));
        assert!(said(Some(Name::Replica), Some(Backing::Sqlite)).is_err());
    }
}
