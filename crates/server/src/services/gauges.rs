//! Numbers that are levels, not events: queues, workers, recoveries. Read from rows that exist anyway.

use super::Tick;
use crate::app::App;
use outlive_core::{Millis, Wall, WorkerId};
use outlive_store::{RecoveryOutcome, RecoveryQuery, RecoveryRow, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Workers per page.
const PAGE: u32 = 1_000;
/// Recoveries that are looked at per tick.
const RECOVERIES: u32 = 500;

/// One tick.
#[expect(clippy::cast_precision_loss, reason = "counts and milliseconds fit")]
pub(super) async fn tick(app: Arc<App>) -> Result<Tick, StoreError> {
    // Samples wait in memory until they are counted; nobody may ever ask for `/metrics`.
    app.metrics.run_upkeep();
    metrics::gauge!("outlive_build_info", "version" => app.config.version.clone()).set(1.0);
    let now = app.clock.wall();
    let mut namespaces = std::collections::BTreeSet::new();
    for queue in app.catalog.queues() {
        let counts = app.store.queue_counts(queue.id).await?;
        let levels = [
            ("queued", counts.queued),
            ("scheduled", counts.scheduled),
            ("held", counts.held),
            ("running", counts.running),
        ];
        for (state, n) in levels {
            metrics::gauge!("outlive_runs", "queue" => queue.name.clone(), "state" => state).set(n as f64);
        }
        let oldest = counts.oldest_queued_at.map_or(Millis::ZERO, |at| now.since(at));
        metrics::gauge!("outlive_queue_oldest_seconds", "queue" => queue.name.clone()).set(oldest.0 as f64 / 1e3);
        namespaces.insert(queue.namespace.clone());
    }
    let mut statuses: BTreeMap<&str, u64> =
        ["online", "suspect", "offline", "draining", "left"].map(|status| (status, 0)).into();
    let mut after: Option<WorkerId> = None;
    loop {
        let rows = app.store.workers(None, after, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.id);
        for row in &rows {
            *statuses.entry(app.status(row).as_str()).or_default() += 1;
        }
    }
    for (status, n) in statuses {
        metrics::gauge!("outlive_workers", "status" => status).set(n as f64);
    }
    for namespace in namespaces {
        recoveries(&app, namespace).await?;
    }
    Ok(Tick::default())
}

/// Counts recoveries that ended since the last tick. Each is counted once: rows are told by the time of their end.
async fn recoveries(app: &Arc<App>, namespace: String) -> Result<(), StoreError> {
    let seen = Wall(app.recoveries_counted.load(Ordering::Acquire));
    let query = RecoveryQuery { namespace, limit: RECOVERIES, ..RecoveryQuery::default() };
    let page = app.store.recoveries(query).await?;
    let ended = |row: &RecoveryRow| row.started_at.filter(|_| row.outcome == RecoveryOutcome::Recovered);
    let mut latest = seen;
    for (row, at) in page.rows.iter().filter_map(|row| Some((row, ended(row)?))).filter(|(_, at)| *at > seen) {
        latest = latest.max(at);
        metrics::counter!("outlive_recoveries_total", "outcome" => row.outcome.as_str()).increment(1);
        let record = |name: &'static str, from: Option<Wall>, to: Option<Wall>| {
            if let Some((from, to)) = from.zip(to) {
                metrics::histogram!(name).record(to.since(from).duration());
            }
        };
        record("outlive_recovery_detect_seconds", Some(row.last_heard_at), Some(row.lost_at));
        record("outlive_recovery_requeue_seconds", Some(row.lost_at), row.queued_at);
        record("outlive_recovery_claim_seconds", row.queued_at, row.claimed_at);
        record("outlive_recovery_resume_seconds", row.claimed_at, row.started_at);
    }
    app.recoveries_counted.fetch_max(latest.0, Ordering::AcqRel);
    Ok(())
}
