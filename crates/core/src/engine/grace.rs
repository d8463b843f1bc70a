//! Silence that begins anew, and the early end of that grace.
//!
//! ```text
//!   heard ───────── TTL + grace ─────────► would have been due
//!             store away ──► back: armed ─────────────── TTL + grace ──────────► due
//!                              95 % are heard ── 5 s ──► due, if the first line is over as well
//! ```
//!
//! While the store was away nobody could open a session: when it is back, silence begins anew for everybody, at most
//! [`REARMED_AT_MOST`] times. Where nearly all of a fleet have been heard since, whoever has not had the same chance, and the rest
//! is shortened to [`REST`].
//!
//! *Never too early.* A worker trusts its leases for 0.8 TTL + `offline_grace` from the sending of its last acknowledged beat. That
//! beat was heard here, so that the countdown which was under way before the arming (from the last that was *heard*, a full TTL and
//! grace) ends after that trust, by the margin that all verdicts have; the rest never ends before it. Whoever is judged at an early
//! end could have been judged then without the outage: it delayed the verdict, no more (I4).
//!
//! *A start and an adoption are not shortened*: nobody there knows when the worker was last heard. It may have been acknowledged a
//! moment before the arming. 0.8 TTL + `offline_grace` from the arming is what must pass against overlap; but a judge that takes less than
//! a full TTL would give verdicts that come earlier because of the restart.

use super::Engine;
use super::session::Session;
use crate::Holder;
use crate::time::{Millis, Mono, Observed};
use std::collections::BTreeSet;

/// How often a countdown begins anew in one silence: a store that comes and goes must not keep a dead worker's runs for ever.
pub const REARMED_AT_MOST: u8 = 2;
/// Of fewer sessions nothing follows.
const LEAST: usize = 20;
/// So many of a hundred must have been heard since.
const BACK_PERCENT: usize = 95;
/// What is left of the grace of those who have not.
const REST: Millis = Millis::secs(5);

/// Of a session whose silence began anew, until it is heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    /// When it was really heard last.
    before: Observed,
    /// Nearly all others were back then.
    shortened: Option<Observed>,
}

/// Who is awaited since silence began anew.
#[derive(Clone, Debug, Default)]
pub(super) struct Graces {
    awaited: BTreeSet<Holder>,
    of: usize,
    back: usize,
    /// How many have had their rest shortened, ever.
    shortened: u64,
}

impl Graces {
    fn arm(&mut self, holder: Holder) {
        if self.awaited.is_empty() {
            (self.of, self.back) = (0, 0);
        }
        self.of += usize::from(self.awaited.insert(holder));
    }

    fn are_over(&self) -> bool {
        !self.awaited.is_empty() && self.of >= LEAST && self.back * 100 >= self.of * BACK_PERCENT
    }
}

impl Session {
    /// Its silence begins anew, if it may.
    fn arm_again(&mut self, now: Observed) -> bool {
        if self.rearmed >= REARMED_AT_MOST {
            return false;
        }
        self.rearmed += 1;
        let before = self.grace.map_or(self.heard, |grace| grace.before);
        self.grace = Some(Grace { before, shortened: None });
        self.heard = now;
        self.heard_again(now);
        true
    }

    /// A sign of life.
    pub(super) fn lives(&mut self, now: Observed, at: Mono) {
        self.heard = now;
        self.heard_at = at;
        self.rearmed = 0;
        self.grace = None;
        self.spared = None;
        self.excused = false;
    }

    /// It was heard elsewhere, some time before its silence began anew.
    pub(super) fn lived(&mut self, then: Observed) {
        if let Some(grace) = &mut self.grace {
            grace.before = grace.before.max(then);
        }
    }

    /// When a silence that may last for so long is over.
    pub(super) fn silent_until(&self, patience: Millis) -> Observed {
        let full = self.heard + patience;
        match self.grace {
            Some(Grace { before, shortened: Some(at) }) => full.min((at + REST).max(before + patience)),
            _ => full,
        }
    }
}

impl Engine {
    /// How many sessions have had the rest of their grace shortened since the start.
    #[must_use]
    pub const fn shortened_graces(&self) -> u64 {
        self.graces.shortened
    }

    /// The store is back.
    pub(super) fn arm_all_again(&mut self, now: Observed) {
        for session in self.sessions.values_mut() {
            // Who is never heard is awaited by nobody.
            if session.arm_again(now) && session.half_ttl().is_some() {
                self.graces.arm(session.holder);
            }
        }
    }

    /// An awaited session is heard, here or elsewhere.
    pub(super) fn is_back(&mut self, holder: Holder) {
        self.graces.back += usize::from(self.graces.awaited.remove(&holder));
    }

    /// It is over before it was heard: it is awaited no more, and does not count as back.
    pub(super) fn is_not_awaited(&mut self, holder: Holder) {
        self.graces.awaited.remove(&holder);
    }

    /// Are nearly all back? Then the rest of the others is shortened.
    pub(super) fn graces_end(&mut self) {
        if !self.graces.are_over() {
            return;
        }
        let now = self.observed.now();
        for holder in std::mem::take(&mut self.graces.awaited) {
            if let Some(grace) = self.sessions.get_mut(&holder).and_then(|s| s.grace.as_mut()) {
                grace.shortened = Some(now);
                self.graces.shortened += 1;
            }
            self.reschedule(holder);
        }
    }
}
