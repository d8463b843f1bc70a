//! Bodies of `/v1/workers`.

use crate::report::{WireItem, WireResult};
use crate::session::{Held, Lease};
use outlive_core::{Epoch, Incarnation, Json, Millis, Reason, RunId, Wall, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// A process announces itself.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Register {
    /// See [`crate::PROTOCOL`].
    pub protocol: u32,
    /// Its stable name, 1 to 200 characters.
    pub name: String,
    /// New at each process start.
    pub instance: Uuid,
    /// Take the name from a worker that still answers.
    #[serde(default)]
    pub takeover: bool,
    /// Secret of its state folder.
    #[serde(default)]
    pub outbox_key: String,
    /// Reports of the incarnation before that wait to be replayed.
    #[serde(default)]
    pub outbox_pending: u64,
    /// Lanes that it takes from.
    #[serde(default = "default_queues")]
    pub queues: Vec<String>,
    /// What it handles.
    pub kinds: Vec<String>,
    /// What it has.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Runs at once.
    #[serde(default = "one")]
    pub slots: u32,
    /// How it shows that it lives.
    #[serde(default)]
    pub liveness: WireLiveness,
    /// For polling workers: at least one request in each.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub heartbeat_interval: Option<Millis>,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// Its host.
    #[serde(default)]
    pub host: String,
    /// Its process.
    #[serde(default)]
    pub pid: i64,
    /// What it has, if it was there before.
    #[serde(default)]
    pub held: Vec<Held>,
}

fn default_queues() -> Vec<String> {
    vec!["default".to_owned()]
}

const fn one() -> u32 {
    1
}

/// How a worker shows that it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WireLiveness {
    /// A connection with beats.
    #[default]
    Session,
    /// Requests.
    Poll,
    /// Not at all.
    None,
}

/// The answer to a registration.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Registered {
    /// Its row.
    #[schema(value_type = String)]
    pub worker_id: WorkerId,
    /// How often the name has started.
    #[schema(value_type = i64)]
    pub incarnation: Incarnation,
    /// For every other call.
    pub session_token: String,
    /// Beat each so often.
    #[schema(value_type = String)]
    pub heartbeat_interval: Millis,
    /// The least of its queues.
    #[schema(value_type = String)]
    pub lease_ttl: Millis,
    /// How long a reconnect may take.
    #[schema(value_type = String)]
    pub reconnect_window: Millis,
    /// For workers that poll: what they hold and did not name.
    #[serde(default)]
    pub leases: Vec<Lease>,
}

/// A long poll for work.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClaimBody {
    /// The same one gives the same leases.
    pub request_id: Uuid,
    /// At most this many.
    #[serde(default = "one")]
    pub max: u32,
    /// Wait this long for work, at most 60 s.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub wait: Option<Millis>,
}

/// Leases.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Leases {
    /// The leases.
    pub leases: Vec<Lease>,
}

/// A report over HTTP; also a beat.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ReportBody {
    /// What it holds.
    #[serde(default)]
    pub beat: Option<PollBeat>,
    /// In order.
    #[serde(default)]
    pub items: Vec<WireItem>,
    /// These come out of the outbox of an earlier incarnation.
    #[serde(default)]
    pub replay: bool,
}

/// The beat in a report.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct PollBeat {
    /// Every lease it holds.
    #[serde(default)]
    pub held: Vec<Held>,
}

/// The answer to a report.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ReportAnswer {
    /// In the items' order.
    pub results: Vec<WireResult>,
    /// What the worker should do.
    pub orders: Vec<WireOrder>,
}

/// An order for a worker without a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", try_from = "OrderFields")]
pub enum WireOrder {
    /// End it.
    Cancel {
        /// The run.
        #[schema(value_type = uuid::Uuid)]
        run_id: RunId,
        /// The epoch.
        #[schema(value_type = i64)]
        epoch: Epoch,
    },
    /// It is not yours any more.
    Lost {
        /// The run.
        #[schema(value_type = uuid::Uuid)]
        run_id: RunId,
        /// The epoch.
        #[schema(value_type = i64)]
        epoch: Epoch,
        /// Why.
        #[schema(value_type = String)]
        reason: Reason,
    },
    /// A message for the attempt.
    Signal {
        /// The run.
        #[schema(value_type = uuid::Uuid)]
        run_id: RunId,
        /// The epoch.
        #[schema(value_type = i64)]
        epoch: Epoch,
        /// Its name.
        name: String,
        /// Its content.
        #[schema(value_type = serde_json::Value)]
        data: Json,
    },
    /// Take nothing new.
    Drain,
}

/// All fields of all orders: read without a tree between, because verbatim JSON cannot pass through one.
#[derive(Deserialize)]
struct OrderFields {
    r#type: String,
    run_id: Option<RunId>,
    epoch: Option<Epoch>,
    reason: Option<Reason>,
    name: Option<String>,
    data: Option<Json>,
}

impl TryFrom<OrderFields> for WireOrder {
    type Error = String;

    fn try_from(fields: OrderFields) -> Result<Self, String> {
        if fields.r#type == "drain" {
            return Ok(Self::Drain);
        }
        let missing = |field: &str| format!("{field} is missing");
        let run_id = fields.run_id.ok_or_else(|| missing("run_id"))?;
        let epoch = fields.epoch.ok_or_else(|| missing("epoch"))?;
        match fields.r#type.as_str() {
            "cancel" => Ok(Self::Cancel { run_id, epoch }),
            "lost" => Ok(Self::Lost { run_id, epoch, reason: fields.reason.ok_or_else(|| missing("reason"))? }),
            "signal" => Ok(Self::Signal {
                run_id,
                epoch,
                name: fields.name.ok_or_else(|| missing("name"))?,
                data: fields.data.unwrap_or_else(Json::null),
            }),
            other => Err(format!("\"{other}\" is not an order; expected cancel, lost, signal or drain")),
        }
    }
}

/// A worker as people see it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// Its row.
    #[schema(value_type = String)]
    pub id: WorkerId,
    /// Its tenant.
    pub namespace: String,
    /// Its stable name.
    pub name: String,
    /// `online`, `suspect`, `offline`, `draining`, `left`.
    pub status: String,
    /// How often the name has started.
    #[schema(value_type = i64)]
    pub incarnation: Incarnation,
    /// How it shows that it lives.
    pub liveness: WireLiveness,
    /// Since the last sign of life.
    pub last_heard_age_ms: Option<u64>,
    /// Silence after which it is written off.
    pub lease_ttl_ms: u64,
    /// Lanes.
    pub queues: Vec<String>,
    /// Kinds.
    pub kinds: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Runs at once.
    pub slots: u32,
    /// What it holds now.
    pub held: Vec<HeldRun>,
    /// Attempts lost on it, ever.
    pub losses: i64,
    /// Its version.
    pub version: String,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: i64,
    /// The replica that it is connected to.
    pub home: Option<i64>,
    /// First registration of the name.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub first_seen_at: Wall,
    /// Registration of this incarnation.
    #[serde(with = "crate::time")]
    #[schema(value_type = String)]
    pub registered_at: Wall,
}

/// A run that a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldRun {
    /// The run.
    #[schema(value_type = uuid::Uuid)]
    pub run_id: RunId,
    /// The epoch.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
}

/// A list of workers.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Workers {
    /// The workers.
    pub workers: Vec<Worker>,
    /// For the next page.
    pub next_cursor: Option<String>,
}
