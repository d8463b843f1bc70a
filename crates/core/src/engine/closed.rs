//! Leases that closed a moment ago.
//!
//! What the store answered to an opening session, to an audit or to a claim was true when it was read. Until it arrives here,
//! a report of an older connection may have closed one of those leases, and the news of that may have come first:
//!
//! ```text
//!   open_session reads: holds A ───────────────────────────────► Open(A) ─► "you hold A": the work is done twice
//!   report: A is done ──► committed ──► Ended(A), A answered
//! ```
//!
//! So the news is remembered for longer than an answer takes, and what is known to be closed is left out of what comes later.

use crate::LeaseRef;
use crate::time::{Millis, Observed};
use std::collections::{BTreeSet, VecDeque};

/// No answer takes longer, in time during which the store commits.
const KEPT: Millis = Millis::secs(5);
/// Above the ends of [`KEPT`] at 20,000 a second; then the oldest go.
const MOST: usize = 100_000;

/// The leases.
#[derive(Clone, Debug, Default)]
pub(super) struct Closed {
    order: VecDeque<(Observed, LeaseRef)>,
    leases: BTreeSet<LeaseRef>,
}

impl Closed {
    pub(super) fn add(&mut self, lease: LeaseRef, now: Observed) {
        if self.leases.insert(lease) {
            self.order.push_back((now, lease));
        }
        while self.order.len() > MOST {
            self.drop_oldest();
        }
    }

    pub(super) fn contains(&self, lease: LeaseRef) -> bool {
        self.leases.contains(&lease)
    }

    pub(super) fn tick(&mut self, now: Observed) {
        while self.order.front().is_some_and(|(at, _)| now.since(*at) > KEPT) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, lease)) = self.order.pop_front() {
            self.leases.remove(&lease);
        }
    }
}
