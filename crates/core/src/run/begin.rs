//! The waiting states: how a run comes into the world, waits, and leaves a wait.

use super::record::{Change, ClosedBy, EventKind, OutputHead, RecoveryStep, Run};
use crate::class::rank;
use crate::explain::Cause;
use crate::ids::{ClassId, Epoch, QueueId, RunId};
use crate::json::Json;
use crate::policy::QueuePolicy;
use crate::state::{Outcome, Reason, State};
use crate::time::{Millis, Observed, Wall};
use serde::Serialize;

/// The details of an expiry, as programs read them.
#[derive(Serialize)]
struct Because<'a> {
    because: &'a [Cause],
}

/// What a creation says about waiting.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The public identity.
    pub id: RunId,
    /// What it needs of a worker.
    pub class: ClassId,
    /// Its queue.
    pub queue: QueueId,
    /// −100 to 100.
    pub priority: i16,
    /// Not before this.
    pub run_at: Option<Wall>,
    /// Wait for a release.
    pub hold: bool,
    /// See [`Run::serial_key`].
    pub serial_key: Option<String>,
    /// See [`Run::key`].
    pub key: Option<String>,
    /// Overrides the queue's.
    pub queue_ttl: Option<Millis>,
}

impl Run {
    /// A new run, waiting.
    #[must_use]
    pub fn create(new: NewRun, policy: &QueuePolicy, now: Wall) -> Self {
        let scheduled = new.run_at.filter(|&at| at > now);
        let (state, due_at) = match scheduled {
            _ if new.hold => (State::Held, Some(now + policy.hold_ttl)),
            Some(at) => (State::Scheduled, Some(at)),
            None => (State::Queued, new.queue_ttl.or(policy.queue_ttl).map(|ttl| now + ttl)),
        };
        Self {
            seq: 0,
            id: new.id,
            class: new.class,
            queue: new.queue,
            state,
            blocked: false,
            rank: rank(scheduled.unwrap_or(now), new.priority),
            priority: new.priority,
            epoch: Epoch(0),
            failures: 0,
            losses: 0,
            losses_in_row: 0,
            outcome: None,
            reason: None,
            created_at: now,
            queued_at: (state == State::Queued).then_some(now),
            due_at,
            claimed_at: None,
            started_at: None,
            finished_at: None,
            lease_observed: Observed(0),
            begun_observed: Observed(0),
            terms: policy.terms(),
            holder: None,
            closed_by: ClosedBy::Open,
            output: OutputHead { next: 1, ..OutputHead::default() },
            serial_key: new.serial_key,
            key: new.key,
            recovery: None,
            has_subjects: false,
        }
    }

    /// The clock of a run that waits for a time or for a person ran out at or before `now`: due, or expired. `None` if it has
    /// not. A queued run is [`overdue`](Self::overdue): why nobody took it is asked first.
    #[must_use]
    pub fn due(&mut self, queue_ttl: Option<Millis>, now: Wall) -> Option<Change> {
        if self.due_at.is_none_or(|due| due > now) {
            return None;
        }
        let mut change = Change::none(self);
        match self.state {
            State::Scheduled => self.queue(&mut change, queue_ttl, now),
            State::Held => self.expire(&mut change, Reason::HoldExpired, now),
            _ => return None,
        }
        Some(change)
    }

    /// Whether its row alone shows that its clock is wrong; that of a queued run depends on its options as well.
    #[must_use]
    pub const fn lacks_its_clock(&self) -> bool {
        match self.state {
            State::Scheduled | State::Held => self.due_at.is_none(),
            State::Queued => self.due_at.is_some() && self.epoch.0 > 0,
            _ => self.due_at.is_some() && !self.state.is_terminal(),
        }
    }

    /// The audit's look at the clock of a run that has not ended (I5): one that is missing is wound up, one that runs for nobody
    /// is stopped. Whether it was wrong.
    pub fn wind(&mut self, queue_ttl: Option<Millis>, policy: &QueuePolicy, now: Wall) -> bool {
        let right = match (self.state, self.due_at) {
            (State::Scheduled, None) => Some(now),
            (State::Held, None) => Some(now + policy.hold_ttl),
            (State::Queued, None) if self.epoch == Epoch(0) => {
                queue_ttl.map(|ttl| self.queued_at.unwrap_or(self.created_at) + ttl)
            }
            (State::Scheduled | State::Held, due) => due,
            (State::Queued, due) if self.epoch == Epoch(0) => due,
            _ => None,
        };
        std::mem::replace(&mut self.due_at, right) != right
    }

    /// Whether it waited for its first claim for longer than it may.
    #[must_use]
    pub fn overdue(&self, now: Wall) -> bool {
        self.state == State::Queued && !self.was_claimed() && self.due_at.is_some_and(|due| due <= now)
    }

    /// Nobody took it in time: it ends, and says why nobody did. `None` if it is not (or no longer) overdue.
    #[must_use]
    pub fn expire_unclaimed(&mut self, because: &[Cause], now: Wall) -> Option<Change> {
        if !self.overdue(now) {
            return None;
        }
        let mut change = Change::none(self);
        if !because.is_empty() {
            change.detail.reason_detail = Json::of(&Because { because }).ok();
            change.detail.note = Some(because.iter().map(|c| c.detail.as_str()).collect::<Vec<_>>().join("; "));
        }
        self.expire(&mut change, Reason::QueueTtlExpired, now);
        Some(change)
    }

    /// Somebody releases a held or scheduled run: queued now. `None` if it does not wait for that.
    #[must_use]
    pub fn release(&mut self, data: Option<Json>, queue_ttl: Option<Millis>, now: Wall) -> Option<Change> {
        if !matches!(self.state, State::Held | State::Scheduled) {
            return None;
        }
        let mut change = Change::none(self);
        change.detail.resume_data = data;
        self.losses_in_row = 0;
        if self.reason == Some(Reason::CrashLoop) {
            self.reason = None;
        }
        self.rank = rank(now, self.priority);
        self.queue(&mut change, queue_ttl, now);
        change.event(self, EventKind::Released, now, None);
        Some(change)
    }

    fn queue(&mut self, change: &mut Change, queue_ttl: Option<Millis>, now: Wall) {
        self.state = State::Queued;
        self.blocked = false;
        self.queued_at = Some(now);
        self.due_at = if self.was_claimed() { None } else { queue_ttl.map(|ttl| now + ttl) };
        change.event(self, EventKind::Queued, now, None);
    }

    fn expire(&mut self, change: &mut Change, reason: Reason, now: Wall) {
        self.state = State::Expired;
        self.outcome = Some(Outcome::Dispatch);
        self.reason = Some(reason);
        self.end_wait(now);
        if self.recovery.take().is_some() {
            change.recovery.push(RecoveryStep::Over);
        }
        change.event(self, EventKind::Finished, now, None);
    }

    pub(super) fn end_wait(&mut self, now: Wall) {
        self.due_at = None;
        self.blocked = false;
        self.finished_at = Some(now);
    }
}
