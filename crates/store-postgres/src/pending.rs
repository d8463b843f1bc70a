//! What a transaction will write: collected, so that a batch of hundreds of commands writes each table in one statement.
//!
//! Rows of runs are written as they are in [`Loaded`] when the time comes: a run that is created, claimed and started in one
//! batch is one row. Whatever is asked of the database in between is asked after a [`flush`](crate::flush).

use crate::loaded::Loaded;
use outlive_core::run::{Attempt, DetailPatch, Event, Evidence};
use outlive_core::{Epoch, Holder, QueueId, Reason, RunId, Wall, WorkerId};
use outlive_store::WorkerRow;
use outlive_store::feed::Body;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

pub(crate) struct Input {
    pub(crate) seq: i64,
    pub(crate) text: String,
    pub(crate) options: Option<String>,
    pub(crate) parent: Option<Uuid>,
}

pub(crate) struct FrameRow {
    pub(crate) seq: i64,
    pub(crate) offset: i64,
    pub(crate) epoch: Epoch,
    pub(crate) frame: outlive_core::report::Frame,
    pub(crate) at: Wall,
}

pub(crate) struct NewRecovery {
    pub(crate) id: i64,
    pub(crate) namespace: String,
    pub(crate) run: RunId,
    pub(crate) queue: String,
    pub(crate) evidence: Evidence,
    pub(crate) reason: Reason,
    pub(crate) epoch: Epoch,
    pub(crate) worker: String,
    pub(crate) holder: Holder,
    pub(crate) last_heard_at: Wall,
    pub(crate) lost_at: Wall,
    pub(crate) queued_at: Option<Wall>,
    pub(crate) had_checkpoint: bool,
    pub(crate) fraction: Option<f64>,
}

/// A later step of a recovery.
pub(crate) enum RecoveryUpdate {
    Claimed { id: i64, epoch: Epoch, worker: String, holder: Holder, at: Wall, queued_at: Option<Wall> },
    Started { id: i64, at: Wall },
    Over { id: i64 },
    Salvaged { id: i64 },
}

pub(crate) struct Request {
    pub(crate) holder: Holder,
    pub(crate) id: Uuid,
    pub(crate) leases: Vec<u8>,
}

/// How much of a run's row has changed. What is never written costs nothing: a row has thirty columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// Columns that no index knows: what output, progress and checkpoints write.
    Touch,
    /// Those, and what the end of an attempt that ends its run writes.
    End,
    /// What a first claim writes.
    Claim,
    /// Anything.
    Whole,
}

impl Width {
    /// Enough for both.
    fn with(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Self::Touch, Self::End) | (Self::End, Self::Touch) => Self::End,
            _ => Self::Whole,
        }
    }
}

#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) inserts: BTreeSet<i64>,
    pub(crate) updates: BTreeMap<i64, Width>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) details: BTreeMap<i64, DetailPatch>,
    pub(crate) attempts: Vec<(i64, Attempt)>,
    pub(crate) events: Vec<(i64, Event)>,
    pub(crate) frames: Vec<FrameRow>,
    pub(crate) tags: Vec<(String, String, i64)>,
    /// Subjects within their namespaces, with whether the run is active.
    pub(crate) subjects: Vec<(String, i64, bool)>,
    pub(crate) idempotency: BTreeMap<(String, String), (Vec<u8>, Vec<u8>)>,
    pub(crate) requests: Vec<Request>,
    pub(crate) claim_log: Vec<(QueueId, i64)>,
    pub(crate) recoveries: Vec<NewRecovery>,
    pub(crate) steps: Vec<RecoveryUpdate>,
    pub(crate) losses: BTreeMap<WorkerId, i64>,
    /// Sessions that opened: rows of workers as they are now.
    pub(crate) homes: BTreeMap<WorkerId, WorkerRow>,
    pub(crate) lines: BTreeSet<String>,
    /// Runs that wait for no lease any more.
    pub(crate) unwaits: Vec<i64>,
    /// Written at the end: rows that every batch of this replica adds to.
    pub(crate) sums: Sums,
    pub(crate) feed: Body,
}

/// Differences of counts.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) states: BTreeMap<(QueueId, i64), i64>,
    pub(crate) classes: BTreeMap<outlive_core::ClassId, i64>,
}

/// What a transaction writes last.
pub(crate) struct Last {
    pub(crate) sums: Sums,
    pub(crate) feed: Body,
}

impl Pending {
    pub(crate) fn take_last(&mut self) -> Last {
        Last { sums: std::mem::take(&mut self.sums), feed: std::mem::take(&mut self.feed) }
    }

    /// Whether a statement would not see something that this transaction has changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.inserts.is_empty()
            && self.updates.is_empty()
            && self.inputs.is_empty()
            && self.details.is_empty()
            && self.attempts.is_empty()
            && self.events.is_empty()
            && self.frames.is_empty()
            && self.tags.is_empty()
            && self.subjects.is_empty()
            && self.idempotency.is_empty()
            && self.requests.is_empty()
            && self.claim_log.is_empty()
            && self.recoveries.is_empty()
            && self.steps.is_empty()
            && self.losses.is_empty()
            && self.homes.is_empty()
            && self.lines.is_empty()
            && self.unwaits.is_empty()
    }

    /// Whether the other rows of these runs have changes that are not written.
    pub(crate) fn concerns(&self, seqs: &[i64]) -> bool {
        seqs.iter().any(|seq| self.inserts.contains(seq) || self.details.contains_key(seq))
    }

    /// A run's row changed.
    pub(crate) fn save(&mut self, seq: i64, width: Width) {
        if !self.inserts.contains(&seq) {
            let all = self.updates.entry(seq).or_insert(width);
            *all = all.with(width);
        }
    }

    /// Columns of the detail row.
    pub(crate) fn put_detail(&mut self, loaded: &mut Loaded, seq: i64, patch: DetailPatch) {
        loaded.patch(seq, &patch);
        let all = self.details.entry(seq).or_default();
        let DetailPatch { checkpoint, progress, result, error, exit, resume_data, note, reason_detail } = patch;
        all.checkpoint = checkpoint.or(all.checkpoint.take());
        all.progress = progress.or(all.progress.take());
        all.result = result.or(all.result.take());
        all.error = error.or(all.error.take());
        all.exit = exit.or(all.exit.take());
        all.resume_data = resume_data.or(all.resume_data.take());
        all.note = note.or(all.note.take());
        all.reason_detail = reason_detail.or(all.reason_detail.take());
    }
}
