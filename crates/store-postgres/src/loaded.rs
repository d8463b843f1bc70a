//! What a transaction has read under its own locks, and so knows: rows as they will be, whether or not they are written yet.

use crate::fault::{Done, Fault};
use crate::recent::Made;
use crate::rows::{from_text, json};
use crate::serial::Slot;
use crate::tx::Guard;
use crate::value::get;
use outlive_core::options::RunOptions;
use outlive_core::run::{DetailPatch, Progress, Run};
use outlive_core::{Json, QueueId, RunId, WorkerId};
use outlive_store::WorkerRow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use tokio_postgres::Row;

/// A key's row, locked.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) slot: Slot,
    /// The command that moved it last, until its line is settled.
    pub(crate) moved_by: Option<usize>,
}

/// What a worker needs beside the run's row.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) input: Json,
    pub(crate) options: RunOptions,
    pub(crate) checkpoint: Option<Json>,
    pub(crate) resume_data: Option<Json>,
}

impl Body {
    /// Out of a row with a number before it.
    pub(crate) fn read(row: &Row) -> Done<Self> {
        Ok(Self {
            input: Json::parse(get(row, 1)?)?,
            options: from_text(get(row, 2)?)?.unwrap_or_default(),
            checkpoint: json(get(row, 3)?)?,
            resume_data: json(get(row, 4)?)?.filter(|data| !data.is_null()),
        })
    }
}

/// What the loss of an attempt depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Means {
    pub(crate) options: RunOptions,
    pub(crate) checkpoint: Option<Json>,
    pub(crate) progress: Option<Progress>,
}

/// An idempotency key's row: hash, runs, time.
pub(crate) type Remembered = (Vec<u8>, Vec<u8>, i64);

#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Runs that are locked, or new.
    pub(crate) runs: HashMap<i64, Run>,
    /// Of those: what is not locked, but taken to be as this replica wrote it last, until it is written or looked at.
    pub(crate) assumed: BTreeMap<i64, Made>,
    /// Rows of runs that this transaction has written.
    pub(crate) written: BTreeSet<i64>,
    /// Runs that are locked and cannot be read, or whose options cannot: why.
    pub(crate) unreadable: HashMap<i64, String>,
    /// Which of them have these ids; none: there is no such run.
    pub(crate) ids: HashMap<RunId, Option<i64>>,
    /// Runs that were looked for by a chosen id, as committed.
    pub(crate) chosen: HashMap<RunId, Option<Run>>,
    pub(crate) lines: HashMap<String, Line>,
    pub(crate) guards: HashMap<WorkerId, Option<Guard>>,
    /// Workers whose rows are locked against claims.
    pub(crate) closing: BTreeSet<WorkerId>,
    /// Of those: rows of workers whose sessions are to open.
    pub(crate) opening: HashMap<WorkerId, WorkerRow>,
    /// Of those: what each holds, if nothing can be claimed for it before its turn.
    pub(crate) holds: HashMap<WorkerId, Vec<i64>>,
    pub(crate) bodies: HashMap<i64, Body>,
    pub(crate) means: HashMap<i64, Means>,
    pub(crate) idempotency: HashMap<(String, String), Option<Remembered>>,
    /// Who has a business key.
    pub(crate) keys: HashMap<(QueueId, String), Option<i64>>,
    /// Queues whose rows are locked.
    pub(crate) queues: BTreeSet<QueueId>,
    /// Open leases of some of them: what others have committed, and what this transaction adds.
    pub(crate) leased: HashMap<QueueId, i64>,
    /// Numbers of rows to come.
    pub(crate) seqs: VecDeque<i64>,
    pub(crate) recovery_ids: VecDeque<i64>,
}

impl Loaded {
    /// A run that is locked, or new.
    pub(crate) fn put(&mut self, run: Run) {
        self.ids.insert(run.id, Some(run.seq));
        self.runs.insert(run.seq, run);
    }

    /// Somebody changed a worker's row: what was read of it is true no longer.
    pub(crate) fn forget_worker(&mut self, worker: WorkerId) {
        self.guards.remove(&worker);
        self.opening.remove(&worker);
        self.holds.remove(&worker);
    }

    /// Follows a patch of the detail row.
    pub(crate) fn patch(&mut self, seq: i64, patch: &DetailPatch) {
        if let Some(body) = self.bodies.get_mut(&seq) {
            body.checkpoint = patch.checkpoint.clone().or(body.checkpoint.take());
            let data = patch.resume_data.clone().or(body.resume_data.take());
            body.resume_data = data.filter(|data| !data.is_null());
        }
        if let Some(means) = self.means.get_mut(&seq) {
            means.checkpoint = patch.checkpoint.clone().or(means.checkpoint.take());
            means.progress = patch.progress.clone().or(means.progress.take());
        }
    }

    /// Whoever needs a run that cannot be read is told so; whoever sweeps looks first.
    pub(crate) fn must_be_readable(&self, seq: i64) -> Done<()> {
        self.unreadable.get(&seq).map_or(Ok(()), |why| Err(Fault::Damaged(why.clone())))
    }

    /// The rows of a run are gone.
    pub(crate) fn remove(&mut self, run: &Run) {
        self.ids.insert(run.id, None);
        self.runs.remove(&run.seq);
        self.bodies.remove(&run.seq);
        self.means.remove(&run.seq);
    }
}
