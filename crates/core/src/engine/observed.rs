//! Observed time: the judge's own clock, which runs only while it could have heard.
//!
//! ```text
//!   process clock   ──┬──┬──┬──┬──────── stall ────────┬──┬──┬──
//!   observed time   ──┬──┬──┬──┬──┬──┬──          (nothing for the stall)
//! ```
//!
//! Per tick it advances by at most two ticks, and by nothing while the store is unhealthy or when the tick itself comes late:
//! a stall that added anything at all would let a verdict come earlier than without it (I4; the simulation plays recorded
//! inputs with a stall inserted). It never passes the send time of
//! the last beat that the replica sent to itself through its own listener and heard: if that path is slow, so is everybody
//! else's, and nobody may be blamed. A stalled process, stopped VM, starved processor, database outage, restart or clock jump
//! therefore adds nothing to anyone's age (restate#5156; Cassandra's local-pause guard; Lifeguard, arXiv 1707.00788).

use crate::time::{Millis, Mono, Observed};

/// The judge's tick.
pub const TICK: Millis = Millis(50);
/// What one tick may add.
const MOST_PER_TICK: Millis = Millis(2 * TICK.0);
/// Punctual ticks that a verdict by absence needs after a stall.
pub(crate) const PUNCTUAL_TICKS: u32 = 5;
/// A store without a commit for this long is not healthy.
pub(crate) const STORE_SILENCE: Millis = Millis::secs(2);
/// A write that waits this long means the same.
pub(crate) const STORE_PENDING: Millis = Millis(500);
/// The way through its own listener may take this long before the judge calls itself late.
const INGEST_LATE: Millis = Millis(4 * TICK.0);

/// What the shell saw since the last tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Senses {
    /// Since the store's last commit.
    pub since_commit: Millis,
    /// How long the oldest write has waited.
    pub pending_write: Option<Millis>,
    /// When the last self-beat that was heard had been sent; none before the first.
    pub self_beat_sent: Option<Mono>,
}

impl Senses {
    const fn store_is_healthy(&self) -> bool {
        let pending = match self.pending_write {
            Some(waited) => waited.0,
            None => 0,
        };
        self.since_commit.0 <= STORE_SILENCE.0 && pending < STORE_PENDING.0
    }
}

/// Why no verdict by absence may be given now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBack {
    /// It has just started, or was stopped or starved, and has not ticked punctually since.
    Stalled,
    /// The store does not commit.
    Store,
    /// Its own listener is slow.
    Ingest,
}

impl HeldBack {
    /// One sentence for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Stalled => "this server was just started, stopped or starved and has not ticked punctually since",
            Self::Store => "the store does not commit",
            Self::Ingest => "this server's own listener is slow",
        }
    }
}

/// The clock.
#[derive(Clone, Debug)]
pub struct ObservedClock {
    now: Observed,
    last_tick: Mono,
    credited_to: Mono,
    punctual: u32,
    held_back: Option<HeldBack>,
    store_commits: bool,
    /// Punctual ticks in a row in which it could hear, whatever the store did.
    hearing: u32,
    /// The last moment at which it could hear.
    deaf_since: Mono,
}

impl ObservedClock {
    /// Goes on from where the store's clock stopped. `now` is the process's clock.
    #[must_use]
    pub const fn starting_at(observed: Observed, now: Mono) -> Self {
        Self {
            now: observed,
            last_tick: now,
            credited_to: now,
            punctual: 0,
            held_back: Some(HeldBack::Stalled),
            store_commits: true,
            hearing: 0,
            deaf_since: now,
        }
    }

    /// Observed time.
    #[must_use]
    pub const fn now(&self) -> Observed {
        self.now
    }

    /// What observed time will be at most when the tick that covers `now` has been counted: the stamp for what happens between
    /// two ticks. With the last tick's value, ages would begin up to a tick before what they are the age of.
    #[must_use]
    pub fn stamp(&self, now: Mono) -> Observed {
        self.now + now.since(self.credited_to).min(MOST_PER_TICK)
    }

    /// How long the judge has not been able to hear punctually; zero if it is. Between a stall and the tick that finds it, the
    /// clock itself tells. A store that does not commit makes nobody deaf: what comes in is heard before any store work.
    #[must_use]
    pub fn deaf_for(&self, now: Mono) -> Millis {
        if self.hearing >= PUNCTUAL_TICKS && now.since(self.last_tick) <= MOST_PER_TICK {
            return Millis::ZERO;
        }
        now.since(self.deaf_since)
    }

    /// Whether a verdict by absence may be given, and if not, why.
    #[must_use]
    pub const fn held_back(&self) -> Option<HeldBack> {
        self.held_back
    }

    /// Whether the store committed when the last tick looked, whatever else holds verdicts back.
    #[must_use]
    pub const fn store_commits(&self) -> bool {
        self.store_commits
    }

    /// One tick at `now`.
    pub fn tick(&mut self, now: Mono, senses: &Senses) {
        let elapsed = now.since(self.last_tick);
        self.last_tick = self.last_tick.max(now);
        let heard_up_to = senses.self_beat_sent.unwrap_or(self.credited_to).min(now);
        let step = heard_up_to.since(self.credited_to);
        let stalled = elapsed > MOST_PER_TICK;
        // What a beat that is still on its way says about the time before this tick, it says about a stall.
        self.credited_to = self.credited_to.max(if stalled { now } else { heard_up_to });
        let store = senses.store_is_healthy();
        self.store_commits = store;
        if store && !stalled {
            self.now = self.now + step.min(MOST_PER_TICK);
        }
        let ingest_late = now.since(heard_up_to) > INGEST_LATE;
        let fault = if stalled {
            Some(HeldBack::Stalled)
        } else if !store {
            Some(HeldBack::Store)
        } else if ingest_late {
            Some(HeldBack::Ingest)
        } else {
            None
        };
        self.hearing = if stalled || ingest_late { 0 } else { self.hearing.saturating_add(1) };
        if self.hearing >= PUNCTUAL_TICKS {
            self.deaf_since = now;
        }
        if fault.is_some() {
            self.punctual = 0;
            self.held_back = fault;
            return;
        }
        self.punctual = self.punctual.saturating_add(1);
        if self.punctual >= PUNCTUAL_TICKS {
            self.held_back = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy(now: u64) -> Senses {
        Senses { since_commit: Millis(10), pending_write: None, self_beat_sent: Some(Mono(now)) }
    }

    fn punctual(clock: &mut ObservedClock, from: u64, ticks: u64) -> u64 {
        let mut now = from;
        for _ in 0..ticks {
            now += TICK.0;
            clock.tick(Mono(now), &healthy(now));
        }
        now
    }

    #[test]
    fn a_punctual_judge_observes_all_time() {
        let mut clock = ObservedClock::starting_at(Observed(1_000), Mono(0));
        punctual(&mut clock, 0, 20);
        assert_eq!(clock.now(), Observed(2_000));
        assert_eq!(clock.held_back(), None);
    }

    #[test]
    fn a_stall_adds_nothing_and_holds_verdicts_back_for_five_ticks() {
        let mut clock = ObservedClock::starting_at(Observed(0), Mono(0));
        let now = punctual(&mut clock, 0, 20) + 300_000;
        let before = clock.now();
        clock.tick(Mono(now), &healthy(now));
        assert_eq!(clock.now(), before);
        assert_eq!(clock.held_back(), Some(HeldBack::Stalled));
        // The beat that was sent before the stall may be heard only now; it adds nothing either.
        clock.tick(Mono(now + 50), &healthy(now));
        assert_eq!(clock.now(), before);
        let now = punctual(&mut clock, now + 50, 3);
        assert!(clock.held_back().is_some());
        punctual(&mut clock, now, 1);
        assert_eq!(clock.held_back(), None);
    }

    #[test]
    fn nothing_is_observed_while_the_store_does_not_commit() {
        let mut clock = ObservedClock::starting_at(Observed(0), Mono(0));
        let start = punctual(&mut clock, 0, 10);
        let before = clock.now();
        for (n, senses) in [
            Senses { since_commit: Millis(2_001), ..healthy(start + 50) },
            Senses { pending_write: Some(Millis(500)), ..healthy(start + 100) },
        ]
        .iter()
        .enumerate()
        {
            clock.tick(Mono(start + 50 * (n as u64 + 1)), senses);
        }
        assert_eq!(clock.now(), before);
        assert_eq!(clock.held_back(), Some(HeldBack::Store));
    }

    #[test]
    fn observed_time_never_passes_the_last_self_beat() {
        let mut clock = ObservedClock::starting_at(Observed(0), Mono(0));
        let start = punctual(&mut clock, 0, 10);
        let before = clock.now();
        for n in 1..=40 {
            let senses = Senses { self_beat_sent: Some(Mono(start)), ..healthy(0) };
            clock.tick(Mono(start + 50 * n), &senses);
        }
        assert_eq!(clock.now(), before);
        assert_eq!(clock.held_back(), Some(HeldBack::Ingest));
    }

    #[test]
    fn a_stamp_is_never_before_what_it_stamps() {
        let mut clock = ObservedClock::starting_at(Observed(0), Mono(0));
        let at = punctual(&mut clock, 0, 10);
        let stamp = clock.stamp(Mono(at + 49));
        assert_eq!(stamp.since(clock.now()), Millis(49));
        punctual(&mut clock, at, 1);
        assert!(clock.now() >= stamp && clock.now().since(stamp) <= Millis(1));
        let after_stall = clock.stamp(Mono(at + 60_000));
        assert_eq!(after_stall.since(clock.now()), MOST_PER_TICK);
    }

    #[test]
    fn a_stall_is_known_before_the_tick_that_finds_it_and_until_the_judge_is_punctual_again() {
        let mut clock = ObservedClock::starting_at(Observed(0), Mono(0));
        let at = punctual(&mut clock, 0, 10);
        assert_eq!(clock.deaf_for(Mono(at + 60)), Millis::ZERO);
        assert!(clock.deaf_for(Mono(at + 60_000)) >= Millis(60_000));
        let woken = at + 60_000;
        clock.tick(Mono(woken), &healthy(woken));
        let now = punctual(&mut clock, woken, 4);
        assert!(clock.deaf_for(Mono(now)) >= Millis(60_000));
        let now = punctual(&mut clock, now, 1);
        assert_eq!(clock.deaf_for(Mono(now)), Millis::ZERO);
    }

    #[test]
    fn a_clock_that_goes_back_adds_nothing() {
        let mut clock = ObservedClock::starting_at(Observed(0), Mono(10_000));
        clock.tick(Mono(5_000), &healthy(5_000));
        assert_eq!(clock.now(), Observed(0));
    }
}
