//! Output logs: frames are rows; markers are derived from attempts; gaps say what is gone.
//!
//! A log keeps its first and last 32 MiB. What is between is dropped oldest first, and one gap row grows over it.

use crate::fault::Done;
use crate::rows::{self, attempts, execute, prepared, run_by_id};
use crate::sql;
use crate::tx::{Tx, worker_name};
use outlive_core::limits::sizes::RUN_OUTPUT;
use outlive_core::report::Frame;
use outlive_core::run::Run;
use outlive_core::run::derive::{self, Marker};
use outlive_core::{Epoch, RunId, Wall};
use outlive_store::{OutputEntry, OutputFrom, OutputKind, OutputPage, OutputQuery};
use rusqlite::{Connection, OptionalExtension, params};

/// Stores frames at their offsets; above the limit, drops from the middle.
pub(crate) fn append(tx: &mut Tx<'_>, run: &Run, frames: Vec<(i64, Frame)>) -> Done<()> {
    for (offset, frame) in frames {
        prepared(tx.conn, sql::OUTPUT_INSERT)?.execute(params![
            run.seq,
            offset,
            run.epoch.0,
            frame.seq,
            frame.channel,
            tx.now.0,
            frame.bytes
        ])?;
    }
    if run.output.bytes > RUN_OUTPUT { trim(tx, run) } else { Ok(()) }
}

#[derive(Clone, Copy)]
struct Gap {
    first: i64,
    last: i64,
    bytes: i64,
}

fn trim(tx: &Tx<'_>, run: &Run) -> Done<()> {
    let read = |row: &rusqlite::Row<'_>| Ok(Gap { first: row.get(0)?, last: row.get(1)?, bytes: row.get(2)? });
    let gap = prepared(tx.conn, sql::GAP_GET)?.query_row([run.seq], read).optional()?;
    let mut gap = gap.map_or_else(|| head_end(tx, run), Ok)?;
    let mut dropped = Vec::new();
    let mut sizes = prepared(tx.conn, sql::OUTPUT_SIZES)?;
    let mut rows = sizes.query(params![run.seq, gap.last])?;
    while run.output.bytes - gap.bytes > RUN_OUTPUT {
        let Some(row) = rows.next()? else { break };
        let (offset, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
        gap.last = offset;
        gap.bytes += bytes;
        dropped.push(offset);
    }
    drop(rows);
    for offset in dropped {
        execute(tx.conn, sql::OUTPUT_FRAME_DELETE, &[&run.seq, &offset])?;
    }
    execute(tx.conn, sql::GAP_PUT, &[&run.seq, &gap.first, &gap.last, &gap.bytes, &"limit"])?;
    Ok(())
}

/// An empty gap behind the frames that fill the first half.
fn head_end(tx: &Tx<'_>, run: &Run) -> Done<Gap> {
    let mut sizes = prepared(tx.conn, sql::OUTPUT_SIZES)?;
    let mut rows = sizes.query(params![run.seq, 0])?;
    let (mut kept, mut last) = (0, 0);
    while let Some(row) = rows.next()? {
        let (offset, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
        if kept + bytes > RUN_OUTPUT / 2 {
            break;
        }
        kept += bytes;
        last = offset;
    }
    Ok(Gap { first: last + 1, last, bytes: 0 })
}

/// Drops all frames of an ended run; one gap covers the log.
pub(crate) fn expire(tx: &Tx<'_>, run: &Run) -> Done<()> {
    execute(tx.conn, sql::OUTPUT_DELETE, &[&run.seq])?;
    execute(tx.conn, sql::GAP_DELETE, &[&run.seq])?;
    let last = run.output.next - 1;
    execute(tx.conn, sql::GAP_PUT, &[&run.seq, &1, &last, &run.output.bytes, &"retention"])?;
    Ok(())
}

/// A part of a log.
pub(crate) fn read(
    conn: &Connection,
    namespace_of: impl FnOnce(&Run) -> Done<String>,
    id: RunId,
    query: &OutputQuery,
) -> Done<Option<OutputPage>> {
    let Some(run) = run_by_id(conn, id)? else { return Ok(None) };
    let views = derive::attempts(&run, attempts(conn, run.seq)?, None);
    let markers = derive::markers(&views);
    let after = match query.from {
        OutputFrom::After(offset) => offset,
        OutputFrom::CurrentAttempt => {
            let starts = markers.iter().filter(|(_, marker)| matches!(marker, Marker::Attempt { .. }));
            starts.map(|(offset, _)| offset - 1).next_back().unwrap_or(0)
        }
    };
    let mut entries = Vec::new();
    let more = frames(conn, &run, after, query, &mut entries)?;
    // Beyond the last frame of a cut page there are frames that were not read: what lies there belongs to the next page.
    let horizon = if more { entries.last().map_or(after, |e: &OutputEntry| e.offset) } else { i64::MAX };
    gaps(conn, &run, after, horizon, &markers, &mut entries)?;
    for (offset, marker) in markers.into_iter().filter(|(offset, _)| *offset > after && *offset <= horizon) {
        let name = match &marker {
            Marker::Attempt { holder, .. } => Some(worker_name(conn, holder.worker)?),
            Marker::Lost { .. } => None,
        };
        entries.push(OutputEntry { offset, kind: OutputKind::Marker(marker, name) });
    }
    entries.sort_by_key(|entry| entry.offset);
    let limit = query.limit.max(1) as usize;
    let cut = entries.len() > limit;
    entries.truncate(limit);
    let at_head = !more && !cut;
    let end_offset = run.output.next;
    let next_after = if at_head { end_offset - 1 } else { entries.last().map_or(after, |e| e.offset) };
    let namespace = namespace_of(&run)?;
    let (state, epoch) = (run.state, run.epoch);
    let next_after = next_after.max(after);
    Ok(Some(OutputPage { entries, next_after, at_head, state, epoch, end_offset, namespace }))
}

/// Adds frames up to the limits; whether there may be more. At least one frame is added if there is one.
fn frames(conn: &Connection, run: &Run, after: i64, query: &OutputQuery, entries: &mut Vec<OutputEntry>) -> Done<bool> {
    let mut statement = prepared(conn, sql::OUTPUT_PAGE)?;
    let limit = query.limit.max(1);
    let mut rows = statement.query(params![run.seq, after, query.channel, i64::from(limit) + 1])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if entries.len() >= limit as usize || (bytes > 0 && bytes >= query.max_bytes) {
            return Ok(true);
        }
        let frame = Frame { seq: row.get(2)?, channel: row.get(3)?, bytes: row.get(5)? };
        bytes += frame.bytes.len();
        let kind = OutputKind::Frame { epoch: Epoch(row.get(1)?), frame, at: Wall(row.get(4)?) };
        entries.push(OutputEntry { offset: row.get(0)?, kind });
    }
    Ok(false)
}

/// Adds gaps, cut at the markers inside them, so that every offset is told once. A gap's place is its last offset.
fn gaps(
    conn: &Connection,
    run: &Run,
    after: i64,
    horizon: i64,
    markers: &[(i64, Marker)],
    entries: &mut Vec<OutputEntry>,
) -> Done<()> {
    let mut statement = prepared(conn, sql::GAP_ALL)?;
    let mut rows = statement.query(params![run.seq, after])?;
    while let Some(row) = rows.next()? {
        let (first, last, why): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let mut from = first.max(after + 1);
        let inside = markers.iter().map(|(offset, _)| *offset).filter(|offset| (from..=last).contains(offset));
        for stop in inside.chain([last + 1]).collect::<Vec<_>>() {
            let to = stop - 1;
            if from <= to && to <= horizon {
                let kind = OutputKind::Gap { from, to, why: why.clone() };
                entries.push(OutputEntry { offset: to, kind });
            }
            from = stop + 1;
        }
    }
    Ok(())
}

/// Whether a run has frames.
pub(crate) fn any(conn: &Connection, run: &Run) -> Done<bool> {
    Ok(run.output.next > 1 && rows::single::<i64>(conn, sql::OUTPUT_FIRST, &[&run.seq])?.is_some())
}
