//! Rows to values and back. A row that is no legal value is a fault: half-states do not travel.

use crate::fault::{Done, Fault};
use crate::sql;
use crate::value::{get, query, small, small_opt, values_of};
use outlive_core::policy::LeaseTerms;
use outlive_core::run::{Attempt, ClosedBy, Event, EventKind, OutputHead, Progress, Run};
use outlive_core::{
    ClassId, Epoch, Holder, Incarnation, Json, Observed, Outcome, QueueId, Reason, RunId, State, Wall, WorkerId,
};
use outlive_store::Detail;
use serde::de::DeserializeOwned;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

/// Separates the namespace from the serial key in `run.slot`; no name contains it.
const SLOT_SEPARATOR: char = '\u{1f}';

/// The serial key within its namespace, as stored.
pub(crate) fn slot_of(namespace: &str, serial_key: &str) -> String {
    format!("{namespace}{SLOT_SEPARATOR}{}", crate::value::plain(serial_key))
}

/// A number that a closed set knows, or a fault that names the column.
pub(crate) fn known<T>(value: Option<T>, column: &str) -> Done<T> {
    value.ok_or_else(|| Fault::damaged(format!("{column} holds a number that has no meaning")))
}

fn count(row: &Row, i: usize) -> Done<u32> {
    known(u32::try_from(get::<i64>(row, i)?).ok(), "a count of run")
}

/// Runs out of a statement with the run's columns.
pub(crate) fn read_runs(rows: &[Row]) -> Done<Vec<Run>> {
    rows.iter().map(read_run).collect()
}

/// The value, or nothing if a row is not what it must be: sweeps, verdicts and adoption pass over such a row.
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
pub(crate) async fn pass_page(conn: &Client, after: i64, limit: u32) -> Done<PassPage> {
    let mut page = PassPage { last: after, ..PassPage::default() };
    for row in query(conn, sql::RUN_PAGE_UP, values_of![after, i64::from(limit)]).await? {
        page.last = get(&row, 0)?;
        page.seen += 1;
        match readable(page.last, read_run(&row))? {
            Some(run) => page.runs.push(run),
            None => page.unreadable += 1,
        }
    }
    Ok(page)
}

/// These runs, in their order; what cannot be read is left out.
pub(crate) async fn readable_by_seq(conn: &Client, rows: Vec<i64>) -> Done<Vec<Run>> {
    let mut runs = Vec::with_capacity(rows.len());
    for row in query(conn, sql::RUN_BY_SEQ, values_of![rows]).await? {
        runs.extend(readable(get(&row, 0)?, read_run(&row))?);
    }
    let place: std::collections::HashMap<i64, usize> = rows.iter().enumerate().map(|(i, seq)| (*seq, i)).collect();
    runs.sort_by_key(|run| place.get(&run.seq).copied());
    Ok(runs)
}

pub(crate) fn read_run(row: &Row) -> Done<Run> {
    let wall = |i: usize| get::<Option<i64>>(row, i).map(|at| at.map(Wall));
    let holder = match (get::<Option<i64>>(row, 21)?, get::<Option<i64>>(row, 22)?) {
        (Some(worker), Some(incarnation)) => {
            Some(Holder { worker: WorkerId(worker), incarnation: Incarnation(incarnation) })
        }
        _ => None,
    };
    let without_namespace = |slot: &str| slot.split_once(SLOT_SEPARATOR).map(|(_, key)| key.to_owned());
    let serial_key = match get::<Option<&str>>(row, 28)? {
        Some(slot) => Some(without_namespace(slot).ok_or_else(|| Fault::damaged("run.slot has no namespace"))?),
        None => None,
    };
    Ok(Run {
        seq: get(row, 0)?,
        id: RunId(get(row, 1)?),
        class: ClassId(get(row, 2)?),
        queue: QueueId(get(row, 3)?),
        state: known(State::from_number(small(row, 4)?), "run.state")?,
        blocked: get(row, 5)?,
        rank: get(row, 6)?,
        priority: get(row, 7)?,
        epoch: Epoch(get(row, 8)?),
        failures: count(row, 9)?,
        losses: count(row, 10)?,
        losses_in_row: count(row, 11)?,
        outcome: small_opt(row, 12)?.map(|n| known(Outcome::from_number(n), "run.outcome")).transpose()?,
        reason: small_opt(row, 13)?.map(|n| known(Reason::from_number(n), "run.reason")).transpose()?,
        created_at: Wall(get(row, 14)?),
        queued_at: wall(15)?,
        due_at: wall(16)?,
        claimed_at: wall(17)?,
        started_at: wall(18)?,
        finished_at: wall(19)?,
        lease_observed: observed(get(row, 20)?),
        holder,
        closed_by: known(ClosedBy::from_number(small(row, 23)?), "run.closed_by")?,
        output: OutputHead { next: get(row, 24)?, seq: get(row, 25)?, bytes: get(row, 26)?, marker: get(row, 27)? },
        serial_key,
        key: get(row, 29)?,
        recovery: get(row, 30)?,
        terms: LeaseTerms::from_number(get(row, 31)?),
        has_subjects: get(row, 32)?,
        begun_observed: observed(get(row, 33)?),
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

/// A run by its public identity, as committed.
pub(crate) async fn run_by_id(conn: &Client, id: RunId) -> Done<Option<Run>> {
    Ok(read_runs(&query(conn, sql::RUN_BY_ID, values_of![vec![id.0]]).await?)?.pop())
}

/// The runs of these rows, in their order; those that are gone are left out.
pub(crate) async fn runs_by_seq(conn: &Client, rows: Vec<i64>) -> Done<Vec<Run>> {
    let mut runs = read_runs(&query(conn, sql::RUN_BY_SEQ, values_of![rows]).await?)?;
    let place: std::collections::HashMap<i64, usize> = rows.iter().enumerate().map(|(i, seq)| (*seq, i)).collect();
    runs.sort_by_key(|run| place.get(&run.seq).copied());
    Ok(runs)
}

pub(crate) async fn attempt(conn: &Client, seq: i64, epoch: Epoch) -> Done<Option<Attempt>> {
    let rows = query(conn, sql::ATTEMPT_GET, values_of![seq, epoch.0]).await?;
    rows.first().map(read_attempt).transpose()
}

pub(crate) async fn attempts(conn: &Client, seq: i64) -> Done<Vec<Attempt>> {
    query(conn, sql::ATTEMPT_ALL, values_of![seq]).await?.iter().map(read_attempt).collect()
}

fn read_attempt(row: &Row) -> Done<Attempt> {
    Ok(Attempt {
        epoch: Epoch(get(row, 0)?),
        holder: Holder { worker: WorkerId(get(row, 1)?), incarnation: Incarnation(get(row, 2)?) },
        claimed_at: Wall(get(row, 3)?),
        started_at: get::<Option<i64>>(row, 4)?.map(Wall),
        last_heard_at: Wall(get(row, 5)?),
        ended_at: Wall(get(row, 6)?),
        outcome: small_opt(row, 7)?.map(|n| known(Outcome::from_number(n), "attempt.outcome")).transpose()?,
        reason: known(Reason::from_number(small(row, 8)?), "attempt.reason")?,
        exit: from_text(get(row, 9)?)?,
        error: from_text(get(row, 10)?)?,
        closed_by: known(ClosedBy::from_number(small(row, 11)?), "attempt.closed_by")?,
        marker: get(row, 12)?,
        lost_marker: get(row, 13)?,
        last_seq: get(row, 14)?,
        checkpoint: json(get(row, 15)?)?,
    })
}

pub(crate) async fn events(conn: &Client, seq: i64) -> Done<Vec<Event>> {
    let read = |row: &Row| {
        Ok(Event {
            kind: known(EventKind::from_number(small(row, 0)?), "run_event.kind")?,
            at: Wall(get(row, 1)?),
            epoch: Epoch(get(row, 2)?),
            state: known(State::from_number(small(row, 3)?), "run_event.state")?,
            reason: small_opt(row, 4)?.map(|n| known(Reason::from_number(n), "run_event.reason")).transpose()?,
            note: get(row, 5)?,
        })
    };
    query(conn, sql::EVENT_ALL, values_of![seq]).await?.iter().map(read).collect()
}

/// A run's detail, out of the columns from `i` on; all of them are NULL if there is none.
pub(crate) fn read_detail(row: &Row, i: usize) -> Done<Detail> {
    Ok(Detail {
        checkpoint: json(get(row, i)?)?,
        progress: from_text::<Progress>(get(row, i + 1)?)?,
        result: json(get(row, i + 2)?)?,
        error: from_text(get(row, i + 3)?)?,
        exit: from_text(get(row, i + 4)?)?,
        note: get(row, i + 5)?,
        resume_data: json(get(row, i + 6)?)?.filter(|data| !data.is_null()),
        reason_detail: json(get(row, i + 7)?)?,
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

/// Ids of runs as they are kept beside idempotency keys.
pub(crate) fn read_ids(ids: &[u8]) -> Done<Vec<RunId>> {
    let read = |id: &[u8]| Uuid::from_slice(id).map(RunId).map_err(|_| Fault::damaged("idempotency.runs holds no ids"));
    ids.chunks_exact(16).map(read).collect()
}
