//! What all scenarios share: the fleet, the runs, the table; and waiting until something is so.

use super::fault::Struck;
use super::screen::{FRAME, Screen};
use crate::children::Child;
use crate::commands::runs::{Filter, matching};
use crate::config;
use crate::context::Context;
use crate::exit::Failure;
use crate::fleet::Fleet;
use crate::render::{say, text};
use outlive_api::client::Client;
use outlive_api::clock::nanos;
use outlive_api::runs::{ExecInput, NewRun, NewRuns, OutputFormat, Run};
use outlive_core::{Json, Millis, RunId};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Lines that each run prints.
pub(super) const LINES: u32 = 30;
/// It happens when each run of the victims is past this line.
const UNDER_WAY: u32 = 4;

/// Counts to `$2`, a line and a checkpoint each; goes on after the last checkpoint of the attempt before. Meanwhile it stamps a
/// file in `$3` each 5 ms, for as long as it executes.
const COUNT: &str = r#"
"$1" bench stamp "$3/$OUTLIVE_RUN_ID" 5 >/dev/null &
trap 'kill $!' EXIT
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

pub(super) struct Stage<'a> {
    pub(super) fleet: &'a mut Fleet,
    ids: Vec<RunId>,
    names: Vec<String>,
    screen: Screen,
}

impl<'a> Stage<'a> {
    /// Workers, and runs on them. Those that are not struck have slots for everything.
    pub(super) async fn set(
        cx: &Context,
        fleet: &'a mut Fleet,
        servers: u8,
        workers: usize,
        victims: usize,
        runs: usize,
    ) -> Result<Self, Failure> {
        for number in 2..=servers {
            fleet.add_replica(&format!("server-{number}")).await?;
        }
        let slots = runs.div_ceil(workers - victims);
        let names: Vec<_> = (1..=workers).map(|number| format!("w-{number}")).collect();
        for name in &names {
            fleet.add_worker(name, slots)?;
        }
        fleet.online(workers).await?;
        let what = [text::count(workers, "worker"), text::count(runs, "run")].join(" and ");
        let at = match servers {
            1 => format!("a server at {}", fleet.url),
            n => format!("{n} servers over one store at {}", fleet.addresses(0)),
        };
        say(&format!("{at} with {what}, each counting to {LINES} with a checkpoint per line"));
        let ids = submit(fleet, runs).await?;
        let screen = Screen::new(&cx.look, &ids, &names, LINES);
        Ok(Self { fleet, ids, names, screen })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn tell(&self, line: &str) {
        self.screen.tell(line);
    }

    pub(super) fn strike(&mut self, names: &[String]) {
        self.screen.strike(names);
    }

    pub(super) fn revive(&mut self, names: &[String]) {
        self.screen.revive(names);
    }

    /// The worker's process, taken out of the fleet.
    pub(super) fn take(&mut self, name: &str) -> Result<Child, Failure> {
        self.fleet.take(name).ok_or_else(|| not_ours(name))
    }

    pub(super) fn pid(&self, name: &str) -> Option<u32> {
        Some(self.fleet.workers.iter().find(|w| w.name == name)?.pid)
    }

    pub(super) fn signal(&self, name: &str, signal: Signal) -> Result<(), Failure> {
        self.fleet.workers.iter().find(|w| w.name == name).ok_or_else(|| not_ours(name))?.signal(signal);
        Ok(())
    }

    pub(super) async fn kill_server(&mut self) {
        self.fleet.server.signal(Signal::KILL);
        drop(self.fleet.server.wait().await);
    }

    /// The first server's number among those over the store.
    pub(super) async fn first_server(&self) -> Result<i64, Failure> {
        let first = Client::new(&self.fleet.url, outlive_api::DEFAULT_NAMESPACE)?;
        Ok(first.server().await?.replica)
    }

    /// The workers that have this server as their home.
    pub(super) async fn at_home(&self, server: i64) -> Result<BTreeSet<String>, Failure> {
        let workers = self.fleet.client.workers().await?.workers;
        Ok(workers.into_iter().filter(|w| w.home == Some(server)).map(|w| w.name).collect())
    }

    pub(super) async fn start_server(&mut self) -> Result<(), Failure> {
        self.fleet.start_server().await
    }

    /// Where a run's attempts stamp.
    pub(super) fn stamps(&self, id: RunId) -> PathBuf {
        self.fleet.path(&id.to_string())
    }

    /// All runs as they are now, in the order of their creation.
    pub(super) async fn look(&self) -> Result<Vec<Run>, Failure> {
        let (mut runs, _) = matching(&self.fleet.client, &Filter::default(), self.ids.len()).await?;
        runs.retain(|r| self.ids.contains(&r.id));
        runs.sort_by_key(|r| self.ids.iter().position(|&id| id == r.id));
        Ok(runs)
    }

    /// Shows the runs until something is so.
    async fn until<T>(&mut self, mut so: impl FnMut(&[Run]) -> Option<T>) -> Result<T, Failure> {
        loop {
            let now = self.look().await?;
            self.screen.show(&now);
            if let Some(found) = so(&now) {
                return Ok(found);
            }
            tokio::time::sleep(FRAME).await;
        }
    }

    /// The workers with the most runs, once all that they have are well under way.
    pub(super) async fn until_under_way(&mut self, victims: usize) -> Result<Vec<String>, Failure> {
        self.until(|runs| choose(runs, victims)).await
    }

    /// Until all that the victims had has ended or runs again.
    pub(super) async fn until_moved(&mut self, struck: &Struck) -> Result<(), Failure> {
        if struck.had.is_empty() {
            return Ok(());
        }
        let again = |run: &Run, epoch| {
            run.state.is_terminal() || run.epoch > epoch && run.lease.as_ref().is_some_and(|l| l.started_at.is_some())
        };
        self.until(|runs| runs.iter().all(|r| struck.had.get(&r.id).is_none_or(|&e| again(r, e))).then_some(()))
            .await?;
        let after = text::span(Millis((nanos() - struck.at) / 1_000_000));
        self.tell(&format!("{} running again on other workers, after {after}", text::count(struck.had.len(), "run")));
        Ok(())
    }

    pub(super) async fn until_ended(&mut self) -> Result<Vec<Run>, Failure> {
        let ended = self.until(|runs| runs.iter().all(|r| r.state.is_terminal()).then(|| runs.to_vec())).await?;
        self.screen.close();
        Ok(ended)
    }
}

fn not_ours(name: &str) -> Failure {
    Failure::failed(format!("{name} is not a worker of the demo"))
}

async fn submit(fleet: &Fleet, count: usize) -> Result<Vec<RunId>, Failure> {
    let binary = config::this_binary()?.display().to_string();
    let stamps = fleet.path("").display().to_string();
    let command = ["sh", "-c", COUNT, "count", &binary, &LINES.to_string(), &stamps].map(str::to_owned).to_vec();
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

pub(super) fn worker_of(run: &Run) -> Option<&str> {
    run.lease.as_ref().map(|l| l.worker_name.as_str())
}

/// How far a run is, by its checkpoint.
pub(super) fn line_of(run: &Run) -> u32 {
    #[derive(serde::Deserialize)]
    struct At {
        i: u32,
    }
    run.checkpoint.as_ref().and_then(|c| c.read::<At>().ok()).map_or(0, |at| at.i)
}

/// That many workers with the most runs, once every run has begun and all that they have are well under way; of all workers if
/// there are to be none.
fn choose(runs: &[Run], victims: usize) -> Option<Vec<String>> {
    let mut by_worker: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        by_worker.entry(worker_of(run)?).or_default().push(run);
    }
    let mut most: Vec<_> = by_worker.into_iter().collect();
    most.sort_by_key(|(_, has)| std::cmp::Reverse(has.len()));
    if victims > 0 {
        most.truncate(victims);
    }
    let ready = most.iter().flat_map(|(_, has)| has).all(|r| line_of(r) >= UNDER_WAY);
    ready.then(|| most.into_iter().take(victims).map(|(name, _)| name.to_owned()).collect())
}
