//! What a server keeps from its start: queues, classes, what a commit tells, how a store does.

use super::CancelOrder;
use outlive_core::class::MatchClass;
use outlive_core::policy::QueuePolicy;
use outlive_core::{
    ClassId, Epoch, Holder, LeaseRef, Millis, Observed, QueueId, Reason, ReplicaId, RunId, State, Wall,
};
use std::sync::Arc;
use uuid::Uuid;

/// What a server keeps in memory from its start.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Changes when the store is restored from a copy; part of every token.
    pub generation: Uuid,
    /// 32 random bytes that sign session tokens.
    pub secret: [u8; 32],
    /// The observed clock as last advanced.
    pub observed: Observed,
    /// This process's replica row.
    pub replica: ReplicaId,
    /// All queues.
    pub queues: Vec<QueueRow>,
    /// All match classes.
    pub classes: Vec<ClassRow>,
    /// Those with a ready run.
    pub ready: Vec<ClassId>,
}

/// A queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueRow {
    /// Its row.
    pub id: QueueId,
    /// Its tenant.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its policy.
    pub policy: QueuePolicy,
    /// The values of it that somebody set, as `name` or `outer.inner`; the others are defaults.
    pub set: Vec<String>,
    /// No claims.
    pub paused: bool,
    /// First use.
    pub created_at: Wall,
}

/// Runs of a queue by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Waiting for a worker.
    pub queued: i64,
    /// Waiting for a time.
    pub scheduled: i64,
    /// Waiting for a release.
    pub held: i64,
    /// Leased: claimed, running or cancelling.
    pub running: i64,
    /// Queueing time of the ready run that is first in the order of claims.
    pub oldest_queued_at: Option<Wall>,
}

/// An interned match class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassRow {
    /// Its number.
    pub id: ClassId,
    /// Its queue.
    pub queue: QueueId,
    /// What it is.
    pub class: Arc<MatchClass>,
}

/// Hints about what a transaction changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// Classes that may have a ready run that they had not before.
    pub ready: Vec<ClassId>,
    /// Runs whose state, epoch or output changed, in order.
    pub changed: Vec<Changed>,
    /// Leased runs that somebody asked to end: their workers must be told.
    pub cancels: Vec<CancelOrder>,
}

/// One changed run.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// Which.
    pub id: RunId,
    /// Its queue.
    pub queue: QueueId,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Its epoch.
    pub epoch: Epoch,
    /// Why, if it says.
    pub reason: Option<Reason>,
    /// The offset of the next entry of its log.
    pub output_next: i64,
    /// The lease that this closed.
    pub freed: Option<(Holder, LeaseRef)>,
    /// From creation to the end, when it ended; from queueing to claim, when it was claimed.
    pub took: Option<Millis>,
}

/// How a store does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// `sqlite` or `postgres`.
    pub backend: &'static str,
    /// Where, without secrets.
    pub location: String,
    /// Size in bytes, where known.
    pub bytes: Option<u64>,
    /// Version of the schema.
    pub schema_version: i64,
}

/// Whether a store commits, in milliseconds of its clock's monotonic time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Since the last commit that succeeded.
    pub since_commit: Millis,
    /// How long the oldest write that is under way has waited; none if nothing waits.
    pub pending: Option<Millis>,
    /// It writes nothing more until it is opened again: the disk failed, and what an `fsync` lost cannot be known.
    pub broken: bool,
    /// What is wrong with it now.
    pub trouble: Option<Trouble>,
}

/// What can be wrong with a store that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The disk is full; over with the next commit.
    Full,
    /// It takes no writes; over with the next commit.
    ReadOnly,
    /// A part of it cannot be read; until it is opened again.
    Damaged,
}

/// What a store that is not open here is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreState {
    /// There is none yet.
    None,
    /// Another process has it open.
    InUse,
    /// It can be opened.
    Sound {
        /// Its size.
        bytes: u64,
        /// The version of its schema.
        schema: i64,
    },
    /// A newer version of Outlive made it.
    Newer {
        /// The version of its schema.
        schema: i64,
        /// The newest that this version knows.
        known: i64,
    },
    /// It is not what was written, and how that shows.
    Damaged(String),
}
