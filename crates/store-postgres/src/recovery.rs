//! The measured recovery that a run's row is linked to: from the last sign of life to where it had been.

use crate::fault::{Done, Fault};
use crate::pending::{NewRecovery, RecoveryUpdate};
use crate::rows::known;
use crate::sql;
use crate::tx::Tx;
use crate::value::{get, small, values_of};
use outlive_core::run::{Evidence, RecoveryStep, Run};
use outlive_core::{Epoch, Incarnation, Reason, RunId, Wall};
use outlive_store::{RecoveryOutcome, RecoveryRow, RecoverySide};
use tokio_postgres::Row;

pub(crate) const fn number(outcome: RecoveryOutcome) -> i64 {
    match outcome {
        RecoveryOutcome::Open => 0,
        RecoveryOutcome::Recovered => 1,
        RecoveryOutcome::Over => 2,
        RecoveryOutcome::Salvaged => 3,
    }
}

/// Takes down the steps of a transition. Returns the row that the run is linked to afterwards.
pub(crate) async fn follow(
    tx: &mut Tx<'_>,
    run: &Run,
    mut link: Option<i64>,
    steps: Vec<RecoveryStep>,
) -> Done<Option<i64>> {
    for step in steps {
        if let RecoveryStep::Lost { .. } = step {
            link = Some(begin(tx, run, &step).await?);
            continue;
        }
        let Some(id) = link else { continue };
        match step {
            RecoveryStep::Lost { .. } => {}
            RecoveryStep::Claimed { holder, epoch, at } => {
                let worker = tx.worker_name(holder.worker).await?;
                let queued_at = run.queued_at;
                tx.pending.steps.push(RecoveryUpdate::Claimed { id, epoch, worker, holder, at, queued_at });
            }
            RecoveryStep::Started(at) => tx.pending.steps.push(RecoveryUpdate::Started { id, at }),
            RecoveryStep::Advanced { at, fraction } => {
                if tx.execute(sql::RECOVERY_CAUGHT_UP, values_of![id, at.0, fraction]).await? > 0 {
                    link = None;
                }
            }
            RecoveryStep::Over => {
                tx.pending.steps.push(RecoveryUpdate::Over { id });
                link = None;
            }
            RecoveryStep::Salvaged => {
                tx.pending.steps.push(RecoveryUpdate::Salvaged { id });
                link = None;
            }
        }
    }
    if let Some(id) = link.filter(|_| run.state.is_terminal()) {
        tx.pending.steps.push(RecoveryUpdate::Over { id });
        link = None;
    }
    Ok(link)
}

async fn begin(tx: &mut Tx<'_>, run: &Run, step: &RecoveryStep) -> Done<i64> {
    let RecoveryStep::Lost { epoch, holder, evidence, reason, last_heard_at, lost_at, queued_at } = step else {
        return Ok(0);
    };
    let class = tx.match_class(run.class).await?;
    let means = tx.means(run.seq).await?;
    let (id, worker) = (tx.next_recovery().await?, tx.worker_name(holder.worker).await?);
    tx.pending.recoveries.push(NewRecovery {
        id,
        namespace: class.namespace.clone(),
        run: run.id,
        queue: class.queue.clone(),
        evidence: *evidence,
        reason: *reason,
        epoch: *epoch,
        worker,
        holder: *holder,
        last_heard_at: *last_heard_at,
        lost_at: *lost_at,
        queued_at: *queued_at,
        had_checkpoint: means.checkpoint.is_some(),
        fraction: means.progress.and_then(|progress| progress.fraction),
    });
    *tx.pending.losses.entry(holder.worker).or_default() += 1;
    Ok(id)
}

/// A row of the two statements that list recoveries.
pub(crate) fn read(row: &Row) -> Done<RecoveryRow> {
    let wall = |i: usize| get::<Option<i64>>(row, i).map(|at| at.map(Wall));
    let to = match (get::<Option<i64>>(row, 8)?, get::<Option<String>>(row, 9)?, get::<Option<i64>>(row, 10)?) {
        (Some(epoch), Some(worker_name), Some(incarnation)) => {
            Some(RecoverySide { epoch: Epoch(epoch), worker_name, incarnation: Incarnation(incarnation) })
        }
        _ => None,
    };
    Ok(RecoveryRow {
        id: get(row, 0)?,
        run_id: RunId(get(row, 1)?),
        queue: get(row, 2)?,
        evidence: known(Evidence::from_number(small(row, 3)?), "recovery.evidence")?,
        reason: known(Reason::from_number(small(row, 4)?), "recovery.reason")?,
        from: RecoverySide {
            epoch: Epoch(get(row, 5)?),
            worker_name: get(row, 6)?,
            incarnation: Incarnation(get(row, 7)?),
        },
        to,
        last_heard_at: Wall(get(row, 11)?),
        lost_at: Wall(get(row, 12)?),
        queued_at: wall(13)?,
        claimed_at: wall(14)?,
        started_at: wall(15)?,
        caught_up_at: wall(16)?,
        had_checkpoint: get(row, 17)?,
        outcome: match small(row, 18)? {
            0 => RecoveryOutcome::Open,
            1 => RecoveryOutcome::Recovered,
            2 => RecoveryOutcome::Over,
            3 => RecoveryOutcome::Salvaged,
            _ => return Err(Fault::damaged("recovery.outcome holds a number that has no meaning")),
        },
    })
}
