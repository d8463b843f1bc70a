//! The verdict: closed attempts, retries, events and recoveries in one transaction, if the guard still holds.

use crate::db::Op;
use crate::edit::Edit;
use crate::fault::{Answer, Done};
use crate::lease::open_runs;
use crate::needs::Needs;
use crate::rows::readable;
use crate::tx::Tx;
use crate::workers;
use async_trait::async_trait;
use outlive_core::run::{Loss, Run};
use outlive_store::{Commit, LoseOutcome, StoreError, Verdict};

/// What a verdict over all leases may weigh.
const ALL: usize = 1_000;

#[async_trait]
impl Op for Verdict {
    type Answer = LoseOutcome;
    type Refusal = StoreError;

    fn weight(&self) -> usize {
        self.leases.as_ref().map_or(ALL, Vec::len)
    }

    fn needs<'c>(&'c self, needs: &mut Needs<'c>) {
        needs.closing.insert(self.holder.worker);
        let leases = self.leases.as_deref().unwrap_or_default();
        needs.ids.extend(leases.iter().map(|lease| lease.run_id));
        needs.recoveries += leases.len();
    }

    /// Closes the leases named, or all of the holder.
    async fn run(&self, tx: &mut Tx<'_>) -> Answer<LoseOutcome, StoreError> {
        let holder = self.holder;
        let guard = tx.guard_locked(holder.worker).await?;
        if let Some(home) = self.guard
            && !guard.is_some_and(|guard| guard.holds(holder, home))
        {
            return Ok(Ok(LoseOutcome { lost_race: true, ..LoseOutcome::default() }));
        }
        if self.end_session {
            workers::end_session(tx, holder, self.last_heard_at, self.reason).await?;
        }
        let mut outcome = LoseOutcome::default();
        let runs = named(tx, self).await?;
        let seqs: Vec<i64> = runs.iter().map(|run| run.seq).collect();
        tx.load_means(&seqs).await?;
        for run in runs {
            let Some((_, lease)) = run.lease() else { continue };
            let policy = tx.policy(run.queue)?;
            let budgets = tx.means(run.seq).await?.options.budgets(&policy);
            let loss =
                Loss { reason: self.reason, evidence: self.evidence, last_heard_at: self.last_heard_at, exit: None };
            let mut edit = Edit::new(run);
            let Some(change) = edit.run.lose(loss, &policy, &budgets, self.budget, tx.now) else { continue };
            edit.apply(tx, change).await?;
            edit.save(tx).await?;
            outcome.lost.push(lease);
        }
        Ok(Ok(outcome))
    }

    fn finish(&self, answer: &mut LoseOutcome, _: &Tx<'_>, hints: Commit) {
        answer.commit = hints;
    }
}

/// The runs of the verdict whose leases are open and the holder's.
async fn named(tx: &mut Tx<'_>, verdict: &Verdict) -> Done<Vec<Run>> {
    let Some(leases) = &verdict.leases else { return open_runs(tx, verdict.holder).await };
    let ids: Vec<_> = leases.iter().map(|lease| lease.run_id).collect();
    tx.lock_ids(&ids).await?;
    let mut runs = Vec::with_capacity(leases.len());
    for &lease in leases {
        let run = tx.run_by_id(lease.run_id).await;
        let seq = tx.loaded.ids.get(&lease.run_id).copied().flatten().unwrap_or_default();
        runs.extend(readable(seq, run)?.flatten().filter(|run| run.lease() == Some((verdict.holder, lease))));
    }
    Ok(runs)
}
