//! The feed of `GET /v1/events`, and subjects.

use outlive_core::{Epoch, Incarnation, Outcome, Reason, RunId, State, Wall, WorkerId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One event of the feed; the SSE `event:` field is its type, `id:` the place to resume from. What does not belong to the type
/// is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FeedEvent {
    /// `run.created` … `run.finished`, `attempt.started`, `attempt.lost`, `worker.online|offline|left|removed`,
    /// `subject.changed`, `queue.paused|resumed`, `breaker.opened|closed`, `sweep.failed`; ignore those that you do not know.
    pub r#type: String,
    /// When.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub at: Wall,
    /// The tenant; none: the server itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The run; of `subject.changed` the one that moved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub run_id: Option<RunId>,
    /// The run's epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub epoch: Option<Epoch>,
    /// The run's state after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub state: Option<State>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
    /// The worker, or who holds the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub worker_id: Option<WorkerId>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_name: Option<String>,
    /// Which of the worker's starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub incarnation: Option<Incarnation>,
    /// The subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The subject's status after it: `idle`, `queued`, `working`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The subject's status before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Active runs of the subject after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_count: Option<i64>,
    /// The run of the subject that ended last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRun>,
    /// The background duty that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why the breaker opened, or how the duty failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl FeedEvent {
    /// An event of which nothing but type and time is said yet.
    #[must_use]
    pub fn of(r#type: &str, at: Wall) -> Self {
        Self {
            r#type: r#type.to_owned(),
            at,
            namespace: None,
            queue: None,
            run_id: None,
            epoch: None,
            state: None,
            reason: None,
            worker_id: None,
            worker_name: None,
            incarnation: None,
            subject: None,
            status: None,
            previous: None,
            active_count: None,
            last: None,
            phase: None,
            detail: None,
        }
    }
}

/// `event: gap`: what came after the place that was asked for is not kept any more. The stream goes on with the oldest event
/// that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeedGap {
    /// The place that was asked for.
    pub after: String,
    /// `retention`: events are kept for 7 days. `restored`: the place is of another life of the store.
    pub why: String,
}

/// The data of a block of the feed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum FeedData {
    /// `event:` its type.
    Event(Box<FeedEvent>),
    /// `event: gap`
    Gap(FeedGap),
}

/// A subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Subject {
    /// Its name.
    pub subject: String,
    /// `idle`: no run of it is active. `queued`: runs of it wait. `working`: a worker has one.
    pub status: String,
    /// Runs of it that have not ended.
    pub active_count: i64,
    /// The newest of them, at most 100.
    pub active: Vec<ActiveRun>,
    /// The run that ended last.
    pub last: Option<LastRun>,
}

/// An active run of a subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ActiveRun {
    /// The run.
    #[schema(value_type = uuid::Uuid)]
    pub id: RunId,
    /// Its queue.
    pub queue: String,
    /// Its kind.
    pub kind: String,
    /// Its state.
    #[schema(value_type = String)]
    pub state: State,
    /// Who has it.
    pub worker_name: Option<String>,
    /// Creation.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub created_at: Wall,
}

/// How the last run of a subject ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastRun {
    /// The run.
    #[schema(value_type = uuid::Uuid)]
    pub run_id: RunId,
    /// How.
    #[schema(value_type = String)]
    pub state: State,
    /// Whose doing it was.
    #[schema(value_type = Option<String>)]
    pub outcome: Option<Outcome>,
    /// Why.
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
    /// When.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub at: Wall,
}

impl From<outlive_core::subject::LastRun> for LastRun {
    fn from(last: outlive_core::subject::LastRun) -> Self {
        let outlive_core::subject::LastRun { run, state, outcome, reason, at } = last;
        Self { run_id: run, state, outcome, reason, at }
    }
}
