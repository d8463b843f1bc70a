//! What was: attempts, events, recoveries.

use crate::fault::Done;
use crate::list::{exit, run_in};
use crate::reader::Reader;
use crate::rows::{attempts as closed_attempts, events as kept_events, prepared};
use crate::{recovery, sql};
use outlive_core::RunId;
use outlive_core::run::{Event, derive};
use outlive_store::{AttemptRow, Page, RecoveryQuery, RecoveryRow};
use rusqlite::params;

/// Rows of a page, at most.
const PAGE: u32 = 1_000;

pub(crate) fn attempts(reader: &Reader<'_>, namespace: &str, id: RunId) -> Done<Option<Vec<AttemptRow>>> {
    let Some(run) = run_in(reader, namespace, id)? else { return Ok(None) };
    let views = derive::attempts(&run, closed_attempts(reader.conn(), run.seq)?, exit(reader, run.seq)?);
    let named = views.into_iter().map(|view| {
        let worker_name = crate::tx::worker_name(reader.conn(), view.attempt.holder.worker)?;
        Ok(AttemptRow { view, worker_name })
    });
    named.collect::<Done<Vec<_>>>().map(Some)
}

pub(crate) fn events(reader: &Reader<'_>, namespace: &str, id: RunId) -> Done<Option<Vec<Event>>> {
    let Some(run) = run_in(reader, namespace, id)? else { return Ok(None) };
    let views = derive::attempts(&run, closed_attempts(reader.conn(), run.seq)?, None);
    Ok(Some(derive::history(&run, &views, kept_events(reader.conn(), run.seq)?)))
}

pub(crate) fn recoveries(reader: &Reader<'_>, query: &RecoveryQuery) -> Done<Page<RecoveryRow>> {
    let before = query.cursor.unwrap_or(i64::MAX);
    let limit = query.limit.clamp(1, PAGE);
    let mut statement;
    let mut found = if let Some(run) = query.run {
        statement = prepared(reader.conn(), sql::RECOVERY_OF_RUN)?;
        statement.query(params![run.0, query.namespace, before, limit])?
    } else {
        statement = prepared(reader.conn(), sql::RECOVERY_PAGE)?;
        statement.query(params![query.namespace, before, limit])?
    };
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        rows.push(recovery::read(row)?);
    }
    let next = rows.last().map(|row| row.id).filter(|_| rows.len() == limit as usize);
    Ok(Page { rows, next })
}
