//! The verdict: closed attempts, retries, events and recoveries in one transaction, if the guard still holds.

use crate::edit::Edit;
use crate::fault::Done;
use crate::lease::open_runs;
use crate::report::options;
use crate::rows::run_by_id;
use crate::tx::Tx;
use crate::workers;
use outlive_core::run::{Loss, Run};
use outlive_store::{LoseOutcome, Verdict};

/// Closes the leases named, or all of the holder.
pub(crate) fn lose(tx: &mut Tx<'_>, verdict: &Verdict) -> Done<LoseOutcome> {
    let holder = verdict.holder;
    if let Some(home) = verdict.guard {
        let guard = tx.guard(holder.worker)?;
        if !guard.is_some_and(|guard| guard.holds(holder, home)) {
            return Ok(LoseOutcome { lost_race: true, ..LoseOutcome::default() });
        }
    }
    if verdict.end_session {
        workers::end_session(tx, holder, verdict.last_heard_at, verdict.reason)?;
    }
    let mut outcome = LoseOutcome::default();
    for run in named(tx, verdict)? {
        let Some((_, lease)) = run.lease() else { continue };
        let policy = tx.policy(run.queue)?;
        let budgets = options(tx, &run)?.budgets(&policy);
        let loss = Loss {
            reason: verdict.reason,
            evidence: verdict.evidence,
            last_heard_at: verdict.last_heard_at,
            exit: None,
        };
        let mut edit = Edit::new(run);
        let Some(change) = edit.run.lose(loss, &policy, &budgets, verdict.budget, tx.now) else { continue };
        edit.apply(tx, change)?;
        edit.save(tx)?;
        outcome.lost.push(lease);
    }
    outcome.commit = tx.take_hints();
    Ok(outcome)
}

/// The runs of the verdict whose leases are open and the holder's.
fn named(tx: &Tx<'_>, verdict: &Verdict) -> Done<Vec<Run>> {
    let Some(leases) = &verdict.leases else { return open_runs(tx.conn, verdict.holder) };
    let mut runs = Vec::with_capacity(leases.len());
    for &lease in leases {
        let run = run_by_id(tx.conn, lease.run_id)?;
        runs.extend(run.filter(|run| run.lease() == Some((verdict.holder, lease))));
    }
    Ok(runs)
}
