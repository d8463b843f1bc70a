//! The fault decorator: any store, with failures where a script says.
//!
//! The script sees every call before it is made and answers what befalls it. It is an ordinary closure over whatever the
//! caller has (a seeded generator, a list, a counter), so the same script gives the same faults.
//!
//! | fault | is it written? | the caller gets |
//! |---|---|---|
//! | [`Fault::None`] | yes | the answer |
//! | [`Fault::Refuse`] | no | [`StoreError::Unavailable`] |
//! | [`Fault::Tear`] | no: it failed in the middle and was undone | [`StoreError::Unknown`] |
//! | [`Fault::LoseReply`] | **yes** | [`StoreError::Unknown`] |
//! | [`Fault::Delay`] | yes, after the caller's future | the answer |
//! | [`Fault::DelayReply`] | yes | the answer, after the caller's future |
//!
//! A caller that is told `Unknown` cannot tell a tear from a lost reply; it repeats the call, and the contract makes that
//! safe. An answer that was a refusal (a conflict, `not found`) is lost like any other.

use crate::{
    Adopted, Adoption, AttemptRow, Cancelled, Catalog, ClaimOrder, Claimed, ClassRow, Commit, CreateError,
    CreateRequest, Created, Expiry, FeedFrom, FeedPage, History, Idempotency, Joined, LeaseCursor, LeaseRow, Leases,
    LoseOutcome, Opened, OutputPage, OutputQuery, Page, Pulse, QueueCounts, QueueRow, RecoveryQuery, RecoveryRow,
    RegisterError, Registered, Registration, ReplicaBeat, ReplicaView, Replicas, Reported, RunQuery, RunRow, Runs,
    Snapshot, Store, StoreError, StoreHealth, SubjectRow, Sweeps, Swept, Verdict, WorkerMark, WorkerRow, Workers,
    WriteError,
};
use async_trait::async_trait;
use outlive_core::class::MatchClass;
use outlive_core::engine::Homes;
use outlive_core::feed::Notice;
use outlive_core::given::GivenPolicy;
use outlive_core::report::Item;
use outlive_core::run::Event;
use outlive_core::{ClassId, Holder, Json, Millis, Observed, QueueId, Reason, ReplicaId, RunId, Wall, WorkerId};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

/// A call that is about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The method's name.
    pub method: &'static str,
    /// Whether it may write.
    pub writes: bool,
    /// How many calls were made before it.
    pub number: u64,
}

/// What the caller of a delayed call waits for; its clock is the script's.
pub type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What befalls a call.
#[derive(Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It is refused; nothing is written.
    Refuse,
    /// It fails in the middle; nothing is written, but the caller cannot know.
    Tear,
    /// It is carried out; the reply is lost.
    LoseReply,
    /// It is carried out later.
    Delay(Wait),
    /// It is carried out at once; the reply comes later.
    DelayReply(Wait),
}

/// A store with faults.
pub struct Faulty<S: ?Sized, F> {
    script: F,
    calls: AtomicU64,
    inner: Arc<S>,
}

impl<S: ?Sized, F> Faulty<S, F>
where
    F: Fn(Call) -> Fault + Send + Sync,
{
    /// Every call on `inner` is shown to `script` first.
    pub const fn new(inner: Arc<S>, script: F) -> Self {
        Self { script, calls: AtomicU64::new(0), inner }
    }

    /// The store beneath.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    async fn through<T, E: From<StoreError>>(
        &self,
        method: &'static str,
        writes: bool,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E>
    where
        S: Send + Sync,
    {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        match (self.script)(Call { method, writes, number }) {
            Fault::None => call.await,
            Fault::Refuse => Err(StoreError::Unavailable(format!("{method} was refused by a script")).into()),
            Fault::Tear => Err(StoreError::Unknown(format!("{method} was torn by a script")).into()),
            Fault::LoseReply => {
                drop(call.await);
                Err(StoreError::Unknown(format!("the reply of {method} was lost by a script")).into())
            }
            Fault::Delay(wait) => {
                wait.await;
                call.await
            }
            Fault::DelayReply(wait) => {
                let answer = call.await;
                wait.await;
                answer
            }
        }
    }
}

/// Implements traits by passing every method through the script.
macro_rules! passed_through {
    ($($trait:ident { $($kind:ident $method:ident($($arg:ident: $type:ty),*) -> $answer:ty;)* $(=> $now:ident -> $value:ty;)* })*) => {$(
        #[async_trait]
        impl<S: Store + ?Sized, F> $trait for Faulty<S, F>
        where
            F: Fn(Call) -> Fault + Send + Sync,
        {
            $(async fn $method(&self, $($arg: $type),*) -> $answer {
                let writes = stringify!($kind) == "write";
                self.through(stringify!($method), writes, self.inner.$method($($arg),*)).await
            })*
            $(fn $now(&self) -> $value {
                self.inner.$now()
            })*
        }
    )*};
}

passed_through! {
    Catalog {
        read load() -> Result<Snapshot, StoreError>;
        write intern_class(class: MatchClass) -> Result<ClassRow, StoreError>;
        write put_queue(namespace: &str, name: &str, policy: GivenPolicy) -> Result<QueueRow, StoreError>;
        write pause_queue(queue: QueueId, paused: bool) -> Result<Option<Commit>, StoreError>;
        read queue_counts(queue: QueueId) -> Result<QueueCounts, StoreError>;
        read health() -> Result<StoreHealth, StoreError>;
        => pulse -> Pulse;
    }
    Runs {
        write create(request: CreateRequest) -> Result<Created, CreateError>;
        read get(namespace: &str, id: RunId) -> Result<Option<RunRow>, StoreError>;
        read list(query: RunQuery) -> Result<Page<RunRow>, StoreError>;
        read first_in_line(class: ClassId, limit: u32) -> Result<Vec<RunRow>, StoreError>;
        write cancel(namespace: &str, id: RunId, reason: Reason, note: Option<String>) -> Result<Cancelled, WriteError>;
        write release(namespace: &str, id: RunId, data: Option<Json>, idempotency: Option<Idempotency>) -> Result<Commit, WriteError>;
        write delete(namespace: &str, id: RunId) -> Result<(), WriteError>;
    }
    Leases {
        write claim(order: ClaimOrder) -> Result<Claimed, StoreError>;
        write report(sender: Holder, items: Vec<Item>) -> Result<Reported, StoreError>;
        write lose(verdict: Verdict) -> Result<LoseOutcome, StoreError>;
        read leases_of(holder: Holder) -> Result<Vec<LeaseRow>, StoreError>;
    }
    Workers {
        write register(registration: Registration) -> Result<Registered, RegisterError>;
        write open_session(holder: Holder, replica: ReplicaId) -> Result<Option<Opened>, StoreError>;
        write mark_worker(worker: WorkerId, mark: WorkerMark) -> Result<Option<WorkerRow>, StoreError>;
        read worker(worker: WorkerId) -> Result<Option<WorkerRow>, StoreError>;
        read workers(namespace: Option<&str>, after: Option<WorkerId>, limit: u32) -> Result<Vec<WorkerRow>, StoreError>;
        read claim_request(holder: Holder, request: Uuid) -> Result<Option<Vec<LeaseRow>>, StoreError>;
    }
    History {
        read output(id: RunId, query: OutputQuery) -> Result<Option<OutputPage>, StoreError>;
        read attempts(namespace: &str, id: RunId) -> Result<Option<Vec<AttemptRow>>, StoreError>;
        read events(namespace: &str, id: RunId) -> Result<Option<Vec<Event>>, StoreError>;
        read recoveries(query: RecoveryQuery) -> Result<Page<RecoveryRow>, StoreError>;
        read subject(namespace: &str, subject: &str, limit: u32) -> Result<SubjectRow, StoreError>;
        read feed(from: FeedFrom, limit: u32) -> Result<FeedPage, StoreError>;
    }
    Sweeps {
        write advance_observed(to: Observed) -> Result<Observed, StoreError>;
        write due(limit: u32) -> Result<Swept, StoreError>;
        read overdue(limit: u32) -> Result<Vec<RunRow>, StoreError>;
        write expire(runs: Vec<Expiry>) -> Result<Swept, StoreError>;
        read leases_after(cursor: Option<LeaseCursor>, limit: u32) -> Result<Page<LeaseRow, LeaseCursor>, StoreError>;
        read ready_classes() -> Result<Vec<ClassId>, StoreError>;
        write audit_waiting(limit: u32) -> Result<Swept, StoreError>;
        write audit_subjects(limit: u32) -> Result<Swept, StoreError>;
        write announce(notices: Vec<(Wall, Notice)>) -> Result<(), StoreError>;
        write retention(limit: u32) -> Result<Swept, StoreError>;
        write worker_gc(unheard: Millis, limit: u32) -> Result<Swept, StoreError>;
    }
    Replicas {
        write join(name: &str, address: &str) -> Result<Joined, StoreError>;
        write beat(beat: ReplicaBeat) -> Result<Option<ReplicaView>, StoreError>;
        write adopt(adoption: Adoption) -> Result<Adopted, StoreError>;
        read homes(replica: ReplicaId) -> Result<Homes, StoreError>;
    }
}
