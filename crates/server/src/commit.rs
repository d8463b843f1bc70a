//! What follows a commit: the engine learns of it, readers wake, numbers rise.

use crate::app::App;
use outlive_core::engine::Input;
use outlive_core::run::{Evidence, LossBudget};
use outlive_core::{Holder, LeaseRef, Reason, State};
use outlive_store::{Commit, LoseOutcome, StoreError, Verdict};
use std::sync::Arc;

impl App {
    /// Hands the hints of a transaction on.
    pub(crate) fn committed(self: &Arc<Self>, commit: Commit) {
        let mut inputs = Vec::new();
        let ended: Vec<_> = commit.changed.iter().filter_map(|c| c.freed).collect();
        if !ended.is_empty() {
            inputs.push(Input::Ended(ended));
        }
        inputs.extend(commit.cancels.iter().map(|c| Input::Cancel(c.holder, c.lease, c.reason)));
        if !commit.ready.is_empty() {
            inputs.push(Input::Ready(commit.ready));
        }
        if !inputs.is_empty() {
            self.inputs(inputs);
        }
        self.hub.wake(commit.changed.iter().map(|c| c.id));
        self.hub.wake_feed();
        for change in commit.changed.iter().filter(|c| c.from != c.to) {
            self.count(change);
        }
    }

    fn count(&self, change: &outlive_store::Changed) {
        let Some(queue) = self.catalog.queue(change.queue) else { return };
        let queue = queue.name.clone();
        if change.to.is_terminal() {
            let reason = change.reason.map_or("", Reason::as_str);
            let outcome = change.to.as_str();
            metrics::counter!("outlive_runs_finished_total", "queue" => queue.clone(), "outcome" => outcome, "reason" => reason)
                .increment(1);
            if let Some(took) = change.took {
                metrics::histogram!("outlive_run_duration_seconds", "queue" => queue).record(took.duration());
            }
        } else if change.to == State::Claimed
            && let Some(waited) = change.took
        {
            metrics::histogram!("outlive_queue_wait_seconds", "queue" => queue).record(waited.duration());
        }
    }

    /// Writes a verdict and hands its hints on.
    pub(crate) async fn lose(self: &Arc<Self>, verdict: Verdict) -> Result<LoseOutcome, StoreError> {
        let (holder, evidence, reason) = (verdict.holder, verdict.evidence, verdict.reason);
        let mut outcome = self.store.lose(verdict).await?;
        if !outcome.lost_race {
            let lost = outcome.lost.len();
            metrics::counter!("outlive_worker_losses_total", "evidence" => evidence.as_str()).increment(lost as u64);
            tracing::info!(%holder, evidence = evidence.as_str(), %reason, lost, "leases closed");
            self.committed(std::mem::take(&mut outcome.commit));
        }
        Ok(outcome)
    }

    /// Evidence 3: a newer incarnation of the name.
    pub(crate) async fn lose_replaced(
        self: &Arc<Self>,
        old: Holder,
        leases: Option<Vec<LeaseRef>>,
    ) -> Result<LoseOutcome, StoreError> {
        let heard_ago = self.driver.session(old).map_or(outlive_core::Millis::ZERO, |s| s.heard_ago);
        self.lose(Verdict {
            holder: old,
            guard: None,
            leases,
            reason: Reason::WorkerReplaced,
            evidence: Evidence::NewerIncarnation,
            last_heard_at: self.clock.wall() - heard_ago,
            budget: LossBudget::Losses,
            end_session: false,
        })
        .await
    }
}
