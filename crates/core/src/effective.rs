//! Effective settings, as `config explain` and `GET /v1/server` show them: each value with where it comes from.
//!
//! | origin | is |
//! |---|---|
//! | `default` | nobody said anything else |
//! | `queue policy` | the queue's policy says it |
//! | `derived: …` | follows from others, by this rule |
//! | `fixed: …` | the same for everybody, for this reason |
//!
//! Flags, environment and files have origins of their own; whoever reads them adds them.

use crate::engine::{breaker, observed, replicas};
use crate::given::GivenPolicy;
use crate::limits::sizes;
use crate::policy::{QueuePolicy, Takeover, derive};
use crate::time::Millis;
use serde_json::Value;
use std::fmt;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything else.
    Default,
    /// The queue's policy says it.
    Policy,
    /// It follows from others, by this rule.
    Derived(&'static str),
    /// It is the same for everybody, for this reason.
    Fixed(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Policy => f.write_str("queue policy"),
            Self::Derived(rule) => write!(f, "derived: {rule}"),
            Self::Fixed(why) => write!(f, "fixed: {why}"),
        }
    }
}

/// A setting as it acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl Effective {
    fn derived(name: &str, value: Millis, rule: &'static str) -> Self {
        Self { name: name.to_owned(), value: value.to_string(), origin: Origin::Derived(rule) }
    }

    fn fixed(name: &str, value: impl fmt::Display, why: &'static str) -> Self {
        Self { name: name.to_owned(), value: value.to_string(), origin: Origin::Fixed(why) }
    }
}

/// Every value of a policy, as `queue.NAME`.
#[must_use]
pub fn policy(given: &GivenPolicy) -> Vec<Effective> {
    let mut found = Vec::new();
    let Ok(Value::Object(all)) = serde_json::to_value(given.policy()) else { return found };
    let mut push = |name: String, value: &Value| {
        let whole = name.split_once('.').map_or(name.as_str(), |(outer, _)| outer);
        let said = given.says(&name) || (given.says(whole) && matches!(given.value(whole), Some(Value::Null)));
        let origin = if said { Origin::Policy } else { Origin::Default };
        found.push(Effective { name: format!("queue.{name}"), value: plain(value), origin });
    };
    for (name, value) in all {
        match value {
            Value::Object(inner) => inner.iter().for_each(|(key, value)| push(format!("{name}.{key}"), value)),
            other => push(name, &other),
        }
    }
    found
}

/// A value of a policy for people; null is `none`.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}

/// What follows from a policy.
#[must_use]
pub fn derived(policy: &QueuePolicy) -> Vec<Effective> {
    let (ttl, grace) = (policy.lease_ttl, policy.offline_grace);
    let beat = derive::heartbeat(ttl);
    let window = derive::reconnect_window(beat, false);
    let fast = policy.takeover == Takeover::Fast;
    let mut found = vec![
        Effective::derived("heartbeat", beat, "lease_ttl / 5, of the least lease_ttl of the worker's queues"),
        Effective::derived(
            "unanswered",
            beat + beat,
            "2 × heartbeat; then the worker tries the next address, and its trust stays as it is",
        ),
        Effective::derived(
            "trust",
            derive::trusted(ttl) + grace,
            "0.8 × lease_ttl + offline_grace after the last acknowledged beat; then its work is frozen",
        ),
        Effective::derived("reconnect_window", window, "1s; the end of a connection is a loss after it"),
        Effective::derived(
            "reconnect_window_proxied",
            derive::reconnect_window(beat, true),
            "2.5 × heartbeat, at least 5s, where a proxy stands between",
        ),
        Effective::derived(
            "trust_disconnected",
            derive::trusted(window) + grace,
            "0.8 × reconnect_window + offline_grace after the connection ended",
        ),
        Effective::derived(
            "suspect_after",
            beat.percent(250),
            "2.5 × heartbeat of silence, or the end of the connection; then it takes nothing new",
        ),
        Effective::derived(
            "lost_after_disconnect",
            if fast { window + grace } else { ttl + grace },
            if fast { "reconnect_window + offline_grace" } else { "takeover = strict: lease_ttl + offline_grace" },
        ),
        Effective::derived("lost_after_silence", ttl + grace, "lease_ttl + offline_grace, in observed time"),
        Effective::derived(
            "revoked_for",
            ttl + grace,
            "lease_ttl + offline_grace since its last confirmation; so long a revoked lease waits for its worker's word",
        ),
        Effective::derived(
            "breaker_silent_after",
            ttl.percent(50),
            "lease_ttl / 2; so long unheard, a worker counts as one of many that vanish at once",
        ),
        Effective::derived("breaker_grace", ttl.percent(50), "lease_ttl / 2 more for the absent, once it has closed"),
        Effective::derived(
            "run_timeout_backstop",
            policy.run_timeout + derive::backstop_margin(policy.run_timeout, ttl),
            "run_timeout + max(5 %, lease_ttl); then the server applies what the agent should have",
        ),
        Effective::derived("run_overdue", policy.run_timeout.percent(80), "80 % of run_timeout; then it is shown"),
        Effective::derived(
            "start_overdue",
            policy.start_timeout.percent(80),
            "80 % of start_timeout; then it is shown",
        ),
    ];
    if let Some(limit) = policy.progress_timeout {
        let stalled = limit.percent(50);
        found.push(Effective::derived(
            "progress_stalled",
            stalled,
            "progress_timeout / 2; then it is shown as stalled",
        ));
    }
    found
}

/// What is the same for everybody: the judge, the breaker, replicas, sizes.
#[must_use]
pub fn fixed() -> Vec<Effective> {
    let percent = |n: usize| format!("{n} %");
    let bytes = |n: usize| format!("{n} bytes");
    vec![
        Effective::fixed("judge.tick", observed::TICK, "a later tick adds nothing to anyone's age"),
        Effective::fixed("judge.punctual_ticks", observed::PUNCTUAL_TICKS, "after a stall, before it judges again"),
        Effective::fixed("judge.store_silence", observed::STORE_SILENCE, "without a commit nobody ages"),
        Effective::fixed("judge.store_pending", observed::STORE_PENDING, "with a write that waits, nobody ages"),
        Effective::fixed("breaker.least", breaker::LEAST, "fewer vanished workers never open it"),
        Effective::fixed("breaker.silent", percent(breaker::SILENT_PERCENT), "more silent at once open it"),
        Effective::fixed("breaker.closed", percent(breaker::CLOSED_PERCENT), "more closed in one window open it"),
        Effective::fixed("breaker.proof", breaker::PROOF, "another worker heard for this long closes it"),
        Effective::fixed("breaker.quiet", breaker::QUIET, "with nobody heard, it closes after the last new absence"),
        Effective::fixed("reap.sessions", breaker::LEAST_SESSIONS, "in a second, or a fifth of the absent"),
        Effective::fixed("reap.runs", breaker::REAPED_RUNS, "in a second: what a store and a fleet bear"),
        Effective::fixed("replica.row", replicas::ROW_EVERY, "how often each writes that it lives"),
        Effective::fixed("replica.unsure", replicas::UNSURE_AFTER, "without its row it confirms nothing"),
        Effective::fixed("replica.adopted", replicas::ADOPT_AFTER, "then others take its sessions over"),
        Effective::fixed("limit.body", bytes(sizes::BODY), "an HTTP body"),
        Effective::fixed("limit.input", bytes(sizes::INPUT), "a run's input"),
        Effective::fixed("limit.depth", sizes::DEPTH, "levels of JSON: deeper ones end readers"),
        Effective::fixed("limit.result", bytes(sizes::RESULT), "a run's result"),
        Effective::fixed("limit.checkpoint", bytes(sizes::CHECKPOINT), "a checkpoint"),
        Effective::fixed("limit.frame", bytes(sizes::FRAME), "one frame of output"),
        Effective::fixed("limit.run_output", format!("{} bytes", sizes::RUN_OUTPUT), "of a run; its middle goes first"),
        Effective::fixed("limit.outbox", format!("{} bytes", sizes::OUTBOX), "frames that a worker keeps unanswered"),
        Effective::fixed("limit.batch", sizes::BATCH, "runs of a batch, items of a report"),
        Effective::fixed("limit.name", sizes::NAME, "characters of a name"),
        Effective::fixed("limit.labels", sizes::LABELS, "labels, tags, requirements"),
        Effective::fixed("limit.subjects", sizes::SUBJECTS, "subjects of a run"),
        Effective::fixed("limit.slots", sizes::SLOTS, "of one worker"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> GivenPolicy {
        serde_json::from_str(text).unwrap()
    }

    fn find<'a>(rows: &'a [Effective], name: &str) -> &'a Effective {
        rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("{name}"))
    }

    #[test]
    fn every_value_of_a_policy_says_whether_it_was_set() {
        let rows = policy(&given(r#"{"lease_ttl":"10s","backoff":{"max":"1m"},"rate":null,"on_isolation":"stop"}"#));
        for (name, value, origin) in [
            ("queue.lease_ttl", "10s", Origin::Policy),
            ("queue.backoff.max", "1m", Origin::Policy),
            ("queue.backoff.factor", "2.0", Origin::Default),
            ("queue.rate", "none", Origin::Policy),
            ("queue.on_isolation", "stop", Origin::Policy),
            ("queue.takeover", "fast", Origin::Default),
            ("queue.progress_timeout", "none", Origin::Default),
        ] {
            let row = find(&rows, name);
            assert_eq!((row.value.as_str(), row.origin), (value, origin), "{name}");
        }
        for limit in crate::limits::LIMITS {
            find(&rows, &format!("queue.{}", limit.name));
        }
    }

    #[test]
    fn what_follows_from_lease_ttl_carries_its_value_and_its_rule() {
        let rows = derived(given(r#"{"lease_ttl":"3s","offline_grace":"1m","progress_timeout":"4m"}"#).policy());
        for (name, value) in [
            ("heartbeat", "600ms"),
            ("unanswered", "1200ms"),
            ("trust", "62400ms"),
            ("trust_disconnected", "60800ms"),
            ("reconnect_window_proxied", "5s"),
            ("suspect_after", "1500ms"),
            ("lost_after_disconnect", "61s"),
            ("lost_after_silence", "63s"),
            ("revoked_for", "63s"),
            ("breaker_silent_after", "1500ms"),
            ("run_timeout_backstop", "1512m"),
            ("progress_stalled", "2m"),
        ] {
            let row = find(&rows, name);
            assert_eq!(row.value, value, "{name}");
            assert!(row.origin.to_string().starts_with("derived: "), "{name}");
        }
        let strict = derived(given(r#"{"takeover":"strict"}"#).policy());
        assert_eq!(find(&strict, "lost_after_disconnect").value, "10s");
        assert!(!strict.iter().any(|row| row.name == "progress_stalled"), "it is off");
    }

    #[test]
    fn no_name_stands_twice() {
        let given = given(r#"{"progress_timeout":"4m","rate":{"limit":1,"per":"1s"}}"#);
        let all = [policy(&given), derived(given.policy()), fixed()].concat();
        let names: std::collections::BTreeSet<_> = all.iter().map(|row| &row.name).collect();
        assert_eq!(names.len(), all.len());
    }
}
