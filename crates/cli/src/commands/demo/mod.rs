//! `outlive demo`: a server, three workers, twelve runs; one worker is killed, and the work goes on elsewhere.
//!
//! Everything is real: processes of this binary in a temporary folder, commands that write and take checkpoints, SIGKILL.
//! [`checks`] then looks at what is left and says whether the guarantees held; the exit code is its verdict.

mod checks;
mod screen;

use super::Done;
use super::recoveries::fetch;
use crate::config;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::fleet::Fleet;
use crate::render::table::{Tone, paint};
use crate::render::{Format, Look, list, one, print, say, text};
use checks::Check;
use clap::Subcommand;
use outlive_api::clock::nanos;
use outlive_api::ops::Recovery;
use outlive_api::runs::{ExecInput, NewRun, NewRuns, OutputFormat, Run};
use outlive_core::{Json, Millis, RunId};
use rustix::process::Signal;
use screen::Screen;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// See a worker killed and its work go on elsewhere, with the times and checks
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:
  outlive demo
  outlive demo crash --workers 4 --runs 20
  outlive demo --keep                      leave it running, to look around
",
    after_help = "Exit code 0 only if every check held."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    /// Leave everything running until Ctrl-C
    #[arg(long, global = true)]
    keep: bool,
    /// Worker processes, at least 2
    #[arg(long, value_name = "N", default_value_t = 3, global = true, value_parser = clap::value_parser!(u8).range(2..=20))]
    workers: u8,
    /// Runs
    #[arg(long, value_name = "N", default_value_t = 12, global = true, value_parser = clap::value_parser!(u8).range(1..=200))]
    runs: u8,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// One worker is killed with SIGKILL (the default)
    Crash,
}

/// Lines that each run prints.
const LINES: u32 = 30;
/// The worker is killed when each run that it has is past this line.
const KILL_AFTER: u32 = 4;
/// All of it is over after this long, or something is wrong.
const LIMIT: Duration = Duration::from_mins(1);

/// Counts to `$2`, a line and a checkpoint each; goes on after the last checkpoint of the attempt before.
const COUNT: &str = r#"
i=0
if [ -s "${OUTLIVE_CHECKPOINT_FILE:-}" ]; then i=$(tr -cd 0-9 < "$OUTLIVE_CHECKPOINT_FILE"); fi
i=${i:-0}
while [ "$i" -lt "$2" ]; do
  i=$((i + 1))
  echo "line $i"
  "$1" step checkpoint "{\"i\":$i}" || exit 1
  sleep 0.15
done
"#;

#[derive(Debug, Serialize)]
struct Report<'a> {
    ok: bool,
    seconds: f64,
    killed: &'a str,
    recoveries: &'a [Recovery],
    checks: &'a [Check],
}

pub(crate) async fn run(cx: &Context, args: Args) -> Done {
    let mut fleet = Fleet::start().await?;
    let played = tokio::select! {
        played = tokio::time::timeout(LIMIT, play(cx, &args, &mut fleet)) => {
            played.unwrap_or_else(|_| Err(Failure::failed("the demo did not end in time")))
        }
        _ = tokio::signal::ctrl_c() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    if args.keep && played.is_ok() {
        say(&format!(
            "\nstill running at {url}\n    export OUTLIVE_SERVER={url}\n    outlive runs list\nCtrl-C ends it",
            url = fleet.url
        ));
        super::server::asked_to_stop().await;
    }
    fleet.stop().await;
    played
}

async fn play(cx: &Context, args: &Args, fleet: &mut Fleet) -> Done {
    let began = nanos();
    let (workers, runs) = (usize::from(args.workers), usize::from(args.runs));
    // The others must be able to take what the killed one had.
    let slots = runs.div_ceil(workers - 1);
    for number in 1..=workers {
        fleet.add_worker(&format!("w-{number}"), slots)?;
    }
    fleet.online(workers).await?;
    let what = [text::count(workers, "worker"), text::count(runs, "run")].join(" and ");
    say(&format!("a server at {} with {what}, each counting to {LINES} with a checkpoint per line", fleet.url));
    let ids = submit(fleet, runs).await?;
    let names: Vec<_> = fleet.workers.iter().map(|w| w.name.clone()).collect();
    let mut screen = Screen::new(&cx.look, &ids, &names, LINES);

    let victim = loop {
        let now = look_at(fleet, &ids).await?;
        screen.show(&now);
        if let Some(victim) = choose(&now) {
            break victim;
        }
        tokio::time::sleep(screen::FRAME).await;
    };
    let mut killed =
        fleet.take(&victim).ok_or_else(|| Failure::failed(format!("{victim} is not a worker of the demo")))?;
    let remains = checks::processes_of(killed.pid);
    let had = look_at(fleet, &ids).await?.iter().filter(|r| worker_of(r) == Some(victim.as_str())).count();
    let killed_at = nanos();
    killed.signal(Signal::KILL);
    screen.tell(&format!("kill -9 {}: {victim} is gone, with {} on it", killed.pid, text::count(had, "run")));
    screen.killed(&victim);
    drop(killed.wait().await);

    let mut moved = 0;
    let ended = loop {
        let now = look_at(fleet, &ids).await?;
        screen.show(&now);
        let again = now
            .iter()
            .filter(|r| {
                r.losses > 0 && (r.state.is_terminal() || r.lease.as_ref().is_some_and(|l| l.started_at.is_some()))
            })
            .count();
        if again >= had && moved < had {
            let after = Millis((nanos() - killed_at) / 1_000_000);
            screen.tell(&format!(
                "{} running again on other workers, {} after the kill",
                text::count(had, "run"),
                text::span(after)
            ));
        }
        moved = again;
        if now.iter().all(|r| r.state.is_terminal()) {
            break now;
        }
        tokio::time::sleep(screen::FRAME).await;
    };
    screen.close();
    let recoveries = fetch(&fleet.client, None, 1_000).await?;
    let checks = checks::all(&fleet.client, &ended, &recoveries, had, LINES, &remains).await?;
    #[expect(clippy::cast_precision_loss, reason = "a duration for people")]
    let seconds = (nanos() - began) as f64 / 1e9;
    report(
        &cx.look,
        &Report { ok: checks.iter().all(|c| c.ok), seconds, killed: &victim, recoveries: &recoveries, checks: &checks },
    )
}

async fn submit(fleet: &Fleet, count: usize) -> Result<Vec<RunId>, Failure> {
    let binary = config::this_binary()?.display().to_string();
    let command = ["sh", "-c", COUNT, "count", &binary, &LINES.to_string()].map(str::to_owned).to_vec();
    let input = ExecInput {
        command,
        cwd: None,
        env: BTreeMap::new(),
        stdin: None,
        output_format: OutputFormat::Text,
        strict_output: true,
        limits: None,
    };
    let runs = vec![NewRun::of("exec", Json::of(&input)?); count];
    Ok(fleet.client.create_runs(&NewRuns { runs }).await?.runs.into_iter().map(|r| r.id).collect())
}

/// All runs as they are now, in the order of their creation.
async fn look_at(fleet: &Fleet, ids: &[RunId]) -> Result<Vec<Run>, Failure> {
    let (mut runs, _) = super::runs::matching(&fleet.client, &super::runs::Filter::default(), ids.len()).await?;
    runs.retain(|r| ids.contains(&r.id));
    runs.sort_by_key(|r| ids.iter().position(|&id| id == r.id));
    Ok(runs)
}

fn worker_of(run: &Run) -> Option<&str> {
    run.lease.as_ref().map(|l| l.worker_name.as_str())
}

/// How far a run is, by its checkpoint.
fn line_of(run: &Run) -> u32 {
    #[derive(serde::Deserialize)]
    struct At {
        i: u32,
    }
    run.checkpoint.as_ref().and_then(|c| c.read::<At>().ok()).map_or(0, |at| at.i)
}

/// The worker with the most runs, once all that it has are well under way.
fn choose(runs: &[Run]) -> Option<String> {
    let mut by_worker: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        by_worker.entry(worker_of(run)?).or_default().push(run);
    }
    let (name, has) = by_worker.into_iter().max_by_key(|(_, has)| has.len())?;
    has.iter().all(|r| line_of(r) >= KILL_AFTER).then(|| name.to_owned())
}

fn report(look: &Look, report: &Report<'_>) -> Done {
    if matches!(look.format, Format::Table | Format::Wide) {
        print("\nRecoveries")?;
        list(&Look { width: None, ..*look }, report.recoveries, "none")?;
        print("  detect   last sign of life to verdict     requeue  to queued     claim  to another worker")?;
        print("  resume   to started there                 redo     to where it was when it was lost\n")?;
        for check in report.checks {
            let (mark, tone) = if check.ok { ("✓", Tone::Good) } else { ("✗", Tone::Bad) };
            print(&format!("{} {}", paint(look, tone, mark), check.text))?;
        }
        let verdict = if report.ok { "all of it held" } else { "NOT all of it held" };
        print(&format!("\n{verdict}, in {:.1} s", report.seconds))?;
    } else {
        one(look, report, report.killed, String::new)?;
    }
    if report.ok { Ok(Exit::Ok) } else { Err(Failure::failed("a check failed; see the ✗ above")) }
}
