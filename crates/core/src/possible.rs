//! Which settings can hold together. What is refused is refused with the inequality that fails, so that nobody has to guess.
//!
//! Two kinds of rule:
//!
//! - *Bounds and combinations that cannot work*: judged by the values alone, whoever chose them.
//! - *Values that could never act*: judged by what somebody **said**. A default that another value keeps from acting is no
//!   mistake (a `run_timeout` of 10 min leaves the `claim_ttl` of 2 h nothing to do); a value that somebody wrote down and that
//!   can never be reached is one.
//!
//! A run's own settings are held against each other in the same way; against its queue's policy only what the run itself says
//! is judged. Where a run and its queue disagree, the limit that comes first acts.

use crate::given::GivenPolicy;
use crate::limits::sizes::LONGEST_WAIT;
use crate::options::RunOptions;
use crate::policy::{
    Backoff, MAX_LEASE_TTL, MAX_OFFLINE_GRACE, MIN_LEASE_TTL, OnLoss, QueuePolicy, Rate, Takeover, derive,
};
use crate::time::Millis;

/// A setting that is refused, with the inequality that fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct BadSetting {
    /// The field, as on the wire.
    pub field: &'static str,
    /// What must hold and what was found.
    pub detail: String,
}

type Checked = Result<(), BadSetting>;

/// The least `claim_ttl`.
const MIN_CLAIM_TTL: Millis = Millis::secs(1);

fn check(holds: bool, field: &'static str, detail: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(BadSetting { field, detail: detail() }) }
}

/// `least <= field <= most`.
fn between(field: &'static str, value: Millis, least: Millis, most: Millis) -> Checked {
    check((least..=most).contains(&value), field, || format!("{least} <= {field} <= {most} must hold; it is {value}"))
}

/// `0 < field <= a year`; `off` says how it is turned off, where it can be.
fn some_time(field: &'static str, value: Millis, off: &str) -> Checked {
    check(value > Millis::ZERO, field, || format!("{field} > 0 must hold; it is 0s{off}"))?;
    at_most_a_year(field, value)
}

fn at_most_a_year(field: &'static str, value: Millis) -> Checked {
    check(value <= LONGEST_WAIT, field, || format!("{field} <= {LONGEST_WAIT} must hold; it is {value}"))
}

fn at_least_one(field: &'static str, value: u32, hint: &str) -> Checked {
    check(value >= 1, field, || format!("{field} >= 1 must hold; it is 0{hint}"))
}

/// A limit that only another one keeps from acting.
fn within_run_timeout(progress: Millis, run: Millis) -> Checked {
    check(progress <= run, "progress_timeout", || {
        format!(
            "progress_timeout <= run_timeout must hold; {progress} > {run}, so that run_timeout would always end the attempt first"
        )
    })
}

const TURN_OFF: &str = "; none turns it off";
const PAUSE: &str = "; to stop a queue, pause it";

impl Backoff {
    fn check(&self) -> Checked {
        let Self { initial, factor, max, jitter } = *self;
        check(factor >= 1.0 && factor.is_finite(), "backoff.factor", || {
            format!("factor >= 1 must hold; it is {factor}")
        })?;
        check((0.0..=1.0).contains(&jitter), "backoff.jitter", || {
            format!("0 <= jitter <= 1 must hold; it is {jitter}")
        })?;
        check(initial <= max, "backoff.initial", || format!("initial <= max must hold; {initial} > {max}"))?;
        at_most_a_year("backoff.max", max)
    }
}

impl Rate {
    fn check(self) -> Checked {
        at_least_one("rate.limit", self.limit, PAUSE)?;
        some_time("rate.per", self.per, "")
    }
}

impl QueuePolicy {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// The first field that is out of bounds or contradicts another.
    pub fn validate(&self) -> Checked {
        between("lease_ttl", self.lease_ttl, MIN_LEASE_TTL, MAX_LEASE_TTL)?;
        between("offline_grace", self.offline_grace, Millis::ZERO, MAX_OFFLINE_GRACE)?;
        let window = derive::RECONNECT_WINDOW;
        let patience = self.lease_ttl + self.offline_grace;
        check(self.takeover == Takeover::Strict || patience >= window, "lease_ttl", || {
            format!(
                "lease_ttl + offline_grace >= reconnect_window ({window}) must hold; it is {patience}. Raise lease_ttl or set takeover to strict"
            )
        })?;
        check(self.start_timeout >= window, "start_timeout", || {
            format!(
                "start_timeout >= reconnect_window ({window}) must hold; it is {}, and a worker that loses its connection and is back in time would lose what it was given meanwhile",
                self.start_timeout
            )
        })?;
        at_most_a_year("start_timeout", self.start_timeout)?;
        between("claim_ttl", self.claim_ttl, MIN_CLAIM_TTL, LONGEST_WAIT)?;
        some_time("run_timeout", self.run_timeout, "")?;
        if let Some(progress) = self.progress_timeout {
            some_time("progress_timeout", progress, TURN_OFF)?;
            within_run_timeout(progress, self.run_timeout)?;
        }
        if let Some(ttl) = self.queue_ttl {
            some_time("queue_ttl", ttl, TURN_OFF)?;
        }
        some_time("hold_ttl", self.hold_ttl, "")?;
        at_most_a_year("cancel_grace", self.cancel_grace)?;
        at_least_one("max_attempts", self.max_attempts, "")?;
        at_least_one("max_losses", self.max_losses, "; on_loss = fail ends a run with its first loss")?;
        self.backoff.check()?;
        check(self.max_running != Some(0), "max_running", || format!("max_running >= 1 must hold; it is 0{PAUSE}"))?;
        self.rate.map_or(Ok(()), Rate::check)?;
        at_most_a_year("retention.runs", self.retention.runs)?;
        at_most_a_year("retention.output", self.retention.output)
    }
}

impl GivenPolicy {
    /// Refuses what cannot work, and what was said and could never act.
    ///
    /// # Errors
    /// The first such field.
    pub fn validate(&self) -> Checked {
        let policy = self.policy();
        policy.validate()?;
        let (claim, run, ttl) = (policy.claim_ttl, policy.run_timeout, policy.lease_ttl);
        let backstop = run + derive::backstop_margin(run, ttl);
        check(!self.says("claim_ttl") || claim <= backstop, "claim_ttl", || {
            format!(
                "claim_ttl <= run_timeout + max(5 %, lease_ttl) ({backstop}) must hold; it is {claim}, so that run_timeout would always end the attempt first"
            )
        })?;
        for field in ["max_losses", "on_crash_loop"] {
            check(!self.says(field) || policy.on_loss == OnLoss::Retry, field, || {
                format!("on_loss = retry must hold for {field} to act; with this on_loss the first loss decides")
            })?;
        }
        let kept = policy.retention;
        check(!self.says("retention.output") || kept.output <= kept.runs, "retention.output", || {
            format!(
                "retention.output <= retention.runs must hold; {} > {}, and output goes with its run",
                kept.output, kept.runs
            )
        })
    }
}

impl RunOptions {
    /// Refuses what cannot work whatever the queue's policy is.
    ///
    /// # Errors
    /// The first such field.
    pub fn validate(&self) -> Checked {
        for (field, value) in [("max_attempts", self.max_attempts), ("max_losses", self.max_losses)] {
            value.map_or(Ok(()), |value| at_least_one(field, value, ""))?;
        }
        for (field, value) in [
            ("run_timeout", self.run_timeout),
            ("progress_timeout", self.progress_timeout),
            ("queue_ttl", self.queue_ttl),
        ] {
            value.map_or(Ok(()), |value| some_time(field, value, ""))?;
        }
        if let (Some(progress), Some(run)) = (self.progress_timeout, self.run_timeout) {
            within_run_timeout(progress, run)?;
        }
        self.backoff.map_or(Ok(()), |backoff| backoff.check())
    }

    /// Refuses what the run says and what could never act under its queue's policy.
    ///
    /// # Errors
    /// The first such field.
    pub fn validate_under(&self, policy: &QueuePolicy) -> Checked {
        match self.progress_timeout {
            Some(progress) => within_run_timeout(progress, self.attempt_limits(policy).run_timeout),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> GivenPolicy {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_defaults_are_possible() {
        assert_eq!(QueuePolicy::default().validate(), Ok(()));
        assert_eq!(GivenPolicy::default().validate(), Ok(()));
        assert_eq!(RunOptions::default().validate(), Ok(()));
    }

    #[test]
    fn an_impossible_combination_is_refused_with_its_inequality() {
        // What is said, the field that is refused, the inequality, and what makes it possible.
        for (said, field, inequality, possible) in [
            (r#""lease_ttl":"499ms""#, "lease_ttl", "500ms <= lease_ttl <= 1d", r#""lease_ttl":"1s""#),
            (
                r#""lease_ttl":"500ms""#,
                "lease_ttl",
                "lease_ttl + offline_grace >= reconnect_window (1s)",
                r#""lease_ttl":"500ms","takeover":"strict""#,
            ),
            (r#""offline_grace":"31d""#, "offline_grace", "0s <= offline_grace <= 30d", r#""offline_grace":"30d""#),
            (
                r#""start_timeout":"900ms""#,
                "start_timeout",
                "start_timeout >= reconnect_window (1s)",
                r#""start_timeout":"1s","lease_ttl":"3h""#,
            ),
            (r#""claim_ttl":"999ms""#, "claim_ttl", "1s <= claim_ttl <= 366d", r#""claim_ttl":"1s""#),
            (r#""run_timeout":"0s""#, "run_timeout", "run_timeout > 0", r#""run_timeout":"1ms""#),
            (
                r#""progress_timeout":"11m","run_timeout":"10m""#,
                "progress_timeout",
                "progress_timeout <= run_timeout must hold; 11m > 10m",
                r#""progress_timeout":"10m","run_timeout":"10m""#,
            ),
            (r#""progress_timeout":"0s""#, "progress_timeout", "progress_timeout > 0", r#""progress_timeout":null"#),
            (r#""queue_ttl":"0s""#, "queue_ttl", "queue_ttl > 0", r#""queue_ttl":null"#),
            (r#""hold_ttl":"0s""#, "hold_ttl", "hold_ttl > 0", r#""hold_ttl":"1s""#),
            (r#""cancel_grace":"367d""#, "cancel_grace", "cancel_grace <= 366d", r#""cancel_grace":"0s""#),
            (r#""max_attempts":0"#, "max_attempts", "max_attempts >= 1", r#""max_attempts":1"#),
            (r#""max_losses":0"#, "max_losses", "max_losses >= 1", r#""on_loss":"fail""#),
            (r#""backoff":{"factor":0.5}"#, "backoff.factor", "factor >= 1", r#""backoff":{"factor":1}"#),
            (r#""backoff":{"jitter":1.1}"#, "backoff.jitter", "0 <= jitter <= 1", r#""backoff":{"jitter":1}"#),
            (r#""backoff":{"initial":"6m"}"#, "backoff.initial", "initial <= max", r#""backoff":{"max":"6m"}"#),
            (r#""max_running":0"#, "max_running", "max_running >= 1", r#""max_running":null"#),
            (r#""rate":{"limit":0,"per":"1s"}"#, "rate.limit", "limit >= 1", r#""rate":{"limit":1,"per":"1s"}"#),
            (r#""rate":{"limit":1,"per":"0s"}"#, "rate.per", "per > 0", r#""rate":null"#),
            (
                r#""claim_ttl":"2h","run_timeout":"10m""#,
                "claim_ttl",
                "claim_ttl <= run_timeout + max(5 %, lease_ttl) (630s)",
                r#""run_timeout":"10m""#,
            ),
            (r#""on_loss":"fail","max_losses":2"#, "max_losses", "on_loss = retry must hold", r#""max_losses":2"#),
            (
                r#""on_loss":"hold","on_crash_loop":"lost""#,
                "on_crash_loop",
                "on_loss = retry must hold",
                r#""on_crash_loop":"lost""#,
            ),
            (
                r#""retention":{"runs":"2d","output":"3d"}"#,
                "retention.output",
                "retention.output <= retention.runs must hold; 3d > 2d",
                r#""retention":{"runs":"2d"}"#,
            ),
        ] {
            let refused = given(&format!("{{{said}}}")).validate().expect_err(said);
            assert_eq!(refused.field, field, "{said}");
            assert!(refused.detail.contains(inequality), "{said}: {refused}");
            assert_eq!(given(&format!("{{{possible}}}")).validate(), Ok(()), "{possible}");
        }
    }

    #[test]
    fn a_runs_own_limits_are_held_against_each_other_and_what_it_says_against_its_queue() {
        let options = |text: &str| serde_json::from_str::<RunOptions>(text).unwrap();
        for (said, field) in [
            (r#"{"run_timeout":"0s"}"#, "run_timeout"),
            (r#"{"progress_timeout":"0s"}"#, "progress_timeout"),
            (r#"{"queue_ttl":"400d"}"#, "queue_ttl"),
            (r#"{"progress_timeout":"2s","run_timeout":"1s"}"#, "progress_timeout"),
            (r#"{"backoff":{"initial":"2s","max":"1s"}}"#, "backoff.initial"),
            (r#"{"max_losses":0}"#, "max_losses"),
        ] {
            assert_eq!(options(said).validate().expect_err(said).field, field, "{said}");
        }
        let queue = QueuePolicy {
            run_timeout: Millis::mins(10),
            progress_timeout: Some(Millis::mins(5)),
            ..QueuePolicy::default()
        };
        let never = options(r#"{"progress_timeout":"1h"}"#).validate_under(&queue).unwrap_err();
        assert!(never.detail.contains("1h > 10m"), "{never}");
        let shorter = options(r#"{"run_timeout":"1m"}"#);
        assert_eq!(shorter.validate_under(&queue), Ok(()), "what the queue says, the run did not");
    }
}
