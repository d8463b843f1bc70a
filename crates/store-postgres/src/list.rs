//! Runs as people see them: one, or a bounded page of many.
//!
//! A page is driven by the most selective index that the filters allow, newest row first, and looks at no more than
//! [`SCAN`] rows; what the index does not tell is compared row by row. So a page may be short and still have a next one.

use crate::fault::{Done, Fault};
use crate::reader::Reader;
use crate::rows::{from_text, read_detail, readable, readable_by_seq, run_by_id, runs_by_seq, slot_of};
use crate::sql;
use crate::value::{column, get, plain, query, single, values_of};
use outlive_core::class::MatchClass;
use outlive_core::options::RunOptions;
use outlive_core::run::Run;
use outlive_core::{ClassId, Json, RunId, State, Wall};
use outlive_store::{Page, RunQuery, RunRow};
use std::collections::HashMap;
use tokio_postgres::Row;
use uuid::Uuid;

/// Rows that one page looks at.
const SCAN: u32 = 5_000;
/// Rows of them that are read in one go, at least.
const CHUNK: usize = 64;
/// Digits of an id from which on its index is narrower than the table: the first ten are its time in quarter seconds.
const NARROW_PREFIX: usize = 10;

pub(crate) async fn get_run(reader: &Reader<'_>, namespace: &str, id: RunId) -> Done<Option<RunRow>> {
    match run_in(reader, namespace, id).await? {
        Some(run) => run_row(reader, run).await.map(Some),
        None => Ok(None),
    }
}

/// A run's row with its detail.
pub(crate) async fn run_row(reader: &Reader<'_>, run: Run) -> Done<RunRow> {
    let missing = Fault::damaged(format!("run {} has no input", run.id));
    run_rows(reader, vec![run]).await?.pop().unwrap_or(Err(missing))
}

/// The same of many, in their order, asked in one go. Each may be unreadable by itself.
pub(crate) async fn run_rows(reader: &Reader<'_>, runs: Vec<Run>) -> Done<Vec<Done<RunRow>>> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let seqs: Vec<i64> = runs.iter().map(|run| run.seq).collect();
    let rows = query(reader.conn(), sql::RUN_REST, values_of![seqs]).await?;
    let rests = rows.iter().map(|row| Ok((get::<i64>(row, 0)?, row))).collect::<Done<HashMap<_, _>>>()?;
    let mut all = Vec::with_capacity(runs.len());
    for run in runs {
        let rest = rests.get(&run.seq).copied();
        all.push(with_rest(reader, run, rest).await);
    }
    Ok(all)
}

async fn with_rest(reader: &Reader<'_>, run: Run, rest: Option<&Row>) -> Done<RunRow> {
    let rest = rest.ok_or_else(|| Fault::damaged(format!("run {} has no input", run.id)))?;
    let worker_name = match run.holder {
        Some(holder) => Some(reader.worker_name(holder.worker).await?),
        None => None,
    };
    let cancel_requested_at = match run.state {
        State::Cancelling => {
            single::<Option<i64>>(reader.conn(), sql::EVENT_CANCEL, values_of![run.seq]).await?.flatten()
        }
        _ => None,
    };
    Ok(RunRow {
        cancel_requested_at: cancel_requested_at.map(Wall),
        class: reader.class(run.class).await?.class,
        input: Json::parse(get(rest, 1)?)?,
        options: from_text(get(rest, 2)?)?.unwrap_or_default(),
        detail: read_detail(rest, 3)?,
        worker_name,
        run,
    })
}

/// Runs that nobody has ever taken and that have waited longer than they may.
pub(crate) async fn overdue(reader: &Reader<'_>, now: Option<Wall>, limit: u32) -> Done<Vec<RunRow>> {
    let rows = query(reader.conn(), sql::RUN_OVERDUE, values_of![now.map(|at| at.0), i64::from(limit)]).await?;
    let seqs = rows.iter().map(|row| get(row, 0)).collect::<Done<Vec<i64>>>()?;
    let runs = readable_by_seq(reader.conn(), seqs).await?;
    let seqs: Vec<i64> = runs.iter().map(|run| run.seq).collect();
    let mut all = Vec::with_capacity(runs.len());
    for (seq, row) in seqs.into_iter().zip(run_rows(reader, runs).await?) {
        all.extend(readable(seq, row)?);
    }
    Ok(all)
}

pub(crate) async fn list(reader: &Reader<'_>, wanted: &RunQuery) -> Done<Page<RunRow>> {
    let limit = wanted.limit.clamp(1, SCAN) as usize;
    let scanned = candidates(reader, wanted, wanted.cursor.unwrap_or(i64::MAX)).await?;
    let full = scanned.len() >= SCAN as usize;
    let last = scanned.last().copied();
    let mut rows: Vec<RunRow> = Vec::new();
    for some in scanned.chunks(limit.max(CHUNK)) {
        let mut runs = Vec::new();
        for run in runs_by_seq(reader.conn(), some.to_vec()).await? {
            if matches_row(wanted, &run, &reader.class(run.class).await?.class) {
                runs.push(run);
            }
        }
        for row in run_rows(reader, runs).await? {
            let row = row?;
            if !matches_rest(wanted, &row) {
                continue;
            }
            let seq = row.run.seq;
            rows.push(row);
            if rows.len() == limit {
                let more = full || last != Some(seq);
                return Ok(Page { rows, next: more.then_some(seq) });
            }
        }
    }
    Ok(Page { rows, next: last.filter(|_| full) })
}

/// Ready runs of a class, in the order of claims.
pub(crate) async fn first_in_line(reader: &Reader<'_>, class: ClassId, limit: u32) -> Done<Vec<RunRow>> {
    let line = column(reader.conn(), sql::READY_PAGE, values_of![class.0, i64::from(limit.min(SCAN))]).await?;
    let runs = runs_by_seq(reader.conn(), line).await?;
    run_rows(reader, runs).await?.into_iter().collect()
}

/// Rows below the cursor, newest first, out of the best index.
async fn candidates(reader: &Reader<'_>, wanted: &RunQuery, before: i64) -> Done<Vec<i64>> {
    let (conn, scan) = (reader.conn(), i64::from(SCAN));
    if let Some(parent) = wanted.parent {
        column(conn, sql::CHILDREN, values_of![parent.0, before, scan]).await
    } else if let Some(subject) = &wanted.subject {
        column(conn, sql::SUBJECT_PAGE, values_of![slot_of(&wanted.namespace, subject), before, scan]).await
    } else if let Some((name, value)) = &wanted.tag {
        column(conn, sql::TAG_PAGE, values_of![plain(name), plain(value), before, scan]).await
    } else if let Some((low, high)) = wanted.id_prefix.as_deref().and_then(id_range) {
        let mut rows: Vec<i64> = column(conn, sql::RUN_ID_RANGE, values_of![low, high, scan]).await?;
        rows.sort_unstable_by(|a, b| b.cmp(a));
        rows.retain(|&seq| seq < before);
        Ok(rows)
    } else if !wanted.states.is_empty() && wanted.states.iter().all(|state| state.is_leased()) {
        column(conn, sql::LEASED_PAGE, values_of![before, scan]).await
    } else if wanted.states == [State::Held] {
        column(conn, sql::HELD_PAGE, values_of![before, scan]).await
    } else {
        column(conn, sql::RUN_SEQ_PAGE, values_of![before, scan]).await
    }
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
pub(crate) async fn run_in(reader: &Reader<'_>, namespace: &str, id: RunId) -> Done<Option<Run>> {
    match run_by_id(reader.conn(), id).await? {
        Some(run) if reader.class(run.class).await?.class.namespace == namespace => Ok(Some(run)),
        _ => Ok(None),
    }
}

/// How the last process of a run ended.
pub(crate) async fn exit(reader: &Reader<'_>, seq: i64) -> Done<Option<outlive_core::report::ExitReport>> {
    from_text(single::<Option<String>>(reader.conn(), sql::DETAIL_EXIT, values_of![seq]).await?.flatten())
}
