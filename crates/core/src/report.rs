//! What a worker may say about an attempt, and what it is answered.

use crate::ids::{Epoch, LeaseRef};
use crate::json::Json;
use crate::state::{Reason, State};
use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// One statement about one attempt. It names its lease; without it nothing is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The lease under which it is said.
    pub lease: LeaseRef,
    /// What is said.
    pub op: Op,
}

/// The statements.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The work began. Any other statement implies it.
    Start,
    /// One frame of output.
    Output(Frame),
    /// How far it is.
    Progress {
        /// 0 to 1.
        fraction: Option<f64>,
        /// For people.
        note: Option<String>,
    },
    /// State that the next attempt gets.
    Checkpoint(Json),
    /// The work is done.
    Complete(Completion),
    /// The work failed.
    Fail(Failure),
    /// The agent lost the process without the work's own doing (evidence 1).
    Lost {
        /// `process_killed` or `worker_exited`.
        reason: Reason,
        /// How the process ended.
        exit: Option<ExitReport>,
    },
    /// Handed back without cost.
    Release(Wait),
    /// A cancel has been carried out.
    Cancelled {
        /// How the process ended.
        exit: Option<ExitReport>,
    },
}

impl Op {
    /// Whether it ends the attempt.
    #[must_use]
    pub const fn ends_attempt(&self) -> bool {
        matches!(
            self,
            Self::Complete(_) | Self::Fail(_) | Self::Lost { .. } | Self::Release(_) | Self::Cancelled { .. }
        )
    }

    /// The stable name, as on the wire and in metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Output(_) => "output",
            Self::Progress { .. } => "progress",
            Self::Checkpoint(_) => "checkpoint",
            Self::Complete(_) => "complete",
            Self::Fail(_) => "fail",
            Self::Lost { .. } => "lost",
            Self::Release(_) => "release",
            Self::Cancelled { .. } => "cancelled",
        }
    }

    /// Frames that travel with it.
    #[must_use]
    pub fn carried_frames(&self) -> &[Frame] {
        match self {
            Self::Complete(c) => &c.frames,
            _ => &[],
        }
    }

    /// The last frame that must be in the log before this may be accepted.
    #[must_use]
    pub const fn last_output_seq(&self) -> Option<i64> {
        match self {
            Self::Complete(c) => c.last_output_seq,
            Self::Fail(f) => f.last_output_seq,
            _ => None,
        }
    }
}

/// One frame of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Counts from 1 in each attempt. 0 in a frame that travels with an end: *the next one*, from workers that send no frames.
    pub seq: i64,
    /// `stdout`, `stderr` or a named stream.
    pub channel: String,
    /// At most 256 KiB, any bytes.
    pub bytes: Vec<u8>,
}

/// The end of good work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// Structured result; none for text.
    pub result: Option<Json>,
    /// How the process ended.
    pub exit: Option<ExitReport>,
    /// The last frame sent.
    pub last_output_seq: Option<i64>,
    /// Frames that may be missing from the log: a replay out of an outbox carries them with the end.
    pub frames: Vec<Frame>,
}

/// The end of bad work.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Which kind of failure.
    pub reason: Reason,
    /// In the work's words.
    pub error: Option<ErrorReport>,
    /// How the process ended.
    pub exit: Option<ExitReport>,
    /// The worker's wish for the next attempt.
    pub retry_after: Option<Millis>,
    /// No further attempt makes sense.
    pub permanent: bool,
    /// The last frame sent.
    pub last_output_seq: Option<i64>,
}

impl Failure {
    /// A failure of which nothing but its reason is known.
    #[must_use]
    pub const fn of(reason: Reason) -> Self {
        Self { reason, error: None, exit: None, retry_after: None, permanent: false, last_output_seq: None }
    }
}

/// What a release waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: queued at once.
    Nothing,
    /// A time.
    Delay {
        /// From now; at most [`LONGEST_WAIT`](crate::limits::sizes::LONGEST_WAIT).
        delay: Millis,
        /// What for, for people.
        note: Option<String>,
    },
    /// A person.
    Hold {
        /// For them to read.
        note: Option<String>,
    },
}

/// An error in the work's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// One sentence.
    #[serde(default)]
    pub message: String,
    /// A code of the work's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExitReport {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it, by name (`SIGKILL`).
    pub signal: Option<String>,
    /// Whether a core was dumped.
    #[serde(skip_serializing_if = "is_false")]
    pub core_dumped: bool,
    /// Whether the run's own memory limit ended it.
    pub oom_killed: bool,
    /// Whether the agent ended it for a limit.
    pub timed_out: bool,
    /// Processor time of it and its children, user and system.
    pub cpu_ms: u64,
    /// The largest resident set.
    pub max_rss_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_false(b: &bool) -> bool {
    !*b
}

/// What an item is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemResult {
    /// Accepted, or accepted before.
    Ok,
    /// The lease is not open for the sender: drop the attempt, report nothing more.
    Fenced {
        /// The run's state now.
        state: State,
        /// Its epoch now.
        epoch: Epoch,
    },
    /// The run has ended.
    Terminal {
        /// How.
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
