//! A queue's policy: every value that a queue may set, its default, and what is refused.
//!
//! One setting matters for liveness, [`QueuePolicy::lease_ttl`]; beats, trust, windows and ticks derive from it
//! (see [`mod@derive`]). What values can hold together is in [`crate::possible`], what follows from them in [`crate::effective`].

use crate::time::{Millis, Wall};
use serde::{Deserialize, Serialize};

/// The policy of one queue. Durations are texts on the wire (`"10s"`); an unknown field is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueuePolicy {
    /// Silence of this much observed time loses a lease. Between 500 ms and 24 h.
    pub lease_ttl: Millis,
    /// Time between *absent* and *written off*.
    pub offline_grace: Millis,
    /// Claimed and not started for this long (observed): revoked. Costs a loss.
    pub start_timeout: Millis,
    /// For workers that do not beat: this long (observed) since the last sign of life. Costs a loss.
    pub claim_ttl: Millis,
    /// One attempt's longest run, frozen time not counted.
    pub run_timeout: Millis,
    /// No progress, output or checkpoint for this long. Costs an attempt.
    pub progress_timeout: Option<Millis>,
    /// Queued and never claimed for this long (store time): expired.
    pub queue_ttl: Option<Millis>,
    /// Held for this long (store time): expired.
    pub hold_ttl: Millis,
    /// Between TERM and KILL.
    pub cancel_grace: Millis,
    /// Failures of the work before the run fails. At least 1.
    pub max_attempts: u32,
    /// Losses without a new checkpoint between them before the run is quarantined.
    pub max_losses: u32,
    /// Between attempts.
    pub backoff: Backoff,
    /// What a loss does.
    pub on_loss: OnLoss,
    /// What too many losses do.
    pub on_crash_loop: OnCrashLoop,
    /// What an agent does with work whose trust has run out.
    pub on_isolation: OnIsolation,
    /// Whether the end of a connection is evidence.
    pub takeover: Takeover,
    /// Runs of this queue that may be leased at once.
    pub max_running: Option<u32>,
    /// Claims of this queue per time.
    pub rate: Option<Rate>,
    /// What happens to a run that no known worker could take.
    pub admission: Admission,
    /// How long things are kept.
    pub retention: Retention,
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            lease_ttl: Millis::secs(10),
            offline_grace: Millis::ZERO,
            start_timeout: Millis::secs(60),
            claim_ttl: Millis::hours(2),
            run_timeout: Millis::hours(24),
            progress_timeout: None,
            queue_ttl: None,
            hold_ttl: Millis::hours(7 * 24),
            cancel_grace: Millis::secs(10),
            max_attempts: 3,
            max_losses: 5,
            backoff: Backoff::default(),
            on_loss: OnLoss::Retry,
            on_crash_loop: OnCrashLoop::Hold,
            on_isolation: OnIsolation::Freeze,
            takeover: Takeover::Fast,
            max_running: None,
            rate: None,
            admission: Admission::Warn,
            retention: Retention::default(),
        }
    }
}

/// The wait before the n-th next attempt: `initial × factor^(n-1)`, at most `max`, moved by up to ± `jitter` of itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// Before the second attempt.
    pub initial: Millis,
    /// Growth per attempt, at least 1.
    pub factor: f64,
    /// Never more than this.
    pub max: Millis,
    /// Share of the wait that is random, 0 to 1.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Millis::secs(1), factor: 2.0, max: Millis::secs(300), jitter: 0.2 }
    }
}

/// At most `limit` claims in any `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Claims.
    pub limit: u32,
    /// In this much store time.
    pub per: Millis,
}

impl Rate {
    /// Who gets to a queue first may have read the clock later: a claim may lie so far ahead of whoever waited for it.
    const AHEAD: Millis = Millis::secs(30);

    /// Whether a claim counts against the rate now: it does for `per` after it. One that lies far in the future, since a clock
    /// was set back, does not: a rate may not stop a queue for a day.
    #[must_use]
    pub fn counts(self, claim: Wall, now: Wall) -> bool {
        claim.since(now) <= Self::AHEAD.max(self.per) && now.since(claim) < self.per
    }
}

/// How long a queue's history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Terminal runs, with all that belongs to them.
    pub runs: Millis,
    /// Output of terminal runs.
    pub output: Millis,
}

impl Default for Retention {
    fn default() -> Self {
        Self { runs: Millis::hours(14 * 24), output: Millis::hours(3 * 24) }
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
    };
}

choice! {
    /// What a loss does.
    OnLoss {
        /// Queue the run again.
        #[default] Retry,
        /// End it, `lost`.
        Fail,
        /// Hold it for a person.
        Hold,
    }
}
choice! {
    /// What too many losses in a row do.
    OnCrashLoop {
        /// Hold the run, reason `crash_loop`.
        #[default] Hold,
        /// End it, `lost`.
        Lost,
    }
}
choice! {
    /// What the agent does at the trust deadline.
    OnIsolation {
        /// Stop the processes in place; they go on when the lease is confirmed.
        #[default] Freeze,
        /// Nothing: the fence alone protects.
        Continue,
        /// SIGKILL.
        Stop,
    }
}
choice! {
    /// Whether the end of a worker's connection is evidence of its end.
    Takeover {
        /// It is, after `reconnect_window`.
        #[default] Fast,
        /// It is not: only silence counts.
        Strict,
    }
}
choice! {
    /// What happens to a run that no known worker could take.
    Admission {
        /// Accepted, with a warning.
        #[default] Warn,
        /// Refused, with the precise reason.
        Gate,
    }
}

/// The least `lease_ttl`: a beat each 100 ms.
pub const MIN_LEASE_TTL: Millis = Millis(500);
/// The greatest `lease_ttl`.
pub const MAX_LEASE_TTL: Millis = Millis::hours(24);
/// The greatest `offline_grace`.
pub const MAX_OFFLINE_GRACE: Millis = Millis::hours(30 * 24);

impl QueuePolicy {
    /// The terms of a lease that is given now.
    #[must_use]
    pub const fn terms(&self) -> LeaseTerms {
        LeaseTerms { lease_ttl: self.lease_ttl, offline_grace: self.offline_grace, takeover: self.takeover }
    }

    /// What a lease of these terms is judged by; limits that only the server applies are the policy's of now.
    #[must_use]
    pub const fn judged_by(&self, terms: LeaseTerms) -> Liveness {
        let LeaseTerms { lease_ttl, offline_grace, takeover } = terms;
        Liveness { lease_ttl, offline_grace, takeover, ..self.liveness() }
    }

    /// What the engine and the agent need of it.
    #[must_use]
    pub const fn liveness(&self) -> Liveness {
        Liveness {
            lease_ttl: self.lease_ttl,
            offline_grace: self.offline_grace,
            start_timeout: self.start_timeout,
            claim_ttl: self.claim_ttl,
            takeover: self.takeover,
        }
    }
}

/// The part of a policy by which sessions are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Liveness {
    /// See [`QueuePolicy::lease_ttl`].
    pub lease_ttl: Millis,
    /// See [`QueuePolicy::offline_grace`].
    pub offline_grace: Millis,
    /// See [`QueuePolicy::start_timeout`].
    pub start_timeout: Millis,
    /// See [`QueuePolicy::claim_ttl`].
    pub claim_ttl: Millis,
    /// See [`QueuePolicy::takeover`].
    pub takeover: Takeover,
}

/// The terms of a lease: what its worker trusts and by what it is judged, whatever becomes of the queue's policy meanwhile.
/// They are kept with the run: a lease judged by shorter terms than its worker was given would run twice at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseTerms {
    /// See [`QueuePolicy::lease_ttl`].
    pub lease_ttl: Millis,
    /// See [`QueuePolicy::offline_grace`].
    pub offline_grace: Millis,
    /// See [`QueuePolicy::takeover`].
    pub takeover: Takeover,
}

/// Bits of a TTL in [`LeaseTerms::number`]: [`MAX_LEASE_TTL`] has 27.
const TTL_BITS: u32 = 28;

impl LeaseTerms {
    /// One number for a row: TTL, grace and takeover side by side.
    #[must_use]
    pub fn number(self) -> i64 {
        let strict = u64::from(self.takeover == Takeover::Strict);
        let packed = ((self.offline_grace.0 << TTL_BITS) | self.lease_ttl.0) << 1 | strict;
        i64::try_from(packed).unwrap_or(i64::MAX)
    }

    /// Reads a row's number.
    #[must_use]
    pub fn from_number(number: i64) -> Self {
        let packed = u64::try_from(number).unwrap_or(0);
        let takeover = if packed & 1 == 1 { Takeover::Strict } else { Takeover::Fast };
        let lease_ttl = Millis((packed >> 1) & ((1 << TTL_BITS) - 1));
        Self { lease_ttl, offline_grace: Millis(packed >> (TTL_BITS + 1)), takeover }
    }
}

/// Values that follow from `lease_ttl`; shown by `config explain`.
pub mod derive {
    use crate::time::Millis;

    /// How long a worker whose connection ended may take to open another, direct connections.
    pub const RECONNECT_WINDOW: Millis = Millis::secs(1);
    /// The least window behind a proxy, which may close connections for reasons of its own.
    pub const PROXIED_WINDOW_MIN: Millis = Millis::secs(5);

    /// A beat each fifth of the least TTL of a worker's queues: four may be late before trust runs out.
    #[must_use]
    pub const fn heartbeat(least_ttl: Millis) -> Millis {
        Millis(least_ttl.0 / 5)
    }

    /// The reconnect window: 1 s, or 2.5 beats and at least 5 s behind a proxy.
    #[must_use]
    pub fn reconnect_window(heartbeat: Millis, proxied: bool) -> Millis {
        if proxied { heartbeat.percent(250).max(PROXIED_WINDOW_MIN) } else { RECONNECT_WINDOW }
    }

    /// The server applies a limit that the agent keeps so much later.
    #[must_use]
    pub fn backstop_margin(limit: Millis, lease_ttl: Millis) -> Millis {
        limit.percent(5).max(lease_ttl)
    }

    /// The share of a TTL or window for which an agent trusts its lease: it must stop before the judge may act.
    #[must_use]
    pub const fn trusted(of: Millis) -> Millis {
        of.percent(80)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_counts_for_its_window_also_for_who_read_the_clock_before_it() {
        let rate = Rate { limit: 1, per: Millis::secs(2) };
        let counts = |claim, now| rate.counts(Wall(claim), Wall(now));
        assert!(counts(1_000, 1_000) && counts(1_000, 2_999) && !counts(1_000, 3_000));
        assert!(counts(6_000, 1_000), "who waited for the queue has an older clock than who had it");
        assert!(!counts(86_400_000, 1_000), "a clock was set back by a day");
    }

    #[test]
    fn the_terms_of_a_lease_read_back_from_their_number() {
        for takeover in [Takeover::Fast, Takeover::Strict] {
            for (lease_ttl, offline_grace) in [(MIN_LEASE_TTL, Millis::ZERO), (MAX_LEASE_TTL, MAX_OFFLINE_GRACE)] {
                let terms = LeaseTerms { lease_ttl, offline_grace, takeover };
                assert_eq!(LeaseTerms::from_number(terms.number()), terms);
            }
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(serde_json::from_str::<QueuePolicy>(r#"{"lease_ttl":"5s","leese":1}"#).is_err());
        let policy: QueuePolicy = serde_json::from_str(r#"{"lease_ttl":"5s"}"#).unwrap();
        assert_eq!(policy.lease_ttl, Millis::secs(5));
        assert_eq!(policy.max_attempts, 3);
    }
}
