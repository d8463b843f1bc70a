//! Background duties: bounded, idempotent ticks. Passes over a table go by key, page by page, so that a row which wants
//! nothing never holds up the ones behind it.

use crate::cache::ACTIVE_STATES;
use crate::control::remove;
use crate::create::IDEMPOTENCY_KEPT;
use crate::edit::Edit;
use crate::fault::Done;
use crate::lease::lease_row;
use crate::reader::Reader;
use crate::report::queue_ttl;
use crate::rows::{column, execute, pass_page, prepared, readable, run_by_id, run_by_seq, single, stored};
use crate::tx::Tx;
use crate::{keys, output, serial, sql, subject, workers};
use outlive_core::run::Run;
use outlive_core::{Millis, Observed, State, Wall, WorkerId};
use outlive_store::{Expiry, LeaseCursor, LeaseRow, Page, Swept};
use rusqlite::params;

/// Kept events of runs, and the feed.
const EVENTS_KEPT: Millis = Millis::hours(7 * 24);
/// Recoveries, and the names of deleted workers that they and old runs mention.
const RECOVERIES_KEPT: Millis = Millis::hours(90 * 24);
/// Rows that a keyed pass looks at for each one that it may delete.
const LOOKED_AT: u32 = 8;

pub(crate) fn advance_observed(tx: &mut Tx<'_>, to: Observed) -> Done<Observed> {
    if to > tx.cache.observed {
        execute(tx.conn, sql::META_OBSERVED, &[&stored(to)])?;
        tx.cache.observed = to;
    }
    Ok(tx.cache.observed)
}

/// Rows whose clock has run out, oldest first.
pub(crate) fn due_rows(reader: &Reader<'_>, now: Wall, limit: u32) -> Done<Vec<i64>> {
    column(reader.conn(), sql::RUN_DUE, &[&now.0, &limit])
}

/// What becomes of these rows, if their clocks have run out still.
pub(crate) fn due(tx: &mut Tx<'_>, rows: &[i64]) -> Done<Swept> {
    let mut swept = Swept { found: rows.len() as u64, ..Swept::default() };
    for &seq in rows {
        let Some(run) = run_by_seq(tx.conn, seq)? else {
            swept.lost_race += 1;
            continue;
        };
        let policy = tx.policy(run.queue)?;
        let ttl = if run.state == State::Scheduled { queue_ttl(tx, &run, &policy)? } else { None };
        let mut edit = Edit::new(run);
        let Some(change) = edit.run.due(ttl, tx.now) else {
            swept.lost_race += 1;
            continue;
        };
        edit.apply(tx, change)?;
        edit.save(tx)?;
        swept.acted += 1;
    }
    swept.next_due = single::<Option<i64>>(tx.conn, sql::RUN_NEXT_DUE, &[])?.flatten().map(Wall);
    swept.commit = tx.take_hints();
    Ok(swept)
}

/// Ends those that are still overdue.
pub(crate) fn expire(tx: &mut Tx<'_>, runs: &[Expiry]) -> Done<Swept> {
    let mut swept = Swept::default();
    for expiry in runs {
        swept.found += 1;
        let Some(run) = readable(0, run_by_id(tx.conn, expiry.id))? else {
            swept.failed += 1;
            continue;
        };
        let Some(run) = run else { continue };
        let mut edit = Edit::new(run);
        let Some(change) = edit.run.expire_unclaimed(&expiry.because, tx.now) else { continue };
        edit.apply(tx, change)?;
        edit.save(tx)?;
        swept.acted += 1;
    }
    swept.commit = tx.take_hints();
    Ok(swept)
}

pub(crate) fn leases_after(
    reader: &Reader<'_>,
    cursor: Option<LeaseCursor>,
    limit: u32,
) -> Done<Page<LeaseRow, LeaseCursor>> {
    let (worker, seq) = cursor.map_or((i64::MIN, 0), |(worker, seq)| (worker.0, seq));
    let mut statement = prepared(reader.conn(), sql::LEASES_AFTER)?;
    let mut found = statement.query(params![worker, seq, limit])?;
    let (mut rows, mut last, mut seen) = (Vec::new(), None, 0);
    while let Some(row) = found.next()? {
        let (worker, seq) = (row.get(0)?, row.get(1)?);
        last = Some((WorkerId(worker), seq));
        seen += 1;
        let read = |run: Run| lease_row(reader.conn(), run.clone(), reader.class(run.class)?.class);
        let lease = run_by_seq(reader.conn(), seq).and_then(|run| run.map(read).transpose());
        rows.extend(readable(seq, lease)?.flatten());
    }
    Ok(Page { rows, next: last.filter(|_| seen == limit) })
}

/// Looks at the next page of serial keys and of rows; repairs clocks and blocked flags, and counts when a pass over all rows ends.
pub(crate) fn audit_waiting(tx: &mut Tx<'_>, limit: u32) -> Done<Swept> {
    let mut swept = Swept::default();
    audit_slots(tx, limit, &mut swept)?;
    let page = pass_page(tx.conn, tx.cache.cursors.tally.cursor, limit)?;
    let ended = page.seen < limit;
    swept.found += u64::from(page.unreadable);
    swept.failed += u64::from(page.unreadable);
    let tally = &mut tx.cache.cursors.tally;
    tally.cursor = page.last;
    tally.unreadable += page.unreadable;
    for run in page.runs {
        if run.state.is_terminal() {
            continue;
        }
        *tx.cache.cursors.tally.counts.entry((run.queue, run.state.number())).or_default() += 1;
        let wrong = audit_row(tx, &run);
        if let Some(wrong) = readable(run.seq, wrong)? {
            (swept.found, swept.acted) = (swept.found + wrong, swept.acted + wrong);
        } else {
            (swept.found, swept.failed) = (swept.found + 1, swept.failed + 1);
        }
    }
    if ended {
        correct_counts(tx, &mut swept);
    }
    swept.more = !ended;
    swept.commit = tx.take_hints();
    Ok(swept)
}

/// One run that has not ended; how much of it was wrong.
fn audit_row(tx: &mut Tx<'_>, run: &Run) -> Done<u64> {
    let mut wound = run.clone();
    let policy = tx.policy(run.queue)?;
    let ttl = queue_ttl(tx, run, &policy)?;
    let mut repaired = 0;
    if wound.wind(ttl, &policy, tx.now) {
        tx.update_run(&wound)?;
        repaired += 1;
    }
    repaired += u64::from(serial::audit_run(tx, &wound)? | subject::audit_run(tx, &wound)?);
    if run.state != State::Queued || run.serial_key.is_some() {
        return Ok(repaired);
    }
    let must_wait = match keys::waits_for(tx, run.seq) {
        Some(of) if !is_leased(tx, of)? => {
            keys::lease_closed(tx, of)?;
            return Ok(repaired + 1);
        }
        waits_for => waits_for.is_some(),
    };
    if run.blocked != must_wait {
        let repair = if must_wait { sql::RUN_BLOCK } else { sql::RUN_UNBLOCK };
        execute(tx.conn, repair, &[&run.seq])?;
        repaired += 1;
        if !must_wait {
            tx.hint_ready(run.class);
        }
    }
    Ok(repaired)
}

fn is_leased(tx: &Tx<'_>, seq: i64) -> Done<bool> {
    Ok(run_by_seq(tx.conn, seq)?.is_some_and(|run| run.state.is_leased()))
}

fn audit_slots(tx: &mut Tx<'_>, limit: u32, swept: &mut Swept) -> Done<()> {
    let after = std::mem::take(&mut tx.cache.cursors.audit_slot);
    let slots: Vec<String> = column(tx.conn, sql::SERIAL_NAMES, &[&after, &limit])?;
    for slot in &slots {
        if serial::audit(tx, slot)? {
            swept.found += 1;
            swept.acted += 1;
        }
    }
    if slots.len() == limit as usize {
        tx.cache.cursors.audit_slot = slots.into_iter().next_back().unwrap_or_default();
    }
    Ok(())
}

fn correct_counts(tx: &mut Tx<'_>, swept: &mut Swept) {
    let tally = std::mem::take(&mut tx.cache.cursors.tally);
    if tally.unreadable > 0 {
        // What could not be read may be one of those that are counted.
        return;
    }
    for queue in tx.cache.queues.keys().copied().collect::<Vec<_>>() {
        for (number, state) in (0i64..).zip(0..ACTIVE_STATES) {
            let n = tally.counts.get(&(queue, number)).copied().unwrap_or(0);
            if tx.cache.correct(queue, state, n) {
                swept.found += 1;
                swept.acted += 1;
            }
        }
    }
}

/// Deletes a page of what is past its retention.
pub(crate) fn retention(tx: &mut Tx<'_>, limit: u32) -> Done<Swept> {
    let mut swept = Swept::default();
    let expired = [
        (sql::FEED_EXPIRE, EVENTS_KEPT),
        (sql::EVENT_EXPIRE, EVENTS_KEPT),
        (sql::RECOVERY_EXPIRE, RECOVERIES_KEPT),
        (sql::WORKER_GONE_EXPIRE, RECOVERIES_KEPT),
        (sql::IDEMPOTENCY_EXPIRE, IDEMPOTENCY_KEPT),
    ];
    for (statement, kept) in expired {
        let deleted = execute(tx.conn, statement, &[&(tx.now - kept).0, &limit])?;
        swept.found += deleted as u64;
        swept.acted += deleted as u64;
        swept.more |= deleted == limit as usize;
    }
    retain_runs(tx, limit, &mut swept)?;
    retain_slots(tx, limit, &mut swept)?;
    swept.commit = tx.take_hints();
    Ok(swept)
}

/// One page of the pass over runs, oldest first. It ends where rows are younger than any retention.
fn retain_runs(tx: &mut Tx<'_>, limit: u32, swept: &mut Swept) -> Done<()> {
    let shortest = tx.cache.queues.values().map(|q| q.policy.retention.runs.min(q.policy.retention.output)).min();
    let Some(youngest) = shortest.map(|kept| tx.now - kept) else { return Ok(()) };
    let page = pass_page(tx.conn, tx.cache.cursors.retention, limit.saturating_mul(LOOKED_AT))?;
    let mut ended = page.seen < limit.saturating_mul(LOOKED_AT);
    swept.found += u64::from(page.unreadable);
    swept.failed += u64::from(page.unreadable);
    if page.runs.is_empty() {
        tx.cache.cursors.retention = page.last;
    }
    let mut acted = 0;
    for run in page.runs {
        if run.created_at > youngest {
            ended = true;
            break;
        }
        if acted == limit {
            ended = false;
            break;
        }
        tx.cache.cursors.retention = run.seq;
        let Some(finished) = run.finished_at else { continue };
        let kept = tx.policy(run.queue)?.retention;
        if finished + kept.runs <= tx.now {
            remove(tx, &run)?;
            acted += 1;
        } else if finished + kept.output <= tx.now && output::any(tx.conn, &run)? {
            output::expire(tx, &run)?;
            acted += 1;
        }
    }
    if ended {
        tx.cache.cursors.retention = 0;
    }
    swept.found += u64::from(acted);
    swept.acted += u64::from(acted);
    swept.more |= !ended;
    Ok(())
}

/// Forgets serial keys that nobody waits for and whose last run can no longer be salvaged.
fn retain_slots(tx: &mut Tx<'_>, limit: u32, swept: &mut Swept) -> Done<()> {
    let after = std::mem::take(&mut tx.cache.cursors.retention_slot);
    let mut page: Vec<(String, Option<i64>)> = Vec::new();
    {
        let mut statement = prepared(tx.conn, sql::SERIAL_PAGE)?;
        let mut rows = statement.query(params![after, limit])?;
        while let Some(row) = rows.next()? {
            page.push((row.get(0)?, row.get(1)?));
        }
    }
    for (slot, last_claimed) in &page {
        let last = last_claimed.map(|seq| run_by_seq(tx.conn, seq)).transpose()?.flatten();
        if last.is_none_or(|run| run.state.is_terminal()) {
            execute(tx.conn, sql::SERIAL_DELETE, &[slot])?;
            swept.found += 1;
            swept.acted += 1;
        }
    }
    if page.len() == limit as usize {
        tx.cache.cursors.retention_slot = page.pop().map(|(slot, _)| slot).unwrap_or_default();
        swept.more = true;
    }
    Ok(())
}

/// Deletes a page of workers that nothing belongs to.
pub(crate) fn worker_gc(tx: &mut Tx<'_>, unheard: Millis, limit: u32) -> Done<Swept> {
    let page = workers::workers(tx.conn, None, Some(WorkerId(tx.cache.cursors.worker)), limit)?;
    let mut swept = Swept { more: page.len() == limit as usize, ..Swept::default() };
    tx.cache.cursors.worker = page.last().filter(|_| swept.more).map_or(0, |row| row.id.0);
    for row in page {
        if row.session_open || row.last_heard_at + unheard > tx.now {
            continue;
        }
        swept.found += 1;
        swept.acted += u64::from(workers::collect(tx, &row)?);
    }
    Ok(swept)
}
