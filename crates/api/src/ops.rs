//! Bodies of recoveries, stuck and server.

use crate::runs::Stuck;
use outlive_core::{Epoch, Incarnation, Reason, RunId, Wall};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A measured recovery.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Recovery {
    /// Its row.
    pub id: String,
    /// The run.
    #[schema(value_type = uuid::Uuid)]
    pub run_id: RunId,
    /// Its queue.
    pub queue: String,
    /// What proved the loss.
    pub evidence: String,
    /// Why.
    #[schema(value_type = String)]
    pub reason: Reason,
    /// `open`, `recovered`, `over`, `salvaged`.
    pub outcome: String,
    /// The lost attempt.
    pub from: RecoverySide,
    /// Its successor.
    pub to: Option<RecoverySide>,
    /// The next attempt had a checkpoint to start from.
    pub had_checkpoint: bool,
    /// The last sign of life (evidence 4: the end of the connection).
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub last_heard_at: Wall,
    /// The verdict.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub lost_at: Wall,
    /// Queued again.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub queued_at: Option<Wall>,
    /// Claimed again.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub claimed_at: Option<Wall>,
    /// Started again.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub started_at: Option<Wall>,
    /// Past the point where it was lost; null without checkpoint or progress.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub caught_up_at: Option<Wall>,
    /// Last heard → lost.
    pub detect_ms: u64,
    /// Lost → queued.
    pub requeue_ms: Option<u64>,
    /// Queued → claimed.
    pub claim_ms: Option<u64>,
    /// Claimed → started.
    pub resume_ms: Option<u64>,
    /// Started → caught up.
    pub redo_ms: Option<u64>,
}

/// One side of a recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecoverySide {
    /// The epoch.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// The worker.
    pub worker_name: String,
    /// Which of its starts.
    #[schema(value_type = i64)]
    pub incarnation: Incarnation,
}

/// A page of recoveries.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Recoveries {
    /// Newest first.
    pub recoveries: Vec<Recovery>,
    /// For the next page.
    pub next_cursor: Option<String>,
}

/// Runs that do not move.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct StuckRuns {
    /// Worst first.
    pub runs: Vec<StuckRun>,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StuckRun {
    /// The run.
    #[schema(value_type = uuid::Uuid)]
    pub id: RunId,
    /// Its queue.
    pub queue: String,
    /// Its state.
    #[schema(value_type = String)]
    pub state: outlive_core::State,
    /// Why.
    pub stuck: Stuck,
}

/// From where a server sees a connection: its first message at `/v1/server/echo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// The address at the other end of the server's connection.
    pub address: String,
    /// Whether the client's own address is another one: something stands in between.
    pub proxied: bool,
}

/// The server.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Server {
    /// Its version.
    pub version: String,
    /// Protocols that it speaks to workers.
    pub protocols: Vec<u32>,
    /// This process.
    pub replica: i64,
    /// All processes over its store that have written a row, this one included; empty: its store is its own.
    #[serde(default)]
    pub replicas: Vec<Replica>,
    /// Its wall clock.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub now: Wall,
    /// Since its start.
    pub uptime_ms: u64,
    /// Its store.
    pub store: ServerStore,
    /// Its judge.
    pub judge: Judge,
    /// Sessions that are open here.
    pub sessions: u64,
    /// Leases that they hold.
    pub leases: u64,
    /// Background duties.
    pub phases: Vec<Phase>,
    /// Effective settings and where each came from.
    pub settings: Vec<Setting>,
}

/// A store.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ServerStore {
    /// `sqlite` or `postgres`.
    pub backend: String,
    /// Where, without secrets.
    pub location: String,
    /// Changes when it is restored.
    pub generation: uuid::Uuid,
    /// Size, where known.
    pub bytes: Option<u64>,
    /// Version of the schema.
    pub schema_version: i64,
    /// The disk that it is on; null for a store without a file.
    #[serde(default)]
    pub disk: Option<Disk>,
}

/// The disk of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    /// The folder of the store.
    pub folder: String,
    /// Free at the last look, one per second.
    pub free_bytes: Option<u64>,
    /// Below this much free space no new run is admitted (`--low-disk`).
    pub low_disk_bytes: u64,
    /// Whether new runs are admitted.
    pub admits_new_runs: bool,
}

/// One of several servers over one store.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Replica {
    /// Its number in the store.
    pub id: i64,
    /// Its name, stable over its restarts.
    pub name: String,
    /// Where it can be reached; empty: it did not say.
    pub address: String,
    /// Whether it writes its row, as the replica that answers sees it.
    pub live: bool,
    /// Start of its process.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub started_at: Wall,
}

/// The judge of silence.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Judge {
    /// Observed time so far.
    pub observed_ms: u64,
    /// By which it is behind the process's clock since its start: time in which nothing could be held against anybody.
    pub lag_ms: u64,
    /// It may give verdicts by absence now.
    pub punctual: bool,
    /// Why not.
    pub held_back_by: Option<String>,
    /// Why the breaker is open: so many workers seem to have died at once that the judge doubts itself. Null: it is closed.
    #[serde(default)]
    pub breaker: Option<String>,
}

/// A background duty.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How often it runs.
    pub every_ms: u64,
    /// Its last success.
    #[serde(with = "crate::time::option", default)]
    #[schema(value_type = Option<String>)]
    pub last_success_at: Option<Wall>,
    /// Runs of the duty.
    pub ticks: u64,
    /// Rows that wanted something.
    pub found: u64,
    /// Rows that got it.
    pub acted: u64,
    /// Rows that somebody else had changed meanwhile.
    #[serde(default)]
    pub lost_race: u64,
    /// Rows that could not be handled; they held nothing else up.
    #[serde(default)]
    pub failed_rows: u64,
    /// Ticks that were another replica's.
    #[serde(default)]
    pub not_owner: u64,
    /// Ticks that failed.
    pub failed: u64,
    /// What is wrong, if the last tick failed or left rows behind.
    pub last_error: Option<String>,
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// `flag`, `environment`, `file`, `default`, `queue policy`, `derived` with the rule, or `fixed` with the reason.
    pub origin: String,
}

impl From<outlive_core::effective::Effective> for Setting {
    fn from(row: outlive_core::effective::Effective) -> Self {
        Self { name: row.name, value: row.value, origin: row.origin.to_string() }
    }
}
