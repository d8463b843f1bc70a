//! A run under change: loaded once, changed by transitions, saved once.
//!
//! ```text
//! Edit::new(run) ─► core decides over edit.run, returns a Change ─► apply: side rows ─► … ─► save: the row, counts, keys, hints
//! ```

use crate::fault::Done;
use crate::recovery;
use crate::rows::{insert_attempt, prepared, single, to_text};
use crate::tx::Tx;
use crate::{keys, output, serial, sql, subject};
use outlive_core::run::{Change, DetailPatch, Event, Run};
use outlive_core::{Holder, Json, LeaseRef, Reason, State};
use outlive_store::{CancelOrder, Changed};
use rusqlite::params;

/// A run that is being changed.
pub(crate) struct Edit {
    /// The row as it will be.
    pub(crate) run: Run,
    before: Run,
    link: Option<i64>,
    freed: Option<(Holder, LeaseRef)>,
}

impl Edit {
    pub(crate) fn new(run: Run) -> Self {
        Self { before: run.clone(), link: run.recovery, freed: None, run }
    }

    /// Writes everything that a transition changed beside the run's own row.
    pub(crate) fn apply(&mut self, tx: &mut Tx<'_>, change: Change) -> Done<()> {
        if change.freed {
            let lease = LeaseRef { run_id: self.run.id, epoch: self.run.epoch };
            self.freed = self.run.holder.map(|holder| (holder, lease));
        }
        if !change.detail.is_empty() {
            put_detail(tx, self.run.seq, &change.detail)?;
        }
        if let Some(mut closed) = change.closed {
            let kept = single::<Option<String>>(tx.conn, sql::DETAIL_CHECKPOINT, &[&self.run.seq])?.flatten();
            closed.checkpoint = crate::rows::json(kept)?;
            insert_attempt(tx.conn, self.run.seq, &closed)?;
        }
        if !change.frames.is_empty() {
            output::append(tx, &self.run, change.frames)?;
        }
        self.link = recovery::follow(tx, &self.run, self.link, change.recovery)?;
        self.run.recovery = self.link;
        for event in &change.events {
            record(tx, &self.run, event)?;
        }
        Ok(())
    }

    /// Writes the row, and what other rows learn from it: counts, serial and business keys, hints.
    pub(crate) fn save(mut self, tx: &mut Tx<'_>) -> Done<Run> {
        if self.run == self.before {
            return Ok(self.run);
        }
        let entered = self.run.state == State::Queued && self.before.state != State::Queued;
        if entered {
            self.run.blocked = self.run.serial_key.is_some() || keys::waits(tx, self.run.seq);
        }
        let was_full = self.freed.is_some() && tx.queue(self.run.queue)?.is_full();
        tx.cache.count(&self.run, Some(self.before.state), Some(self.run.state));
        if is_touch(&self.before, &self.run) {
            tx.touch_run(&self.run)?;
        } else {
            tx.update_run(&self.run)?;
        }
        if entered && self.run.is_ready() {
            tx.hint_ready(self.run.class);
        }
        if self.run.serial_key.is_some() && self.before.state != self.run.state {
            serial::moved(tx, &self.run, self.freed.is_some())?;
        }
        if self.freed.is_some() {
            keys::lease_closed(tx, self.run.seq)?;
        }
        if self.run.state.is_terminal() {
            keys::stop_waiting(tx, self.run.seq)?;
        }
        if self.run.has_subjects && self.before.state != self.run.state {
            subject::moved(tx, &self.run, self.before.state)?;
        }
        if was_full {
            tx.hint_queue(self.run.queue)?;
        }
        self.hint(tx);
        Ok(self.run)
    }

    fn hint(&self, tx: &mut Tx<'_>) {
        let (before, run) = (&self.before, &self.run);
        let moved = before.state != run.state || before.epoch != run.epoch || before.output.next != run.output.next;
        if !moved {
            return;
        }
        let took = match (run.finished_at, run.claimed_at) {
            (Some(at), _) if before.finished_at.is_none() => Some(at.since(run.created_at)),
            (_, Some(at)) if before.epoch != run.epoch => run.queued_at.map(|queued| at.since(queued)),
            _ => None,
        };
        tx.hints.changed.push(Changed {
            id: run.id,
            queue: run.queue,
            from: before.state,
            to: run.state,
            epoch: run.epoch,
            reason: run.reason,
            output_next: run.output.next,
            freed: self.freed,
            took,
        });
        let asked = run.state == State::Cancelling && before.state != State::Cancelling;
        if let (true, Some((holder, lease))) = (asked, run.lease()) {
            let reason = run.reason.unwrap_or(Reason::Cancelled);
            tx.hints.cancels.push(CancelOrder { holder, lease, reason });
        }
    }
}

/// Whether nothing changed that an index or another row knows.
fn is_touch(before: &Run, run: &Run) -> bool {
    (before.state, before.blocked, before.rank, before.epoch, before.closed_by)
        == (run.state, run.blocked, run.rank, run.epoch, run.closed_by)
        && (before.due_at, before.queued_at, before.holder, before.reason, before.outcome)
            == (run.due_at, run.queued_at, run.holder, run.reason, run.outcome)
        && (before.failures, before.losses, &before.key) == (run.failures, run.losses, &run.key)
        && before.finished_at == run.finished_at
}

/// An event for the feed, and for the run's history if rows do not tell it.
pub(crate) fn record(tx: &mut Tx<'_>, run: &Run, event: &Event) -> Done<()> {
    tx.feed.run(run, event);
    if event.kind.is_kept() {
        prepared(tx.conn, sql::EVENT_INSERT)?.execute(params![
            run.seq,
            event.kind as i64,
            event.at.0,
            event.epoch.0,
            event.state.number(),
            event.reason.map(Reason::number),
            event.note,
        ])?;
    }
    Ok(())
}

/// Sets the columns of the detail row that the patch has.
pub(crate) fn put_detail(tx: &Tx<'_>, seq: i64, patch: &DetailPatch) -> Done<()> {
    prepared(tx.conn, sql::DETAIL_PUT)?.execute(params![
        seq,
        patch.checkpoint.as_ref().map(Json::text),
        to_text(patch.progress.as_ref())?,
        patch.result.as_ref().map(Json::text),
        to_text(patch.error.as_ref())?,
        to_text(patch.exit.as_ref())?,
        patch.note,
        patch.resume_data.as_ref().map(Json::text),
        patch.reason_detail.as_ref().map(Json::text),
    ])?;
    Ok(())
}
