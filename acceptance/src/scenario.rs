//! Scenarios: a small closed vocabulary.

use crate::Failed;
use outlive_core::{Millis, State};
use serde::Deserialize;
use std::collections::BTreeMap;

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its file's name, without ending.
    #[serde(skip)]
    pub name: String,
    /// The sentence that it proves.
    pub proves: String,
    /// In order.
    pub steps: Vec<Step>,
}

/// One step. A step that waits fails after 20 s.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Creates a run whose command is this shell script. It may call `mark TEXT` and `checkpoint JSON`.
    Submit(Submit),
    /// Waits until a run is so.
    Until(Until),
    /// Waits until nothing of a run is executed any more.
    UntilGone(String),
    /// Waits until the worker's process has ended, with this exit code if one is given.
    UntilWorkerEnds(Option<i32>),
    /// Waits until the reply that `lose_reply` names has been lost.
    UntilReplyLost,
    /// The worker's process.
    Worker(WorkerStep),
    /// The server's process.
    Server(ServerStep),
    /// What is between the two.
    Network(NetworkStep),
    /// The server gets and answers it, the worker does not get the answer: `claim`, or the report with this op. Once.
    LoseReply(String),
    /// Asks for a run's end.
    Cancel(String),
    /// Another process registers under the worker's name, with `takeover`.
    TakeOver,
    /// Another worker (after `take_over`: the one with the name) claims a run and works on it for a second.
    RivalClaims(String),
    /// It completes it.
    RivalCompletes(String),
    /// Compares a run.
    Expect(Expect),
}

/// A run to create.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// Its name in the scenario.
    pub run: String,
    /// What `sh` does.
    pub script: String,
    /// Written to its standard input.
    pub stdin: Option<String>,
    /// Added to its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Failures before it has failed; default 3.
    pub max_attempts: Option<u32>,
}

/// What a run is to become. The server is asked only for what marks do not tell.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Until {
    /// Which.
    pub run: String,
    /// Its state.
    pub state: Option<State>,
    /// At least so many losses.
    pub losses: Option<u32>,
    /// Its last checkpoint.
    pub checkpoint: Option<serde_json::Value>,
    /// At least so many marks.
    pub marks: Option<usize>,
}

/// What is done to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerStep {
    /// Starts it (the first start is not a step).
    Start,
    /// SIGTERM.
    Term,
    /// SIGKILL to it and to all that it started: its host is gone.
    Kill,
}

/// What is done to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerStep {
    /// SIGKILL.
    Kill,
    /// It starts again where it was, with its store.
    Start,
    /// SIGKILL, and another one starts there with an empty store.
    Replace,
}

/// What is done to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkStep {
    /// Nothing passes, nothing is refused.
    Hold,
    /// Everything passes, what was held first.
    Pass,
}

/// What a run must be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Which.
    pub run: String,
    /// Its state.
    pub state: Option<State>,
    /// Its epoch: how often it was claimed.
    pub epoch: Option<i64>,
    /// Losses.
    pub losses: Option<u32>,
    /// Failures.
    pub failures: Option<u32>,
    /// Its reason.
    pub reason: Option<String>,
    /// Exactly this output.
    pub stdout: Option<String>,
    /// Exactly this.
    pub stderr: Option<String>,
    /// The exit code.
    pub exit: Option<i32>,
    /// Exactly these marks, each with its epoch before it.
    pub marks: Option<Vec<String>>,
}

/// The queue's lease in every scenario: what a worker has to keep beating for.
pub(crate) const LEASE_TTL: Millis = Millis::secs(4);

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../scenarios/", $name, ".yaml")))),*];
    };
}

files! {
    "beat", "cancel", "cancel-stubborn", "checkpoint", "claim", "crash", "drain", "fence", "lost-claim", "lost-end", "lost-output",
    "replaced", "server-replaced", "server-restart",
}

/// All scenarios, by name.
///
/// # Errors
/// If one cannot be read.
pub fn scenarios() -> Result<Vec<Scenario>, Failed> {
    let read = |(name, text): &(&str, &str)| {
        let unreadable = |e: serde_saphyr::Error| Failed::Scenario { name: (*name).to_owned(), detail: e.to_string() };
        let scenario: Scenario = serde_saphyr::from_str(text).map_err(unreadable)?;
        Ok(Scenario { name: (*name).to_owned(), ..scenario })
    };
    FILES.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_can_be_read_and_every_file_is_one() {
        let read = scenarios().unwrap();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), read.len());
    }

    #[test]
    fn a_word_that_is_not_in_the_vocabulary_is_refused() {
        assert!(serde_saphyr::from_str::<Scenario>("proves: x\nsteps: [{sing: a}]").is_err());
        assert!(serde_saphyr::from_str::<Scenario>("proves: x\nsteps: [{until: {run: a, colour: red}}]").is_err());
    }
}
