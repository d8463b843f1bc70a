//! Claim, start and the fence.

use super::record::{Attempt, Change, ClosedBy, EventKind, RecoveryStep, Run};
use crate::ids::{Epoch, Holder};
use crate::policy::LeaseTerms;
use crate::state::State;
use crate::time::{Observed, Wall};

/// What the fence says to a write that names (run, epoch) and comes from a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// The lease is open and the sender holds it.
    Open,
    /// The sender closed this lease itself, by a report: a repetition.
    Repeated,
    /// The lease was lost, but nobody has taken the run since: a success may still be accepted.
    Salvage,
    /// Anything else: nothing may change.
    Closed,
}

impl Run {
    /// Opens the next lease. Only for a run that is ready.
    #[must_use]
    pub fn claim(&mut self, holder: Holder, terms: LeaseTerms, now: Wall, observed: Observed) -> Option<Change> {
        if !self.is_ready() {
            return None;
        }
        let mut change = Change::none(self);
        self.state = State::Claimed;
        self.epoch = self.epoch.next();
        self.holder = Some(holder);
        self.closed_by = ClosedBy::Open;
        self.due_at = None;
        self.claimed_at = Some(now);
        self.started_at = None;
        self.lease_observed = observed;
        self.begun_observed = observed;
        self.terms = terms;
        self.output.seq = 0;
        self.output.marker = 0;
        self.outcome = None;
        self.reason = None;
        if self.recovery.is_some() {
            change.recovery.push(RecoveryStep::Claimed { holder, epoch: self.epoch, at: now });
        }
        change.event(self, EventKind::Claimed, now, None);
        Some(change)
    }

    /// The attempt begins, if it has not: its marker takes the next offset of the log.
    pub(super) fn begin_attempt(&mut self, change: &mut Change, now: Wall, observed: Observed) {
        if self.started_at.is_some() {
            return;
        }
        self.started_at = Some(now);
        self.begun_observed = self.begun_observed.max(observed);
        self.output.marker = self.output.next;
        self.output.next += 1;
        if self.state == State::Claimed {
            self.state = State::Running;
        }
        if self.recovery.is_some() {
            change.recovery.push(RecoveryStep::Started(now));
        }
        change.event(self, EventKind::Started, now, None);
    }

    /// Judges a write by (sender, epoch). `attempt` is the materialised row of that epoch, if there is one.
    /// `serial_key_moved_on`: a run of the same serial key was claimed since this one.
    #[must_use]
    pub fn fence(&self, sender: Holder, epoch: Epoch, attempt: Option<&Attempt>, serial_key_moved_on: bool) -> Fence {
        let is_last = self.epoch == epoch && self.holder == Some(sender);
        if is_last && self.state.is_leased() {
            return Fence::Open;
        }
        if is_last && self.state.is_terminal() && self.closed_by == ClosedBy::Report {
            return Fence::Repeated;
        }
        match attempt {
            Some(a) if a.epoch == epoch && a.holder == sender && a.closed_by == ClosedBy::Report => Fence::Repeated,
            Some(a) if a.epoch == epoch && a.holder == sender => {
                let waits_for_that_loss = is_last && self.state.is_waiting() && self.closed_by == ClosedBy::Loss;
                if waits_for_that_loss && !serial_key_moved_on { Fence::Salvage } else { Fence::Closed }
            }
            _ => Fence::Closed,
        }
    }
}
