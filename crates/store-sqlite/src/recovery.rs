//! The measured recovery that a run's row is linked to: from the last sign of life to where it had been.

use crate::fault::Done;
use crate::rows::{execute, from_text, known, prepared};
use crate::sql;
use crate::tx::Tx;
use outlive_core::run::{Evidence, Progress, RecoveryStep, Run};
use outlive_core::{Epoch, Incarnation, Reason, RunId, Wall};
use outlive_store::{RecoveryOutcome, RecoveryRow, RecoverySide};
use rusqlite::{OptionalExtension, Row, params};

const fn number(outcome: RecoveryOutcome) -> i64 {
    match outcome {
        RecoveryOutcome::Open => 0,
        RecoveryOutcome::Recovered => 1,
        RecoveryOutcome::Over => 2,
        RecoveryOutcome::Salvaged => 3,
    }
}

/// Writes the steps of a transition. Returns the row that the run is linked to afterwards.
pub(crate) fn follow(tx: &mut Tx<'_>, run: &Run, mut link: Option<i64>, steps: Vec<RecoveryStep>) -> Done<Option<i64>> {
    for step in steps {
        if let RecoveryStep::Lost { .. } = step {
            link = Some(begin(tx, run, &step)?);
            continue;
        }
        let Some(id) = link else { continue };
        match step {
            RecoveryStep::Lost { .. } => {}
            RecoveryStep::Claimed { holder, epoch, at } => {
                let name = tx.worker_name(holder.worker)?;
                let queued = run.queued_at.map(|at| at.0);
                let mut claimed = prepared(tx.conn, sql::RECOVERY_CLAIMED)?;
                claimed.execute(params![id, epoch.0, name, holder.incarnation.0, at.0, queued])?;
            }
            RecoveryStep::Started(at) => {
                execute(tx.conn, sql::RECOVERY_STARTED, &[&id, &at.0, &number(RecoveryOutcome::Recovered)])?;
            }
            RecoveryStep::Advanced { at, fraction } => {
                if execute(tx.conn, sql::RECOVERY_CAUGHT_UP, &[&id, &at.0, &fraction])? > 0 {
                    link = None;
                }
            }
            RecoveryStep::Over => {
                execute(tx.conn, sql::RECOVERY_OVER, &[&id, &number(RecoveryOutcome::Over)])?;
                link = None;
            }
            RecoveryStep::Salvaged => {
                execute(tx.conn, sql::RECOVERY_SALVAGED, &[&id, &number(RecoveryOutcome::Salvaged)])?;
                link = None;
            }
        }
    }
    if let Some(id) = link.filter(|_| run.state.is_terminal()) {
        execute(tx.conn, sql::RECOVERY_OVER, &[&id, &number(RecoveryOutcome::Over)])?;
        link = None;
    }
    Ok(link)
}

fn begin(tx: &Tx<'_>, run: &Run, step: &RecoveryStep) -> Done<i64> {
    let RecoveryStep::Lost { epoch, holder, evidence, reason, last_heard_at, lost_at, queued_at } = step else {
        return Ok(0);
    };
    let class = tx.match_class(run.class)?;
    let read = |row: &Row<'_>| Ok((row.get::<_, bool>(0)?, row.get::<_, Option<String>>(1)?));
    let detail = prepared(tx.conn, sql::DETAIL_BEFORE_LOSS)?.query_row([run.seq], read).optional()?;
    let (had_checkpoint, progress) = detail.unwrap_or_default();
    let progress: Option<Progress> = from_text(progress)?;
    prepared(tx.conn, sql::RECOVERY_INSERT)?.execute(params![
        class.namespace,
        run.id.0,
        class.queue,
        *evidence as i64,
        reason.number(),
        epoch.0,
        tx.worker_name(holder.worker)?,
        holder.incarnation.0,
        last_heard_at.0,
        lost_at.0,
        queued_at.map(|at| at.0),
        had_checkpoint,
        progress.and_then(|p| p.fraction),
        number(RecoveryOutcome::Open),
    ])?;
    let id = tx.conn.last_insert_rowid();
    execute(tx.conn, sql::WORKER_LOSSES, &[&holder.worker.0, &1])?;
    Ok(id)
}

/// A row of the two statements that list recoveries.
pub(crate) fn read(row: &Row<'_>) -> Done<RecoveryRow> {
    let wall = |i: usize| row.get::<_, Option<i64>>(i).map(|at| at.map(Wall));
    let to = match (row.get::<_, Option<i64>>(8)?, row.get::<_, Option<String>>(9)?, row.get::<_, Option<i64>>(10)?) {
        (Some(epoch), Some(worker_name), Some(incarnation)) => {
            Some(RecoverySide { epoch: Epoch(epoch), worker_name, incarnation: Incarnation(incarnation) })
        }
        _ => None,
    };
    Ok(RecoveryRow {
        id: row.get(0)?,
        run_id: RunId(row.get(1)?),
        queue: row.get(2)?,
        evidence: known(Evidence::from_number(row.get(3)?), "recovery.evidence")?,
        reason: known(Reason::from_number(row.get(4)?), "recovery.reason")?,
        from: RecoverySide {
            epoch: Epoch(row.get(5)?),
            worker_name: row.get(6)?,
            incarnation: Incarnation(row.get(7)?),
        },
        to,
        last_heard_at: Wall(row.get(11)?),
        lost_at: Wall(row.get(12)?),
        queued_at: wall(13)?,
        claimed_at: wall(14)?,
        started_at: wall(15)?,
        caught_up_at: wall(16)?,
        had_checkpoint: row.get(17)?,
        outcome: match row.get::<_, i64>(18)? {
            0 => RecoveryOutcome::Open,
            1 => RecoveryOutcome::Recovered,
            2 => RecoveryOutcome::Over,
            3 => RecoveryOutcome::Salvaged,
            _ => return Err(crate::fault::Fault::damaged("recovery.outcome holds a number that has no meaning")),
        },
    })
}
