//! What was done, to whom, and when: what explains a loss, and what does not. Pure.
//!
//! Times are of the machine's wall clock, which the database shares.

use outlive_core::{Incarnation, Millis, Reason, Wall};

/// What was done to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// SIGKILL to the agent, until its next start.
    Killed,
    /// SIGSTOP, for longer than a lease.
    Stopped,
    /// Two SIGTERM: it hands its work back.
    Released,
}

/// One deed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What.
    pub deed: Deed,
    /// To which worker.
    pub worker: String,
    /// Which of its starts.
    pub incarnation: Incarnation,
    /// Its connections go over a link.
    pub linked: bool,
    /// From when on.
    pub from: Wall,
    /// Its end: the next start, the waking. None yet: it lasts.
    pub to: Option<Wall>,
}

/// A time in which replicas, database or the network between them were not as they should be: from the blow until everything
/// answered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which.
    pub what: String,
    /// From when on.
    pub from: Wall,
    /// Until when.
    pub to: Option<Wall>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// To workers.
    pub deeds: Vec<Line>,
    /// To everything else.
    pub troubles: Vec<Trouble>,
}

/// An attempt that was closed by its worker's fault or absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Whose it was.
    pub worker: String,
    /// Which of its starts.
    pub incarnation: Incarnation,
    /// When it was claimed.
    pub claimed: Wall,
    /// When it was closed.
    pub ended: Wall,
    /// Why.
    pub reason: Reason,
}

/// A stopped worker was heard at most so long before it was stopped: a beat, and something for the way.
const HEARD_BEFORE: Millis = Millis(2_500);
/// After it woke, what it held is settled by then: its beat, a verdict that was under way, and a store that hesitates.
const AFTERMATH: Millis = Millis::secs(30);

impl Ledger {
    /// What explains a loss: a deed to that start of its worker, of the right kind and not too early for it.
    #[must_use]
    pub fn explains(&self, loss: &Loss, lease_ttl: Millis) -> Option<&Line> {
        self.deeds.iter().find(|line| {
            let released = loss.reason == Reason::LeaseReleased || loss.reason == Reason::WorkerLeft;
            line.worker == loss.worker
                && line.incarnation == loss.incarnation
                && match line.deed {
                    Deed::Killed => loss.ended >= line.from && !released,
                    Deed::Stopped => {
                        let early = line.from + lease_ttl - HEARD_BEFORE;
                        let late = line.to.map_or(Wall(i64::MAX), |to| to + AFTERMATH);
                        let held = line.to.is_none_or(|to| loss.claimed <= to);
                        (early..=late).contains(&loss.ended) && held && !released
                    }
                    Deed::Released => loss.ended >= line.from && released,
                }
        })
    }

    /// For how long something else was in trouble between two moments, each trouble by itself; and how many there were.
    #[must_use]
    pub fn troubled(&self, from: Wall, to: Wall) -> (Millis, usize) {
        let in_it = self.troubles.iter().filter(|t| t.from <= to && t.to.is_none_or(|end| end >= from));
        in_it.fold((Millis::ZERO, 0), |(sum, many), trouble| {
            let (from, to) = (from.max(trouble.from), trouble.to.map_or(to, |end| end.min(to)));
            (sum + to.since(from), many + 1)
        })
    }

    /// Other workers that were killed or stopped at the same time, more or less: the breaker may have thought of it.
    #[must_use]
    pub fn beside(&self, line: &Line) -> usize {
        let near = |other: &&Line| {
            let apart = other.from.since(line.from).max(line.from.since(other.from));
            other.worker != line.worker && other.deed != Deed::Released && apart <= AFTERMATH
        };
        self.deeds.iter().filter(near).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Millis = Millis::secs(10);

    fn ledger(deed: Deed) -> Ledger {
        let (worker, incarnation) = ("w".to_owned(), Incarnation(1));
        let line = Line { deed, worker, incarnation, linked: false, from: Wall(100_000), to: Some(Wall(120_000)) };
        Ledger { deeds: vec![line], troubles: Vec::new() }
    }

    fn loss(claimed: i64, ended: i64, reason: Reason) -> Loss {
        let (claimed, ended) = (Wall(claimed), Wall(ended));
        Loss { worker: "w".to_owned(), incarnation: Incarnation(1), claimed, ended, reason }
    }

    fn is_explained(deed: Deed, loss: &Loss) -> bool {
        ledger(deed).explains(loss, TTL).is_some()
    }

    #[test]
    fn a_kill_explains_what_that_start_lost_after_it() {
        let gone = Reason::WorkerDisconnected;
        assert!(is_explained(Deed::Killed, &loss(90_000, 101_200, gone)));
        assert!(!is_explained(Deed::Killed, &loss(90_000, 99_000, gone)), "lost before the kill");
        let next = Loss { incarnation: Incarnation(2), ..loss(121_000, 122_000, gone) };
        assert!(!is_explained(Deed::Killed, &next), "the next start's");
        let other = Loss { worker: "v".to_owned(), ..loss(90_000, 101_200, gone) };
        assert!(!is_explained(Deed::Killed, &other), "another worker's");
        assert!(
            !is_explained(Deed::Killed, &loss(90_000, 101_200, Reason::LeaseReleased)),
            "the dead hand nothing back"
        );
    }

    #[test]
    fn a_stop_explains_no_loss_before_a_lease_is_over() {
        let silent = Reason::WorkerHeartbeatLost;
        assert!(is_explained(Deed::Stopped, &loss(90_000, 109_000, silent)));
        assert!(!is_explained(Deed::Stopped, &loss(90_000, 104_000, silent)));
        assert!(!is_explained(Deed::Stopped, &loss(90_000, 151_000, silent)), "long after it woke");
    }

    #[test]
    fn troubles_between_two_moments_are_added() {
        let trouble = |from, to: Option<i64>| Trouble { what: String::new(), from: Wall(from), to: to.map(Wall) };
        let ledger =
            Ledger { deeds: vec![], troubles: vec![trouble(10, Some(20)), trouble(50, None), trouble(200, None)] };
        assert_eq!(ledger.troubled(Wall(15), Wall(100)), (Millis(5 + 50), 2));
        assert_eq!(ledger.troubled(Wall(30), Wall(40)), (Millis(0), 0));
    }
}
