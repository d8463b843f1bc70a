//! Bodies of `/v1/runs`.

mod history;

pub use history::{Attempt, Attempts, Because, Explanation, RunEvent, RunEvents};

use outlive_core::policy::Backoff;
use outlive_core::report::{ErrorReport, ExitReport};
use outlive_core::resources::{Bytes, Resources};
use outlive_core::{Epoch, Incarnation, Json, Millis, Outcome, Reason, RunId, State, Wall, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A run to create. Only `kind` is required.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// A UUIDv7 of the client's choice, which makes the call idempotent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub id: Option<RunId>,
    /// `exec`, or a name that workers register.
    pub kind: String,
    /// The lane.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// For the handler; of `exec`: [`ExecInput`]. At most 1 MiB.
    #[serde(default = "Json::null")]
    #[schema(value_type = serde_json::Value)]
    pub input: Json,
    /// −100 to 100; one step is worth a minute of waiting.
    #[serde(default)]
    pub priority: i16,
    /// Not before this.
    #[serde(default, with = "crate::time::option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub run_at: Option<Wall>,
    /// Wait for a release.
    #[serde(default)]
    pub hold: bool,
    /// Unique among the active runs of the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What a taken key does.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// Runs with the same one never run at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_key: Option<String>,
    /// What it is about, at most 4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// The run that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub parent: Option<RunId>,
    /// Labels that the worker must carry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requires: BTreeMap<String, String>,
    /// The one worker that may take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// Failures of the work before it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Losses in a row before it is quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_losses: Option<u32>,
    /// Between attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub backoff: Option<Backoff>,
    /// One attempt's longest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub run_timeout: Option<Millis>,
    /// Without progress, output or checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub progress_timeout: Option<Millis>,
    /// Queued and never claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub queue_ttl: Option<Millis>,
    /// For filters, at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

fn default_queue() -> String {
    "default".to_owned()
}

impl NewRun {
    /// A run of `kind` with defaults.
    #[must_use]
    pub fn of(kind: &str, input: Json) -> Self {
        Self {
            id: None,
            kind: kind.to_owned(),
            queue: default_queue(),
            input,
            priority: 0,
            run_at: None,
            hold: false,
            key: None,
            on_conflict: OnConflict::Reject,
            serial_key: None,
            subjects: Vec::new(),
            parent: None,
            requires: BTreeMap::new(),
            pin: None,
            max_attempts: None,
            max_losses: None,
            backoff: None,
            run_timeout: None,
            progress_timeout: None,
            queue_ttl: None,
            tags: BTreeMap::new(),
        }
    }
}

/// What a taken business key does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// 409 `key_conflict`.
    #[default]
    Reject,
    /// The run that has it is the answer.
    Return,
    /// The old one makes room.
    Replace,
}

/// The input of a run of kind `exec`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecInput {
    /// Program and arguments; no shell is put between.
    pub command: Vec<String>,
    /// Where; default: a private temporary folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Added to the allow-list of the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Written to the process, then closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// What its stdout is.
    #[serde(default)]
    pub output_format: OutputFormat,
    /// Whether output that is not of its format fails the attempt.
    #[serde(default = "yes")]
    pub strict_output: bool,
    /// What one attempt may use; a worker may allow less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ExecLimits>,
}

/// What all processes of one attempt may use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecLimits {
    /// Memory in bytes, at least 1. Who uses more is killed, and the attempt fails with `oom_killed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub memory_bytes: Option<i64>,
    /// Processes and threads at once, at least 1; the next one cannot be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub pids: Option<i64>,
}

impl ExecLimits {
    /// Reads them.
    ///
    /// # Errors
    /// The field that is less than 1.
    pub fn read(self) -> Result<Resources, &'static str> {
        let at_least_1 = |field, value: Option<i64>| {
            let read = value.map(|n| u64::try_from(n).ok().filter(|&n| n > 0).ok_or(field));
            read.transpose()
        };
        Ok(Resources {
            memory: at_least_1("memory_bytes", self.memory_bytes)?.map(Bytes),
            pids: at_least_1("pids", self.pids)?,
        })
    }
}

impl From<Resources> for ExecLimits {
    fn from(of: Resources) -> Self {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Self { memory_bytes: of.memory.map(|m| number(m.0)), pids: of.pids.map(number) }
    }
}

const fn yes() -> bool {
    true
}

/// What a command's stdout is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputFormat {
    /// Goes to the log.
    #[default]
    Text,
    /// Parsed into `result`.
    Json,
    /// Parsed into `result`.
    Yaml,
    /// Parsed into `result`, an array.
    Jsonl,
}

/// Several runs, all or nothing, at most 1,000.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRuns {
    /// The runs.
    pub runs: Vec<NewRun>,
}

/// What became of them, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct CreatedRuns {
    /// One each.
    pub runs: Vec<CreatedRun>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedRun {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    pub id: RunId,
    /// Its state.
    #[schema(value_type = String)]
    pub state: State,
}

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    pub id: RunId,
    /// Its tenant.
    pub namespace: String,
    /// Its lane.
    pub queue: String,
    /// What handles it.
    pub kind: String,
    /// Where it is in its life.
    #[schema(value_type = String)]
    pub state: State,
    /// Whose doing its end was.
    #[schema(value_type = Option<String>)]
    pub outcome: Option<Outcome>,
    /// A stable code: why it ended, waits, or was last lost.
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
    /// More about the reason.
    #[schema(value_type = Option<serde_json::Value>)]
    pub reason_detail: Option<Json>,
    /// The reason in one sentence.
    pub reason_text: Option<String>,
    /// −100 to 100.
    pub priority: i16,
    /// Business key.
    pub key: Option<String>,
    /// Serial key.
    pub serial_key: Option<String>,
    /// What it is about.
    pub subjects: Vec<String>,
    /// The run that it belongs to.
    #[schema(value_type = Option<uuid::Uuid>)]
    pub parent: Option<RunId>,
    /// The terminal run that it tries again.
    #[schema(value_type = Option<uuid::Uuid>)]
    pub retry_of: Option<RunId>,
    /// Labels that its worker must carry.
    pub requires: BTreeMap<String, String>,
    /// The one worker that may take it.
    pub pin: Option<String>,
    /// For filters.
    pub tags: BTreeMap<String, String>,
    /// The fence.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// Failures + 1.
    pub attempt: u32,
    /// Of the work.
    pub failures: u32,
    /// Of its workers.
    pub losses: u32,
    /// Failures before it fails.
    pub max_attempts: u32,
    /// Losses in a row before it is quarantined.
    pub max_losses: u32,
    /// The open lease.
    pub lease: Option<RunLease>,
    /// How far it says it is.
    pub progress: Option<RunProgress>,
    /// The last checkpoint.
    #[schema(value_type = Option<serde_json::Value>)]
    pub checkpoint: Option<Json>,
    /// Whether it is stuck, and why.
    pub stuck: Option<Stuck>,
    /// What was doubtful at its creation.
    pub warnings: Vec<String>,
    /// Its input.
    #[schema(value_type = serde_json::Value)]
    pub input: Json,
    /// Its structured result.
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Json>,
    /// The last 64 KiB of the log's stdout; `""` when `result` is set from it.
    pub stdout: Option<String>,
    /// Whether there was more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdout_truncated: bool,
    /// The last 64 KiB of the log's stderr.
    pub stderr: Option<String>,
    /// Whether there was more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stderr_truncated: bool,
    /// How the process ended.
    #[schema(value_type = Option<Object>)]
    pub exit: Option<ExitReport>,
    /// What the work said.
    #[schema(value_type = Option<Object>)]
    pub error: Option<ErrorReport>,
    /// Creation.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub created_at: Wall,
    /// Not before this, while it is scheduled.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub run_at: Option<Wall>,
    /// Last queueing.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub queued_at: Option<Wall>,
    /// Start of the current or last attempt.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Wall>,
    /// The end.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub finished_at: Option<Wall>,
}

/// An open lease.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunLease {
    /// Who.
    #[schema(value_type = String)]
    pub worker_id: WorkerId,
    /// By name.
    pub worker_name: String,
    /// Which of its starts.
    #[schema(value_type = i64)]
    pub incarnation: Incarnation,
    /// Claim.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub claimed_at: Option<Wall>,
    /// Start.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Wall>,
}

/// How far the work says it is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunProgress {
    /// 0 to 1.
    pub fraction: Option<f64>,
    /// For people.
    pub note: Option<String>,
    /// When it was said.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub at: Wall,
}

/// Why a run does not move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stuck {
    /// `silent`, `stalled`, `overdue`, `starved`, `unacked_cancel`, `crash_loop`.
    pub kind: String,
    /// One sentence that names what is missing.
    pub why: String,
    /// Since when.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub since: Wall,
}

/// A page of runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Runs {
    /// Newest first.
    pub runs: Vec<Run>,
    /// For the next page.
    pub next_cursor: Option<String>,
}

/// Why somebody cancels.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CancelBody {
    /// For people.
    pub reason: Option<String>,
}

/// How to try again.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryBody {
    /// Another input.
    #[schema(value_type = Option<serde_json::Value>)]
    pub input: Option<Json>,
    /// Start from the old run's last checkpoint.
    pub from_checkpoint: bool,
}

/// What the next attempt gets.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReleaseBody {
    /// Reaches it as `resume_data`.
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Json>,
}

/// A message for the running attempt.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalBody {
    /// 1 to 200 bytes.
    pub name: String,
    /// Any JSON, at most 64 KiB.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Json>,
}
