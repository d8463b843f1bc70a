//! Ten thousand runs lost at once. Their sessions have no processes: what is measured is the server, from the moment in which
//! the sessions go to the moment in which it has heard that every run has started elsewhere.

use super::super::bar;
use super::super::session::{self, Handle, KIND, Order, Started, Told};
use super::Times;
use crate::backing::Backing;
use crate::exit::Failure;
use crate::fleet::Fleet;
use outlive_api::clock::nanos;
use outlive_api::runs::{NewRun, NewRuns};
use outlive_core::{Epoch, Json, RunId};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;

/// How they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Their connections end: a quarter of all, so the breaker stays closed.
    End,
    /// Nothing comes from them any more: two fifths of all, so the breaker opens.
    Silence,
}

/// Sessions in all.
const SESSIONS: usize = 40;
/// Runs of one creation.
const BATCH: usize = 1_000;
/// Longer than this is not slow but wrong.
const LIMIT: Duration = Duration::from_mins(2);

impl How {
    const fn victims(self) -> usize {
        match self {
            Self::End => SESSIONS / 4,
            Self::Silence => SESSIONS * 2 / 5,
        }
    }
}

pub(super) async fn measure(how: How, rounds: usize, runs: usize, backing: &Backing) -> Result<Times, Failure> {
    let bar = bar(if how == How::End { "ending many sessions" } else { "silencing many sessions" }, rounds);
    let mut times = Times::default();
    for _ in 0..rounds {
        let each = once(how, runs, backing).await?;
        times.all.extend(each.iter().max());
        times.each.extend(each);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(times)
}

/// For each run: nanoseconds until it had started elsewhere.
async fn once(how: How, runs: usize, backing: &Backing) -> Result<Vec<u64>, Failure> {
    let fleet = Fleet::start(backing).await?;
    let (told, mut started) = mpsc::channel(runs);
    let told = Told { started: told, acknowledged: std::sync::Arc::default(), elsewhere: None };
    let victims = how.victims();
    let (theirs, others) = (runs.div_ceil(victims), runs.div_ceil(SESSIONS - victims));
    let mut sessions: Vec<Handle> = Vec::with_capacity(SESSIONS);
    for number in 0..SESSIONS {
        // The others take nothing yet.
        let (slots, credit) = if number < victims { (theirs, theirs) } else { (others, 0) };
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        let name = format!("s-{number}");
        sessions.push(session::open(&fleet.client, name, slots, credit as u64, told.clone()).await?);
    }
    for first in (0..runs).step_by(BATCH) {
        let new = vec![NewRun::of(KIND, Json::null()); BATCH.min(runs - first)];
        fleet.client.create_runs(&NewRuns { runs: new }).await?;
    }
    all_started(&mut started, runs, Epoch(0)).await?;
    for other in &sessions[victims..] {
        other.tell(Order::Credit(others as u64)).await?;
    }
    let at = nanos();
    for victim in &sessions[..victims] {
        victim.tell(if how == How::End { Order::End } else { Order::Silence }).await?;
    }
    let again = all_started(&mut started, runs, Epoch(1)).await?;
    drop(sessions);
    fleet.stop().await;
    Ok(again.into_iter().map(|started| started.at.saturating_sub(at)).collect())
}

/// Waits until so many runs have started after that epoch.
pub(super) async fn all_started(
    told: &mut mpsc::Receiver<Started>,
    runs: usize,
    after: Epoch,
) -> Result<Vec<Started>, Failure> {
    let (mut seen, mut all) = (BTreeSet::<RunId>::new(), Vec::with_capacity(runs));
    let wait = async {
        while all.len() < runs {
            let Some(started) = told.recv().await else { break };
            if started.epoch > after && seen.insert(started.run) {
                all.push(started);
            }
        }
    };
    let done = tokio::time::timeout(LIMIT, wait).await;
    match done {
        Ok(()) => Ok(all),
        Err(_) => Err(Failure::failed(format!("{} of {runs} runs started within {LIMIT:?}", all.len()))),
    }
}
