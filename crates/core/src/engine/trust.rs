//! How long an agent may believe that a lease is still its own.
//!
//! Each run has a *trust deadline* on a clock that counts suspend. At the deadline its work is frozen, before the earliest
//! moment at which a judge may give the run to somebody else:
//!
//! ```text
//!   beat sent ──► heard by the judge ─────────── lease_ttl + grace ───────────► may be written off     (evidence 5)
//!   beat sent ─────────── 0.8 lease_ttl + grace ──────────► frozen
//!
//!   connection ended, seen by both ───────────── window + grace ──────────────► may be written off     (evidence 4)
//!                 noticed ─────── 0.8 window + grace ──────► frozen
//! ```
//!
//! An acknowledged beat was heard *after* it was sent, so counting from the sending is on the safe side. Behind a proxy the
//! agent may notice the end of its connection long after the server did, or never: there each acknowledged beat is worth no
//! more than the window, counted from its sending, whether an end is noticed or not. The end of a connection only ever shortens
//! trust (but for a planned one, which the server itself has announced); only an acknowledged beat lengthens it.

use crate::policy::{Takeover, derive};
use crate::time::{Millis, Mono};

/// What a lease says about trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Terms {
    /// The queue's `lease_ttl`.
    pub lease_ttl: Millis,
    /// The queue's `offline_grace`.
    pub offline_grace: Millis,
    /// Whether the end of a connection is evidence against the run.
    pub strict: bool,
}

impl Terms {
    /// From the fields of a lease.
    #[must_use]
    pub fn new(lease_ttl: Millis, offline_grace: Millis, takeover: Takeover) -> Self {
        Self { lease_ttl, offline_grace, strict: takeover == Takeover::Strict }
    }
}

/// The deadline that an acknowledged beat gives, from the time at which the beat was *sent*. `hides_ends`: a proxy stands between
/// and may hide the end of the connection; the server's window for it.
#[must_use]
pub fn after_ack(terms: Terms, sent: Mono, hides_ends: Option<Millis>) -> Mono {
    let window = hides_ends.filter(|_| !terms.strict).unwrap_or(terms.lease_ttl);
    sent + derive::trusted(terms.lease_ttl.min(window)) + terms.offline_grace
}

/// The end of a connection, as the agent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When the agent noticed EOF or RST.
    pub noticed: Mono,
    /// When the last beat that was acknowledged had been sent.
    pub last_heard: Mono,
    /// The server's reconnect window for this worker.
    pub window: Millis,
    /// Something stands between agent and server and may have hidden the end.
    pub proxied: bool,
    /// A planned `close` promised that nothing is taken before this.
    pub kept_until: Option<Mono>,
}

/// The deadline after the end of a connection: never later than `deadline`.
#[must_use]
pub fn after_end(terms: Terms, deadline: Mono, ended: Ended) -> Mono {
    if terms.strict {
        return deadline;
    }
    let from = if ended.proxied { ended.last_heard } else { ended.noticed };
    let shortened = from + derive::trusted(ended.window) + terms.offline_grace;
    let Some(kept) = ended.kept_until else { return deadline.min(shortened) };
    // Nothing was hidden: of the announced end the server has said what follows from it.
    let full = if ended.proxied { after_ack(terms, ended.last_heard, None) } else { deadline };
    deadline.max(full).min(shortened.max(kept))
}

/// Whether the work of a run must stand still.
#[must_use]
pub fn is_over(deadline: Mono, now: Mono) -> bool {
    now >= deadline
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { lease_ttl: Millis(10_000), offline_grace: Millis(500), strict: false };

    fn ended(noticed: u64) -> Ended {
        Ended {
            noticed: Mono(noticed),
            last_heard: Mono(noticed - 1_500),
            window: Millis(1_000),
            proxied: false,
            kept_until: None,
        }
    }

    #[test]
    fn an_acknowledged_beat_is_worth_four_fifths_of_the_ttl_from_its_sending() {
        assert_eq!(after_ack(TERMS, Mono(1_000), None), Mono(9_500));
    }

    #[test]
    fn the_end_of_a_connection_shortens_trust_to_four_fifths_of_the_window() {
        assert_eq!(after_end(TERMS, Mono(50_000), ended(20_000)), Mono(21_300));
    }

    #[test]
    fn the_end_of_a_connection_never_lengthens_trust() {
        assert_eq!(after_end(TERMS, Mono(20_100), ended(20_000)), Mono(20_100));
        let kept = Ended { kept_until: Some(Mono(90_000)), ..ended(20_000) };
        assert_eq!(after_end(TERMS, Mono(20_100), kept), Mono(20_100));
    }

    #[test]
    fn behind_a_proxy_the_count_starts_at_the_last_beat_that_was_heard() {
        let proxied = Ended { proxied: true, window: Millis(5_000), ..ended(20_000) };
        assert_eq!(after_end(TERMS, Mono(50_000), proxied), Mono(18_500 + 4_000 + 500));
    }

    #[test]
    fn behind_a_proxy_that_may_hide_the_end_a_beat_is_worth_no_more_than_the_window() {
        assert_eq!(after_ack(TERMS, Mono(1_000), Some(Millis(5_000))), Mono(1_000 + 4_000 + 500));
        assert_eq!(after_ack(TERMS, Mono(1_000), Some(Millis(60_000))), Mono(9_500));
        let strict = Terms { strict: true, ..TERMS };
        assert_eq!(after_ack(strict, Mono(1_000), Some(Millis(5_000))), Mono(9_500), "no end is evidence");
    }

    #[test]
    fn a_planned_close_behind_a_proxy_keeps_what_it_promised() {
        let ended = Ended { proxied: true, window: Millis(5_000), kept_until: Some(Mono(25_000)), ..ended(20_000) };
        let deadline = after_ack(TERMS, ended.last_heard, Some(ended.window));
        assert_eq!(after_end(TERMS, deadline, ended), Mono(25_000));
        let long = Ended { kept_until: Some(Mono(90_000)), ..ended };
        assert_eq!(after_end(TERMS, deadline, long), after_ack(TERMS, ended.last_heard, None));
    }

    #[test]
    fn under_strict_takeover_the_end_of_a_connection_changes_nothing() {
        let strict = Terms { strict: true, ..TERMS };
        assert_eq!(after_end(strict, Mono(50_000), ended(20_000)), Mono(50_000));
    }

    #[test]
    fn a_planned_close_keeps_trust_as_long_as_it_promised() {
        let kept = Ended { kept_until: Some(Mono(28_000)), ..ended(20_000) };
        assert_eq!(after_end(TERMS, Mono(50_000), kept), Mono(28_000));
        let briefly = Ended { kept_until: Some(Mono(20_200)), ..ended(20_000) };
        assert_eq!(after_end(TERMS, Mono(50_000), briefly), Mono(21_300));
    }

    /// The agent must stop before the judge may act, whatever the settings. The judge hears a beat after it was sent and sees
    /// an end at about the time at which the agent does; the margin is what clocks and scheduling may differ by.
    #[test]
    fn trust_runs_out_before_any_verdict_by_absence() {
        for ttl in [500, 1_000, 3_000, 10_000, 3_600_000] {
            for grace in [0, 250, 60_000] {
                let terms = Terms { lease_ttl: Millis(ttl), offline_grace: Millis(grace), strict: false };
                let sent = Mono(7_000);
                let silence_verdict = sent + terms.lease_ttl + terms.offline_grace;
                assert!(after_ack(terms, sent, None) + Millis(ttl / 5) <= silence_verdict);
                let end = ended(9_000);
                let closed_verdict = end.noticed + end.window + terms.offline_grace;
                assert!(after_end(terms, Mono(u64::MAX), end) + Millis(200) <= closed_verdict);
                // A proxy may end the connection right behind the beat, and tell the server alone.
                let window = derive::reconnect_window(derive::heartbeat(terms.lease_ttl), true);
                let hidden_verdict = sent + window + terms.offline_grace;
                assert!(after_ack(terms, sent, Some(window)) + Millis(100) <= hidden_verdict);
            }
        }
    }
}
