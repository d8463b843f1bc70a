//! The store contract.
//!
//! A store keeps rows and runs transitions of `outlive-core` over them; it decides nothing. Every method below is one
//! transaction, and what it answered survives `kill -9` and power loss. The contract is split by caller:
//!
//! | trait | caller |
//! |---|---|
//! | [`Catalog`] | start-up, classes and queues |
//! | [`Runs`] | clients: create, read, cancel, retry, release, delete |
//! | [`Leases`] | sessions: claim, report, lose |
//! | [`Workers`] | registration, homes, drain, leave |
//! | [`History`] | output, attempts, events, recoveries, subjects, the feed |
//! | [`Sweeps`] | background duties, each a bounded, idempotent tick |
//! | [`Replicas`] | several servers over one store: their rows, and homes that move |
//!
//! **Time.** A store holds a clock for its wall time; observed time comes in with [`Sweeps::advance_observed`] and is read back
//! from its row, so that limits in observed time survive restarts and moves.
//!
//! **The commit's tail.** Every mutation answers with a [`Commit`]: hints for whoever is waiting. Hints may be lost; whoever
//! relies on one also polls.

pub mod copies;
pub mod error;
pub mod exchange;
pub mod faults;
pub mod feed;
pub mod liveness;
pub mod types;

pub use copies::{Backup, Restored};
pub use error::{CreateError, RegisterError, StoreError, WriteError};
pub use exchange::{Errand, Exchange, Hints};
pub use feed::{FeedCursor, FeedFrom, FeedPage};
pub use liveness::{Liveness, Unknown};
pub use types::*;

use async_trait::async_trait;
use outlive_core::class::MatchClass;
use outlive_core::engine::Homes;
use outlive_core::feed::Notice;
use outlive_core::given::GivenPolicy;
use outlive_core::report::Item;
use outlive_core::{ClassId, Holder, Json, Observed, QueueId, Reason, RunId, Wall, WorkerId};

/// Start-up, classes and queues.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Everything that a server keeps in memory from its start: generation, secret, observed clock, queues, classes, ready classes.
    async fn load(&self) -> Result<Snapshot, StoreError>;
    /// The number of a match class; creates it, and its queue with default policy, at first use.
    async fn intern_class(&self, class: MatchClass) -> Result<ClassRow, StoreError>;
    /// Creates a queue or replaces its policy. Only what was said is kept: the rest follows the defaults.
    async fn put_queue(&self, namespace: &str, name: &str, policy: GivenPolicy) -> Result<QueueRow, StoreError>;
    /// Pauses (no claims) or resumes. `None`: no such queue. The commit names the classes that may be ready.
    async fn pause_queue(&self, queue: QueueId, paused: bool) -> Result<Option<Commit>, StoreError>;
    /// Counts by state, kept as rows and never counted on request.
    async fn queue_counts(&self, queue: QueueId) -> Result<QueueCounts, StoreError>;
    /// How it does.
    async fn health(&self) -> Result<StoreHealth, StoreError>;
    /// Whether it commits: read by the judge on every tick, never blocking.
    fn pulse(&self) -> Pulse;
}

/// Clients.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Creates runs, all or nothing, and in the same transaction claims for sessions that have free slots.
    async fn create(&self, request: CreateRequest) -> Result<Created, CreateError>;
    /// One run with its detail and input.
    async fn get(&self, namespace: &str, id: RunId) -> Result<Option<RunRow>, StoreError>;
    /// Newest first, a bounded page; a page may be short and still have a next one.
    async fn list(&self, query: RunQuery) -> Result<Page<RunRow>, StoreError>;
    /// Ready runs of a class that are first in the order of claims.
    async fn first_in_line(&self, class: ClassId, limit: u32) -> Result<Vec<RunRow>, StoreError>;
    /// Ends it if it waits, else asks its worker; also its children. Cancelled already: nothing. Ended otherwise:
    /// [`WriteError::Terminal`].
    async fn cancel(
        &self,
        namespace: &str,
        id: RunId,
        reason: Reason,
        note: Option<String>,
    ) -> Result<Cancelled, WriteError>;
    /// Queues a held or scheduled run now. Other states: [`WriteError::NotWaiting`]. With a key that was used for the same
    /// request it does nothing more: a repetition must not end a later wait of the run.
    async fn release(
        &self,
        namespace: &str,
        id: RunId,
        data: Option<Json>,
        idempotency: Option<Idempotency>,
    ) -> Result<Commit, WriteError>;
    /// Removes a terminal run and all that belongs to it. Not terminal: [`WriteError::NotTerminal`].
    async fn delete(&self, namespace: &str, id: RunId) -> Result<(), WriteError>;
}

/// Sessions and polling workers.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Claims for one session, best rank first over the classes named, at most `max`. Guarded by (incarnation, home, `home_seq`):
    /// zero rows is a lost race, answered by no leases and [`Claimed::lost_race`].
    async fn claim(&self, order: ClaimOrder) -> Result<Claimed, StoreError>;
    /// Applies items in order, each under the fence; one never blocks another. The answers are in the items' order.
    async fn report(&self, sender: Holder, items: Vec<Item>) -> Result<Reported, StoreError>;
    /// The verdict: closes the leases named (or all of the holder) if the guard still holds, with the retry, its events and its
    /// recovery row in the same transaction.
    async fn lose(&self, verdict: Verdict) -> Result<LoseOutcome, StoreError>;
    /// Open leases of a holder, for a session that opens and for adoption at start.
    async fn leases_of(&self, holder: Holder) -> Result<Vec<LeaseRow>, StoreError>;
}

/// The registry.
#[async_trait]
pub trait Workers: Send + Sync {
    /// A process announces itself. Same instance: a resume. New instance: the next incarnation, or refused while the old one
    /// holds the name and `takeover` is false and nothing proves it gone (the caller says which of these holds).
    async fn register(&self, registration: Registration) -> Result<Registered, RegisterError>;
    /// A connection (or polling presence) of an incarnation opens here: its home is now `replica`, `home_seq` rises, and its
    /// leases are returned. If none was open before, that is the edge `worker.online`. `None`: that incarnation is no longer
    /// current.
    async fn open_session(
        &self,
        holder: Holder,
        replica: outlive_core::ReplicaId,
    ) -> Result<Option<Opened>, StoreError>;
    /// Marks: left, drain, heard. `None`: no such worker.
    async fn mark_worker(&self, worker: WorkerId, mark: WorkerMark) -> Result<Option<WorkerRow>, StoreError>;
    /// One worker.
    async fn worker(&self, worker: WorkerId) -> Result<Option<WorkerRow>, StoreError>;
    /// All workers of a namespace (all namespaces: `None`), by name, a page.
    async fn workers(
        &self,
        namespace: Option<&str>,
        after: Option<WorkerId>,
        limit: u32,
    ) -> Result<Vec<WorkerRow>, StoreError>;
    /// Leases given for a polling worker's request id, if the same request was answered before.
    async fn claim_request(&self, holder: Holder, request: uuid::Uuid) -> Result<Option<Vec<LeaseRow>>, StoreError>;
}

/// What was.
#[async_trait]
pub trait History: Send + Sync {
    /// Entries of a run's log after an offset: frames, attempt and lost markers, gaps, merged in order of offset.
    async fn output(&self, id: RunId, query: OutputQuery) -> Result<Option<OutputPage>, StoreError>;
    /// All attempts, oldest first, with the names of their workers.
    async fn attempts(&self, namespace: &str, id: RunId) -> Result<Option<Vec<AttemptRow>>, StoreError>;
    /// All events, oldest first: derived and kept.
    async fn events(&self, namespace: &str, id: RunId) -> Result<Option<Vec<outlive_core::run::Event>>, StoreError>;
    /// Recoveries, newest first.
    async fn recoveries(&self, query: RecoveryQuery) -> Result<Page<RecoveryRow>, StoreError>;
    /// A subject with at most `limit` of its active runs, newest first. One that no run ever named is idle.
    async fn subject(&self, namespace: &str, subject: &str, limit: u32) -> Result<SubjectRow, StoreError>;
    /// Events of all tenants in the order of their commits: no gap, no repetition, whatever commits meanwhile. At least `limit`
    /// of them if there are as many; a page holds whole rows.
    async fn feed(&self, from: FeedFrom, limit: u32) -> Result<FeedPage, StoreError>;
}

/// Background duties. Each is bounded, idempotent and safe to run from anywhere at any time.
#[async_trait]
pub trait Sweeps: Send + Sync {
    /// Sets the observed clock forward; never back. Returns what it is now. Also the store's sign of life.
    async fn advance_observed(&self, to: Observed) -> Result<Observed, StoreError>;
    /// Scheduled runs that are due, held runs that expired; at most `limit`.
    async fn due(&self, limit: u32) -> Result<Swept, StoreError>;
    /// Queued runs that nobody has ever taken and that have waited longer than they may, the longest overdue first. To be ended by
    /// [`expire`](Self::expire), once it is known what kept them from being taken.
    async fn overdue(&self, limit: u32) -> Result<Vec<RunRow>, StoreError>;
    /// Ends those of these runs that are still overdue. One that was claimed or cancelled meanwhile is a lost race: found, and
    /// not acted upon.
    async fn expire(&self, runs: Vec<Expiry>) -> Result<Swept, StoreError>;
    /// Open leases in (worker, run) order after a cursor, for the audit and for start-up.
    async fn leases_after(
        &self,
        cursor: Option<LeaseCursor>,
        limit: u32,
    ) -> Result<Page<LeaseRow, LeaseCursor>, StoreError>;
    /// Classes that have a ready run: what the audit compares with the engine's hints.
    async fn ready_classes(&self) -> Result<Vec<ClassId>, StoreError>;
    /// Repairs derived columns of runs that have not ended from rows alone: clocks, blocked flags of serial and business keys,
    /// links to subjects, queue counts.
    async fn audit_waiting(&self, limit: u32) -> Result<Swept, StoreError>;
    /// Counts the runs of a page of subjects again, and repairs the subjects' rows.
    async fn audit_subjects(&self, limit: u32) -> Result<Swept, StoreError>;
    /// Puts what the server says of itself into the feed.
    async fn announce(&self, notices: Vec<(Wall, Notice)>) -> Result<(), StoreError>;
    /// Deletes what is past its retention, at most `limit` rows.
    async fn retention(&self, limit: u32) -> Result<Swept, StoreError>;
    /// Deletes workers that have been offline for `unheard` and to which nothing belongs.
    async fn worker_gc(&self, unheard: outlive_core::Millis, limit: u32) -> Result<Swept, StoreError>;
}

/// Several servers over one store. The rules are `outlive_core::engine::replicas`; a store that only one process can open needs
/// none of this.
#[async_trait]
pub trait Replicas: Send + Sync {
    /// A process takes the seat of that name, from whoever had it. The same name is the same replica, so that the homes of
    /// sessions stay true over a restart.
    async fn join(&self, name: &str, address: &str) -> Result<Joined, StoreError>;
    /// Writes this replica's row and reads all rows, in one transaction, each second. `None`: another process has taken the
    /// seat; nothing was written, and this process must end.
    async fn beat(&self, beat: ReplicaBeat) -> Result<Option<ReplicaView>, StoreError>;
    /// Takes a page of workers over from a replica, if its row is still the one that was read (compare-and-set), or, at a start,
    /// from the earlier process in the same seat. Each gets a new `home_seq`; while it has been taken over fewer than
    /// `REARMED_AT_MOST` times since a session of it opened, also a new `armed`. The other replica's `taken` rises.
    async fn adopt(&self, adoption: Adoption) -> Result<Adopted, StoreError>;
    /// The open sessions whose home is this replica, with how often others have taken from it, in one snapshot.
    async fn homes(&self, replica: outlive_core::ReplicaId) -> Result<Homes, StoreError>;
}

/// The whole contract.
pub trait Store: Catalog + Runs + Leases + Workers + History + Sweeps + Replicas {}
impl<T: Catalog + Runs + Leases + Workers + History + Sweeps + Replicas> Store for T {}
