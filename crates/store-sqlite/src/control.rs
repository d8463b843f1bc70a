//! What people do to one run: cancel, release, delete.

use crate::create::{remember, remembered};
use crate::edit::Edit;
use crate::fault::{Answer, Done, Fault};
use crate::report::{options, queue_ttl};
use crate::rows::{column, execute, run_by_seq};
use crate::tx::Tx;
use crate::{sql, subject};
use outlive_core::run::Run;
use outlive_core::{Json, Reason, RunId};
use outlive_store::{Cancelled, Commit, Idempotency, WriteError};
use rusqlite::ToSql;

/// Descendants that one transaction cancels. A larger family takes several; the run itself is cancelled in the last, so that
/// an interrupted cancel is repeated by whoever asked.
pub(crate) const FAMILY: usize = 1_000;

/// Cancels descendants, at most [`FAMILY`]; `true`: there may be more.
pub(crate) fn cancel_family(tx: &mut Tx<'_>, namespace: &str, id: RunId) -> Answer<(bool, Commit), WriteError> {
    let run = match find(tx, namespace, id)? {
        Ok(run) => run,
        Err(refused) => return Ok(Err(refused)),
    };
    if run.is_cancelled() {
        return Ok(Ok((false, Commit::default())));
    }
    if run.state.is_terminal() {
        return Ok(Err(WriteError::Terminal(run.state)));
    }
    let mut left = FAMILY;
    let mut parents = vec![run.id];
    while let Some(parent) = parents.pop() {
        let mut before = i64::MAX;
        loop {
            let children: Vec<i64> = column(tx.conn, sql::CHILDREN, &[&parent.0, &before, &100])?;
            for &seq in &children {
                before = seq;
                let Some(child) = run_by_seq(tx.conn, seq)? else { continue };
                parents.push(child.id);
                if child.state.is_terminal() || child.state == outlive_core::State::Cancelling {
                    continue;
                }
                cancel_run(tx, child, Reason::Cancelled, None)?;
                left -= 1;
                if left == 0 {
                    return Ok(Ok((true, tx.take_hints())));
                }
            }
            if children.len() < 100 {
                break;
            }
        }
    }
    Ok(Ok((false, tx.take_hints())))
}

/// Cancels one run.
pub(crate) fn cancel(
    tx: &mut Tx<'_>,
    namespace: &str,
    id: RunId,
    reason: Reason,
    note: Option<&String>,
) -> Answer<Cancelled, WriteError> {
    let run = match find(tx, namespace, id)? {
        Ok(run) => run,
        Err(refused) => return Ok(Err(refused)),
    };
    if run.is_cancelled() {
        return Ok(Ok(Cancelled { state: run.state, commit: Commit::default() }));
    }
    if run.state.is_terminal() {
        return Ok(Err(WriteError::Terminal(run.state)));
    }
    let run = cancel_run(tx, run, reason, note.cloned())?;
    Ok(Ok(Cancelled { state: run.state, commit: tx.take_hints() }))
}

fn cancel_run(tx: &mut Tx<'_>, run: Run, reason: Reason, note: Option<String>) -> Done<Run> {
    let mut edit = Edit::new(run);
    if let Some(change) = edit.run.cancel(reason, note, tx.now) {
        edit.apply(tx, change)?;
    }
    edit.save(tx)
}

/// Queues a held or scheduled run now.
pub(crate) fn release(
    tx: &mut Tx<'_>,
    namespace: &str,
    id: RunId,
    data: Option<&Json>,
    key: Option<&Idempotency>,
) -> Answer<Commit, WriteError> {
    if let Some((hash, _)) = key.map(|key| remembered(tx, namespace, &key.key)).transpose()?.flatten() {
        let same = key.is_some_and(|key| hash == key.body_hash);
        return Ok(if same { Ok(Commit::default()) } else { Err(WriteError::IdempotencyMismatch) });
    }
    let run = match find(tx, namespace, id)? {
        Ok(run) => run,
        Err(refused) => return Ok(Err(refused)),
    };
    let state = run.state;
    if state.is_terminal() {
        return Ok(Err(WriteError::Terminal(state)));
    }
    let policy = tx.policy(run.queue)?;
    let ttl = queue_ttl(tx, &run, &policy)?;
    let mut edit = Edit::new(run);
    let Some(change) = edit.run.release(data.cloned(), ttl, tx.now) else {
        return Ok(Err(WriteError::NotWaiting(state)));
    };
    edit.apply(tx, change)?;
    edit.save(tx)?;
    if let Some(key) = key {
        remember(tx, namespace, key, &[id])?;
    }
    Ok(Ok(tx.take_hints()))
}

/// Removes a terminal run and what belongs to it. Recoveries stay: they measure workers, not runs.
pub(crate) fn delete(tx: &mut Tx<'_>, namespace: &str, id: RunId) -> Answer<(), WriteError> {
    let run = match find(tx, namespace, id)? {
        Ok(run) => run,
        Err(refused) => return Ok(Err(refused)),
    };
    if !run.state.is_terminal() {
        return Ok(Err(WriteError::NotTerminal(run.state)));
    }
    remove(tx, &run)?;
    Ok(Ok(()))
}

/// Deletes every row of a terminal run.
pub(crate) fn remove(tx: &Tx<'_>, run: &Run) -> Done<()> {
    if !run.state.is_terminal() {
        return Err(Fault::damaged("a run that has not ended cannot be removed"));
    }
    let options = options(tx, run)?;
    for (name, value) in &options.tags {
        execute(tx.conn, sql::TAG_DELETE, &[name, value, &run.seq])?;
    }
    if run.has_subjects {
        subject::removed(tx, run, &options.subjects)?;
    }
    let seq: &[&dyn ToSql] = &[&run.seq];
    if run.output.next > 1 {
        execute(tx.conn, sql::OUTPUT_DELETE, seq)?;
        execute(tx.conn, sql::GAP_DELETE, seq)?;
    }
    for statement in [sql::ATTEMPT_DELETE, sql::EVENT_DELETE, sql::DETAIL_DELETE, sql::INPUT_DELETE, sql::RUN_DELETE] {
        execute(tx.conn, statement, seq)?;
    }
    Ok(())
}

fn find(tx: &Tx<'_>, namespace: &str, id: RunId) -> Answer<Run, WriteError> {
    Ok(tx.run_in(namespace, id)?.ok_or(WriteError::NotFound))
}
