//! What a worker says, applied to the row: one decision per statement.

use super::finish::LossBudget;
use super::lease::Fence;
use super::record::{Attempt, Change, ClosedBy, EventKind, Evidence, Progress, RecoveryStep, Run};
use super::{Loss, finish};
use crate::ids::{Epoch, Holder};
use crate::limits::sizes;
use crate::options::Budgets;
use crate::policy::QueuePolicy;
use crate::report::{Completion, Frame, Item, ItemResult, Op};
use crate::state::{Outcome, Reason, State};
use crate::time::{Observed, Wall};

/// What a decision needs beside the run's row.
#[derive(Clone, Copy, Debug)]
pub struct ReportContext<'a> {
    /// Who says it.
    pub sender: Holder,
    /// The store's wall clock.
    pub now: Wall,
    /// The store's observed clock.
    pub observed: Observed,
    /// The queue's policy.
    pub policy: &'a QueuePolicy,
    /// The run's budgets; may be the policy's when [`Item::needs_budgets`] is false.
    pub budgets: Budgets,
    /// The materialised attempt of the item's epoch, when the lease is not open.
    pub attempt: Option<&'a Attempt>,
    /// A run of the same serial key was claimed since.
    pub serial_key_moved_on: bool,
}

impl Item {
    /// Whether the decision depends on the run's own budgets, so that its options must be loaded.
    #[must_use]
    pub const fn needs_budgets(&self) -> bool {
        matches!(self.op, Op::Fail(_) | Op::Lost { .. })
    }
}

impl Run {
    /// Applies one statement.
    ///
    /// # Errors
    /// The answer for the worker when nothing changes; [`ItemResult::Ok`] for a repetition. The row is then as it was.
    pub fn report(&mut self, item: Item, ctx: &ReportContext<'_>) -> Result<Change, ItemResult> {
        match self.fence(ctx.sender, item.lease.epoch, ctx.attempt, ctx.serial_key_moved_on) {
            Fence::Open => {}
            Fence::Repeated if item.op.ends_attempt() => return Err(ItemResult::Ok),
            Fence::Salvage | Fence::Closed
                if matches!(item.op, Op::Lost { .. }) && self.is_lost(item.lease.epoch, ctx) =>
            {
                return Err(ItemResult::Ok);
            }
            Fence::Salvage => {
                if let Op::Complete(completion) = item.op {
                    return self.salvage(completion, ctx);
                }
                return Err(self.fenced());
            }
            Fence::Repeated | Fence::Closed => return Err(self.fenced()),
        }
        if let Op::Output(frame) = item.op {
            return self.append(frame, ctx);
        }
        if let Some(detail) = refusal(&item.op) {
            return Err(ItemResult::Invalid { detail });
        }
        let carried = item.op.carried_frames();
        let reached = carried.iter().fold(self.output.seq, |seq, f| if f.seq == seq + 1 { f.seq } else { seq });
        if item.op.last_output_seq().is_some_and(|last| last > reached) {
            return Err(ItemResult::Gap { expected: reached + 1 });
        }
        let mut change = Change::none(self);
        self.lease_observed = self.lease_observed.max(ctx.observed);
        if !matches!(item.op, Op::Release(_) | Op::Lost { .. }) {
            self.begin_attempt(&mut change, ctx.now, ctx.observed);
        }
        match item.op {
            Op::Start | Op::Output(_) => {}
            Op::Progress { fraction, note } => self.progress(&mut change, fraction, note, ctx.now),
            Op::Checkpoint(data) => {
                change.detail.checkpoint = Some(data);
                self.losses_in_row = 0;
                self.advanced(&mut change, None, ctx.now);
            }
            Op::Complete(completion) => {
                self.push_frames(&mut change, completion.frames.iter());
                self.complete(&mut change, completion, ctx.now);
            }
            Op::Fail(failure) => self.fail(&mut change, failure, ctx),
            Op::Lost { reason, exit } => {
                let loss = Loss { reason, evidence: Evidence::ExitReport, last_heard_at: ctx.now, exit };
                self.lose_into(&mut change, loss, ctx.policy, &ctx.budgets, LossBudget::Losses, ctx.now);
            }
            Op::Release(wait) => self.hand_back(&mut change, wait, ctx.policy, ctx.now),
            Op::Cancelled { exit } => {
                change.detail.exit = exit;
                if self.state != State::Cancelling {
                    self.reason = Some(Reason::Cancelled);
                }
                self.finish(&mut change, State::Cancelled, Outcome::Cancelled, ctx.now);
            }
        }
        Ok(change)
    }

    /// Whether the sender's attempt of this epoch was closed as lost: to say so again is to repeat it.
    fn is_lost(&self, epoch: Epoch, ctx: &ReportContext<'_>) -> bool {
        let of_sender = |e: Epoch, holder: Option<Holder>| (e, holder) == (epoch, Some(ctx.sender));
        let kept = ctx.attempt.is_some_and(|a| of_sender(a.epoch, Some(a.holder)) && a.closed_by == ClosedBy::Loss);
        let last = of_sender(self.epoch, self.holder) && !self.state.is_leased() && self.closed_by == ClosedBy::Loss;
        kept || last
    }

    /// The answer to a write that the fence stops.
    #[must_use]
    pub const fn fenced(&self) -> ItemResult {
        if self.state.is_terminal() {
            ItemResult::Terminal { state: self.state }
        } else {
            ItemResult::Fenced { state: self.state, epoch: self.epoch }
        }
    }

    fn append(&mut self, frame: Frame, ctx: &ReportContext<'_>) -> Result<Change, ItemResult> {
        if frame.seq <= self.output.seq {
            return Err(ItemResult::Ok);
        }
        if frame.seq != self.output.seq + 1 {
            return Err(ItemResult::Gap { expected: self.output.seq + 1 });
        }
        if frame.bytes.len() > sizes::FRAME {
            return Err(invalid(format!("a frame holds at most {} bytes; cut it", sizes::FRAME)));
        }
        let mut change = Change::none(self);
        self.lease_observed = self.lease_observed.max(ctx.observed);
        self.begin_attempt(&mut change, ctx.now, ctx.observed);
        self.push_frame(&mut change, frame);
        Ok(change)
    }

    /// Frames that travel with an end; those that are in the log already are passed over. Number 0 is *the next one*.
    fn push_frames<'f>(&mut self, change: &mut Change, frames: impl Iterator<Item = &'f Frame>) {
        for frame in frames {
            let next = self.output.seq + 1;
            if frame.seq == next || frame.seq == 0 {
                self.push_frame(change, Frame { seq: next, ..frame.clone() });
            }
        }
    }

    fn push_frame(&mut self, change: &mut Change, frame: Frame) {
        self.output.seq = frame.seq;
        self.output.bytes += i64::try_from(frame.bytes.len()).unwrap_or(i64::MAX);
        change.frames.push((self.output.next, frame));
        self.output.next += 1;
    }

    fn progress(&mut self, change: &mut Change, fraction: Option<f64>, note: Option<String>, now: Wall) {
        change.detail.progress = Some(Progress { fraction, note, at: now });
        if fraction.is_some() {
            self.advanced(change, fraction, now);
        }
    }

    fn advanced(&self, change: &mut Change, fraction: Option<f64>, now: Wall) {
        if self.recovery.is_some() {
            change.recovery.push(RecoveryStep::Advanced { at: now, fraction });
        }
    }

    fn complete(&mut self, change: &mut Change, completion: Completion, now: Wall) {
        change.detail.result = completion.result;
        change.detail.exit = completion.exit;
        self.reason = None;
        self.finish(change, State::Succeeded, Outcome::Success, now);
    }

    /// A success of the last epoch that arrives while the run waits because of exactly that loss.
    fn salvage(&mut self, completion: Completion, ctx: &ReportContext<'_>) -> Result<Change, ItemResult> {
        if let Some(detail) = refusal_of_completion(&completion) {
            return Err(ItemResult::Invalid { detail });
        }
        let before = (self.output, self.started_at, self.begun_observed);
        let mut change = Change::none(self);
        // Its start may never have been told: then its marker comes only now, after that of its loss and before its frames.
        self.begin_attempt(&mut change, ctx.now, ctx.observed);
        self.push_frames(&mut change, completion.frames.iter());
        if completion.last_output_seq.is_some_and(|last| last > self.output.seq) {
            let expected = self.output.seq + 1;
            (self.output, self.started_at, self.begun_observed) = before;
            return Err(ItemResult::Gap { expected });
        }
        self.complete(&mut change, completion, ctx.now);
        change.freed = false;
        change.recovery = vec![RecoveryStep::Salvaged];
        change.event(self, EventKind::Salvaged, ctx.now, None);
        Ok(change)
    }

    fn fail(&mut self, change: &mut Change, failure: crate::report::Failure, ctx: &ReportContext<'_>) {
        finish::fail(self, change, failure, ctx);
    }
}

fn invalid(detail: String) -> ItemResult {
    ItemResult::Invalid { detail }
}

/// What is wrong with the statement itself, whoever says it.
fn refusal(op: &Op) -> Option<String> {
    match op {
        Op::Checkpoint(data) if data.text().len() > sizes::CHECKPOINT => {
            Some(too_large("checkpoint", sizes::CHECKPOINT))
        }
        Op::Complete(completion) => refusal_of_completion(completion),
        Op::Fail(f) if f.retry_after.is_some_and(|wait| wait > sizes::LONGEST_WAIT) => Some(too_long("retry_after")),
        Op::Release(crate::report::Wait::Delay { delay, .. }) if *delay > sizes::LONGEST_WAIT => {
            Some(too_long("delay"))
        }
        _ => None,
    }
}

fn too_large(what: &str, limit: usize) -> String {
    format!("{what} is larger than {limit} bytes")
}

fn too_long(what: &str) -> String {
    format!("{what} is longer than {}", sizes::LONGEST_WAIT)
}

fn refusal_of_completion(completion: &Completion) -> Option<String> {
    if completion.result.as_ref().is_some_and(|r| r.text().len() > sizes::RESULT) {
        return Some(too_large("result", sizes::RESULT));
    }
    let large_frame = completion.frames.iter().any(|f| f.bytes.len() > sizes::FRAME);
    large_frame.then(|| too_large("a frame", sizes::FRAME))
}
