//! The values that go in and out of a store.

use outlive_core::class::{MatchClass, WorkerProfile};
use outlive_core::engine::{OwnRow, PeerRow, Seat};
use outlive_core::explain::Cause;
use outlive_core::options::RunOptions;
use outlive_core::policy::QueuePolicy;
use outlive_core::report::{ErrorReport, ExitReport, Frame, ItemResult};
use outlive_core::run::begin::NewRun;
use outlive_core::run::derive::{AttemptView, Marker};
use outlive_core::run::{Evidence, LossBudget, Progress, Run};
use outlive_core::{
    ClassId, Epoch, Holder, HomeSeq, Incarnation, Json, LeaseRef, Millis, Observed, QueueId, Reason, ReplicaId, RunId,
    State, Wall, WorkerId,
};
use serde::{Deserialize, Serialize};
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

/// A worker that must be told to cancel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelOrder {
    /// Whom.
    pub holder: Holder,
    /// What.
    pub lease: LeaseRef,
    /// Why.
    pub reason: Reason,
}

/// Runs to create, all or nothing.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The tenant.
    pub namespace: String,
    /// At most 1,000.
    pub runs: Vec<CreateRun>,
    /// The client's idempotency key.
    pub idempotency: Option<Idempotency>,
    /// Claims to make in the same transaction, after the creation.
    pub claims: Vec<ClaimOrder>,
    /// Answers only what an earlier request made: a repetition gets its first answer, anything new is
    /// [`CreateError::WouldBeNew`](crate::CreateError::WouldBeNew). For callers that admit nothing new now.
    pub only_known: bool,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct CreateRun {
    /// The row.
    pub new: NewRun,
    /// Whether the client chose the id, so that a repetition is a repetition.
    pub id_chosen: bool,
    /// What the business key does when it is taken.
    pub on_conflict: OnConflict,
    /// The input.
    pub input: Json,
    /// The rest.
    pub options: RunOptions,
    /// What the first attempt starts from.
    pub checkpoint: Option<Json>,
}

/// What a taken business key does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Refused.
    #[default]
    Reject,
    /// The run that has it is the answer.
    Return,
    /// A waiting one ends `superseded`; a leased one is cancelled and gives the key up at once; the new one waits.
    Replace,
}

/// An idempotency key with the hash of the request that it was used for. Kept for 24 h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The client's text.
    pub key: String,
    /// Of the body.
    pub body_hash: [u8; 32],
}

/// What a creation made.
#[derive(Clone, Debug)]
pub struct Created {
    /// In the order of the request.
    pub runs: Vec<CreatedRun>,
    /// One per claim order, in order.
    pub claimed: Vec<Claimed>,
    /// Hints.
    pub commit: Commit,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct CreatedRun {
    /// The row as it is at the end of the transaction.
    pub run: Run,
    /// It was there before (same id, idempotency key, or `on_conflict: return`).
    pub existed: bool,
}

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
    /// For verdicts by absence: the home that judges; none for evidence 1 to 3, limits and persons.
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

/// A cancel.
#[derive(Clone, Debug)]
pub struct Cancelled {
    /// The state after it.
    pub state: State,
    /// Hints; `cancels` names the workers to tell.
    pub commit: Commit,
}

/// A run with all that people may see.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// The hot row.
    pub run: Run,
    /// What it needs of a worker.
    pub class: Arc<MatchClass>,
    /// Its input.
    pub input: Json,
    /// Its options.
    pub options: RunOptions,
    /// The rest.
    pub detail: Detail,
    /// The holder's name.
    pub worker_name: Option<String>,
    /// While it is cancelling: when somebody asked for that.
    pub cancel_requested_at: Option<Wall>,
}

/// The detail row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detail {
    /// The last checkpoint.
    pub checkpoint: Option<Json>,
    /// The last progress.
    pub progress: Option<Progress>,
    /// The structured result.
    pub result: Option<Json>,
    /// What the work said.
    pub error: Option<ErrorReport>,
    /// How the process ended.
    pub exit: Option<ExitReport>,
    /// For people.
    pub note: Option<String>,
    /// Details of the run's reason, for programs.
    pub reason_detail: Option<Json>,
    /// For the next attempt.
    pub resume_data: Option<Json>,
}

/// Which runs.
#[derive(Clone, Debug, Default)]
pub struct RunQuery {
    /// The tenant.
    pub namespace: String,
    /// Any of these; empty: all.
    pub states: Vec<State>,
    /// Lane.
    pub queue: Option<String>,
    /// Kind.
    pub kind: Option<String>,
    /// The name of the worker that holds or last held it.
    pub worker: Option<String>,
    /// A subject.
    pub subject: Option<String>,
    /// A serial key.
    pub serial_key: Option<String>,
    /// A parent.
    pub parent: Option<RunId>,
    /// A tag.
    pub tag: Option<(String, String)>,
    /// A reason.
    pub reason: Option<Reason>,
    /// The last characters of the id, lower-case hexadecimal and dashes.
    pub id_suffix: Option<String>,
    /// The first characters of the id, likewise.
    pub id_prefix: Option<String>,
    /// At most this many.
    pub limit: u32,
    /// Older than this row.
    pub cursor: Option<i64>,
}

/// A page. `next` is a cursor for the rest; a page may be empty and still have one (a bounded scan).
#[derive(Clone, Debug)]
pub struct Page<T, C = i64> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins.
    pub next: Option<C>,
}

/// A place in the order (worker, row) of open leases.
pub type LeaseCursor = (WorkerId, i64);

/// How a process presents itself.
#[derive(Clone, Debug)]
pub struct Registration {
    /// What it offers; names its tenant and itself.
    pub profile: WorkerProfile,
    /// New at each process start.
    pub instance: Uuid,
    /// The secret of its state folder.
    pub outbox_key: String,
    /// How it shows that it lives.
    pub presence: Presence,
    /// Its version.
    pub version: String,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: i64,
    /// The old process is known to be gone, or may be taken over.
    pub may_replace: bool,
}

/// How a worker shows that it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A connection with beats.
    Session,
    /// Requests, at least one in each interval.
    Poll(Millis),
    /// Not at all: `claim_ttl` only. It may have declared an interval for the runs that it names in beats all the same.
    None(Option<Millis>),
}

/// The answer to a registration.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The worker as it is now.
    pub worker: WorkerRow,
    /// The same instance registered again: incarnation and leases are kept.
    pub resumed: bool,
    /// The incarnation that this one replaced: the newest that still holds leases, else the one before.
    pub replaced: Option<Holder>,
    /// The replaced one is known to be gone, evidence 3: it had the same `outbox_key`, or it polled.
    pub same_state_folder: bool,
}

/// A worker name and its current incarnation.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerRow {
    /// Its row.
    pub id: WorkerId,
    /// What it offers.
    pub profile: WorkerProfile,
    /// The current start.
    pub incarnation: Incarnation,
    /// The current process.
    pub instance: Uuid,
    /// How it shows that it lives.
    pub presence: Presence,
    /// Its version.
    pub version: String,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: i64,
    /// First registration of the name.
    pub first_seen_at: Wall,
    /// Registration of this incarnation.
    pub registered_at: Wall,
    /// The last sign of life that was written (a session opened, became suspect, or ended).
    pub last_heard_at: Wall,
    /// It takes nothing new.
    pub draining: bool,
    /// It said goodbye.
    pub left: bool,
    /// A session of this incarnation is open or may come back. Its edges are told in the transactions that make them:
    /// `worker.online`, `worker.offline`, `worker.left`.
    pub session_open: bool,
    /// Its home.
    pub replica: ReplicaId,
    /// Rises with each home.
    pub home_seq: HomeSeq,
    /// How often it was taken over from a replica that was gone since a session of it opened.
    pub rearmed: u8,
    /// The store's observed clock when a session of it opened, or when it was taken over for the first times.
    pub armed: Observed,
    /// Attempts that were lost on it, ever.
    pub losses: i64,
}

impl WorkerRow {
    /// The current holder.
    #[must_use]
    pub const fn holder(&self) -> Holder {
        Holder { worker: self.id, incarnation: self.incarnation }
    }
}

/// The seat of a replica, taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// For the engine.
    pub seat: Seat,
    /// Which start of this name it is: part of every beat.
    pub start: i64,
}

/// A replica's row to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaBeat {
    /// Whose.
    pub replica: ReplicaId,
    /// As it joined.
    pub start: i64,
    /// What it says.
    pub row: OwnRow,
}

/// What was read with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    /// The store's observed clock.
    pub observed: Observed,
    /// How often others have taken sessions from this replica.
    pub taken: i64,
    /// All replicas, this one included, in order of id.
    pub rows: Vec<ReplicaRow>,
}

/// A replica as others and people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaRow {
    /// For the engine.
    pub row: PeerRow,
    /// Its stable name.
    pub name: String,
    /// Where it can be reached, `host:port`; empty: it did not say.
    pub address: String,
    /// When its process started.
    pub started_at: Wall,
    /// When it wrote its row last, for people: nothing is decided by it.
    pub wrote_at: Wall,
}

/// Workers to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// From whom.
    pub from: ReplicaId,
    /// Its row must still be this one; none: it is the caller's own seat.
    pub beat: Option<i64>,
    /// By whom.
    pub to: ReplicaId,
    /// After this worker.
    pub after: Option<WorkerId>,
    /// At most this many.
    pub limit: u32,
}

/// Workers taken over.
#[derive(Clone, Debug, Default)]
pub struct Adopted {
    /// Those that have an open session or hold leases, with the leases of their current incarnation.
    pub sessions: Vec<(WorkerRow, Vec<LeaseRow>)>,
    /// The other row has changed: nothing was written.
    pub lost_race: bool,
    /// Where the next page begins.
    pub next: Option<WorkerId>,
}

/// A session that opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The worker.
    pub worker: WorkerRow,
    /// Its home from now on.
    pub home_seq: HomeSeq,
    /// What it holds.
    pub leases: Vec<LeaseRow>,
}

/// A change to a worker's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerMark {
    /// Takes nothing new, or takes again.
    Draining(bool),
    /// It said goodbye; its session is over.
    Left,
    /// The last sign of life.
    Heard(Wall),
}

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

/// A run that nobody took in time, with what kept it from being taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Which.
    pub id: RunId,
    /// The causes of explain; may be none if nothing is known.
    pub because: Vec<Cause>,
}

/// What a tick did.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// Rows that wanted something.
    pub found: u64,
    /// Rows that got it.
    pub acted: u64,
    /// Rows that wanted it no more when it came to them: somebody else was there first.
    pub lost_race: u64,
    /// Rows that cannot be read; they are named in the log, and hold nothing else up.
    pub failed: u64,
    /// Another replica does this now: nothing was looked at.
    pub not_owner: bool,
    /// There may be more.
    pub more: bool,
    /// When the next row is due, if the tick knows.
    pub next_due: Option<Wall>,
    /// Hints.
    pub commit: Commit,
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
