//! Background duties: one table. Each duty is a tick without input: idempotent, bounded, counted. One that fails, or panics, is
//! reported and runs again; it never stops another. Its first failure after a success is told (`sweep.failed`), its last
//! success stands in `/v1/server` and in `outlive_sweep_last_success_timestamp_seconds`, which alarms are made of.
//!
//! | phase | every | what |
//! |---|---|---|
//! | judge | 50 ms | the engine's tick (on a thread-free interval of its own) |
//! | observed | 1 s | the store's observed clock, which is also its sign of life |
//! | disk | 1 s | free space of the store's disk, by which new runs are admitted |
//! | due | 100 ms | scheduled runs that are due; held runs that expired |
//! | expiry | 1 s | queued runs that nobody took in time, with the reason why nobody did |
//! | audit | 5 s | open leases, ready classes and waiting runs, derived again from rows |
//! | gauges | 5 s | numbers that are levels: queues, workers, recoveries |
//! | retention | 60 s | what is past its time |
//! | workers | 10 min | workers that have been offline for 7 days |
//! | notices | 1 s | what the server could not say of itself while the store did not answer |

mod audit;
mod disk;
mod due;
mod exchange;
mod expiry;
mod gauges;
mod judge;
mod liveness;
mod notices;
mod observed;
mod retention;
mod worker_gc;

use crate::app::App;
use futures_util::FutureExt as _;
use outlive_api::ops::Phase;
use outlive_core::Millis;
use outlive_core::feed::Notice;
use outlive_store::StoreError;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinHandle;

/// What one tick came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tick {
    /// What wanted something.
    found: u64,
    /// What got it.
    acted: u64,
    /// What somebody else had changed meanwhile: an outcome, not an error.
    lost_race: u64,
    /// What could not be handled; it held nothing else up.
    failed: u64,
    /// Another replica does this now.
    not_owner: bool,
    /// There is more: tick again at once.
    more: bool,
}

impl Tick {
    /// Both, one after the other.
    const fn and(self, other: Self) -> Self {
        Self {
            found: self.found + other.found,
            acted: self.acted + other.acted,
            lost_race: self.lost_race + other.lost_race,
            failed: self.failed + other.failed,
            not_owner: self.not_owner && other.not_owner,
            more: self.more || other.more,
        }
    }
}

type TickFuture = Pin<Box<dyn Future<Output = Result<Tick, StoreError>> + Send>>;

struct Duty {
    name: &'static str,
    every: Millis,
    tick: fn(Arc<App>) -> TickFuture,
}

const DUTIES: &[Duty] = &[
    Duty { name: "observed", every: Millis::secs(1), tick: |app| Box::pin(observed::tick(app)) },
    Duty { name: "disk", every: Millis::secs(1), tick: |app| Box::pin(disk::tick(app)) },
    Duty { name: "due", every: Millis(100), tick: |app| Box::pin(due::tick(app)) },
    Duty { name: "expiry", every: Millis::secs(1), tick: |app| Box::pin(expiry::tick(app)) },
    Duty { name: "audit", every: Millis::secs(5), tick: |app| Box::pin(audit::tick(app)) },
    Duty { name: "gauges", every: Millis::secs(5), tick: |app| Box::pin(gauges::tick(app)) },
    Duty { name: "retention", every: Millis::secs(60), tick: |app| Box::pin(retention::tick(app)) },
    Duty { name: "notices", every: Millis::secs(1), tick: |app| Box::pin(notices::tick(app)) },
    Duty { name: "workers", every: Millis::mins(10), tick: |app| Box::pin(worker_gc::tick(app)) },
];

/// What is known of each phase.
#[derive(Default)]
pub(crate) struct Phases(Mutex<BTreeMap<&'static str, Phase>>);

impl Phases {
    pub(crate) fn all(&self) -> Vec<Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Counts a tick. Whether there is an error to tell: the first after a success.
    fn record(&self, duty: &Duty, now: outlive_core::Wall, result: &Result<Tick, String>) -> Option<String> {
        let mut phases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let phase = phases.entry(duty.name).or_insert_with(|| Phase {
            name: duty.name.to_owned(),
            every_ms: duty.every.0,
            last_success_at: None,
            ticks: 0,
            found: 0,
            acted: 0,
            lost_race: 0,
            failed_rows: 0,
            not_owner: 0,
            failed: 0,
            last_error: None,
        });
        phase.ticks += 1;
        let error = match result {
            Ok(tick) => {
                phase.found += tick.found;
                phase.acted += tick.acted;
                phase.lost_race += tick.lost_race;
                phase.failed_rows += tick.failed;
                phase.not_owner += u64::from(tick.not_owner);
                phase.last_success_at = Some(now);
                #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
                metrics::gauge!("outlive_sweep_last_success_timestamp_seconds", "phase" => duty.name)
                    .set(now.0 as f64 / 1e3);
                (tick.failed > 0).then(|| format!("{} rows could not be handled; the log names them", tick.failed))
            }
            Err(error) => {
                phase.failed += 1;
                metrics::counter!("outlive_sweep_failures_total", "phase" => duty.name).increment(1);
                tracing::warn!(phase = duty.name, error, "sweep failed; it runs again");
                Some(error.clone())
            }
        };
        let is_first = phase.last_error.is_none();
        phase.last_error.clone_from(&error);
        error.filter(|_| is_first)
    }
}

/// Starts every duty.
pub(crate) fn start(app: &Arc<App>) -> Vec<JoinHandle<()>> {
    let mut loops: Vec<_> = DUTIES.iter().map(|duty| tokio::spawn(keep(Arc::clone(app), duty))).collect();
    loops.push(tokio::spawn(judge::keep(Arc::clone(app))));
    if let Some(cluster) = &app.cluster {
        loops.push(tokio::spawn(exchange::keep(Arc::clone(app), Arc::clone(&cluster.exchange))));
    }
    if let Some(exchange) = &app.liveness {
        loops.push(tokio::spawn(liveness::keep(Arc::clone(app), Arc::clone(exchange))));
    }
    loops
}

async fn keep(app: Arc<App>, duty: &'static Duty) {
    let mut interval = tokio::time::interval(duty.every.duration());
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        loop {
            let start = outlive_api::clock::nanos();
            let result = attempt((duty.tick)(Arc::clone(&app))).await;
            #[expect(clippy::cast_precision_loss, reason = "a tick takes less than 2^53 ns")]
            let seconds = (outlive_api::clock::nanos() - start) as f64 / 1e9;
            metrics::histogram!("outlive_sweep_seconds", "phase" => duty.name).record(seconds);
            if let Some(error) = app.phases.record(duty, app.clock.wall(), &result) {
                app.tell(Notice::SweepFailed { phase: duty.name.to_owned(), error });
            }
            if !result.is_ok_and(|tick| tick.more) {
                break;
            }
        }
    }
}

/// A tick to its end, whatever that is.
async fn attempt(tick: TickFuture) -> Result<Tick, String> {
    match std::panic::AssertUnwindSafe(tick).catch_unwind().await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the tick panicked; the log says where".to_owned()),
    }
}

/// A swept page as a tick's result; its hints are handed on.
fn swept(app: &Arc<App>, swept: outlive_store::Swept) -> Tick {
    app.committed(swept.commit);
    let outlive_store::Swept { found, acted, lost_race, failed, not_owner, more, .. } = swept;
    Tick { found, acted, lost_race, failed, not_owner, more }
}
