//! The events of `GET /v1/runs/{id}/output`.

use outlive_core::{Epoch, Json, Reason, State, Wall};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One event of the stream; the SSE `event:` field is the variant's name, `id:` its offset.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum OutputEvent {
    /// `event: attempt`
    Attempt(AttemptStarted),
    /// `event: chunk`
    Chunk(Chunk),
    /// `event: lost`
    Lost(AttemptLost),
    /// `event: gap`
    Gap(Gap),
    /// `event: end`
    End(End),
}

/// An attempt starts: the default view drops what it showed before.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AttemptStarted {
    /// Its epoch.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// Where.
    pub worker_name: String,
    /// The attempt before it.
    #[schema(value_type = Option<i64>)]
    pub recovered_from: Option<Epoch>,
    /// Why that one closed.
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
    /// What it starts from.
    #[schema(value_type = Option<serde_json::Value>)]
    pub checkpoint: Option<Json>,
    /// When.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub at: Wall,
}

/// Bytes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Chunk {
    /// Of which attempt.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// `stdout`, `stderr` or a name.
    pub channel: String,
    /// If they are UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// If they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// When they were stored.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub at: Wall,
}

impl Chunk {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        use base64::Engine as _;
        match (&self.text, &self.base64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(b)) => base64::engine::general_purpose::STANDARD.decode(b).unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }
}

/// An attempt was lost; another may follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptLost {
    /// Its epoch.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// Why.
    #[schema(value_type = String)]
    pub reason: Reason,
}

/// Entries that are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gap {
    /// The first.
    pub from: String,
    /// The last.
    pub to: String,
    /// `retention`, `limit`, `stream_lost`.
    pub why: String,
}

/// Always last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct End {
    /// How the run ended.
    #[schema(value_type = String)]
    pub state: State,
    /// Its epoch.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
}
