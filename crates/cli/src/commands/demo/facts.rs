//! What there is to know when everything is over, looked up from outside.

use super::fault::Struck;
use super::log::{self, Entry};
use super::processes::left_over;
use super::stage::Stage;
use crate::commands::recoveries::fetch;
use crate::exit::Failure;
use outlive_api::ops::Recovery;
use outlive_api::runs::{Attempt, Run};
use outlive_core::RunId;
use outlive_core::stamps::{self, Stamp};
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Facts {
    pub(super) runs: Vec<Run>,
    /// The output of each, over all attempts.
    pub(super) logs: Vec<Vec<Entry>>,
    /// What the attempts of each stamped while they executed.
    pub(super) stamps: BTreeMap<RunId, Vec<Stamp>>,
    /// All attempts of each.
    pub(super) attempts: BTreeMap<RunId, Vec<Attempt>>,
    pub(super) recoveries: Vec<Recovery>,
    pub(super) struck: Struck,
    /// Processes of the struck workers, or of what they had, that are still there.
    pub(super) left: BTreeSet<u32>,
    /// Workers that are online.
    pub(super) online: BTreeSet<String>,
}

impl Facts {
    pub(super) async fn gather(stage: &Stage<'_>, struck: Struck, runs: Vec<Run>) -> Result<Self, Failure> {
        let client = &stage.fleet.client;
        let (mut logs, mut stamps, mut attempts) = (Vec::with_capacity(runs.len()), BTreeMap::new(), BTreeMap::new());
        for run in &runs {
            logs.push(log::read(client, run.id).await?);
            let text = std::fs::read_to_string(stage.stamps(run.id)).unwrap_or_default();
            stamps.insert(run.id, stamps::read(&text));
            attempts.insert(run.id, client.attempts(run.id).await?.attempts);
        }
        let recoveries = fetch(client, None, 1_000).await?;
        let had: Vec<_> = struck.had.iter().map(|(&run, &epoch)| (run, epoch)).collect();
        let left = left_over(&struck.processes, &had).await;
        // A worker that was away may take a moment to be back; that it never comes back is for the checks to say.
        drop(stage.fleet.online(stage.fleet.workers.len()).await);
        let workers = client.workers().await?.workers;
        let online = workers.into_iter().filter(|w| w.status == "online").map(|w| w.name).collect();
        Ok(Self { runs, logs, stamps, attempts, recoveries, struck, left, online })
    }
}
