//! Bodies of `/v1/queues`.

use outlive_core::policy::QueuePolicy;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A queue with its policy and counts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its tenant.
    pub namespace: String,
    /// No claims while true.
    pub paused: bool,
    /// Its effective policy.
    #[schema(value_type = Object)]
    pub policy: QueuePolicy,
    /// The values of the policy that somebody set, as `name` or `outer.inner`; the others are defaults.
    #[serde(default)]
    pub set: Vec<String>,
    /// Runs by state.
    pub counts: Counts,
}

/// Runs of a queue by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Waiting for a worker.
    pub queued: i64,
    /// Waiting for a time.
    pub scheduled: i64,
    /// Waiting for a release.
    pub held: i64,
    /// Leased.
    pub running: i64,
    /// Age of the ready run that is first in line.
    pub oldest_queued_ms: Option<u64>,
}

/// All queues.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Queues {
    /// By name.
    pub queues: Vec<Queue>,
}
