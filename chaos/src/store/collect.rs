//! What is there at the end, read through the API.

use super::load::LINES;
use crate::history::Found;
use crate::load::{LOOK, Load};
use crate::read::{self, Entry};
use outlive_core::RunId;

/// Waits until every run has ended, and reads all.
pub(super) async fn when_over(load: &Load) -> Result<Vec<Found>, String> {
    while read::all(&load.client).await?.iter().any(|run| !run.state.is_terminal()) {
        tokio::time::sleep(LOOK * 20).await;
    }
    all(load).await
}

/// Reads all, whether it has ended or not.
pub(super) async fn all(load: &Load) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for run in read::all(&load.client).await? {
        found.push(one(load, run.id).await?);
    }
    Ok(found)
}

async fn one(load: &Load, id: RunId) -> Result<Found, String> {
    let whole = read::whole(&load.client, id).await?;
    let lines = whole.lines();
    let ends = whole.log.iter().filter(|entry| **entry == Entry::End).count();
    let run = whole.run;
    Ok(Found {
        id: run.id,
        ask: run.tags.get("ask").and_then(|ask| ask.parse().ok()).ok_or("a run without its request")?,
        epoch: run.epoch,
        state: run.state,
        checkpoint: run.checkpoint.and_then(|c| c.read().ok()),
        lines,
        ends,
        attempts: whole.attempts.iter().map(|a| a.epoch).collect(),
        expected: (run.kind == "exec").then_some(LINES),
    })
}
