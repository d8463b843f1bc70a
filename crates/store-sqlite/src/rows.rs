//! Rows to values and back. A row that is no legal value is a fault: half-states do not travel.

use crate::fault::{Done, Fault};
use crate::sql;
use outlive_core::policy::LeaseTerms;
use outlive_core::run::{Attempt, ClosedBy, Event, EventKind, OutputHead, Progress, Run};
use outlive_core::{
    ClassId, Epoch, Holder, Incarnation, Json, Observed, Outcome, QueueId, Reason, RunId, State, Wall, WorkerId,
};
use outlive_store::Detail;
use rusqlite::types::{FromSql, ToSql};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;

/// Separates the namespace from the serial key in `run.slot`; no name contains it.
const SLOT_SEPARATOR: char = '\u{1f}';

/// The serial key within its namespace, as stored.
pub(crate) fn slot_of(namespace: &str, serial_key: &str) -> String {
    format!("{namespace}{SLOT_SEPARATOR}{serial_key}")
}

/// A number that a closed set knows, or a fault that names the column.
pub(crate) fn known<T>(value: Option<T>, column: &str) -> Done<T> {
    value.ok_or_else(|| Fault::damaged(format!("{column} holds a number that has no meaning")))
}

/// The prepared statement, from the connection's cache.
pub(crate) fn prepared<'c>(conn: &'c Connection, sql: &'static str) -> Done<CachedStatement<'c>> {
    Ok(conn.prepare_cached(sql)?)
}

/// Runs a statement that returns no rows; how many it changed.
pub(crate) fn execute(conn: &Connection, sql: &'static str, params: &[&dyn ToSql]) -> Done<usize> {
    Ok(prepared(conn, sql)?.execute(params)?)
}

/// The first column of every row.
pub(crate) fn column<T: FromSql>(conn: &Connection, sql: &'static str, params: &[&dyn ToSql]) -> Done<Vec<T>> {
    let mut statement = prepared(conn, sql)?;
    let rows = statement.query_map(params, |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The first column of the only row, if there is one.
pub(crate) fn single<T: FromSql>(conn: &Connection, sql: &'static str, params: &[&dyn ToSql]) -> Done<Option<T>> {
    Ok(prepared(conn, sql)?.query_row(params, |row| row.get(0)).optional()?)
}

/// A run by its public identity.
pub(crate) fn run_by_id(conn: &Connection, id: RunId) -> Done<Option<Run>> {
    let mut statement = prepared(conn, sql::RUN_BY_ID)?;
    let mut rows = statement.query([id.0])?;
    rows.next()?.map(read_run).transpose()
}

/// A run by its row.
pub(crate) fn run_by_seq(conn: &Connection, seq: i64) -> Done<Option<Run>> {
    let mut statement = prepared(conn, sql::RUN_BY_SEQ)?;
    let mut rows = statement.query([seq])?;
    rows.next()?.map(read_run).transpose()
}

/// The runs of these rows, in their order; those that are gone are left out.
pub(crate) fn runs_by_seq(conn: &Connection, rows: Vec<i64>) -> Done<Vec<Run>> {
    rows.into_iter().filter_map(|seq| run_by_seq(conn, seq).transpose()).collect()
}

/// What could be read. A row that could not be is named in the log: it must not hold up the ones beside it.
pub(crate) fn readable<T>(row: i64, read: Done<T>) -> Done<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Fault::Damaged(why)) => {
            tracing::error!(row, why, "a run's row cannot be read; it is passed over");
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

/// A page of a pass over all rows.
#[derive(Debug, Default)]
pub(crate) struct PassPage {
    /// Those that can be read.
    pub(crate) runs: Vec<Run>,
    /// How many cannot.
    pub(crate) unreadable: u32,
    /// Rows of either kind.
    pub(crate) seen: u32,
    /// The last row of either kind.
    pub(crate) last: i64,
}

/// The page after a row, for a pass.
pub(crate) fn pass_page(conn: &Connection, after: i64, limit: u32) -> Done<PassPage> {
    let mut statement = prepared(conn, sql::RUN_PAGE_UP)?;
    let mut rows = statement.query(params![after, limit])?;
    let mut page = PassPage { last: after, ..PassPage::default() };
    while let Some(row) = rows.next()? {
        page.last = row.get(0)?;
        page.seen += 1;
        match readable(page.last, read_run(row))? {
            Some(run) => page.runs.push(run),
            None => page.unreadable += 1,
        }
    }
    Ok(page)
}

/// A page of runs out of a statement with the run's columns.
pub(crate) fn run_page(conn: &Connection, sql: &'static str, from: i64, limit: u32) -> Done<Vec<Run>> {
    let mut statement = prepared(conn, sql)?;
    let mut rows = statement.query(params![from, limit])?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(read_run(row)?);
    }
    Ok(page)
}

fn read_run(row: &Row<'_>) -> Done<Run> {
    let optional = |i: usize| row.get::<_, Option<i64>>(i);
    let wall = |i: usize| optional(i).map(|at| at.map(Wall));
    let holder = match (optional(21)?, optional(22)?) {
        (Some(worker), Some(incarnation)) => {
            Some(Holder { worker: WorkerId(worker), incarnation: Incarnation(incarnation) })
        }
        _ => None,
    };
    let slot = match row.get_ref(28)?.as_str_or_null() {
        Ok(Some(slot)) => Some(
            slot.split_once(SLOT_SEPARATOR)
                .map(|(_, key)| key.to_owned())
                .ok_or_else(|| Fault::damaged("run.slot has no namespace"))?,
        ),
        Ok(None) => None,
        Err(_) => return Err(Fault::damaged("run.slot is no text")),
    };
    Ok(Run {
        seq: row.get(0)?,
        id: RunId(row.get(1)?),
        class: ClassId(row.get(2)?),
        queue: QueueId(row.get(3)?),
        state: known(State::from_number(row.get(4)?), "run.state")?,
        blocked: row.get(5)?,
        rank: row.get(6)?,
        priority: row.get(7)?,
        epoch: Epoch(row.get(8)?),
        failures: row.get(9)?,
        losses: row.get(10)?,
        losses_in_row: row.get(11)?,
        outcome: optional(12)?.map(|n| known(Outcome::from_number(n), "run.outcome")).transpose()?,
        reason: optional(13)?.map(|n| known(Reason::from_number(n), "run.reason")).transpose()?,
        created_at: Wall(row.get(14)?),
        queued_at: wall(15)?,
        due_at: wall(16)?,
        claimed_at: wall(17)?,
        started_at: wall(18)?,
        finished_at: wall(19)?,
        lease_observed: observed(row.get(20)?),
        holder,
        closed_by: known(ClosedBy::from_number(row.get(23)?), "run.closed_by")?,
        output: OutputHead { next: row.get(24)?, seq: row.get(25)?, bytes: row.get(26)?, marker: row.get(27)? },
        serial_key: slot,
        key: row.get(29)?,
        recovery: optional(30)?,
        terms: LeaseTerms::from_number(row.get(31)?),
        has_subjects: row.get(32)?,
        begun_observed: observed(row.get(33)?),
    })
}

/// Observed time as stored.
pub(crate) fn observed(stored: i64) -> Observed {
    Observed(u64::try_from(stored).unwrap_or(0))
}

/// Observed time to store.
pub(crate) fn stored(observed: Observed) -> i64 {
    i64::try_from(observed.0).unwrap_or(i64::MAX)
}

pub(crate) fn insert_run(conn: &Connection, run: &Run, namespace: &str) -> Done<()> {
    let slot = run.serial_key.as_ref().map(|key| slot_of(namespace, key));
    prepared(conn, sql::RUN_INSERT)?.execute(params![
        run.seq,
        run.id.0,
        run.class.0,
        run.queue.0,
        run.state.number(),
        run.blocked,
        run.rank,
        run.priority,
        run.epoch.0,
        run.failures,
        run.losses,
        run.losses_in_row,
        run.outcome.map(Outcome::number),
        run.reason.map(Reason::number),
        run.created_at.0,
        run.queued_at.map(|at| at.0),
        run.due_at.map(|at| at.0),
        run.claimed_at.map(|at| at.0),
        run.started_at.map(|at| at.0),
        run.finished_at.map(|at| at.0),
        stored(run.lease_observed),
        run.holder.map(|h| h.worker.0),
        run.holder.map(|h| h.incarnation.0),
        run.closed_by as i64,
        run.output.next,
        run.output.seq,
        run.output.bytes,
        run.output.marker,
        slot,
        run.key,
        run.recovery,
        run.terms.number(),
        run.has_subjects,
        stored(run.begun_observed),
    ])?;
    Ok(())
}

/// Writes what a transition may have changed; exactly one row must be there.
pub(crate) fn update_run(conn: &Connection, run: &Run) -> Done<()> {
    let changed = prepared(conn, sql::RUN_UPDATE)?.execute(params![
        run.seq,
        run.state.number(),
        run.blocked,
        run.rank,
        run.epoch.0,
        run.failures,
        run.losses,
        run.losses_in_row,
        run.outcome.map(Outcome::number),
        run.reason.map(Reason::number),
        run.queued_at.map(|at| at.0),
        run.due_at.map(|at| at.0),
        run.claimed_at.map(|at| at.0),
        run.started_at.map(|at| at.0),
        run.finished_at.map(|at| at.0),
        stored(run.lease_observed),
        run.holder.map(|h| h.worker.0),
        run.holder.map(|h| h.incarnation.0),
        run.closed_by as i64,
        run.output.next,
        run.output.seq,
        run.output.bytes,
        run.output.marker,
        run.key,
        run.recovery,
        run.terms.number(),
        stored(run.begun_observed),
    ])?;
    one_row(changed)
}

/// Writes what a report that leaves the state alone may have changed: nothing that an index knows.
pub(crate) fn touch_run(conn: &Connection, run: &Run) -> Done<()> {
    let changed = prepared(conn, sql::RUN_TOUCH)?.execute(params![
        run.seq,
        run.losses_in_row,
        run.started_at.map(|at| at.0),
        stored(run.lease_observed),
        run.output.next,
        run.output.seq,
        run.output.bytes,
        run.output.marker,
        run.recovery,
        stored(run.begun_observed),
    ])?;
    one_row(changed)
}

fn one_row(changed: usize) -> Done<()> {
    if changed == 1 { Ok(()) } else { Err(Fault::damaged(format!("a run's row was written {changed} times"))) }
}

pub(crate) fn insert_attempt(conn: &Connection, seq: i64, a: &Attempt) -> Done<()> {
    prepared(conn, sql::ATTEMPT_INSERT)?.execute(params![
        seq,
        a.epoch.0,
        a.holder.worker.0,
        a.holder.incarnation.0,
        a.claimed_at.0,
        a.started_at.map(|at| at.0),
        a.last_heard_at.0,
        a.ended_at.0,
        a.outcome.map(Outcome::number),
        a.reason.number(),
        to_text(a.exit.as_ref())?,
        to_text(a.error.as_ref())?,
        a.closed_by as i64,
        a.marker,
        a.lost_marker,
        a.last_seq,
        a.checkpoint.as_ref().map(Json::text),
    ])?;
    Ok(())
}

pub(crate) fn attempt(conn: &Connection, seq: i64, epoch: Epoch) -> Done<Option<Attempt>> {
    let mut statement = prepared(conn, sql::ATTEMPT_GET)?;
    let mut rows = statement.query(params![seq, epoch.0])?;
    rows.next()?.map(read_attempt).transpose()
}

pub(crate) fn attempts(conn: &Connection, seq: i64) -> Done<Vec<Attempt>> {
    let mut statement = prepared(conn, sql::ATTEMPT_ALL)?;
    let mut rows = statement.query([seq])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(read_attempt(row)?);
    }
    Ok(all)
}

fn read_attempt(row: &Row<'_>) -> Done<Attempt> {
    let outcome: Option<i64> = row.get(7)?;
    Ok(Attempt {
        epoch: Epoch(row.get(0)?),
        holder: Holder { worker: WorkerId(row.get(1)?), incarnation: Incarnation(row.get(2)?) },
        claimed_at: Wall(row.get(3)?),
        started_at: row.get::<_, Option<i64>>(4)?.map(Wall),
        last_heard_at: Wall(row.get(5)?),
        ended_at: Wall(row.get(6)?),
        outcome: outcome.map(|n| known(Outcome::from_number(n), "attempt.outcome")).transpose()?,
        reason: known(Reason::from_number(row.get(8)?), "attempt.reason")?,
        exit: from_text(row.get(9)?)?,
        error: from_text(row.get(10)?)?,
        closed_by: known(ClosedBy::from_number(row.get(11)?), "attempt.closed_by")?,
        marker: row.get(12)?,
        lost_marker: row.get(13)?,
        last_seq: row.get(14)?,
        checkpoint: json(row.get(15)?)?,
    })
}

pub(crate) fn events(conn: &Connection, seq: i64) -> Done<Vec<Event>> {
    let mut statement = prepared(conn, sql::EVENT_ALL)?;
    let mut rows = statement.query([seq])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let reason: Option<i64> = row.get(4)?;
        all.push(Event {
            kind: known(EventKind::from_number(row.get(0)?), "run_event.kind")?,
            at: Wall(row.get(1)?),
            epoch: Epoch(row.get(2)?),
            state: known(State::from_number(row.get(3)?), "run_event.state")?,
            reason: reason.map(|n| known(Reason::from_number(n), "run_event.reason")).transpose()?,
            note: row.get(5)?,
        });
    }
    Ok(all)
}

pub(crate) fn detail(conn: &Connection, seq: i64) -> Done<Detail> {
    let mut statement = prepared(conn, sql::DETAIL_GET)?;
    let mut rows = statement.query([seq])?;
    let Some(row) = rows.next()? else { return Ok(Detail::default()) };
    Ok(Detail {
        checkpoint: json(row.get(0)?)?,
        progress: from_text::<Progress>(row.get(1)?)?,
        result: json(row.get(2)?)?,
        error: from_text(row.get(3)?)?,
        exit: from_text(row.get(4)?)?,
        note: row.get(5)?,
        resume_data: json(row.get(6)?)?.filter(|data| !data.is_null()),
        reason_detail: json(row.get(7)?)?,
    })
}

/// Stored text as the JSON that it was.
pub(crate) fn json(text: Option<String>) -> Done<Option<Json>> {
    Ok(text.map(Json::parse).transpose()?)
}

/// Stored text as a value.
pub(crate) fn from_text<T: DeserializeOwned>(text: Option<String>) -> Done<Option<T>> {
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

/// A value as text to store.
pub(crate) fn to_text<T: serde::Serialize>(value: Option<&T>) -> Done<Option<String>> {
    Ok(value.map(serde_json::to_string).transpose()?)
}
