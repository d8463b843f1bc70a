//! The items of a report: one flat shape for session, HTTP and the child's channel.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use outlive_core::limits::sizes;
use outlive_core::report::{Completion, ErrorReport, ExitReport, Failure, Frame, Item, ItemResult, Op, Wait};
use outlive_core::{Epoch, Json, LeaseRef, Millis, Reason, RunId, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an item says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OpName {
    /// The work began.
    Start,
    /// A frame of output: `seq`, `channel`, `text` or `base64`.
    Output,
    /// `fraction`, `note`.
    Progress,
    /// `data`.
    Checkpoint,
    /// `result` or `stdout`, `exit`, `last_output_seq`.
    Complete,
    /// `reason`, `error`, `exit`, `retry_after`, `permanent`, `last_output_seq`.
    Fail,
    /// `reason`, `exit`.
    Lost,
    /// `delay`, or `hold` and `note`.
    Release,
    /// Acknowledges a cancel; `exit`.
    Cancelled,
    /// The outbox of the incarnation before this one has been replayed. Names no run.
    OutboxDone,
}

/// One item. Which fields count depends on `op`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WireItem {
    /// What is said.
    pub op: OpName,
    /// About which run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<uuid::Uuid>)]
    pub run_id: Option<RunId>,
    /// Under which lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub epoch: Option<Epoch>,
    /// Number of the frame in its attempt, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// `stdout`, `stderr` or a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The frame, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The frame, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<f64>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub data: Option<Json>,
    /// The result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Json>,
    /// All of the output, from workers that send no frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// How the process ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub exit: Option<ExitReport>,
    /// The last frame that was sent before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_output_seq: Option<i64>,
    /// A reason code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
    /// In the work's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub error: Option<ErrorReport>,
    /// The wait before the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub retry_after: Option<Millis>,
    /// No further attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permanent: Option<bool>,
    /// Hand back, queued again after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub delay: Option<Millis>,
    /// Hand back, held for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<bool>,
    /// With `complete`: frames that may be missing from the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<WireFrame>,
}

/// A frame that travels with an end.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WireFrame {
    /// Number in its attempt.
    pub seq: i64,
    /// `stdout`, `stderr` or a name.
    pub channel: String,
    /// The bytes, if they are UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// Text or base64, whichever keeps the bytes.
#[must_use]
pub fn encode(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

fn decode(text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(b)) => BASE64.decode(b).map_err(|_| "base64: not valid base64".to_owned()),
        _ => Err("a frame needs either text or base64".to_owned()),
    }
}

impl WireItem {
    /// An item that says nothing more than its op.
    #[must_use]
    pub const fn bare(op: OpName, lease: Option<LeaseRef>) -> Self {
        let (run_id, epoch) = match lease {
            Some(lease) => (Some(lease.run_id), Some(lease.epoch)),
            None => (None, None),
        };
        Self {
            op,
            run_id,
            epoch,
            seq: None,
            channel: None,
            text: None,
            base64: None,
            fraction: None,
            note: None,
            data: None,
            result: None,
            stdout: None,
            exit: None,
            last_output_seq: None,
            reason: None,
            error: None,
            retry_after: None,
            permanent: None,
            delay: None,
            hold: None,
            frames: Vec::new(),
        }
    }

    /// What it says.
    ///
    /// # Errors
    /// A sentence that names the field that is missing or wrong.
    pub fn into_item(self) -> Result<Item, String> {
        let run_id = self.run_id.ok_or("run_id is missing")?;
        let epoch = self.epoch.ok_or("epoch is missing")?;
        let op = match self.op {
            OpName::Start => Op::Start,
            OpName::Output => {
                let seq = self.seq.filter(|&n| n >= 1).ok_or("seq is missing; frames count from 1")?;
                let channel = channel(self.channel.ok_or("channel is missing")?)?;
                Op::Output(Frame { seq, channel, bytes: decode(self.text, self.base64)? })
            }
            OpName::Progress => {
                if self.fraction.is_some_and(|f| !(0.0..=1.0).contains(&f)) {
                    return Err("fraction must be between 0 and 1".to_owned());
                }
                Op::Progress { fraction: self.fraction, note: self.note }
            }
            OpName::Checkpoint => Op::Checkpoint(shallow("data", self.data.ok_or("data is missing")?)?),
            OpName::Complete => {
                let mut frames = Vec::with_capacity(self.frames.len());
                for f in self.frames {
                    let bytes = decode(f.text, f.base64)?;
                    frames.push(Frame { seq: f.seq.max(1), channel: channel(f.channel)?, bytes });
                }
                let stdout = self.stdout.unwrap_or_default().into_bytes();
                for part in stdout.chunks(sizes::FRAME) {
                    frames.push(Frame { seq: 0, channel: "stdout".into(), bytes: part.to_vec() });
                }
                let result = self.result.filter(|r| !r.is_null()).map(|r| shallow("result", r)).transpose()?;
                Op::Complete(Completion { result, exit: self.exit, last_output_seq: self.last_output_seq, frames })
            }
            OpName::Fail => Op::Fail(Failure {
                reason: self.reason.unwrap_or(Reason::HandlerError),
                error: self.error,
                exit: self.exit,
                retry_after: self.retry_after,
                permanent: self.permanent.unwrap_or(false),
                last_output_seq: self.last_output_seq,
            }),
            OpName::Lost => match self.reason {
                Some(reason @ (Reason::ProcessKilled | Reason::WorkerExited)) => Op::Lost { reason, exit: self.exit },
                _ => return Err("reason must be process_killed or worker_exited".to_owned()),
            },
            OpName::Release => match (self.delay, self.hold) {
                (Some(_), Some(true)) => return Err("either delay or hold".to_owned()),
                (Some(delay), _) => Op::Release(Wait::Delay { delay, note: self.note }),
                (None, Some(true)) => Op::Release(Wait::Hold { note: self.note }),
                _ => Op::Release(Wait::Nothing),
            },
            OpName::Cancelled => Op::Cancelled { exit: self.exit },
            OpName::OutboxDone => return Err("outbox_done is not about a run".to_owned()),
        };
        Ok(Item { lease: LeaseRef { run_id, epoch }, op })
    }
}

fn shallow(field: &str, json: Json) -> Result<Json, String> {
    let fits = json.depth() <= sizes::DEPTH;
    if fits { Ok(json) } else { Err(format!("{field} is nested deeper than {} levels", sizes::DEPTH)) }
}

fn channel(name: String) -> Result<String, String> {
    let fits = !name.is_empty() && name.len() <= 64 && !name.contains(char::is_control);
    if fits { Ok(name) } else { Err("channel must have 1 to 64 characters".to_owned()) }
}

impl From<Item> for WireItem {
    fn from(item: Item) -> Self {
        let bare = |op| Self::bare(op, Some(item.lease));
        match item.op {
            Op::Start => bare(OpName::Start),
            Op::Output(frame) => {
                let (text, base64) = encode(&frame.bytes);
                Self { seq: Some(frame.seq), channel: Some(frame.channel), text, base64, ..bare(OpName::Output) }
            }
            Op::Progress { fraction, note } => Self { fraction, note, ..bare(OpName::Progress) },
            Op::Checkpoint(data) => Self { data: Some(data), ..bare(OpName::Checkpoint) },
            Op::Complete(c) => {
                let frames = c.frames.iter().map(|f| {
                    let (text, base64) = encode(&f.bytes);
                    WireFrame { seq: f.seq, channel: f.channel.clone(), text, base64 }
                });
                let frames = frames.collect();
                Self {
                    result: c.result,
                    exit: c.exit,
                    last_output_seq: c.last_output_seq,
                    frames,
                    ..bare(OpName::Complete)
                }
            }
            Op::Fail(f) => Self {
                reason: Some(f.reason),
                error: f.error,
                exit: f.exit,
                retry_after: f.retry_after,
                permanent: f.permanent.then_some(true),
                last_output_seq: f.last_output_seq,
                ..bare(OpName::Fail)
            },
            Op::Lost { reason, exit } => Self { reason: Some(reason), exit, ..bare(OpName::Lost) },
            Op::Release(Wait::Nothing) => bare(OpName::Release),
            Op::Release(Wait::Delay { delay, note }) => Self { delay: Some(delay), note, ..bare(OpName::Release) },
            Op::Release(Wait::Hold { note }) => Self { hold: Some(true), note, ..bare(OpName::Release) },
            Op::Cancelled { exit } => Self { exit, ..bare(OpName::Cancelled) },
        }
    }
}

/// What an item is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum WireResult {
    /// Accepted, or accepted before.
    Ok,
    /// The lease is not open for the sender: drop the attempt, report nothing more.
    Fenced {
        /// The run's state now.
        #[schema(value_type = String)]
        state: State,
        /// Its epoch now.
        #[schema(value_type = i64)]
        epoch: Epoch,
    },
    /// The run has ended.
    Terminal {
        /// How.
        #[schema(value_type = String)]
        state: State,
    },
    /// Frames before it are missing; nothing changed.
    Gap {
        /// The frame that is wanted next.
        expected: i64,
    },
    /// It cannot be accepted as it is.
    Invalid {
        /// What to change.
        detail: String,
    },
}

impl From<ItemResult> for WireResult {
    fn from(result: ItemResult) -> Self {
        match result {
            ItemResult::Ok => Self::Ok,
            ItemResult::Fenced { state, epoch } => Self::Fenced { state, epoch },
            ItemResult::Terminal { state } => Self::Terminal { state },
            ItemResult::Gap { expected } => Self::Gap { expected },
            ItemResult::Invalid { detail } => Self::Invalid { detail },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> LeaseRef {
        LeaseRef { run_id: RunId::from_parts(outlive_core::Wall(1), 3), epoch: Epoch(2) }
    }

    #[test]
    fn items_read_back_as_sent() {
        let ops = [
            Op::Start,
            Op::Output(Frame { seq: 1, channel: "stdout".into(), bytes: b"a\n".to_vec() }),
            Op::Output(Frame { seq: 2, channel: "stderr".into(), bytes: vec![0xff, 0, 1] }),
            Op::Progress { fraction: Some(0.5), note: Some("half".into()) },
            Op::Checkpoint(Json::parse(r#"{"i": 4}"#.into()).unwrap()),
            Op::Complete(Completion { last_output_seq: Some(2), ..Completion::default() }),
            Op::Lost { reason: Reason::ProcessKilled, exit: Some(ExitReport::default()) },
            Op::Release(Wait::Hold { note: None }),
            Op::Release(Wait::Delay { delay: outlive_core::Millis::mins(10), note: Some("the rate limit".into()) }),
            Op::Cancelled { exit: None },
        ];
        for op in ops {
            let sent = Item { lease: lease(), op };
            let text = serde_json::to_string(&WireItem::from(sent.clone())).unwrap();
            let read: WireItem = serde_json::from_str(&text).unwrap();
            assert_eq!(read.into_item(), Ok(sent), "{text}");
        }
    }

    #[test]
    fn a_worker_message_ignores_unknown_fields_and_names_missing_ones() {
        let text = format!(r#"{{"op":"start","run_id":"{}","epoch":2,"later":[1]}}"#, lease().run_id);
        let item: WireItem = serde_json::from_str(&text).unwrap();
        assert!(item.into_item().is_ok());
        assert_eq!(
            WireItem::bare(OpName::Output, Some(lease())).into_item().unwrap_err(),
            "seq is missing; frames count from 1"
        );
        assert_eq!(WireItem::bare(OpName::Start, None).into_item().unwrap_err(), "run_id is missing");
    }
}
