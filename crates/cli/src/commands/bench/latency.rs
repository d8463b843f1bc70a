//! From the call that submits a run to the start of its handler in a worker, one at a time on an idle server.

use super::super::Done;
use super::{finish, probe};
use crate::backing::{Backing, StoreArg};
use crate::context::Context;
use crate::exit::Failure;
use crate::fleet::Fleet;
use crate::stats::{Spread, figure};
use outlive_api::clock::nanos;
use outlive_api::runs::NewRun;
use outlive_core::Json;
use serde::Serialize;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Runs, one after the other
    #[arg(long, value_name = "N", default_value_t = 500)]
    runs: usize,
}

#[derive(Debug, Serialize)]
struct Measured {
    machine: String,
    submit_to_started: Spread,
    submit_to_answer: Spread,
    fsync: Spread,
    target_p50_ms: f64,
    held: bool,
}

/// Between two runs: everything of the last one is done, and nothing is batched with the next.
const PAUSE: Duration = Duration::from_millis(10);
const WARM_UP: usize = 20;

pub(super) async fn run(cx: &Context, args: &Args) -> Done {
    let mut fleet = Fleet::start(&args.store.store).await?;
    let measured = measure(&mut fleet, args.runs.max(1), over_ms(&args.store.store)).await;
    fleet.stop().await;
    let m = measured?;
    let lines = [
        format!("machine            {}", m.machine),
        format!("command            outlive bench latency --runs {} --store {}", args.runs, args.store.store),
        format!("submit to started  {}", m.submit_to_started.line()),
        format!("submit to answer   {}", m.submit_to_answer.line()),
        format!("fsync              {}", m.fsync.line()),
        format!(
            "target             p50 ≤ 2 × fsync p50 + {} ms = {}: {}",
            over_ms(&args.store.store),
            figure(m.target_p50_ms),
            if m.held { "held" } else { "NOT held" }
        ),
    ];
    finish(cx, &m, &lines, None)
}

/// What is allowed beside two syncs.
const fn over_ms(backing: &Backing) -> f64 {
    match backing {
        Backing::Sqlite => 1.5,
        Backing::OwnServer | Backing::Server(_) => 3.0,
    }
}

async fn measure(fleet: &mut Fleet, count: usize, over_ms: f64) -> Result<Measured, Failure> {
    fleet.add_idle_worker("bench", 8)?;
    fleet.online(1).await?;
    let gone = || Failure::failed("the worker went away");
    let mut stamps = fleet.workers[0].lines().ok_or_else(gone)?;
    let (mut started, mut answered) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for number in 0..WARM_UP + count {
        let new = NewRun::of(super::agent::KIND_STAMPED, Json::null());
        let before = nanos();
        let run = fleet.client.create_run(&new, None).await?;
        let answer = nanos() - before;
        let line = stamps.next_line().await?.ok_or_else(gone)?;
        let stamp =
            line.split_once(' ').filter(|(id, _)| *id == run.id.to_string()).and_then(|(_, at)| at.parse::<u64>().ok());
        let stamp = stamp.ok_or_else(|| Failure::failed(format!("the worker said \"{line}\"")))?;
        if number >= WARM_UP {
            started.push(stamp.saturating_sub(before));
            answered.push(answer);
        }
        tokio::time::sleep(PAUSE).await;
    }
    let fsync = probe::fsync(&fleet.path(""))?;
    let submit_to_started = Spread::of_nanos(&started);
    let target_p50_ms = 2.0 * fsync.p50_ms + over_ms;
    Ok(Measured {
        machine: probe::machine(),
        held: submit_to_started.p50_ms <= target_p50_ms,
        submit_to_started,
        submit_to_answer: Spread::of_nanos(&answered),
        fsync,
        target_p50_ms,
    })
}
