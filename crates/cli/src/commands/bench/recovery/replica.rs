//! The death of one of three servers: its sessions, which have no processes, go to the others with their runs. Measured to the
//! first acknowledged beat of each; in the end nothing may have been taken from anybody.

use super::super::bar;
use super::Times;
use super::mass::all_started;
use crate::backing::Backing;
use crate::commands::bench::session::{self, Elsewhere, KIND, Told};
use crate::commands::runs::{Filter, matching};
use crate::exit::Failure;
use crate::fleet::Fleet;
use outlive_api::client::Client;
use outlive_api::clock::nanos;
use outlive_api::runs::{NewRun, NewRuns};
use outlive_core::policy::QueuePolicy;
use outlive_core::{Epoch, Json};
use rustix::process::Signal;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Longer than this is not slow but wrong.
const LIMIT: Duration = Duration::from_secs(30);
/// Sessions that are opened at the same time.
const OPENING: usize = 32;

pub(super) async fn measure(rounds: usize, sessions: usize, backing: &Backing) -> Result<Times, Failure> {
    let bar = bar("killing servers", rounds);
    let mut times = Times::default();
    for _ in 0..rounds {
        let each = once(sessions, backing).await?;
        times.all.extend(each.iter().max());
        times.each.extend(each);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(times)
}

/// For each session: nanoseconds until it was acknowledged elsewhere.
async fn once(count: usize, backing: &Backing) -> Result<Vec<u64>, Failure> {
    let mut fleet = Fleet::start(backing).await?;
    fleet.add_replica("second").await?;
    fleet.add_replica("third").await?;
    let others = fleet.replicas.iter().map(|(_, url)| url.clone());
    let others: Vec<String> = others.collect();
    // Its home once more, then the others; not all sessions know those in the same order.
    let addresses = |number: usize| -> Arc<[String]> {
        let mut others = others.clone();
        let turn = number % others.len();
        others.rotate_left(turn);
        std::iter::once(fleet.url.clone()).chain(others).collect()
    };
    let all = Client::of(addresses(0).iter().map(String::as_str), outlive_api::DEFAULT_NAMESPACE)?;
    let (started, mut heard_starts) = mpsc::channel(count);
    let (heard, mut moved) = mpsc::channel(count);
    let mut sessions = Vec::with_capacity(count);
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(OPENING) {
        let open = some.iter().map(|number| {
            let elsewhere = Some(Elsewhere { addresses: addresses(*number), heard: heard.clone() });
            let told = Told { started: started.clone(), acknowledged: Arc::default(), elsewhere };
            session::open(&fleet.client, format!("s-{number:05}"), 1, 1, told)
        });
        sessions.extend(futures_util::future::try_join_all(open).await?);
    }
    for first in (0..count).step_by(outlive_core::limits::sizes::BATCH) {
        let runs = vec![NewRun::of(KIND, Json::null()); outlive_core::limits::sizes::BATCH.min(count - first)];
        fleet.client.create_runs(&NewRuns { runs }).await?;
    }
    all_started(&mut heard_starts, count, Epoch(0)).await?;
    let at = nanos();
    fleet.server.signal(Signal::KILL);
    let mut times = Vec::with_capacity(count);
    let wait = async {
        while times.len() < count {
            let Some(heard) = moved.recv().await else { break };
            times.push(heard.saturating_sub(at));
        }
    };
    if tokio::time::timeout(LIMIT, wait).await.is_err() {
        return Err(Failure::failed(format!("{} of {count} sessions had another home within {LIMIT:?}", times.len())));
    }
    nothing_reaped(&all, count).await?;
    drop(sessions);
    fleet.stop().await;
    Ok(times)
}

/// After everything that could have been taken for dead would have been: every run is in its first attempt still.
async fn nothing_reaped(client: &Client, count: usize) -> Result<(), Failure> {
    let QueuePolicy { lease_ttl, offline_grace, .. } = QueuePolicy::default();
    tokio::time::sleep((lease_ttl + lease_ttl + offline_grace).duration()).await;
    let (runs, _) = matching(client, &Filter::default(), count).await?;
    let whole = runs.iter().filter(|run| run.epoch == Epoch(1) && run.losses == 0 && run.lease.is_some()).count();
    if whole == count {
        return Ok(());
    }
    Err(Failure::failed(format!("only {whole} of {count} runs were left to their workers")))
}
