//! A run under change: loaded once, changed by transitions, saved once.
//!
//! ```text
//! Edit::new(run) ─► core decides over edit.run, returns a Change ─► apply: side rows ─► … ─► save: the row, counts, keys, hints
//! ```

use crate::fault::Done;
use crate::pending::Width;
use crate::tx::Tx;
use crate::value::plain;
use crate::{keys, output, recovery, serial, subject};
use outlive_core::run::{Change, Event, Run};
use outlive_core::{Holder, LeaseRef, Reason, State};
use outlive_store::{CancelOrder, Changed};

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

    /// Takes down everything that a transition changed beside the run's own row.
    pub(crate) async fn apply(&mut self, tx: &mut Tx<'_>, change: Change) -> Done<()> {
        if change.freed {
            let lease = LeaseRef { run_id: self.run.id, epoch: self.run.epoch };
            self.freed = self.run.holder.map(|holder| (holder, lease));
        }
        if !change.detail.is_empty() {
            tx.pending.put_detail(&mut tx.loaded, self.run.seq, change.detail);
        }
        if let Some(mut closed) = change.closed {
            closed.checkpoint = tx.means(self.run.seq).await?.checkpoint;
            tx.pending.attempts.push((self.run.seq, closed));
        }
        if !change.frames.is_empty() {
            output::append(tx, &self.run, change.frames).await?;
        }
        self.link = recovery::follow(tx, &self.run, self.link, change.recovery).await?;
        self.run.recovery = self.link;
        for event in change.events {
            record(tx, &self.run, event);
        }
        Ok(())
    }

    /// Takes down the row, and what other rows learn from it: counts, serial and business keys, hints.
    pub(crate) async fn save(mut self, tx: &mut Tx<'_>) -> Done<Run> {
        if self.run == self.before {
            return Ok(self.run);
        }
        let entered = self.run.state == State::Queued && self.before.state != State::Queued;
        if entered {
            self.run.blocked = self.run.serial_key.is_some() || keys::waits_for(tx, &self.run).await?.is_some();
        }
        tx.count(&self.run, Some(self.before.state), Some(self.run.state)).await?;
        tx.pending.save(self.run.seq, width(&self.before, &self.run));
        note(tx, Some(&self.before), &self.run).await?;
        tx.loaded.put(self.run.clone());
        if entered && self.run.is_ready() {
            tx.hint_ready(self.run.class);
        }
        if self.run.serial_key.is_some() && self.before.state != self.run.state {
            serial::moved(tx, &self.run, self.freed.is_some()).await?;
        }
        // Only a run that was asked to end may have given its business key to another one.
        if self.freed.is_some() && self.before.state == State::Cancelling {
            keys::lease_closed(tx, self.run.seq).await?;
        }
        if self.run.state.is_terminal() && self.before.state.is_waiting() && self.run.key.is_some() {
            tx.pending.unwaits.push(self.run.seq);
        }
        if self.run.has_subjects && self.before.state != self.run.state {
            subject::moved(tx, &self.run, self.before.state).await?;
        }
        if let Some(key) = self.before.key.as_ref().filter(|_| self.run.state.is_terminal() || self.run.key.is_none()) {
            tx.loaded.keys.insert((self.run.queue, plain(key).into_owned()), None);
        }
        if self.freed.is_some() && tx.policy(self.run.queue)?.max_running.is_some() {
            // How full it is only the next claim knows: leases that others give back now are not to be seen yet.
            tx.hint_queue(self.run.queue);
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
        let hints = tx.hints();
        hints.changed.push(Changed {
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
            hints.cancels.push(CancelOrder { holder, lease, reason });
        }
    }
}

/// Keeps what the transaction knows of ready runs true.
pub(crate) async fn note(tx: &mut Tx<'_>, before: Option<&Run>, run: &Run) -> Done<()> {
    let slot = if run.is_ready() { tx.slot_name(run).await? } else { None };
    if let Some(before) = before.filter(|before| before.is_ready()) {
        tx.ready.set(before.class, (before.rank, before.seq), false, None);
    }
    if run.is_ready() {
        tx.ready.set(run.class, (run.rank, run.seq), true, slot);
    }
    Ok(())
}

/// How much changed.
fn width(before: &Run, run: &Run) -> Width {
    let claim = |run: &Run| (run.epoch, run.holder, run.terms, run.claimed_at, run.due_at);
    let end = |run: &Run| (run.outcome, run.reason, run.finished_at, run.closed_by);
    let touch = |run: &Run| (run.started_at, run.output, run.losses_in_row, run.recovery);
    let same_rest = (before.blocked, before.rank, before.queued_at, before.failures, before.losses, &before.key)
        == (run.blocked, run.rank, run.queued_at, run.failures, run.losses, &run.key);
    let same_claim = claim(before) == claim(run);
    let same_end = end(before) == end(run);
    if same_rest && same_claim && same_end && before.state == run.state {
        Width::Touch
    } else if same_rest && same_claim {
        Width::End
    } else if same_rest && same_end && touch(before) == touch(run) {
        Width::Claim
    } else {
        Width::Whole
    }
}

/// An event for the feed, and for the run's history if rows do not tell it.
pub(crate) fn record(tx: &mut Tx<'_>, run: &Run, event: Event) {
    tx.pending.feed.run(run, &event);
    if event.kind.is_kept() {
        tx.pending.events.push((run.seq, event));
    }
}
