//! What is there at the end, read through the API.

use super::LOOK;
use super::load::{LINES, Load};
use crate::history::Found;
use outlive_api::client::calls::RunFilter;
use outlive_api::client::sse::OutputQuery;
use outlive_api::output::OutputEvent;
use outlive_api::runs::Run;
use std::fmt::Display;

/// Runs per page.
const PAGE: u32 = 500;

fn said(error: impl Display) -> String {
    format!("what is there cannot be read: {error}")
}

async fn list(load: &Load) -> Result<Vec<Run>, String> {
    let mut filter = RunFilter { limit: Some(PAGE), ..RunFilter::default() };
    let mut runs = Vec::new();
    loop {
        let page = load.client.runs(&filter).await.map_err(said)?;
        runs.extend(page.runs);
        match page.next_cursor {
            Some(next) => filter.cursor = next,
            None => return Ok(runs),
        }
    }
}

/// Waits until every run has ended, and reads all.
pub(super) async fn when_over(load: &Load) -> Result<Vec<Found>, String> {
    while list(load).await?.iter().any(|run| !run.state.is_terminal()) {
        tokio::time::sleep(LOOK * 20).await;
    }
    all(load).await
}

/// Reads all, whether it has ended or not.
pub(super) async fn all(load: &Load) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for run in list(load).await? {
        found.push(read(load, run).await?);
    }
    Ok(found)
}

async fn read(load: &Load, listed: Run) -> Result<Found, String> {
    let client = &load.client;
    let run = client.run(listed.id).await.map_err(said)?;
    let attempts = client.attempts(run.id).await.map_err(said)?.attempts;
    let what = OutputQuery { all: true, stored_only: true, ..OutputQuery::default() };
    let mut stream = client.output_of(run.id, None, what).await.map_err(said)?;
    let (mut text, mut ends) = (String::new(), 0);
    while let Some(event) = stream.next().await.map_err(said)? {
        match event {
            OutputEvent::Chunk(chunk) => text += &chunk.text.unwrap_or_default(),
            OutputEvent::End(_) => ends += 1,
            _ => {}
        }
    }
    Ok(Found {
        id: run.id,
        ask: run.tags.get("ask").and_then(|ask| ask.parse().ok()).ok_or("a run without its request")?,
        epoch: run.epoch,
        state: run.state,
        checkpoint: run.checkpoint.and_then(|c| c.read().ok()),
        lines: text.lines().map(str::to_owned).collect(),
        ends,
        attempts: attempts.iter().map(|a| a.epoch).collect(),
        expected: (run.kind == "exec").then_some(LINES),
    })
}
