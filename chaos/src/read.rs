//! A run as the API shows it: itself, its attempts, its log over all of them.

use outlive_api::client::Client;
use outlive_api::client::calls::RunFilter;
use outlive_api::client::output::OutputQuery;
use outlive_api::output::OutputEvent;
use outlive_api::runs::{Attempt, Run};
use outlive_core::{Epoch, RunId};
use std::fmt::Display;

/// Runs per page.
const PAGE: u32 = 500;

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An attempt starts.
    Marker(Epoch),
    /// What an attempt printed.
    Bytes(Epoch, Vec<u8>),
    /// The run is over.
    End,
}

impl Entry {
    fn bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(_, bytes) = self { Some(bytes) } else { None }
    }
}

/// Everything that there is of a run.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Itself.
    pub run: Run,
    /// Oldest first.
    pub attempts: Vec<Attempt>,
    /// In order.
    pub log: Vec<Entry>,
}

impl Whole {
    /// The lines of the log over all attempts, in order.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        lines(&self.log)
    }
}

/// The lines of a log over all attempts, in order.
#[must_use]
pub fn lines(log: &[Entry]) -> Vec<String> {
    let bytes: Vec<u8> = log.iter().flat_map(|entry| entry.bytes().unwrap_or_default()).copied().collect();
    String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
}

/// The first entry of an attempt that comes after a later one had begun, or marker that does not rise: its epoch, and the
/// highest one before it.
#[must_use]
pub fn out_of_place(log: &[Entry]) -> Option<(Epoch, Epoch)> {
    let mut current = Epoch(0);
    log.iter().find_map(|entry| {
        let (epoch, wrong) = match entry {
            Entry::Marker(epoch) => (*epoch, *epoch <= current),
            Entry::Bytes(epoch, _) => (*epoch, *epoch != current),
            Entry::End => return None,
        };
        let before = current;
        current = current.max(epoch);
        wrong.then_some((epoch, before))
    })
}

fn said(error: impl Display) -> String {
    format!("what is there cannot be read: {error}")
}

/// All runs.
///
/// # Errors
/// If the server does not answer.
pub async fn all(client: &Client) -> Result<Vec<Run>, String> {
    let mut filter = RunFilter { limit: Some(PAGE), ..RunFilter::default() };
    let mut runs = Vec::new();
    loop {
        let page = client.runs(&filter).await.map_err(said)?;
        runs.extend(page.runs);
        match page.next_cursor {
            Some(next) => filter.cursor = next,
            None => return Ok(runs),
        }
    }
}

/// One run.
///
/// # Errors
/// If the server does not answer.
pub async fn whole(client: &Client, id: RunId) -> Result<Whole, String> {
    let run = client.run(id).await.map_err(said)?;
    let attempts = client.attempts(id).await.map_err(said)?.attempts;
    let what = OutputQuery { all: true, stored_only: true, ..OutputQuery::default() };
    let mut stream = client.output_of(id, None, what).await.map_err(said)?;
    let mut log = Vec::new();
    while let Some(event) = stream.next().await.map_err(said)? {
        match event {
            OutputEvent::Attempt(attempt) => log.push(Entry::Marker(attempt.epoch)),
            OutputEvent::Chunk(chunk) => log.push(Entry::Bytes(chunk.epoch, chunk.bytes())),
            OutputEvent::End(_) => log.push(Entry::End),
            _ => {}
        }
    }
    Ok(Whole { run, attempts, log })
}
