//! Background duties: bounded, idempotent ticks. Passes over a table go by key, page by page, so that a row which wants
//! nothing never holds up the ones behind it. What a page shows is looked at again under a lock before anything is changed.

use crate::control::remove;
use crate::create::IDEMPOTENCY_KEPT;
use crate::db::Op;
use crate::edit::Edit;
use crate::fault::{Answer, Done};
use crate::lease::lease_rows;
use crate::reader::Reader;
use crate::report::queue_ttl;
use crate::rows::{observed, pass_page, readable, readable_by_seq, runs_by_seq, stored};
use crate::tx::Tx;
use crate::value::{get, query, single, small, values_of};
use crate::{keys, output, serial, sql, subject, submit, workers};
use async_trait::async_trait;
use outlive_core::run::Run;
use outlive_core::{Millis, Observed, QueueId, State, Wall, WorkerId};
use outlive_store::{Commit, Expiry, LeaseCursor, LeaseRow, Page, StoreError, Swept};

/// Kept events of runs, and the feed.
const EVENTS_KEPT: Millis = Millis::hours(7 * 24);
/// Recoveries, and the names of deleted workers that they and old runs mention.
const RECOVERIES_KEPT: Millis = Millis::hours(90 * 24);
/// Errands of a replica that does not come back: nobody would act on them any more.
const ERRANDS_KEPT: Millis = Millis::hours(1);
/// Rows that a keyed pass looks at for each one that it may delete.
const LOOKED_AT: u32 = 8;

/// Rows of replicas that wrote nothing for so long, and are nobody's home.
const REPLICAS_KEPT: Millis = Millis::hours(7 * 24);

/// Passes that one replica at a time does.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Due = 1,
    Expiry = 2,
    Audit = 3,
    Retention = 4,
    Workers = 5,
}

/// Whether this batch does the phase; another replica's batch may be at it. It has it to its end.
async fn is_own(tx: &mut Tx<'_>, phase: Phase) -> Done<bool> {
    let own = single::<bool>(tx.conn, sql::SWEEP_OWN, values_of![phase as i64]).await?;
    Ok(own.unwrap_or(false))
}

/// What a phase says that another replica does now.
fn not_owner() -> Swept {
    Swept { not_owner: true, ..Swept::default() }
}

/// The observed clock goes forward.
pub(crate) struct AdvanceObserved(pub(crate) Observed);

#[async_trait]
impl Op for AdvanceObserved {
    type Answer = Observed;
    type Refusal = StoreError;

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Observed, StoreError> {
        if self.0 > tx.observed {
            let rows = tx.query(sql::META_OBSERVED, values_of![stored(self.0)]).await?;
            if let Some(row) = rows.first() {
                tx.observed = observed(get(row, 0)?);
            }
        }
        Ok(Ok(tx.observed))
    }
}

/// What is due.
pub(crate) struct Due(pub(crate) u32);

#[async_trait]
impl Op for Due {
    type Answer = Swept;
    type Refusal = StoreError;

    fn weight(&self) -> usize {
        self.0 as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Swept, StoreError> {
        if !is_own(tx, Phase::Due).await? {
            return Ok(Ok(not_owner()));
        }
        let submit::Taken { more, not_made } = submit::take(tx, self.0).await?;
        let now = tx.now.0;
        let rows = tx.query(sql::RUN_DUE, values_of![now, i64::from(self.0)]).await?;
        let seqs = rows.iter().map(|row| get(row, 0)).collect::<Done<Vec<i64>>>()?;
        let mut swept = Swept { more: more || seqs.len() == self.0 as usize, lost_race: not_made, ..Swept::default() };
        tx.lock_seqs(&seqs).await?;
        tx.load_means(&seqs).await?;
        for seq in seqs {
            let Some(run) = readable(seq, tx.run_by_seq(seq).await)? else {
                swept.found += 1;
                swept.failed += 1;
                continue;
            };
            let Some(run) = run else { continue };
            swept.found += 1;
            let policy = tx.policy(run.queue)?;
            let ttl = if run.state == State::Scheduled { queue_ttl(tx, &run, &policy).await? } else { None };
            let mut edit = Edit::new(run);
            let Some(change) = edit.run.due(ttl, tx.now) else {
                swept.lost_race += 1;
                continue;
            };
            edit.apply(tx, change).await?;
            edit.save(tx).await?;
            swept.acted += 1;
        }
        let rows = tx.query(sql::RUN_NEXT_DUE, &[]).await?;
        let next: Option<Option<i64>> = rows.first().map(|row| get(row, 0)).transpose()?;
        swept.next_due = next.flatten().map(Wall);
        Ok(Ok(swept))
    }

    fn finish(&self, answer: &mut Swept, _: &Tx<'_>, hints: Commit) {
        answer.commit = hints;
    }
}

/// What nobody took in time ends.
pub(crate) struct Expire(pub(crate) Vec<Expiry>);

#[async_trait]
impl Op for Expire {
    type Answer = Swept;
    type Refusal = StoreError;

    fn weight(&self) -> usize {
        self.0.len()
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Swept, StoreError> {
        if !is_own(tx, Phase::Expiry).await? {
            return Ok(Ok(not_owner()));
        }
        let ids: Vec<_> = self.0.iter().map(|expiry| expiry.id).collect();
        tx.lock_ids(&ids).await?;
        let mut swept = Swept::default();
        for expiry in &self.0 {
            swept.found += 1;
            let found = tx.run_by_id(expiry.id).await;
            let Some(run) = readable(0, found)? else {
                swept.failed += 1;
                continue;
            };
            let Some(run) = run else { continue };
            let mut edit = Edit::new(run);
            let Some(change) = edit.run.expire_unclaimed(&expiry.because, tx.now) else { continue };
            edit.apply(tx, change).await?;
            edit.save(tx).await?;
            swept.acted += 1;
        }
        Ok(Ok(swept))
    }

    fn finish(&self, answer: &mut Swept, _: &Tx<'_>, hints: Commit) {
        answer.commit = hints;
    }
}

pub(crate) async fn leases_after(
    reader: &Reader<'_>,
    cursor: Option<LeaseCursor>,
    limit: u32,
) -> Done<Page<LeaseRow, LeaseCursor>> {
    let (worker, seq) = cursor.map_or((i64::MIN, 0), |(worker, seq)| (worker.0, seq));
    let found = query(reader.conn(), sql::LEASES_AFTER, values_of![worker, seq, i64::from(limit)]).await?;
    let places =
        found.iter().map(|row| Ok((WorkerId(get(row, 0)?), get(row, 1)?))).collect::<Done<Vec<LeaseCursor>>>()?;
    let last = places.last().copied();
    let next = last.filter(|_| places.len() == limit as usize);
    let runs = readable_by_seq(reader.conn(), places.into_iter().map(|(_, seq)| seq).collect()).await?;
    Ok(Page { rows: lease_rows(reader, runs).await?, next })
}

/// Looks at the next page of serial keys and of rows; repairs blocked flags, and counts when a pass over all rows ends.
pub(crate) struct AuditWaiting(pub(crate) u32);

#[async_trait]
impl Op for AuditWaiting {
    type Answer = Swept;
    type Refusal = StoreError;

    fn weight(&self) -> usize {
        self.0 as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Swept, StoreError> {
        if !is_own(tx, Phase::Audit).await? {
            return Ok(Ok(not_owner()));
        }
        let limit = self.0;
        let mut repaired = audit_slots(tx, limit).await?;
        tx.flush().await?;
        let page = pass_page(tx.conn, tx.cache.cursors.audit, limit).await?;
        let ended = page.seen < limit;
        let mut failed = u64::from(page.unreadable);
        tx.cache.cursors.audit = page.last;
        // What a queued run's options say of its clock is asked once for the page.
        let unlimited: Vec<i64> = page.runs.iter().filter(|run| may_lack_its_clock(run)).map(|run| run.seq).collect();
        tx.load_means(&unlimited).await?;
        for run in page.runs {
            if run.state.is_terminal() {
                continue;
            }
            if readable(run.seq, audit_row(tx, &run).await.map(|wrong| repaired += wrong))?.is_none() {
                failed += 1;
            }
        }
        tx.cache.cursors.audit_failed += failed;
        if ended {
            tx.cache.cursors.audit = 0;
            // What could not be read may be one of those that are counted.
            if std::mem::take(&mut tx.cache.cursors.audit_failed) == 0 {
                repaired += correct_counts(tx).await?;
            }
        }
        let swept = Swept { found: repaired + failed, acted: repaired, failed, more: !ended, ..Swept::default() };
        Ok(Ok(swept))
    }

    fn finish(&self, answer: &mut Swept, _: &Tx<'_>, hints: Commit) {
        answer.commit = hints;
    }
}

/// Of a run that waits for its first claim only its options, or its queue, say whether it has a clock.
fn may_lack_its_clock(run: &Run) -> bool {
    run.state == State::Queued && run.epoch.0 == 0 && run.due_at.is_none()
}

/// One run that has not ended; how much of it was wrong.
async fn audit_row(tx: &mut Tx<'_>, run: &Run) -> Done<u64> {
    tx.class(run.class).await?;
    let policy = tx.policy(run.queue)?;
    let mut repaired = 0;
    if run.lacks_its_clock() || (may_lack_its_clock(run) && queue_ttl(tx, run, &policy).await?.is_some()) {
        repaired += u64::from(audit_clock(tx, run.seq).await?);
    }
    repaired += u64::from(serial::audit_run(tx, run).await?) + u64::from(subject::audit_run(tx, run).await?);
    if run.state == State::Queued && run.serial_key.is_none() && (run.blocked || run.key.is_some()) {
        repaired += u64::from(audit_wait(tx, run.seq).await?);
    }
    Ok(repaired)
}

/// Winds up the clock of a run that has not ended.
async fn audit_clock(tx: &mut Tx<'_>, seq: i64) -> Done<bool> {
    tx.lock_seqs(&[seq]).await?;
    tx.load_means(&[seq]).await?;
    let Some(run) = tx.run_by_seq(seq).await?.filter(|run| !run.state.is_terminal()) else { return Ok(false) };
    let policy = tx.policy(run.queue)?;
    let ttl = queue_ttl(tx, &run, &policy).await?;
    let mut edit = Edit::new(run);
    let wrong = edit.run.wind(ttl, &policy, tx.now);
    edit.save(tx).await?;
    Ok(wrong)
}

/// Whether a waiting run is in the ready index exactly if it waits for no lease.
async fn audit_wait(tx: &mut Tx<'_>, seq: i64) -> Done<bool> {
    let Some(run) = tx.run_by_seq(seq).await?.filter(|run| run.state == State::Queued) else { return Ok(false) };
    let waits_for = keys::waits_for(tx, &run).await?;
    if let Some(of) = waits_for
        && !tx.run_by_seq(of).await?.is_some_and(|run| run.state.is_leased())
    {
        keys::lease_closed(tx, of).await?;
        return Ok(true);
    }
    if run.blocked == waits_for.is_some() {
        return Ok(false);
    }
    for (_, class) in serial::set_blocked(tx, vec![seq], waits_for.is_some()).await? {
        if waits_for.is_none() {
            tx.hint_ready(class);
        }
    }
    Ok(true)
}

async fn audit_slots(tx: &mut Tx<'_>, limit: u32) -> Done<u64> {
    let after = std::mem::take(&mut tx.cache.cursors.audit_slot);
    let rows = tx.query(sql::SERIAL_NAMES, values_of![after, i64::from(limit)]).await?;
    let slots = rows.iter().map(|row| get(row, 0)).collect::<Done<Vec<String>>>()?;
    let wrong = serial::audit(tx, &slots).await?;
    if slots.len() == limit as usize {
        tx.cache.cursors.audit_slot = slots.into_iter().next_back().unwrap_or_default();
    }
    Ok(wrong)
}

/// Counts all that waits or is leased, and sums what was counted, in one snapshot: the difference is the same at any other
/// time, so it can be added to any shard while others go on.
async fn correct_counts(tx: &mut Tx<'_>) -> Done<u64> {
    tx.flush().await?;
    let mut wrong = 0;
    for row in query(tx.conn, sql::COUNT_WRONG, &[]).await? {
        let key = (QueueId(get(&row, 0)?), small(&row, 1)?);
        // What this transaction has changed itself is in its rows, but not yet in its sums.
        let own = tx.pending.sums.states.get(&key).copied().unwrap_or(0);
        let differs: i64 = get::<i64>(&row, 2)? - own;
        if differs != 0 {
            *tx.pending.sums.states.entry(key).or_default() += differs;
            wrong += 1;
        }
    }
    Ok(wrong)
}

/// Deletes a page of what is past its retention.
pub(crate) struct Retention(pub(crate) u32);

#[async_trait]
impl Op for Retention {
    type Answer = Swept;
    type Refusal = StoreError;

    fn weight(&self) -> usize {
        self.0 as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Swept, StoreError> {
        if !is_own(tx, Phase::Retention).await? {
            return Ok(Ok(not_owner()));
        }
        let mut swept = Swept::default();
        let expired = [
            (sql::EVENT_EXPIRE, EVENTS_KEPT),
            (sql::RECOVERY_EXPIRE, RECOVERIES_KEPT),
            (sql::WORKER_GONE_EXPIRE, RECOVERIES_KEPT),
            (sql::IDEMPOTENCY_EXPIRE, IDEMPOTENCY_KEPT),
            (sql::ERRAND_EXPIRE, ERRANDS_KEPT),
            (sql::REPLICA_EXPIRE, REPLICAS_KEPT),
        ];
        let before = (tx.now - EVENTS_KEPT).0;
        let rows = tx.query(sql::FEED_EXPIRE, values_of![before, i64::from(self.0)]).await?;
        let events: i64 = rows.first().map_or(Ok(0), |row| get(row, 0))?;
        swept.found += events.unsigned_abs();
        swept.acted += events.unsigned_abs();
        swept.more |= events == i64::from(self.0);
        for (statement, kept) in expired {
            let before = (tx.now - kept).0;
            let deleted = tx.execute(statement, values_of![before, i64::from(self.0)]).await?;
            swept.found += deleted;
            swept.acted += deleted;
            swept.more |= deleted == u64::from(self.0);
        }
        retain_runs(tx, self.0, &mut swept).await?;
        retain_slots(tx, self.0, &mut swept).await?;
        Ok(Ok(swept))
    }

    fn finish(&self, answer: &mut Swept, _: &Tx<'_>, hints: Commit) {
        answer.commit = hints;
    }
}

/// One page of the pass over runs, oldest first. It ends where rows are younger than any retention.
async fn retain_runs(tx: &mut Tx<'_>, limit: u32, swept: &mut Swept) -> Done<()> {
    let kept = tx.cache.queues.values().map(|q| q.policy.retention.runs.min(q.policy.retention.output));
    let Some(youngest) = kept.min().map(|kept| tx.now - kept) else { return Ok(()) };
    let most = limit.saturating_mul(LOOKED_AT);
    tx.flush().await?;
    let page = pass_page(tx.conn, tx.cache.cursors.retention, most).await?;
    let mut ended = page.seen < most;
    swept.found += u64::from(page.unreadable);
    swept.failed += u64::from(page.unreadable);
    if page.runs.is_empty() {
        tx.cache.cursors.retention = page.last;
    }
    let (mut acted, mut gone) = (0, Vec::new());
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
        tx.class(run.class).await?;
        let kept = tx.policy(run.queue)?.retention;
        // An end never changes: a lock would show the same, or that another replica has deleted it.
        if finished + kept.runs <= tx.now {
            gone.push(run);
            acted += 1;
        } else if finished + kept.output <= tx.now && output::any(tx, &run).await? {
            output::expire(tx, &run).await?;
            acted += 1;
        }
    }
    if !gone.is_empty() {
        remove(tx, &gone).await?;
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
async fn retain_slots(tx: &mut Tx<'_>, limit: u32, swept: &mut Swept) -> Done<()> {
    let after = std::mem::take(&mut tx.cache.cursors.retention_slot);
    let rows = tx.query(sql::SERIAL_PAGE, values_of![after, i64::from(limit)]).await?;
    let page = rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect::<Done<Vec<(String, Option<i64>)>>>()?;
    for (name, _) in &page {
        // Under the key's lock: nobody has come meanwhile.
        let Some(slot) = tx.line(name, false).await? else { continue };
        if slot.holder.is_some() || slot.head.is_some() {
            continue;
        }
        let last = match slot.last_claimed {
            Some(seq) => runs_by_seq(tx.conn, vec![seq]).await?.pop(),
            None => None,
        };
        if last.is_none_or(|run| run.state.is_terminal()) && !waits_in(tx, name).await? {
            tx.execute(sql::SERIAL_DELETE, values_of![name.as_str()]).await?;
            tx.loaded.lines.remove(name);
            swept.found += 1;
            swept.acted += 1;
        }
    }
    if page.len() == limit as usize {
        tx.cache.cursors.retention_slot = page.into_iter().next_back().map(|(slot, _)| slot).unwrap_or_default();
        swept.more = true;
    }
    Ok(())
}

/// Whether a run waits in the line of a key, if only for a business key.
async fn waits_in(tx: &mut Tx<'_>, name: &str) -> Done<bool> {
    Ok(single::<bool>(tx.conn, sql::SERIAL_WAITED_FOR, values_of![name]).await?.unwrap_or(false))
}

/// Deletes a page of workers that nothing belongs to.
pub(crate) struct WorkerGc {
    pub(crate) unheard: Millis,
    pub(crate) limit: u32,
}

#[async_trait]
impl Op for WorkerGc {
    type Answer = Swept;
    type Refusal = StoreError;

    fn weight(&self) -> usize {
        self.limit as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Swept, StoreError> {
        if !is_own(tx, Phase::Workers).await? {
            return Ok(Ok(not_owner()));
        }
        let page = workers::sweep_page(tx, self.limit).await?;
        let mut swept = Swept { more: page.len() == self.limit as usize, ..Swept::default() };
        tx.cache.cursors.worker = page.last().filter(|_| swept.more).map_or(0, |row| row.id.0);
        for row in page {
            if row.session_open || row.last_heard_at + self.unheard > tx.now {
                continue;
            }
            swept.found += 1;
            swept.acted += u64::from(workers::collect(tx, &row).await?);
        }
        Ok(Ok(swept))
    }
}
