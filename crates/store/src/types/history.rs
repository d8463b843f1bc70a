//! Output, attempts, recoveries, subjects.

use super::RunRow;
use outlive_core::report::Frame;
use outlive_core::run::Evidence;
use outlive_core::run::derive::{AttemptView, Marker};
use outlive_core::{Epoch, Incarnation, Reason, RunId, State, Wall};

/// Which entries of a log.
#[derive(Clone, Debug)]
pub struct OutputQuery {
    /// Where to begin.
    pub from: OutputFrom,
    /// Only frames of this channel (markers always).
    pub channel: Option<String>,
    /// At most this many entries.
    pub limit: u32,
    /// Stops after this many bytes.
    pub max_bytes: usize,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFrom {
    /// After this offset; 0: from the beginning.
    After(i64),
    /// At the marker of the current (or last) attempt.
    CurrentAttempt,
}

/// A part of a log.
#[derive(Clone, Debug)]
pub struct OutputPage {
    /// In order of offset.
    pub entries: Vec<OutputEntry>,
    /// The offset after which the next page begins.
    pub next_after: i64,
    /// Nothing more is there now.
    pub at_head: bool,
    /// The run's state in the same read; if terminal and `at_head`, the log has ended.
    pub state: State,
    /// Its epoch.
    pub epoch: Epoch,
    /// The offset that `end` has.
    pub end_offset: i64,
    /// Its namespace, for the caller's check.
    pub namespace: String,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputEntry {
    /// Its place.
    pub offset: i64,
    /// What it is.
    pub kind: OutputKind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputKind {
    /// Bytes.
    Frame {
        /// Of which attempt.
        epoch: Epoch,
        /// The frame.
        frame: Frame,
        /// When it was stored.
        at: Wall,
    },
    /// The start or loss of an attempt, with the worker's name.
    Marker(Marker, Option<String>),
    /// Entries that are gone.
    Gap {
        /// The first that is gone.
        from: i64,
        /// The last that is gone.
        to: i64,
        /// `retention`, `limit`, `stream_lost`.
        why: String,
    },
}

/// An attempt with its worker's name.
#[derive(Clone, Debug)]
pub struct AttemptRow {
    /// The attempt.
    pub view: AttemptView,
    /// The worker's name then.
    pub worker_name: String,
}

/// Which recoveries.
#[derive(Clone, Debug, Default)]
pub struct RecoveryQuery {
    /// The tenant.
    pub namespace: String,
    /// Of one run.
    pub run: Option<RunId>,
    /// At most this many.
    pub limit: u32,
    /// Older than this row.
    pub cursor: Option<i64>,
}

/// A measured recovery.
#[derive(Clone, Debug, PartialEq)]
pub struct RecoveryRow {
    /// Its row.
    pub id: i64,
    /// The run.
    pub run_id: RunId,
    /// Its queue.
    pub queue: String,
    /// What proved the loss.
    pub evidence: Evidence,
    /// Why.
    pub reason: Reason,
    /// The lost attempt.
    pub from: RecoverySide,
    /// Its successor.
    pub to: Option<RecoverySide>,
    /// The last sign of life.
    pub last_heard_at: Wall,
    /// The verdict.
    pub lost_at: Wall,
    /// Queued again.
    pub queued_at: Option<Wall>,
    /// Claimed again.
    pub claimed_at: Option<Wall>,
    /// Started again.
    pub started_at: Option<Wall>,
    /// Past the point where it was lost.
    pub caught_up_at: Option<Wall>,
    /// The next attempt had a checkpoint to start from.
    pub had_checkpoint: bool,
    /// How it went.
    pub outcome: RecoveryOutcome,
}

/// One side of a recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverySide {
    /// The epoch.
    pub epoch: Epoch,
    /// The worker's name.
    pub worker_name: String,
    /// Its incarnation.
    pub incarnation: Incarnation,
}

/// How a recovery went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryOutcome {
    /// It goes on.
    Open,
    /// The run started again.
    Recovered,
    /// The run ended, or was lost again, before it started again.
    Over,
    /// The lost attempt's own success was accepted.
    Salvaged,
}

impl RecoveryOutcome {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Recovered => "recovered",
            Self::Over => "over",
            Self::Salvaged => "salvaged",
        }
    }
}

/// A subject as people may see it.
#[derive(Clone, Debug, Default)]
pub struct SubjectRow {
    /// Its counts and its last end.
    pub subject: outlive_core::subject::Subject,
    /// Active runs of it, newest first; not all if there are many.
    pub active: Vec<RunRow>,
}
