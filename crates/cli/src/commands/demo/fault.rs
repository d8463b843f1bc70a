//! What is done to workers and servers.

use super::processes::{Process, alive_with, processes_of};
use super::stage::{Stage, worker_of};
use crate::exit::Failure;
use crate::fleet::LOOK;
use crate::render::text;
use outlive_api::clock::nanos;
use outlive_core::{Epoch, Millis, RunId};
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitStatus;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL, to all victims at once.
    Kill,
    /// SIGSTOP, and SIGCONT when their work is elsewhere.
    Stop,
    /// SIGTERM twice: a drain that does not wait for the work.
    Drain,
    /// SIGKILL to the server, and a new one on the same store.
    Restart,
    /// SIGKILL to one server of several over one store. It stays away.
    KillReplica,
}

/// Who was struck, and what they had.
#[derive(Debug, Default)]
pub(super) struct Struck {
    pub(super) names: Vec<String>,
    /// Runs that must go on elsewhere, with the epochs at which the victims had them.
    pub(super) had: BTreeMap<RunId, Epoch>,
    /// Processes of those that were killed.
    pub(super) processes: BTreeSet<Process>,
    /// Of those that were stopped: attempts that still had a process when another worker had begun.
    pub(super) frozen: BTreeSet<RunId>,
    /// How those that were asked to go have ended.
    pub(super) ends: Vec<ExitStatus>,
    /// Who must be online at the end.
    pub(super) back: Vec<String>,
    /// Workers that a killed server left without a home, and how long each needed to have another.
    pub(super) homeless: BTreeMap<String, Millis>,
    /// When.
    pub(super) at: u64,
}

/// The server is away for longer than a closed connection would be waited for.
const OUTAGE: Duration = Duration::from_secs(3);
/// Between the two signals of a drain: a worker tells one from the other.
const DRAIN_FIRST: Duration = Duration::from_millis(300);

impl Fault {
    /// Does it.
    pub(super) async fn strike(self, stage: &mut Stage<'_>, names: &[String]) -> Result<Struck, Failure> {
        let mut struck = Struck { names: names.to_vec(), at: nanos(), ..Struck::default() };
        match self {
            Self::Kill => {
                struck.processes = names.iter().filter_map(|n| stage.pid(n)).flat_map(processes_of).collect();
                struck.had = held(stage, names).await?;
                struck.at = nanos();
                let mut gone = Vec::new();
                for name in names {
                    let worker = stage.take(name)?;
                    worker.signal(Signal::KILL);
                    gone.push(worker);
                }
                stage.strike(names);
                stage.tell(&format!("kill -9: {} gone, with {}", are(names), text::count(struck.had.len(), "run")));
                for worker in &mut gone {
                    drop(worker.wait().await);
                }
            }
            Self::Stop => {
                struck.had = held(stage, names).await?;
                struck.at = nanos();
                for name in names {
                    stage.signal(name, Signal::STOP)?;
                }
                stage.strike(names);
                let what = text::count(struck.had.len(), "run");
                stage.tell(&format!(
                    "kill -STOP: {} silent, with {what}. The connection stays open, so only silence tells: 10 s of it. Its guard stops the work after 8 s",
                    are(names)
                ));
            }
            Self::Drain => {
                struck.had = held(stage, names).await?;
                struck.at = nanos();
                let mut going = Vec::new();
                for name in names {
                    struck.processes.extend(stage.pid(name).map(processes_of).unwrap_or_default());
                    going.push(stage.take(name)?);
                }
                stage.strike(names);
                let what = text::count(struck.had.len(), "run");
                stage.tell(&format!("kill -TERM, twice: {} asked to go at once, with {what}", are(names)));
                going.iter().for_each(|worker| worker.signal(Signal::TERM));
                tokio::time::sleep(DRAIN_FIRST).await;
                going.iter().for_each(|worker| worker.signal(Signal::TERM));
                for worker in &mut going {
                    struck.ends.push(worker.wait().await?);
                }
            }
            Self::Restart => {
                struck.names = vec!["server".to_owned()];
                struck.back = stage.names().to_vec();
                stage.tell("kill -9: the server is gone; the work goes on without it");
                stage.kill_server().await;
                tokio::time::sleep(OUTAGE).await;
                stage.start_server().await?;
                let away = Millis((nanos() - struck.at) / 1_000_000);
                stage.tell(&format!("the server is back on the same store, after {}", text::span(away)));
            }
            Self::KillReplica => {
                struck.names = vec!["server".to_owned()];
                struck.back = stage.names().to_vec();
                let home = stage.first_server().await?;
                let homeless = stage.at_home(home).await?;
                struck.at = nanos();
                stage.kill_server().await;
                let has = if homeless.len() == 1 { "has" } else { "have" };
                let names: Vec<_> = homeless.iter().cloned().collect();
                stage.tell(&format!("kill -9: a server is gone, for good; {} {has} lost the home", names.join(", ")));
                while struck.homeless.len() < homeless.len() {
                    let still = stage.at_home(home).await?;
                    let took = Millis((nanos() - struck.at) / 1_000_000);
                    for name in homeless.difference(&still) {
                        struck.homeless.entry(name.clone()).or_insert(took);
                    }
                    tokio::time::sleep(LOOK).await;
                }
                let last = struck.homeless.values().copied().max().unwrap_or(Millis(0));
                stage.tell(&format!("{} at home at another server, after {}", are(&names), text::span(last)));
            }
        }
        Ok(struck)
    }

    /// What follows when their work is running elsewhere.
    pub(super) fn aftermath(self, stage: &mut Stage<'_>, struck: &mut Struck) -> Result<(), Failure> {
        if self == Self::Stop {
            let attempts: Vec<_> = struck.had.iter().map(|(&run, &epoch)| (run, epoch)).collect();
            struck.frozen = attempts.iter().filter(|a| !alive_with(&[**a]).is_empty()).map(|(run, _)| *run).collect();
            for name in &struck.names {
                stage.signal(name, Signal::CONT)?;
            }
            struck.back.clone_from(&struck.names);
            stage.revive(&struck.names);
            stage.tell(&format!("kill -CONT: {} awake again, and told what it lost", are(&struck.names)));
        }
        Ok(())
    }
}

/// What the named workers have now.
async fn held(stage: &Stage<'_>, names: &[String]) -> Result<BTreeMap<RunId, Epoch>, Failure> {
    let runs = stage.look().await?;
    let theirs = runs.iter().filter(|r| worker_of(r).is_some_and(|w| names.iter().any(|n| n == w)));
    Ok(theirs.map(|r| (r.id, r.epoch)).collect())
}

/// `w-1 is`, `w-1 and w-2 are`
fn are(names: &[String]) -> String {
    match names {
        [one] => format!("{one} is"),
        [some @ .., last] => format!("{} and {last} are", some.join(", ")),
        [] => "nobody is".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn victims_are_named_as_a_sentence_needs_them() {
        let names = ["a", "b", "c"].map(str::to_owned);
        assert_eq!([are(&names[..1]), are(&names), are(&[])], ["a is", "a, b and c are", "nobody is"]);
    }
}
