//! How attempts close: failure, loss, hand-back, cancel, end.

use super::record::{Attempt, Change, ClosedBy, EventKind, Evidence, RecoveryStep, Run};
use super::report::ReportContext;
use crate::budget::{Next, after_failure, after_loss};
use crate::class::rank;
use crate::json::Json;
use crate::limits::{LimitEffect, by_reason};
use crate::options::Budgets;
use crate::policy::QueuePolicy;
use crate::report::{ExitReport, Failure, Wait};
use crate::state::{Outcome, Reason, State};
use crate::time::Wall;

/// The end of an attempt by its worker's fault or absence.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// Why.
    pub reason: Reason,
    /// What proved it.
    pub evidence: Evidence,
    /// The last sign of life, on the store's clock.
    pub last_heard_at: Wall,
    /// How the process ended, if the agent saw it.
    pub exit: Option<ExitReport>,
}

/// Whether a loss costs anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossBudget {
    /// It uses `max_losses`.
    Losses,
    /// A polite goodbye: free.
    Free,
}

/// How an attempt whose work failed is closed.
struct Closing<'a> {
    by: ClosedBy,
    last_heard_at: Wall,
    policy: &'a QueuePolicy,
    budgets: &'a Budgets,
    now: Wall,
}

/// What a failed attempt leads to.
pub(super) fn fail(run: &mut Run, change: &mut Change, failure: Failure, ctx: &ReportContext<'_>) {
    if run.state == State::Cancelling {
        change.detail.exit = failure.exit;
        run.finish(change, State::Cancelled, Outcome::Cancelled, ctx.now);
        return;
    }
    let closing = Closing {
        by: ClosedBy::Report,
        last_heard_at: ctx.now,
        policy: ctx.policy,
        budgets: &ctx.budgets,
        now: ctx.now,
    };
    run.failed(change, failure, &closing);
}

impl Run {
    /// The attempt is lost. Nothing happens (`None`) if no lease is open.
    #[must_use]
    pub fn lose(
        &mut self,
        loss: Loss,
        policy: &QueuePolicy,
        budgets: &Budgets,
        budget: LossBudget,
        now: Wall,
    ) -> Option<Change> {
        if !self.state.is_leased() {
            return None;
        }
        let mut change = Change::none(self);
        self.lose_into(&mut change, loss, policy, budgets, budget, now);
        Some(change)
    }

    pub(super) fn lose_into(
        &mut self,
        change: &mut Change,
        loss: Loss,
        policy: &QueuePolicy,
        budgets: &Budgets,
        budget: LossBudget,
        now: Wall,
    ) {
        if self.state == State::Cancelling {
            change.detail.exit = loss.exit;
            self.finish(change, State::Cancelled, Outcome::Cancelled, now);
            self.closed_by = ClosedBy::Loss;
            return;
        }
        if by_reason(loss.reason).is_some_and(|limit| limit.effect == LimitEffect::Stop) {
            // Its worker did not keep the limit, so its lease is taken. It is the work's failure all the same.
            let closing = Closing { by: ClosedBy::Loss, last_heard_at: loss.last_heard_at, policy, budgets, now };
            self.failed(change, Failure { exit: loss.exit, ..Failure::of(loss.reason) }, &closing);
            return;
        }
        let next = match budget {
            LossBudget::Free => Next::Requeue,
            LossBudget::Losses => {
                self.losses += 1;
                self.losses_in_row += 1;
                let lease = (self.id, self.epoch);
                after_loss(budgets, policy.on_loss, policy.on_crash_loop, self.losses_in_row, lease)
            }
        };
        let (epoch, holder) = (self.epoch, self.holder);
        self.reason = Some(loss.reason);
        self.close_attempt(change, ClosedBy::Loss, Some(Outcome::Infrastructure), loss.reason, loss.last_heard_at, now);
        self.outcome = Some(Outcome::Infrastructure);
        if let Some(closed) = &mut change.closed {
            closed.exit.clone_from(&loss.exit);
            closed.lost_marker = self.output.next;
            self.output.next += 1;
        }
        change.event(self, EventKind::Lost, now, None);
        let queued_at = match next {
            Next::Requeue => Some(now),
            Next::After(wait) => Some(now + wait),
            Next::Hold { .. } | Next::End => None,
        };
        if self.recovery.is_some() {
            change.recovery.push(RecoveryStep::Over);
        }
        if let Some(holder) = holder {
            change.recovery.push(RecoveryStep::Lost {
                epoch,
                holder,
                evidence: loss.evidence,
                reason: loss.reason,
                last_heard_at: loss.last_heard_at,
                lost_at: now,
                queued_at,
            });
        }
        if next == Next::End {
            change.detail.exit = loss.exit;
            self.end_lost(change, now);
        } else {
            self.wait_again(change, next, policy, now);
        }
    }

    /// The attempt failed: tried again while there are attempts, else the end.
    fn failed(&mut self, change: &mut Change, failure: Failure, closing: &Closing<'_>) {
        let now = closing.now;
        self.failures += 1;
        self.reason = Some(failure.reason);
        let permanent = failure.permanent || failure.reason == Reason::RunTimeout;
        let lease = (self.id, self.epoch);
        let next = after_failure(closing.budgets, self.failures, permanent, failure.retry_after, lease);
        let Next::After(wait) = next else {
            change.detail.exit = failure.exit;
            change.detail.error = failure.error;
            let end = by_reason(failure.reason).and_then(|limit| limit.end).unwrap_or(State::Failed);
            self.finish(change, end, Outcome::User, now);
            self.closed_by = closing.by;
            return;
        };
        self.close_attempt(change, closing.by, Some(Outcome::User), failure.reason, closing.last_heard_at, now);
        if let Some(closed) = &mut change.closed {
            closed.exit = failure.exit;
            closed.error = failure.error;
            if closing.by == ClosedBy::Loss {
                closed.lost_marker = self.output.next;
                self.output.next += 1;
            }
        }
        self.outcome = Some(Outcome::User);
        change.event(self, EventKind::AttemptFailed, now, None);
        self.rank = rank(now + wait, self.priority);
        self.wait_again(change, Next::After(wait), closing.policy, now);
    }

    fn end_lost(&mut self, change: &mut Change, now: Wall) {
        self.state = State::Lost;
        self.end_wait(now);
        change.event(self, EventKind::Finished, now, None);
    }

    /// Handed back on purpose: no budget is spent.
    pub(super) fn hand_back(&mut self, change: &mut Change, wait: Wait, policy: &QueuePolicy, now: Wall) {
        if self.state == State::Cancelling {
            self.finish(change, State::Cancelled, Outcome::Cancelled, now);
            return;
        }
        self.reason = Some(Reason::LeaseReleased);
        self.close_attempt(change, ClosedBy::Report, None, Reason::LeaseReleased, now, now);
        change.event(self, EventKind::HandedBack, now, None);
        if wait != Wait::Nothing {
            // Work that asks to wait has used what it was given. A drain, a loss or a failure say nothing of that, and leave it.
            change.detail.resume_data = Some(Json::null());
        }
        let next = match wait {
            Wait::Nothing => Next::Requeue,
            Wait::Delay { delay, note } => {
                change.detail.note = note;
                self.rank = rank(now + delay, self.priority);
                Next::After(delay)
            }
            Wait::Hold { note } => {
                change.detail.note = note;
                Next::Hold { crash_loop: false }
            }
        };
        self.wait_again(change, next, policy, now);
    }

    /// Whether it has ended as whoever cancels it wants: to ask again is to repeat, not to come too late.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.state == State::Cancelled
    }

    /// Somebody asks for the end. `None` if the run has ended; a second request changes nothing.
    #[must_use]
    pub fn cancel(&mut self, reason: Reason, note: Option<String>, now: Wall) -> Option<Change> {
        if self.state.is_terminal() {
            return None;
        }
        let mut change = Change::none(self);
        if self.state == State::Cancelling {
            return Some(change);
        }
        change.detail.note = note;
        self.reason = Some(reason);
        if self.state.is_leased() {
            self.state = State::Cancelling;
            change.event(self, EventKind::CancelRequested, now, None);
        } else {
            self.state = State::Cancelled;
            self.outcome = Some(Outcome::Cancelled);
            self.end_wait(now);
            if self.recovery.take().is_some() {
                change.recovery.push(RecoveryStep::Over);
            }
            change.event(self, EventKind::Finished, now, None);
        }
        Some(change)
    }

    /// The run ends with this attempt, which stays derived from the row.
    pub(super) fn finish(&mut self, change: &mut Change, end: State, outcome: Outcome, now: Wall) {
        self.state = end;
        self.outcome = Some(outcome);
        self.closed_by = ClosedBy::Report;
        change.freed = true;
        self.end_wait(now);
        if self.recovery.take().is_some() {
            change.recovery.push(RecoveryStep::Over);
        }
        change.event(self, EventKind::Finished, now, None);
    }

    /// Materialises the current attempt; the run goes on without it.
    fn close_attempt(
        &mut self,
        change: &mut Change,
        by: ClosedBy,
        outcome: Option<Outcome>,
        reason: Reason,
        last_heard_at: Wall,
        now: Wall,
    ) {
        change.freed = true;
        self.closed_by = by;
        let Some(holder) = self.holder else { return };
        change.closed = Some(Attempt {
            epoch: self.epoch,
            holder,
            claimed_at: self.claimed_at.unwrap_or(now),
            started_at: self.started_at,
            last_heard_at,
            ended_at: now,
            outcome,
            reason,
            exit: None,
            error: None,
            closed_by: by,
            marker: self.output.marker,
            lost_marker: 0,
            last_seq: self.output.seq,
            checkpoint: None,
        });
    }

    fn wait_again(&mut self, change: &mut Change, next: Next, policy: &QueuePolicy, now: Wall) {
        self.blocked = false;
        match next {
            Next::Requeue | Next::End => {
                self.state = State::Queued;
                self.queued_at = Some(now);
                self.due_at = None;
                change.event(self, EventKind::Queued, now, None);
            }
            Next::After(wait) => {
                self.state = State::Scheduled;
                self.due_at = Some(now + wait);
                change.event(self, EventKind::Scheduled, now, None);
            }
            Next::Hold { crash_loop } => {
                self.state = State::Held;
                self.due_at = Some(now + policy.hold_ttl);
                if crash_loop {
                    self.reason = Some(Reason::CrashLoop);
                }
                change.event(self, EventKind::Held, now, None);
            }
        }
    }
}
