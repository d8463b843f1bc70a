//! What became of a run, and why it is where it is.

use outlive_core::report::{ErrorReport, ExitReport};
use outlive_core::{Epoch, Incarnation, Outcome, Reason, State, Wall};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One attempt.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Its epoch.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// Whose.
    pub worker_name: String,
    /// Which start of it.
    #[schema(value_type = i64)]
    pub incarnation: Incarnation,
    /// Claim.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub claimed_at: Wall,
    /// Start.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Wall>,
    /// The last sign of life.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub last_heard_at: Option<Wall>,
    /// The close.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub ended_at: Option<Wall>,
    /// Whose doing.
    #[schema(value_type = Option<String>)]
    pub outcome: Option<Outcome>,
    /// Why.
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
    /// How the process ended.
    #[schema(value_type = Option<Object>)]
    pub exit: Option<ExitReport>,
    /// What the work said.
    #[schema(value_type = Option<Object>)]
    pub error: Option<ErrorReport>,
}

/// All attempts, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Attempts {
    /// The attempts.
    pub attempts: Vec<Attempt>,
}

/// One event of a run's history.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunEvent {
    /// What.
    pub r#type: String,
    /// When.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub at: Wall,
    /// In which epoch.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// The state after it.
    #[schema(value_type = String)]
    pub state: State,
    /// Why.
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
    /// By whom, or a note for people.
    pub note: Option<String>,
}

/// A history, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RunEvents {
    /// The events.
    pub events: Vec<RunEvent>,
}

/// Why a run is where it is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// Its state.
    #[schema(value_type = String)]
    pub state: State,
    /// What keeps it there; empty if nothing does.
    pub because: Vec<Because>,
}

/// One cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Because {
    /// A stable code.
    pub code: String,
    /// One sentence.
    pub detail: String,
}
