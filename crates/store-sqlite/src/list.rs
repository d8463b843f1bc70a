//! Runs as people see them: one, or a bounded page of many.
//!
//! A page is driven by the most selective index that the filters allow, newest row first, and looks at no more than
//! [`SCAN`] rows; what the index does not tell is compared row by row. So a page may be short and still have a next one.

use crate::fault::{Done, Fault};
use crate::reader::Reader;
use crate::rows::{
    column, detail, from_text, prepared, readable, run_by_id, run_by_seq, run_page, runs_by_seq, single, slot_of,
};
use crate::sql;
use outlive_core::class::MatchClass;
use outlive_core::options::RunOptions;
use outlive_core::run::Run;
use outlive_core::{ClassId, Json, RunId, State, Wall};
use outlive_store::{Page, RunQuery, RunRow};
use rusqlite::OptionalExtension;
use uuid::Uuid;

/// Rows that one page looks at.
const SCAN: u32 = 5_000;
/// Digits of an id from which on its index is narrower than the table: the first ten are its time in quarter seconds.
const NARROW_PREFIX: usize = 10;

pub(crate) fn get(reader: &Reader, namespace: &str, id: RunId) -> Done<Option<RunRow>> {
    let Some(run) = run_by_id(reader.conn(), id)? else { return Ok(None) };
    if reader.class(run.class)?.class.namespace != namespace {
        return Ok(None);
    }
    run_row(reader, run).map(Some)
}

/// A run's row with its detail.
pub(crate) fn run_row(reader: &Reader, run: Run) -> Done<RunRow> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let body = prepared(reader.conn(), sql::INPUT_GET)?.query_row([run.seq], read).optional()?;
    let (input, options): (String, Option<String>) =
        body.ok_or_else(|| Fault::damaged(format!("run {} has no input", run.id)))?;
    let worker_name = run.holder.map(|holder| crate::tx::worker_name(reader.conn(), holder.worker)).transpose()?;
    let cancel_requested_at = match run.state {
        State::Cancelling => single::<Option<i64>>(reader.conn(), sql::EVENT_CANCEL, &[&run.seq])?.flatten().map(Wall),
        _ => None,
    };
    Ok(RunRow {
        cancel_requested_at,
        class: reader.class(run.class)?.class,
        input: Json::parse(input)?,
        options: from_text(options)?.unwrap_or_default(),
        detail: detail(reader.conn(), run.seq)?,
        worker_name,
        run,
    })
}

/// Runs that nobody has ever taken and that have waited longer than they may.
pub(crate) fn overdue(reader: &Reader, now: Wall, limit: u32) -> Done<Vec<RunRow>> {
    let rows = column(reader.conn(), sql::RUN_OVERDUE, &[&now.0, &limit])?;
    let mut all = Vec::with_capacity(rows.len());
    for seq in rows {
        let read = || run_by_seq(reader.conn(), seq)?.map(|run| run_row(reader, run)).transpose();
        all.extend(readable(seq, read())?.flatten());
    }
    Ok(all)
}

pub(crate) fn list(reader: &Reader, query: &RunQuery) -> Done<Page<RunRow>> {
    let limit = query.limit.clamp(1, SCAN) as usize;
    let before = query.cursor.unwrap_or(i64::MAX);
    let scanned = candidates(reader, query, before)?;
    let full = scanned.len() >= SCAN as usize;
    let last = scanned.last().map(|run| run.seq);
    let mut rows: Vec<RunRow> = Vec::new();
    for run in scanned {
        if rows.len() == limit {
            let next = rows.last().map(|row| row.run.seq);
            return Ok(Page { rows, next });
        }
        let class = reader.class(run.class)?.class;
        if !matches_row(query, &run, &class) {
            continue;
        }
        let row = run_row(reader, run)?;
        if matches_rest(query, &row) {
            rows.push(row);
        }
    }
    Ok(Page { rows, next: last.filter(|_| full) })
}

/// Ready runs of a class, in the order of claims.
pub(crate) fn first_in_line(reader: &Reader<'_>, class: ClassId, limit: u32) -> Done<Vec<RunRow>> {
    let rows = column(reader.conn(), sql::READY_PAGE, &[&class.0, &limit.min(SCAN)])?;
    runs_by_seq(reader.conn(), rows)?.into_iter().map(|run| run_row(reader, run)).collect()
}

/// Rows below the cursor, newest first, out of the best index.
fn candidates(reader: &Reader, query: &RunQuery, before: i64) -> Done<Vec<Run>> {
    let conn = reader.conn();
    let rows = if let Some(parent) = query.parent {
        column(conn, sql::CHILDREN, &[&parent.0, &before, &SCAN])?
    } else if let Some(subject) = &query.subject {
        column(conn, sql::SUBJECT_PAGE, &[&slot_of(&query.namespace, subject), &before, &SCAN])?
    } else if let Some((name, value)) = &query.tag {
        column(conn, sql::TAG_PAGE, &[name, value, &before, &SCAN])?
    } else if let Some((low, high)) = query.id_prefix.as_deref().and_then(id_range) {
        let mut rows: Vec<i64> = column(conn, sql::RUN_ID_RANGE, &[&low, &high, &SCAN])?;
        rows.sort_unstable_by(|a, b| b.cmp(a));
        rows.retain(|&seq| seq < before);
        rows
    } else if !query.states.is_empty() && query.states.iter().all(|state| state.is_leased()) {
        column(conn, sql::LEASED_PAGE, &[&before, &SCAN])?
    } else if query.states == [State::Held] {
        column(conn, sql::HELD_PAGE, &[&before, &SCAN])?
    } else {
        return run_page(conn, sql::RUN_PAGE, before, SCAN);
    };
    runs_by_seq(conn, rows)
}

/// The first and last id with a prefix that is long enough to be worth a range.
fn id_range(prefix: &str) -> Option<(Uuid, Uuid)> {
    let digits: String = prefix.chars().filter(|c| *c != '-').collect();
    if !(NARROW_PREFIX..=32).contains(&digits.len()) {
        return None;
    }
    let bound = |fill: &str| u128::from_str_radix(&(digits.clone() + &fill.repeat(32 - digits.len())), 16).ok();
    Some((Uuid::from_u128(bound("0")?), Uuid::from_u128(bound("f")?)))
}

fn matches_row(query: &RunQuery, run: &Run, class: &MatchClass) -> bool {
    let any_state = |states: &[State]| states.is_empty() || states.contains(&run.state);
    let id = run.id.to_string();
    class.namespace == query.namespace
        && any_state(&query.states)
        && query.queue.as_ref().is_none_or(|queue| *queue == class.queue)
        && query.kind.as_ref().is_none_or(|kind| *kind == class.kind)
        && query.serial_key.as_ref().is_none_or(|key| run.serial_key.as_ref() == Some(key))
        && query.reason.is_none_or(|reason| run.reason == Some(reason))
        && query.id_prefix.as_ref().is_none_or(|prefix| id.starts_with(prefix.as_str()))
        && query.id_suffix.as_ref().is_none_or(|suffix| id.ends_with(suffix.as_str()))
        && (query.worker.is_none() || run.holder.is_some())
}

fn matches_rest(query: &RunQuery, row: &RunRow) -> bool {
    let RunOptions { parent, subjects, tags, .. } = &row.options;
    query.worker.as_ref().is_none_or(|name| row.worker_name.as_ref() == Some(name))
        && query.parent.is_none_or(|wanted| *parent == Some(wanted))
        && query.subject.as_ref().is_none_or(|wanted| subjects.contains(wanted))
        && query.tag.as_ref().is_none_or(|(name, value)| tags.get(name) == Some(value))
}

/// Whether a run has this namespace; its row, if so.
pub(crate) fn run_in(reader: &Reader, namespace: &str, id: RunId) -> Done<Option<Run>> {
    match run_by_id(reader.conn(), id)? {
        Some(run) if reader.class(run.class)?.class.namespace == namespace => Ok(Some(run)),
        _ => Ok(None),
    }
}

/// How the last process of a run ended.
pub(crate) fn exit(reader: &Reader, seq: i64) -> Done<Option<outlive_core::report::ExitReport>> {
    from_text(single::<Option<String>>(reader.conn(), sql::DETAIL_EXIT, &[&seq])?.flatten())
}
