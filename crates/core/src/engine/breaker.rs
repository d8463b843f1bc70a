//! The breaker: when many workers seem to die at once, the judge doubts itself first.
//!
//! ```text
//!            ≥ 3 and > 30 % silent for half their TTL,
//!            or ≥ 3 and > 90 % closed within one window
//!   closed ────────────────────────────────────────────► open: no verdict by absence
//!     ▲                                                    │
//!     └── another worker was heard, 3 s after the opening ─┤   then every absent session
//!         or 30 s without a new absence ───────────────────┘   gets half a TTL more
//! ```
//!
//! What looks like a mass death is usually the judge's own network, or a balancer in front of it (Eureka's self-preservation,
//! Kubernetes' zone eviction limits). Evidence 1-3 needs no silence and acts meanwhile. Sessions that were absent when the
//! breaker closed do not open it again: a fleet that lost power is recovered later, never never.
//!
//! In a cluster the counts of all replicas are added: a third of all workers is a mass, however few of them are at home here.
//!
//! Reaping by absence also passes a rate ([`Reap`]), so that what comes after the breaker comes in an order and at a pace
//! that the store and the surviving workers bear.

use super::session::Session;
use crate::time::{Millis, Observed};
use serde::{Deserialize, Serialize};

/// Fewer absent sessions than this never open it.
pub(crate) const LEAST: usize = 3;
/// More silent than this, in percent.
pub(crate) const SILENT_PERCENT: usize = 30;
/// More closed within one window than this, in percent.
pub(crate) const CLOSED_PERCENT: usize = 90;
/// Another worker that is heard so long after the opening proves that the judge hears.
pub(crate) const PROOF: Millis = Millis::secs(3);
/// Nobody heard, nobody newly absent: then it was not the judge.
pub(crate) const QUIET: Millis = Millis::secs(30);

/// Why it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// So many of so many sessions were silent for half their TTL.
    Silent {
        /// How many.
        absent: usize,
        /// Of how many.
        of: usize,
    },
    /// So many of so many sessions had closed within one window.
    Closed {
        /// How many.
        absent: usize,
        /// Of how many.
        of: usize,
    },
}

impl Opened {
    /// One sentence for people.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Silent { absent, of } => format!("{absent} of {of} workers fell silent at once"),
            Self::Closed { absent, of } => format!("{absent} of {of} workers lost their connections at once"),
        }
    }
}

/// Sessions counted: what a replica tells the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// All that can be heard at all.
    pub sessions: u32,
    /// Silent for half their TTL.
    pub silent: u32,
    /// Closed within one window.
    pub closed: u32,
}

impl std::ops::Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let Self { sessions, silent, closed } = self;
        Self {
            sessions: sessions.saturating_add(other.sessions),
            silent: silent.saturating_add(other.silent),
            closed: closed.saturating_add(other.closed),
        }
    }
}

impl Tally {
    /// Without those of an earlier count that may still be absent.
    fn without(self, earlier: Self) -> Self {
        let silent = self.silent.saturating_sub(earlier.silent);
        let closed = self.closed.saturating_sub(earlier.closed);
        let left_out = (self.silent - silent).max(self.closed - closed);
        Self { sessions: self.sessions.saturating_sub(left_out), silent, closed }
    }

    fn opens(self) -> Option<Opened> {
        let of = self.sessions as usize;
        let more = |n: usize, percent: usize| n >= LEAST && n * 100 > of * percent;
        let (silent, closed) = (self.silent as usize, self.closed as usize);
        if more(silent, SILENT_PERCENT) {
            Some(Opened::Silent { absent: silent, of })
        } else if more(closed, CLOSED_PERCENT) {
            Some(Opened::Closed { absent: closed, of })
        } else {
            None
        }
    }
}

/// What the sessions look like together. Those that were absent at an earlier closing and have not been heard since are
/// left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// All that can be heard at all.
    sessions: usize,
    /// Silent for half their TTL.
    silent: usize,
    /// Closed within one window.
    closed: usize,
    /// Absent in either way.
    pub(super) absent: usize,
    /// The last one became absent then.
    newest: Observed,
    /// The last sign of life of one that is not absent.
    heard: Observed,
}

impl Census {
    pub(super) fn of<'s>(sessions: impl Iterator<Item = &'s Session>, now: Observed) -> Self {
        let mut census = Self::default();
        for session in sessions {
            let (Some(half), false) = (session.half_ttl(), session.ending || session.excused) else { continue };
            census.sessions += 1;
            let silent = now.since(session.heard) > half;
            let closed = session.closed.filter(|(at, _)| now.since(*at) <= session.judged_after_close());
            census.silent += usize::from(silent);
            census.closed += usize::from(closed.is_some());
            let since = closed.map(|(at, _)| at).or_else(|| silent.then(|| session.heard + half));
            match since {
                Some(since) => {
                    census.absent += 1;
                    census.newest = census.newest.max(since);
                }
                None => census.heard = census.heard.max(session.heard),
            }
        }
        census
    }

    pub(super) fn tally(&self) -> Tally {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Tally { sessions: count(self.sessions), silent: count(self.silent), closed: count(self.closed) }
    }

    /// By this home alone, or by the whole cluster.
    fn opens(&self, others: Tally) -> Option<Opened> {
        self.tally().opens().or_else(|| (self.tally() + others).opens())
    }
}

/// How a breaker works. A server's is sound; the others exist so that checks can be shown what they must catch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerMode {
    /// As above.
    #[default]
    Sound,
    /// For histories that are played to see what it would have hidden.
    NeverOpens,
    /// Once open, it stays so.
    NeverCloses,
}

/// The breaker of one replica.
#[derive(Clone, Debug, Default)]
pub(super) struct Breaker {
    open: Option<(Opened, Observed)>,
    /// Of other replicas, absent when it closed: they do not open it again.
    pardoned: Tally,
    mode: BreakerMode,
}

impl Breaker {
    pub(super) fn of(mode: BreakerMode) -> Self {
        Self { mode, ..Self::default() }
    }

    pub(super) fn is_open(&self) -> Option<Opened> {
        self.open.map(|(why, _)| why)
    }

    /// A verdict by absence is due: does it open? True if it just did.
    pub(super) fn doubts(&mut self, census: &Census, others: Tally, now: Observed) -> bool {
        if self.mode == BreakerMode::NeverOpens || self.open.is_some() {
            return false;
        }
        let Tally { silent, closed, .. } = self.pardoned;
        self.pardoned = Tally { silent: silent.min(others.silent), closed: closed.min(others.closed), sessions: 0 };
        self.open = census.opens(others.without(self.pardoned)).map(|why| (why, now));
        self.open.is_some()
    }

    /// It is open, and the judge is punctual: does it close? True if it just did.
    pub(super) fn settles(&mut self, census: &Census, others: Tally, now: Observed) -> bool {
        let Some((_, since)) = self.open else { return false };
        let proved = now.since(since) >= PROOF && census.heard > since;
        let quiet = now.since(since.max(census.newest)) >= QUIET;
        if self.mode == BreakerMode::NeverCloses {
            return false;
        }
        if proved || quiet {
            self.open = None;
            self.pardoned = others;
        }
        proved || quiet
    }
}

/// Sessions that may be written off by absence in a second, whatever the size of the fleet.
pub(crate) const LEAST_SESSIONS: u64 = 50;
/// … or this share of the absent ones.
const SHARE: u64 = 5;
/// Runs that may be queued again by absence in a second.
pub const REAPED_RUNS: u64 = 2_000;

/// What may be taken at once is what a fifth of a second brings.
const BURST: u64 = 200;

/// A token bucket, in observed time.
#[derive(Clone, Debug)]
pub(super) struct Reap {
    /// Thousandths of a session.
    sessions: u64,
    /// Thousandths of a run; negative after a session with many.
    runs: i64,
    filled: Observed,
}

impl Reap {
    pub(super) const fn full(now: Observed) -> Self {
        Self { sessions: LEAST_SESSIONS * BURST, runs: (REAPED_RUNS * BURST).cast_signed(), filled: now }
    }

    /// Takes a session with so many runs out. False: not now.
    pub(super) fn takes(&mut self, runs: usize, absent: usize, now: Observed) -> bool {
        let rate = LEAST_SESSIONS.max(u64::try_from(absent).unwrap_or(u64::MAX) / SHARE);
        let passed = now.since(self.filled).0;
        self.filled = now;
        self.sessions = (self.sessions + passed.saturating_mul(rate)).min(rate * BURST);
        let most = (REAPED_RUNS * BURST).cast_signed();
        self.runs = self.runs.saturating_add_unsigned(passed.saturating_mul(REAPED_RUNS)).min(most);
        if self.sessions < 1_000 || self.runs <= 0 {
            return false;
        }
        self.sessions -= 1_000;
        self.runs -= i64::try_from(runs).unwrap_or(i64::MAX / 1_000).saturating_mul(1_000);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(sessions: usize, silent: usize, closed: usize) -> Census {
        Census { sessions, silent, closed, absent: silent + closed, newest: Observed(0), heard: Observed(0) }
    }

    #[test]
    fn it_opens_for_three_and_the_share_and_not_below() {
        let opens = |sessions, silent, closed| census(sessions, silent, closed).opens(Tally::default()).is_some();
        assert!(opens(9, 3, 0) && !opens(10, 3, 0), "more than 30 %");
        assert!(!opens(2, 2, 0) && !opens(3, 2, 0), "two may simply have died");
        assert!(opens(3, 0, 3) && opens(10, 0, 10));
        assert!(!opens(10, 0, 9), "more than 90 %");
    }

    #[test]
    fn it_closes_when_another_worker_is_heard_or_nobody_new_is_absent() {
        let mut breaker = Breaker::default();
        assert!(breaker.doubts(&census(3, 3, 0), Tally::default(), Observed(10_000)));
        let heard = |at| Census { heard: Observed(at), ..census(4, 3, 0) };
        assert!(!breaker.clone().settles(&heard(11_000), Tally::default(), Observed(12_900)));
        assert!(!breaker.clone().settles(&heard(9_000), Tally::default(), Observed(13_000)), "heard before it opened");
        assert!(breaker.clone().settles(&heard(11_000), Tally::default(), Observed(13_000)));
        let late = Census { newest: Observed(20_000), ..census(4, 4, 0) };
        assert!(!breaker.clone().settles(&late, Tally::default(), Observed(49_900)));
        assert!(breaker.settles(&late, Tally::default(), Observed(50_000)));
        assert_eq!(breaker.is_open(), None);
    }

    #[test]
    fn a_disabled_one_never_opens() {
        assert!(!Breaker::of(BreakerMode::NeverOpens).doubts(&census(100, 100, 0), Tally::default(), Observed(0)));
    }

    #[test]
    fn reaping_is_at_most_fifty_sessions_or_a_fifth_of_the_absent_in_a_second() {
        let count = |absent, runs| {
            let mut reap = Reap::full(Observed(0));
            // What is there at first goes; then one second passes.
            while reap.takes(runs, absent, Observed(0)) {}
            (1..=20)
                .map(|tick| (0..10_000).take_while(|_| reap.takes(runs, absent, Observed(tick * 50))).count())
                .sum::<usize>()
        };
        assert_eq!(count(10, 0), 50);
        assert_eq!(count(1_000, 0), 200);
        assert!(count(50_000, 1) <= 2_400, "the rate, and what may come at once");
        assert!(count(10, 1_000) <= 3, "a session is taken whole, and its runs are owed");
    }
}
