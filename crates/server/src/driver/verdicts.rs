//! Verdicts: written with their guard, and what follows when it does not hold.

use crate::app::App;
use outlive_core::engine::{Input, VerdictResult, VerdictWanted};
use outlive_core::home::{Has, Homing};
use outlive_core::run::LossBudget;
use outlive_core::{Holder, HomeSeq, Reason};
use outlive_store::{LoseOutcome, StoreError, Verdict};
use std::sync::Arc;

/// What the engine is told of a verdict that was given.
fn written(holder: Holder, result: Result<LoseOutcome, StoreError>) -> VerdictResult {
    match result {
        Ok(outcome) => VerdictResult::Committed(outcome.lost),
        Err(StoreError::Unknown(_)) => VerdictResult::Unknown,
        Err(error) => {
            tracing::warn!(%holder, %error, "verdict could not be written");
            VerdictResult::Failed
        }
    }
}

impl App {
    pub(super) async fn write_verdict(self: &Arc<Self>, wanted: VerdictWanted) {
        let free = wanted.reason == Reason::LeaseReleased;
        let verdict = Verdict {
            holder: wanted.holder,
            // Also what is taken for another reason than absence: from another home its worker may have been given it again.
            guard: Some((self.replica, wanted.home_seq)),
            leases: Some(wanted.leases.clone()),
            reason: wanted.reason,
            evidence: wanted.evidence,
            last_heard_at: self.clock.wall() - wanted.silent_for,
            budget: if free { LossBudget::Free } else { LossBudget::Losses },
            end_session: wanted.end_session,
        };
        let result = match self.lose(verdict.clone()).await {
            Ok(outcome) if outcome.lost_race => {
                crate::metrics::lost_race("verdict");
                self.replaced_meanwhile(verdict, wanted.home_seq).await
            }
            result => written(wanted.holder, result),
        };
        self.input(Input::VerdictDone(wanted, result));
    }

    /// The guard did not hold: what does the store say? A newer incarnation of the name is evidence 3 and needs no home.
    /// Nor does the loss of a worker whose row is gone: nobody can say anything for it any more.
    async fn replaced_meanwhile(self: &Arc<Self>, verdict: Verdict, tried: HomeSeq) -> VerdictResult {
        let holder = verdict.holder;
        match self.store.worker(holder.worker).await {
            Ok(Some(row)) if row.incarnation > holder.incarnation => {
                written(holder, self.lose_replaced(holder, verdict.leases).await)
            }
            Ok(None) => written(holder, self.lose(Verdict { guard: None, ..verdict }).await),
            Ok(Some(_)) | Err(_) => {
                self.follow_home(holder, Has::Refused(tried)).await;
                VerdictResult::LostRace
            }
        }
    }

    /// The store has another home for a session than the engine, or one of which the engine does not know.
    pub(crate) async fn follow_home(self: &Arc<Self>, holder: Holder, has: Has) {
        let Ok(Some(row)) = self.store.worker(holder.worker).await else { return };
        match row.home().at(self.replica, holder, has) {
            Homing::Stay => {}
            Homing::Gone => self.input(Input::Revoke(holder, Reason::WorkerReplaced)),
            Homing::Moved(home_seq) => self.input(Input::Moved(holder, home_seq)),
            Homing::Take => {
                if let Ok(leases) = self.store.leases_of(holder).await {
                    let leases = leases.iter().filter_map(|row| self.lease_info(row)).collect();
                    self.input(Input::Adopt(crate::start::session_info(&row, row.home_seq, leases)));
                }
            }
        }
    }
}
