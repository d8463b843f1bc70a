//! Output logs: frames are rows; markers are derived from attempts; gaps say what is gone.
//!
//! A log keeps its first and last 32 MiB. What is between is dropped oldest first, and one gap row grows over it.

use crate::fault::Done;
use crate::pending::FrameRow;
use crate::reader::Reader;
use crate::rows::{attempts, run_by_id};
use crate::sql;
use crate::tx::Tx;
use crate::value::{get, query, values_of};
use outlive_core::limits::sizes::RUN_OUTPUT;
use outlive_core::report::Frame;
use outlive_core::run::Run;
use outlive_core::run::derive::{self, Marker};
use outlive_core::{Epoch, RunId, Wall};
use outlive_store::{OutputEntry, OutputFrom, OutputKind, OutputPage, OutputQuery};
use tokio_postgres::Client;

/// Frames whose sizes are asked at once.
const SIZES: i64 = 512;

/// Stores frames at their offsets; above the limit, drops from the middle.
pub(crate) async fn append(tx: &mut Tx<'_>, run: &Run, frames: Vec<(i64, Frame)>) -> Done<()> {
    let at = tx.now;
    let row = |(offset, frame)| FrameRow { seq: run.seq, offset, epoch: run.epoch, frame, at };
    tx.pending.frames.extend(frames.into_iter().map(row));
    if run.output.bytes > RUN_OUTPUT { trim(tx, run).await } else { Ok(()) }
}

#[derive(Clone, Copy)]
struct Gap {
    first: i64,
    last: i64,
    bytes: i64,
}

async fn trim(tx: &mut Tx<'_>, run: &Run) -> Done<()> {
    let rows = tx.query(sql::GAP_GET, values_of![run.seq]).await?;
    let mut gap = match rows.first() {
        Some(row) => Gap { first: get(row, 0)?, last: get(row, 1)?, bytes: get(row, 2)? },
        None => head_end(tx.conn, run).await?,
    };
    let mut dropped = Vec::new();
    'full: while run.output.bytes - gap.bytes > RUN_OUTPUT {
        let page = sizes(tx.conn, run.seq, gap.last).await?;
        if page.is_empty() {
            break;
        }
        for (offset, bytes) in page {
            if run.output.bytes - gap.bytes <= RUN_OUTPUT {
                break 'full;
            }
            gap.last = offset;
            gap.bytes += bytes;
            dropped.push(offset);
        }
    }
    tx.execute(sql::OUTPUT_FRAME_DELETE, values_of![run.seq, dropped]).await?;
    tx.execute(sql::GAP_PUT, values_of![run.seq, gap.first, gap.last, gap.bytes, "limit"]).await?;
    Ok(())
}

async fn sizes(conn: &Client, seq: i64, after: i64) -> Done<Vec<(i64, i64)>> {
    let rows = query(conn, sql::OUTPUT_SIZES, values_of![seq, after, SIZES]).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

/// An empty gap behind the frames that fill the first half.
async fn head_end(conn: &Client, run: &Run) -> Done<Gap> {
    let (mut kept, mut last) = (0, 0);
    'full: loop {
        let page = sizes(conn, run.seq, last).await?;
        if page.is_empty() {
            break;
        }
        for (offset, bytes) in page {
            if kept + bytes > RUN_OUTPUT / 2 {
                break 'full;
            }
            kept += bytes;
            last = offset;
        }
    }
    Ok(Gap { first: last + 1, last, bytes: 0 })
}

/// Drops all frames of an ended run; one gap covers the log.
pub(crate) async fn expire(tx: &mut Tx<'_>, run: &Run) -> Done<()> {
    let seqs = vec![run.seq];
    tx.execute(sql::OUTPUT_DELETE, values_of![seqs]).await?;
    tx.execute(sql::GAP_DELETE, values_of![seqs]).await?;
    let last = run.output.next - 1;
    tx.execute(sql::GAP_PUT, values_of![run.seq, 1_i64, last, run.output.bytes, "retention"]).await?;
    Ok(())
}

/// A part of a log.
pub(crate) async fn read(reader: &Reader<'_>, id: RunId, wanted: &OutputQuery) -> Done<Option<OutputPage>> {
    let conn = reader.conn();
    let Some(run) = run_by_id(conn, id).await? else { return Ok(None) };
    let views = derive::attempts(&run, attempts(conn, run.seq).await?, None);
    let markers = derive::markers(&views);
    let after = match wanted.from {
        OutputFrom::After(offset) => offset,
        OutputFrom::CurrentAttempt => {
            let starts = markers.iter().filter(|(_, marker)| matches!(marker, Marker::Attempt { .. }));
            starts.map(|(offset, _)| offset - 1).next_back().unwrap_or(0)
        }
    };
    let mut entries = Vec::new();
    let more = frames(conn, &run, after, wanted, &mut entries).await?;
    // Beyond the last frame of a cut page there are frames that were not read: what lies there belongs to the next page.
    let horizon = if more { entries.last().map_or(after, |e: &OutputEntry| e.offset) } else { i64::MAX };
    gaps(conn, &run, after, horizon, &markers, &mut entries).await?;
    for (offset, marker) in markers.into_iter().filter(|(offset, _)| *offset > after && *offset <= horizon) {
        let name = match &marker {
            Marker::Attempt { holder, .. } => Some(reader.worker_name(holder.worker).await?),
            Marker::Lost { .. } => None,
        };
        entries.push(OutputEntry { offset, kind: OutputKind::Marker(marker, name) });
    }
    entries.sort_by_key(|entry| entry.offset);
    let limit = wanted.limit.max(1) as usize;
    let cut = entries.len() > limit;
    entries.truncate(limit);
    let at_head = !more && !cut;
    let end_offset = run.output.next;
    let next_after = if at_head { end_offset - 1 } else { entries.last().map_or(after, |e| e.offset) };
    let namespace = reader.class(run.class).await?.class.namespace.clone();
    let (state, epoch) = (run.state, run.epoch);
    let next_after = next_after.max(after);
    Ok(Some(OutputPage { entries, next_after, at_head, state, epoch, end_offset, namespace }))
}

/// Adds frames up to the limits; whether there may be more. At least one frame is added if there is one.
async fn frames(
    conn: &Client,
    run: &Run,
    after: i64,
    wanted: &OutputQuery,
    entries: &mut Vec<OutputEntry>,
) -> Done<bool> {
    let limit = wanted.limit.max(1) as usize;
    let (mut after, mut bytes) = (after, 0);
    loop {
        // A page in small parts: the bytes, not the number of frames, say where it ends.
        let part = (limit + 1 - entries.len()).min(PART);
        let values = values_of![run.seq, after, wanted.channel.clone(), i64::try_from(part).unwrap_or(1)];
        let rows = query(conn, sql::OUTPUT_PAGE, values).await?;
        for row in &rows {
            if entries.len() >= limit || (bytes > 0 && bytes >= wanted.max_bytes) {
                return Ok(true);
            }
            let frame = Frame { seq: get(row, 2)?, channel: get(row, 3)?, bytes: get(row, 5)? };
            bytes += frame.bytes.len();
            after = get(row, 0)?;
            let kind = OutputKind::Frame { epoch: Epoch(get(row, 1)?), frame, at: Wall(get(row, 4)?) };
            entries.push(OutputEntry { offset: after, kind });
        }
        if rows.len() < part {
            return Ok(false);
        }
    }
}

/// Frames that are read at once: at most 16 MiB.
const PART: usize = 64;

/// Adds gaps, cut at the markers inside them, so that every offset is told once. A gap's place is its last offset.
async fn gaps(
    conn: &Client,
    run: &Run,
    after: i64,
    horizon: i64,
    markers: &[(i64, Marker)],
    entries: &mut Vec<OutputEntry>,
) -> Done<()> {
    for row in query(conn, sql::GAP_ALL, values_of![run.seq, after]).await? {
        let (first, last, why): (i64, i64, String) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
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
pub(crate) async fn any(tx: &mut Tx<'_>, run: &Run) -> Done<bool> {
    Ok(run.output.next > 1 && !tx.query(sql::OUTPUT_FIRST, values_of![run.seq]).await?.is_empty())
}
