//! What a run carries beside its input: the options of its creation, resolved against its queue's policy when they are used.

use crate::ids::RunId;
use crate::policy::{Backoff, QueuePolicy};
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Options that differ from the queue's policy or have no place in the hot row. Stored once, with the input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOptions {
    /// Overrides the queue's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Overrides the queue's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_losses: Option<u32>,
    /// Overrides the queue's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Overrides the queue's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_timeout: Option<Millis>,
    /// Overrides the queue's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_timeout: Option<Millis>,
    /// Overrides the queue's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_ttl: Option<Millis>,
    /// The run that this one belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// The terminal run that this one tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RunId>,
    /// What it is about, at most 4.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// For filters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// W3C trace context of the creator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// The budgets that hold for one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budgets {
    /// Failures of the work before it fails.
    pub max_attempts: u32,
    /// Losses in a row before it is quarantined.
    pub max_losses: u32,
    /// Between attempts.
    pub backoff: Backoff,
}

/// How long one attempt may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLimits {
    /// Without the time in which it stands frozen.
    pub run_timeout: Millis,
    /// Without progress, output or checkpoint; none: off.
    pub progress_timeout: Option<Millis>,
}

impl RunOptions {
    /// The budgets after the queue's policy.
    #[must_use]
    pub fn budgets(&self, policy: &QueuePolicy) -> Budgets {
        Budgets {
            max_attempts: self.max_attempts.unwrap_or(policy.max_attempts),
            max_losses: self.max_losses.unwrap_or(policy.max_losses),
            backoff: self.backoff.unwrap_or(policy.backoff),
        }
    }

    /// How long an attempt may take, after the queue's policy.
    #[must_use]
    pub fn attempt_limits(&self, policy: &QueuePolicy) -> AttemptLimits {
        AttemptLimits {
            run_timeout: self.run_timeout.unwrap_or(policy.run_timeout),
            progress_timeout: self.progress_timeout.or(policy.progress_timeout),
        }
    }

    /// Whether nothing is set, so that no text needs to be stored.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
