//! The addresses of the replicas, and which one is tried next.
//!
//! Each address has a rest of its own after each failure, longer with each, so that one dead replica never slows the way to a
//! living one: the next in turn whose rest is over is tried at once. When all of them rest, the one that wakes first is waited for.
//!
//! ```text
//!   a  x──rest──x────rest────x────────rest────────        x  a try that failed
//!   b  ·x──rest──x────rest────●                           ●  a session
//! ```

use outlive_core::{Millis, Mono};

/// The first rest, doubled each time: short against the reconnect window.
const FIRST_REST: Millis = Millis(20);
/// The longest rest.
const LONGEST_REST: Millis = Millis::secs(2);
/// Addresses that are remembered at most.
const ADDRESSES: usize = 64;

/// One replica's address, and how it has gone lately.
#[derive(Clone, Debug)]
struct Address {
    name: String,
    /// Tries in a row that came to nothing.
    failures: u32,
    /// Not tried before.
    rests_until: Mono,
}

/// All of them; one is the one that is tried next, or that answers.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    all: Vec<Address>,
    at: usize,
    random: u64,
}

impl Addresses {
    /// At least one; `seed` spreads reconnects of many agents.
    pub(super) fn new(names: &[String], seed: u64) -> Self {
        Self { all: names.iter().map(|name| Address::new(name)).collect(), at: 0, random: seed | 1 }
    }

    /// Which one is next, or answers.
    pub(super) fn here(&self) -> &str {
        &self.all[self.at].name
    }

    /// All, beginning with that one.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.all.iter().cycle().skip(self.at).take(self.all.len()).map(|address| address.name.as_str())
    }

    /// Another try at this one: a server spoke there, and its end is news. When.
    pub(super) fn stay(&mut self, name: &str, now: Mono) -> Mono {
        self.answers(name);
        now + self.spread(FIRST_REST)
    }

    /// This one did not answer: it rests, no longer than a beat. The next try is at another one, or at this one if there is no other
    /// that wakes sooner. When.
    pub(super) fn leave(&mut self, name: &str, beat: Millis, now: Mono) -> Mono {
        if let Some(at) = self.find(name) {
            self.at = at;
            let longest = FIRST_REST
                .0
                .saturating_mul(1 << self.all[at].failures.min(16))
                .min(LONGEST_REST.0)
                .min(beat.0.max(FIRST_REST.0));
            let rest = self.spread(Millis(longest));
            let failed = &mut self.all[at];
            failed.failures += 1;
            failed.rests_until = now + rest;
        }
        let others = (1..=self.all.len()).map(|step| (self.at + step) % self.all.len());
        let next = others.min_by_key(|&at| self.all[at].rests_until.max(now)).unwrap_or(self.at);
        self.at = next;
        self.all[next].rests_until.max(now)
    }

    /// This one answers: what failed before belongs to another trouble.
    pub(super) fn answers(&mut self, name: &str) {
        if let Some(at) = self.find(name) {
            self.at = at;
            self.all[at].failures = 0;
            self.all[at].rests_until = Mono(0);
        }
    }

    /// What a server calls its replicas.
    pub(super) fn learn(&mut self, names: &[String]) {
        for name in names {
            if self.all.len() < ADDRESSES && self.find(name).is_none() {
                self.all.push(Address::new(name));
            }
        }
    }

    /// These are to be tried before all others, rested or not: a server that goes away names them.
    pub(super) fn prefer(&mut self, names: &[String]) {
        if names.is_empty() {
            return;
        }
        let first: Vec<_> = names.iter().map(|name| Address::new(name)).collect();
        self.all.retain(|known| !first.iter().any(|new| new.name == known.name));
        self.all.splice(0..0, first);
        self.all.truncate(ADDRESSES);
        self.at = 0;
    }

    fn find(&self, name: &str) -> Option<usize> {
        let name = plain(name);
        self.all.iter().position(|known| known.name == name)
    }

    /// Between half of it and all of it.
    fn spread(&mut self, longest: Millis) -> Millis {
        Millis(longest.0 / 2 + self.random() % (longest.0 / 2 + 1))
    }

    /// xorshift64: spreads reconnects, nothing more.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

impl Address {
    fn new(name: &str) -> Self {
        Self { name: plain(name).to_owned(), failures: 0, rests_until: Mono(0) }
    }
}

/// `host:port`, however it was written.
fn plain(name: &str) -> &str {
    name.trim_start_matches("http://").trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Millis = Millis::secs(2);

    fn three() -> Addresses {
        Addresses::new(&["http://a:1/".into(), "b:1".into(), "c:1".into()], 7)
    }

    #[test]
    fn after_a_failure_the_next_one_is_tried_at_once_and_a_rest_is_the_failed_one_s_own() {
        let mut all = three();
        assert_eq!((all.leave("a:1", BEAT, Mono(100)), all.here()), (Mono(100), "b:1"));
        assert_eq!((all.leave("b:1", BEAT, Mono(100)), all.here()), (Mono(100), "c:1"));
        let woken = all.leave("c:1", BEAT, Mono(100));
        assert!((Mono(110)..=Mono(120)).contains(&woken), "all rest: the first to wake is waited for, {woken:?}");
    }

    #[test]
    fn rests_double_up_to_their_longest() {
        let mut one = Addresses::new(&["a:1".into()], 7);
        let rests: Vec<u64> = (0..12).map(|_| one.leave("a:1", BEAT, Mono(0)).0).collect();
        for (n, rest) in rests.iter().enumerate() {
            let longest = (20u64 << n).min(2_000);
            assert!((longest / 2..=longest).contains(rest), "rest {n}: {rests:?}");
        }
        assert!(one.leave("a:1", Millis(600), Mono(0)) <= Mono(600), "a short lease cannot wait for so long");
    }

    #[test]
    fn one_that_answers_begins_anew() {
        let mut all = three();
        for _ in 0..8 {
            all.leave("a:1", BEAT, Mono(0));
        }
        all.answers("http://a:1");
        assert_eq!((all.here(), all.all[all.at].failures), ("a:1", 0));
        assert!(all.stay("a:1", Mono(50)) <= Mono(70));
    }

    #[test]
    fn a_dead_one_does_not_slow_the_way_to_a_living_one() {
        let mut all = three();
        for now in 0..20 {
            all.leave("a:1", BEAT, Mono(now));
        }
        assert_ne!(all.here(), "a:1");
        assert_eq!(all.leave("b:1", BEAT, Mono(30)), Mono(30), "c has not failed");
        assert_eq!(all.here(), "c:1");
    }

    #[test]
    fn named_ones_come_first_and_learned_ones_last() {
        let mut all = three();
        all.learn(&["http://d:1".into(), "b:1".into()]);
        all.prefer(&["c:1".into(), "e:1".into()]);
        let mut order = vec![all.here().to_owned()];
        for _ in 0..4 {
            let here = all.here().to_owned();
            all.leave(&here, BEAT, Mono(0));
            order.push(all.here().to_owned());
        }
        assert_eq!(order, ["c:1", "e:1", "a:1", "b:1", "d:1"]);
    }

    #[test]
    fn more_than_a_limit_are_not_remembered() {
        let mut all = three();
        all.learn(&(0..200).map(|n| format!("r{n}:1")).collect::<Vec<_>>());
        assert_eq!(all.all.len(), ADDRESSES);
    }
}
