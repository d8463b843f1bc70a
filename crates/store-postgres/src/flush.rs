//! Writing what a transaction has collected: one statement for each table, all sent before the first is answered.

mod runs;

use crate::cache::Cache;
use crate::fault::{Done, Fault};
use crate::loaded::Loaded;
use crate::pending::{FrameRow, Input, Last, NewRecovery, Pending, RecoveryUpdate, Request, Sums};
use crate::recent::Made;
use crate::recovery::number;
use crate::rows::{slot_of, stored, to_text};
use crate::sql;
use crate::value::{execute, plain, single, values_of};
use futures_util::future::{BoxFuture, join, join_all};
use outlive_core::run::{Attempt, DetailPatch, Event, Run};
use outlive_core::{Json, Outcome, QueueId, Reason, Wall};
use outlive_store::RecoveryOutcome;
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// A statement under way.
type Writing<'a> = BoxFuture<'a, Done<()>>;

/// Waits for all; the first that failed by itself says why.
async fn all(writing: Vec<Writing<'_>>) -> Done<()> {
    let mut failed = Ok(());
    for done in join_all(writing).await {
        if let (Ok(()) | Err(Fault::Aborted), Err(fault)) = (&failed, done) {
            failed = Err(fault);
        }
    }
    failed
}

/// Makes the values of one column.
fn of<'a, T, V>(rows: &'a [T], value: impl Fn(&'a T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

/// Exactly as many rows as were meant.
fn exactly(written: u64, meant: usize, what: &str) -> Done<()> {
    if usize::try_from(written) == Ok(meant) {
        return Ok(());
    }
    Err(Fault::damaged(format!("{written} of {meant} rows of {what} were written")))
}

/// Writes everything but sums and the feed.
pub(crate) async fn flush(
    conn: &Client,
    cache: &Cache,
    loaded: &mut Loaded,
    pending: &mut Pending,
    now: Wall,
    forgotten: Wall,
) -> Done<()> {
    let known: &Loaded = loaded;
    let row = |seq| known.runs.get(seq).ok_or_else(|| Fault::damaged("a run that is not locked was to be written"));
    let updated = |width| pending.updates.iter().filter(move |(_, of)| **of == width).map(|(seq, _)| seq);
    let mut work: Vec<Writing<'_>> = Vec::new();
    // Before new runs: one of them may take the key of a run that ends here.
    for (width, update) in runs::UPDATES {
        let rows = updated(*width).map(row).collect::<Done<Vec<&Run>>>()?;
        if !rows.is_empty() {
            work.push(update(conn, rows, &known.assumed));
        }
    }
    let inserts = pending.inserts.iter().map(row).collect::<Done<Vec<&Run>>>()?;
    let (plain, others): (Vec<&Run>, Vec<&Run>) = inserts.into_iter().partition(|run| runs::is_plain(run));
    if !plain.is_empty() {
        work.push(Box::pin(runs::insert_plain(conn, plain)));
    }
    if !others.is_empty() {
        let mut slots = Vec::with_capacity(others.len());
        for run in &others {
            let slot = match &run.serial_key {
                Some(key) => Some(slot_of(&cache.known.find_class(conn, run.class).await?.class.namespace, key)),
                None => None,
            };
            slots.push(slot);
        }
        work.push(Box::pin(runs::insert(conn, others, slots)));
    }
    work.extend(other_rows(conn, known, pending, now, forgotten));
    all(work).await?;
    let Pending { sums, feed, inserts, updates, .. } = std::mem::take(pending);
    (pending.sums, pending.feed) = (sums, feed);
    for seq in inserts.into_iter().chain(updates.into_keys()) {
        loaded.assumed.remove(&seq);
        loaded.written.insert(seq);
    }
    Ok(())
}

/// What goes beside the rows of runs.
fn other_rows<'a>(
    conn: &'a Client,
    loaded: &'a Loaded,
    pending: &'a Pending,
    now: Wall,
    forgotten: Wall,
) -> Vec<Writing<'a>> {
    let mut work: Vec<Writing<'_>> = Vec::new();
    if !pending.inputs.is_empty() {
        work.push(Box::pin(insert_inputs(conn, &pending.inputs)));
    }
    if !pending.details.is_empty() {
        work.push(Box::pin(put_details(conn, &pending.details)));
    }
    if !pending.attempts.is_empty() {
        work.push(Box::pin(insert_attempts(conn, &pending.attempts)));
    }
    if !pending.events.is_empty() {
        work.push(Box::pin(insert_events(conn, &pending.events)));
    }
    if !pending.frames.is_empty() {
        work.push(Box::pin(insert_frames(conn, &pending.frames)));
    }
    if !pending.tags.is_empty() {
        let tags = &pending.tags;
        work.push(Box::pin(async move {
            let (names, texts) = (of(tags, |(name, _, _)| plain(name)), of(tags, |(_, value, _)| plain(value)));
            execute(conn, sql::TAG_INSERT, values_of![names, texts, of(tags, |(_, _, seq)| *seq)]).await.map(drop)
        }));
    }
    if !pending.subjects.is_empty() {
        let subjects = &pending.subjects;
        work.push(Box::pin(async move {
            let names = of(subjects, |(subject, ..)| subject.as_str());
            let values = values_of![names, of(subjects, |(_, seq, _)| *seq), of(subjects, |(.., active)| *active)];
            execute(conn, sql::SUBJECT_INSERT, values).await.map(drop)
        }));
    }
    if !pending.idempotency.is_empty() {
        work.push(Box::pin(put_idempotency(conn, &pending.idempotency, now, forgotten)));
    }
    for request in &pending.requests {
        work.push(Box::pin(put_request(conn, request, now)));
    }
    if !pending.claim_log.is_empty() {
        let log = &pending.claim_log;
        work.push(Box::pin(async move {
            let values = (of(log, |(queue, _)| queue.0), of(log, |(_, n)| *n), of(log, |_| now.0));
            execute(conn, sql::CLAIM_LOG_INSERT, values_of![values.0, values.1, values.2]).await.map(drop)
        }));
    }
    if !pending.recoveries.is_empty() {
        work.push(Box::pin(insert_recoveries(conn, &pending.recoveries)));
    }
    if !pending.unwaits.is_empty() {
        let unwaits = pending.unwaits.clone();
        work.push(Box::pin(async move { execute(conn, sql::KEY_WAIT_DELETE, values_of![unwaits]).await.map(drop) }));
    }
    for step in &pending.steps {
        work.push(Box::pin(follow(conn, step)));
    }
    if !pending.losses.is_empty() {
        let losses = &pending.losses;
        work.push(Box::pin(async move {
            let workers: Vec<i64> = losses.keys().map(|worker| worker.0).collect();
            let counts: Vec<i64> = losses.values().copied().collect();
            execute(conn, sql::WORKER_LOSSES, values_of![workers, counts]).await.map(drop)
        }));
    }
    if !pending.homes.is_empty() {
        let homes: Vec<_> = pending.homes.values().collect();
        work.push(Box::pin(async move {
            let values = values_of![
                of(&homes, |row| row.id.0),
                of(&homes, |row| row.replica.0),
                of(&homes, |row| row.home_seq.0),
                of(&homes, |row| row.last_heard_at.0),
                of(&homes, |row| stored(row.armed)),
            ];
            exactly(execute(conn, sql::WORKER_HOMES, values).await?, homes.len(), "workers")
        }));
    }
    if !pending.lines.is_empty() {
        let lines: Vec<_> =
            pending.lines.iter().filter_map(|name| Some((name, loaded.lines.get(name)?.slot))).collect();
        work.push(Box::pin(async move {
            let meant = lines.len();
            let values = values_of![
                of(&lines, |(name, _)| name.as_str()),
                of(&lines, |(_, slot)| slot.holder),
                of(&lines, |(_, slot)| slot.head),
                of(&lines, |(_, slot)| slot.last_claimed),
            ];
            exactly(execute(conn, sql::SERIAL_PUT, values).await?, meant, "serial keys")
        }));
    }
    work
}

/// Writes sums and the feed: the last thing that a transaction does. Which one it is, if it has something to tell.
pub(crate) async fn finish(conn: &Client, shard: i64, mut last: Last, now: Wall) -> Done<Option<Made>> {
    let Sums { states, classes } = last.sums;
    let states: Vec<((QueueId, i64), i64)> = states.into_iter().filter(|(_, n)| *n != 0).collect();
    let classes: Vec<_> = classes.into_iter().filter(|(_, n)| *n != 0).collect();
    let mut work: Vec<Writing<'_>> = Vec::new();
    if !states.is_empty() {
        work.push(Box::pin(async move {
            let values = (of(&states, |((q, _), _)| q.0), of(&states, |((_, s), _)| *s), of(&states, |(_, n)| *n));
            execute(conn, sql::COUNT_PUT, values_of![shard, values.0, values.1, values.2]).await.map(drop)
        }));
    }
    if !classes.is_empty() {
        work.push(Box::pin(async move {
            let values = values_of![shard, of(&classes, |(class, _)| class.0), of(&classes, |(_, n)| *n)];
            execute(conn, sql::CLASS_ACTIVE, values).await.map(drop)
        }));
    }
    let body = last.feed.take();
    let told = async {
        let Some(body) = body else { return Ok(None) };
        single::<i64>(conn, sql::FEED_INSERT, values_of![now.0, body]).await
    };
    let (written, told) = join(all(work), told).await;
    written?;
    Ok(told?.map(Made::by))
}

async fn insert_inputs(conn: &Client, inputs: &[Input]) -> Done<()> {
    let values = values_of![
        of(inputs, |row| row.seq),
        of(inputs, |row| row.text.as_str()),
        of(inputs, |row| row.options.as_deref()),
        of(inputs, |row| row.parent),
    ];
    execute(conn, sql::INPUT_INSERT, values).await.map(drop)
}

async fn put_details(conn: &Client, details: &BTreeMap<i64, DetailPatch>) -> Done<()> {
    let patches: Vec<&DetailPatch> = details.values().collect();
    let json = |of_patch: fn(&DetailPatch) -> &Option<Json>| {
        of(&patches, |patch| of_patch(patch).as_ref().map(|json| json.text().to_owned()))
    };
    let texts = |text: &dyn Fn(&DetailPatch) -> Done<Option<String>>| -> Done<Vec<Option<String>>> {
        patches.iter().map(|patch| text(patch)).collect()
    };
    let values = values_of![
        details.keys().copied().collect::<Vec<i64>>(),
        json(|patch| &patch.checkpoint),
        texts(&|patch| to_text(patch.progress.as_ref()))?,
        json(|patch| &patch.result),
        texts(&|patch| to_text(patch.error.as_ref()))?,
        texts(&|patch| to_text(patch.exit.as_ref()))?,
        of(&patches, |patch| patch.note.as_deref().map(plain)),
        json(|patch| &patch.resume_data),
        json(|patch| &patch.reason_detail),
    ];
    execute(conn, sql::DETAIL_PUT, values).await.map(drop)
}

async fn insert_attempts(conn: &Client, attempts: &[(i64, Attempt)]) -> Done<()> {
    let texts = |text: &dyn Fn(&Attempt) -> Done<Option<String>>| -> Done<Vec<Option<String>>> {
        attempts.iter().map(|(_, attempt)| text(attempt)).collect()
    };
    let values = values_of![
        of(attempts, |(seq, _)| *seq),
        of(attempts, |(_, a)| a.epoch.0),
        of(attempts, |(_, a)| a.holder.worker.0),
        of(attempts, |(_, a)| a.holder.incarnation.0),
        of(attempts, |(_, a)| a.claimed_at.0),
        of(attempts, |(_, a)| a.started_at.map(|at| at.0)),
        of(attempts, |(_, a)| a.last_heard_at.0),
        of(attempts, |(_, a)| a.ended_at.0),
        of(attempts, |(_, a)| a.outcome.map(Outcome::number)),
        of(attempts, |(_, a)| a.reason.number()),
        texts(&|a| to_text(a.exit.as_ref()))?,
        texts(&|a| to_text(a.error.as_ref()))?,
        of(attempts, |(_, a)| a.closed_by as i64),
        of(attempts, |(_, a)| a.marker),
        of(attempts, |(_, a)| a.lost_marker),
        of(attempts, |(_, a)| a.last_seq),
        of(attempts, |(_, a)| a.checkpoint.as_ref().map(Json::text)),
    ];
    exactly(execute(conn, sql::ATTEMPT_INSERT, values).await?, attempts.len(), "attempts")
}

async fn insert_events(conn: &Client, events: &[(i64, Event)]) -> Done<()> {
    let values = values_of![
        of(events, |(seq, _)| *seq),
        of(events, |(_, event)| event.kind as i64),
        of(events, |(_, event)| event.at.0),
        of(events, |(_, event)| event.epoch.0),
        of(events, |(_, event)| event.state.number()),
        of(events, |(_, event)| event.reason.map(Reason::number)),
        of(events, |(_, event)| event.note.as_deref().map(plain)),
    ];
    execute(conn, sql::EVENT_INSERT, values).await.map(drop)
}

async fn insert_frames(conn: &Client, frames: &[FrameRow]) -> Done<()> {
    let values = values_of![
        of(frames, |row| row.seq),
        of(frames, |row| row.offset),
        of(frames, |row| row.epoch.0),
        of(frames, |row| row.frame.seq),
        of(frames, |row| plain(&row.frame.channel)),
        of(frames, |row| row.at.0),
        of(frames, |row| row.frame.bytes.as_slice()),
    ];
    execute(conn, sql::OUTPUT_INSERT, values).await.map(drop)
}

type Kept = BTreeMap<(String, String), (Vec<u8>, Vec<u8>)>;

/// A key that another replica wrote meanwhile is a race: the transaction is tried again, and then finds it.
async fn put_idempotency(conn: &Client, kept: &Kept, now: Wall, forgotten: Wall) -> Done<()> {
    let rows: Vec<_> = kept.iter().collect();
    let values = values_of![
        of(&rows, |((namespace, _), _)| namespace.as_str()),
        of(&rows, |((_, key), _)| key.as_str()),
        of(&rows, |(_, (hash, _))| hash.as_slice()),
        of(&rows, |(_, (_, runs))| runs.as_slice()),
        of(&rows, |_| now.0),
        forgotten.0,
    ];
    let written = execute(conn, sql::IDEMPOTENCY_PUT, values).await?;
    let lost = || Fault::Race("an idempotency key was used elsewhere at the same time".to_owned());
    exactly(written, rows.len(), "idempotency keys").map_err(|_| lost())
}

async fn put_request(conn: &Client, row: &Request, now: Wall) -> Done<()> {
    let (worker, incarnation) = (row.holder.worker.0, row.holder.incarnation.0);
    let values = values_of![worker, incarnation, row.id, row.leases.as_slice(), now.0];
    execute(conn, sql::REQUEST_PUT, values).await.map(drop)
}

async fn insert_recoveries(conn: &Client, rows: &[NewRecovery]) -> Done<()> {
    let values = values_of![
        of(rows, |row| row.id),
        of(rows, |row| row.namespace.as_str()),
        of(rows, |row| row.run.0),
        of(rows, |row| row.queue.as_str()),
        of(rows, |row| row.evidence as i64),
        of(rows, |row| row.reason.number()),
        of(rows, |row| row.epoch.0),
        of(rows, |row| row.worker.as_str()),
        of(rows, |row| row.holder.incarnation.0),
        of(rows, |row| row.last_heard_at.0),
        of(rows, |row| row.lost_at.0),
        of(rows, |row| row.queued_at.map(|at| at.0)),
        of(rows, |row| row.had_checkpoint),
        of(rows, |row| row.fraction),
        of(rows, |_| number(RecoveryOutcome::Open)),
    ];
    execute(conn, sql::RECOVERY_INSERT, values).await.map(drop)
}

async fn follow(conn: &Client, step: &RecoveryUpdate) -> Done<()> {
    match step {
        RecoveryUpdate::Claimed { id, epoch, worker, holder, at, queued_at } => {
            let queued = queued_at.map(|at| at.0);
            let values = values_of![*id, epoch.0, worker.as_str(), holder.incarnation.0, at.0, queued];
            execute(conn, sql::RECOVERY_CLAIMED, values).await
        }
        RecoveryUpdate::Started { id, at } => {
            let values = values_of![*id, at.0, number(RecoveryOutcome::Recovered)];
            execute(conn, sql::RECOVERY_STARTED, values).await
        }
        RecoveryUpdate::Over { id } => {
            execute(conn, sql::RECOVERY_OVER, values_of![*id, number(RecoveryOutcome::Over)]).await
        }
        RecoveryUpdate::Salvaged { id } => {
            execute(conn, sql::RECOVERY_SALVAGED, values_of![*id, number(RecoveryOutcome::Salvaged)]).await
        }
    }
    .map(drop)
}
