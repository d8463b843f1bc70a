//! Claims, reports, losses.

use super::Commit;
use outlive_core::class::MatchClass;
use outlive_core::options::RunOptions;
use outlive_core::report::ItemResult;
use outlive_core::run::{Evidence, LossBudget, Run};
use outlive_core::{ClassId, Holder, HomeSeq, Json, LeaseRef, Millis, Reason, ReplicaId, Wall, WorkerId};
use std::sync::Arc;
use uuid::Uuid;

/// A claim for one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimOrder {
    /// For whom.
    pub holder: Holder,
    /// Its home as the caller knows it.
    pub replica: ReplicaId,
    /// The same.
    pub home_seq: HomeSeq,
    /// At most this many.
    pub max: u32,
    /// Out of these classes.
    pub classes: Vec<ClassId>,
    /// A polling worker's request: the same one gives the same leases again.
    pub request: Option<Uuid>,
}

/// What a claim took.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// In order of rank.
    pub leases: Vec<LeaseRow>,
    /// Classes of the order that have nothing that could be taken now (empty, paused, at their cap or rate).
    pub exhausted: Vec<ClassId>,
    /// The session has another home or incarnation by now.
    pub lost_race: bool,
    /// Rate limits: try these classes again after this long.
    pub retry_after: Option<Millis>,
    /// Hints.
    pub commit: Commit,
}

/// A lease with all that its worker needs.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseRow {
    /// The run's row.
    pub run: Run,
    /// What it needs of a worker.
    pub class: Arc<MatchClass>,
    /// Its input.
    pub input: Json,
    /// Its options.
    pub options: RunOptions,
    /// The last checkpoint.
    pub checkpoint: Option<Json>,
    /// From whoever released it.
    pub resume_data: Option<Json>,
}

/// Answers to items.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// In the order of the items.
    pub results: Vec<ItemResult>,
    /// Hints.
    pub commit: Commit,
}

/// Leases to close.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whose.
    pub holder: Holder,
    /// The home that judges; none for what needs no home (a newer incarnation, a worker whose row is gone).
    pub guard: Option<(ReplicaId, HomeSeq)>,
    /// Which; none: all that are open.
    pub leases: Option<Vec<LeaseRef>>,
    /// Why.
    pub reason: Reason,
    /// What proved it.
    pub evidence: Evidence,
    /// The last sign of life, on the store's clock.
    pub last_heard_at: Wall,
    /// Whether it costs.
    pub budget: LossBudget,
    /// Also ends the session: nothing is claimed for it any more.
    pub end_session: bool,
}

/// What a verdict did.
#[derive(Clone, Debug, Default)]
pub struct LoseOutcome {
    /// Leases that it closed.
    pub lost: Vec<LeaseRef>,
    /// The guard did not hold: nothing was written.
    pub lost_race: bool,
    /// Hints.
    pub commit: Commit,
}

/// A place in the order (worker, row) of open leases.
pub type LeaseCursor = (WorkerId, i64);
