//! The messages of a worker's WebSocket: JSON texts, each with a `type`.
//!
//! The worker speaks first: a `beat` that names all it holds. The server answers `hello`, a `lost` for each lease named that
//! is not the worker's, and one `leases` message with `push_seq` 0 with what it holds and did not name. Design, section 4,
//! gives the meaning of each.

use crate::report::{WireItem, WireResult};
use outlive_core::engine::HeldInfo;
use outlive_core::policy::{OnIsolation, Takeover};
use outlive_core::{Epoch, HomeSeq, Json, LeaseRef, Millis, Reason, RunId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The largest message that either side accepts, in bytes.
pub const MESSAGE_LIMIT: usize = 16 << 20;

/// What either side reads at once, in bytes. Most messages are beats; larger ones are read in parts. The library zeroes so much
/// before each read: with its 128 KiB that was a third of a server's time with 10,000 sessions, and most of its memory.
pub const READ_BUFFER: usize = 8 << 10;

/// What a worker says.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WorkerMessage {
    /// I live, I hold these, I can take so many.
    Beat(Beat),
    /// About attempts.
    Report {
        /// Counts up on this connection; the answer carries it.
        report_seq: u64,
        /// In order.
        items: Vec<WireItem>,
        /// These come out of the outbox of an earlier incarnation.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        replay: bool,
    },
}

/// A beat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Beat {
    /// Counts up on this connection; the acknowledgement carries it.
    pub beat_seq: u64,
    /// Total of leases that this connection may be given, since it opened. The first beat: slots − held.
    #[serde(default)]
    pub credit: u64,
    /// The last `leases` message that was read.
    #[serde(default)]
    pub seen_push_seq: u64,
    /// Whether the beat's timer sent it, not a change of credit. Only such beats count as *absent in two beats*.
    #[serde(default = "yes")]
    pub timer: bool,
    /// Every lease whose process, or whose unacknowledged end, is there.
    #[serde(default)]
    pub held: Vec<Held>,
}

const fn yes() -> bool {
    true
}

/// A lease that a worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Held {
    /// The run.
    #[schema(value_type = uuid::Uuid)]
    pub run_id: RunId,
    /// The epoch.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// How long its processes have been frozen, in all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub frozen_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Held {
    /// The lease.
    #[must_use]
    pub const fn lease(&self) -> LeaseRef {
        LeaseRef { run_id: self.run_id, epoch: self.epoch }
    }

    /// As the engine takes it.
    #[must_use]
    pub const fn info(&self) -> HeldInfo {
        HeldInfo { lease: self.lease(), frozen: Millis(self.frozen_ms) }
    }
}

/// All fields of all worker messages: read once, without a tree between (verbatim JSON cannot pass through one).
#[derive(Deserialize)]
struct WorkerWire {
    r#type: String,
    #[serde(default)]
    beat_seq: u64,
    #[serde(default)]
    credit: u64,
    #[serde(default)]
    seen_push_seq: u64,
    #[serde(default = "yes")]
    timer: bool,
    #[serde(default)]
    held: Vec<Held>,
    #[serde(default)]
    report_seq: u64,
    #[serde(default)]
    items: Vec<WireItem>,
    #[serde(default)]
    replay: bool,
}

impl WorkerMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wire: WorkerWire = serde_json::from_str(text).map_err(|e| e.to_string())?;
        match wire.r#type.as_str() {
            "beat" => Ok(Self::Beat(Beat {
                beat_seq: wire.beat_seq,
                credit: wire.credit,
                seen_push_seq: wire.seen_push_seq,
                timer: wire.timer,
                held: wire.held,
            })),
            "report" => Ok(Self::Report { report_seq: wire.report_seq, items: wire.items, replay: wire.replay }),
            other => Err(format!("\"{other}\" is not a message; expected beat or report")),
        }
    }
}

/// What the server says.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The answer to the first beat.
    Hello(Hello),
    /// New leases, many in one message. `push_seq` 0: what the worker holds and did not name.
    Leases {
        /// Counts up on this connection.
        push_seq: u64,
        /// The leases.
        leases: Vec<Lease>,
    },
    /// A lease is not the worker's any more: SIGKILL, without thawing.
    Lost {
        /// The run.
        run_id: RunId,
        /// The epoch.
        epoch: Epoch,
        /// Why.
        reason: Reason,
    },
    /// Somebody asks for its end: TERM, grace, KILL, then `cancelled`.
    Cancel {
        /// The run.
        run_id: RunId,
        /// The epoch.
        epoch: Epoch,
        /// Why.
        reason: Reason,
    },
    /// A message for the attempt.
    Signal {
        /// The run.
        run_id: RunId,
        /// The epoch.
        epoch: Epoch,
        /// Its name.
        name: String,
        /// Its content.
        data: Json,
    },
    /// Take nothing new, finish or hand back what is there.
    Drain,
    /// Every lease named in that beat is confirmed, unless a `lost` came before this.
    BeatAck {
        /// Of the beat.
        beat_seq: u64,
        /// The server does not know whether it still is the home: trust is not extended.
        home_unsure: bool,
    },
    /// Answers to a report's items, in their order.
    Results {
        /// Of the report.
        report_seq: u64,
        /// The answers.
        results: Vec<WireResult>,
    },
    /// The server goes away on purpose.
    Close {
        /// Why.
        why: CloseReason,
        /// Trust may be kept at least this long from now.
        keep_trust_ms: u64,
        /// Addresses to try.
        r#try: Vec<String>,
    },
}

/// Why the server closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// It stops or restarts: come back.
    Shutdown,
    /// Another connection of the same incarnation opened.
    Superseded,
    /// A newer incarnation has the name: stop the work and exit.
    SessionReplaced,
    /// It was written off; open a new session.
    WrittenOff,
    /// Messages were not read in time.
    TooSlow,
    /// A message was not understood.
    Protocol,
    /// Anything that a newer server may say.
    #[serde(other)]
    Other,
}

/// The answer to the first beat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hello {
    /// Rises with each home.
    #[schema(value_type = i64)]
    pub home_seq: HomeSeq,
    /// Beat each so often.
    pub heartbeat_ms: u64,
    /// How long a reconnect may take.
    pub reconnect_window_ms: u64,
    /// The server sees another address than the agent's own.
    #[serde(default)]
    pub proxied: bool,
    /// There is no other replica.
    pub sole: bool,
    /// Addresses of all replicas.
    pub replicas: Vec<String>,
}

/// A lease with all that its worker needs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// The run.
    #[schema(value_type = uuid::Uuid)]
    pub run_id: RunId,
    /// The fence.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// What handles it.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// Its input.
    #[schema(value_type = serde_json::Value)]
    pub input: Json,
    /// Failures + 1.
    pub attempt: u32,
    /// An earlier attempt was lost.
    #[serde(default)]
    pub recovered: bool,
    /// The last checkpoint.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    pub checkpoint: Option<Json>,
    /// From whoever released it.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    pub resume_data: Option<Json>,
    /// The queue's.
    pub lease_ttl_ms: u64,
    /// The queue's.
    #[serde(default)]
    pub offline_grace_ms: u64,
    /// The attempt's longest run.
    pub run_timeout_ms: u64,
    /// Off if null.
    #[serde(default)]
    pub progress_timeout_ms: Option<u64>,
    /// Between TERM and KILL.
    pub cancel_grace_ms: u64,
    /// What to do at the trust deadline.
    #[serde(default)]
    #[schema(value_type = String)]
    pub on_isolation: OnIsolation,
    /// Whether the end of the connection shortens trust.
    #[serde(default)]
    #[schema(value_type = String)]
    pub takeover: Takeover,
    /// W3C trace context.
    #[serde(default)]
    pub traceparent: Option<String>,
}

impl Lease {
    /// Its name on every write.
    #[must_use]
    pub const fn lease(&self) -> LeaseRef {
        LeaseRef { run_id: self.run_id, epoch: self.epoch }
    }
}

#[derive(Deserialize)]
struct ServerWire {
    r#type: String,
    #[serde(default)]
    home_seq: HomeSeq,
    #[serde(default)]
    heartbeat_ms: u64,
    #[serde(default)]
    reconnect_window_ms: u64,
    #[serde(default)]
    proxied: bool,
    #[serde(default)]
    sole: bool,
    #[serde(default)]
    replicas: Vec<String>,
    #[serde(default)]
    push_seq: u64,
    #[serde(default)]
    leases: Vec<Lease>,
    run_id: Option<RunId>,
    epoch: Option<Epoch>,
    #[serde(default, deserialize_with = "known_reason")]
    reason: Option<Reason>,
    #[serde(default)]
    name: String,
    data: Option<Json>,
    #[serde(default)]
    beat_seq: u64,
    #[serde(default)]
    home_unsure: bool,
    #[serde(default)]
    report_seq: u64,
    #[serde(default)]
    results: Vec<WireResult>,
    why: Option<CloseReason>,
    #[serde(default)]
    keep_trust_ms: u64,
    #[serde(default)]
    r#try: Vec<String>,
}

/// A reason of a newer server is no reason to fail.
fn known_reason<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Reason>, D::Error> {
    let text = Option::<std::borrow::Cow<'de, str>>::deserialize(d)?;
    Ok(text.and_then(|t| t.parse().ok()))
}

impl ServerMessage {
    /// Reads a message. `None`: of a kind that this build does not know, to be ignored.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let w: ServerWire = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let lease = || w.run_id.zip(w.epoch).ok_or_else(|| format!("{} without run_id and epoch", w.r#type));
        Ok(Some(match w.r#type.as_str() {
            "hello" => Self::Hello(Hello {
                home_seq: w.home_seq,
                heartbeat_ms: w.heartbeat_ms,
                reconnect_window_ms: w.reconnect_window_ms,
                proxied: w.proxied,
                sole: w.sole,
                replicas: w.replicas,
            }),
            "leases" => Self::Leases { push_seq: w.push_seq, leases: w.leases },
            "lost" => {
                let (run_id, epoch) = lease()?;
                Self::Lost { run_id, epoch, reason: w.reason.unwrap_or(Reason::LeaseReleased) }
            }
            "cancel" => {
                let (run_id, epoch) = lease()?;
                Self::Cancel { run_id, epoch, reason: w.reason.unwrap_or(Reason::Cancelled) }
            }
            "signal" => {
                let (run_id, epoch) = lease()?;
                Self::Signal { run_id, epoch, name: w.name, data: w.data.unwrap_or_else(Json::null) }
            }
            "drain" => Self::Drain,
            "beat_ack" => Self::BeatAck { beat_seq: w.beat_seq, home_unsure: w.home_unsure },
            "results" => Self::Results { report_seq: w.report_seq, results: w.results },
            "close" => {
                let why = w.why.unwrap_or(CloseReason::Other);
                Self::Close { why, keep_trust_ms: w.keep_trust_ms, r#try: w.r#try }
            }
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_message_reads_back_and_ignores_what_it_does_not_know() {
        let text = r#"{"type":"beat","beat_seq":3,"credit":4,"held":[{"run_id":"01900000-0000-7000-8000-000000000000","epoch":2}],"new":1}"#;
        let WorkerMessage::Beat(beat) = WorkerMessage::parse(text).unwrap() else { panic!("a beat") };
        assert_eq!((beat.beat_seq, beat.credit, beat.held.len(), beat.timer), (3, 4, 1, true));
        assert!(WorkerMessage::parse(r#"{"type":"song"}"#).is_err());
        assert!(WorkerMessage::parse("{").is_err());
    }

    #[test]
    fn server_messages_read_back_as_sent() {
        let lease = r#"{"run_id":"01900000-0000-7000-8000-000000000000","epoch":2,"kind":"exec","queue":"q","input":{"a":[1,2]},"attempt":1,"lease_ttl_ms":1,"run_timeout_ms":1,"cancel_grace_ms":1}"#;
        let lease: Lease = serde_json::from_str(lease).unwrap();
        let sent = ServerMessage::Leases { push_seq: 7, leases: vec![lease] };
        let text = serde_json::to_string(&sent).unwrap();
        let Some(ServerMessage::Leases { push_seq: 7, leases }) = ServerMessage::parse(&text).unwrap() else {
            panic!("{text}")
        };
        assert_eq!(leases[0].input.text(), r#"{"a":[1,2]}"#);
        assert!(ServerMessage::parse(r#"{"type":"from_the_future"}"#).unwrap().is_none());
        let unknown =
            r#"{"type":"lost","run_id":"01900000-0000-7000-8000-000000000000","epoch":2,"reason":"new_reason"}"#;
        assert!(matches!(ServerMessage::parse(unknown).unwrap(), Some(ServerMessage::Lost { .. })));
    }
}
