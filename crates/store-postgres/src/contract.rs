//! The contract, method by method: which are commands, which are reads. No logic here.

use crate::control::{Cancel, CancelFamily, Delete, Release};
use crate::report::Report;
use crate::store::PostgresStore;
use crate::subject::AuditSubjects;
use crate::sweeps::{AdvanceObserved, AuditWaiting, Due, Expire, Retention, WorkerGc};
use crate::value::single;
use crate::workers::{Mark, OpenSession};
use crate::{cache, catalog, claim, feed, history, lease, list, output, replicas, sql, subject, sweeps, workers};
use async_trait::async_trait;
use outlive_core::class::MatchClass;
use outlive_core::engine::Homes;
use outlive_core::feed::Notice;
use outlive_core::given::GivenPolicy;
use outlive_core::report::Item;
use outlive_core::run::Event;
use outlive_core::{ClassId, Holder, Json, Millis, Observed, QueueId, Reason, ReplicaId, RunId, Wall, WorkerId};
use outlive_store::{
    Adopted, Adoption, AttemptRow, Cancelled, Catalog, ClaimOrder, Claimed, ClassRow, Commit, CreateError,
    CreateRequest, Created, Expiry, FeedFrom, FeedPage, History, Idempotency, Joined, LeaseCursor, LeaseRow, Leases,
    LoseOutcome, Opened, OutputPage, OutputQuery, Page, Pulse, QueueCounts, QueueRow, RecoveryQuery, RecoveryRow,
    RegisterError, Registered, Registration, ReplicaBeat, ReplicaView, Replicas, Reported, RunQuery, RunRow, Runs,
    Snapshot, StoreError, StoreHealth, SubjectRow, Sweeps, Swept, Verdict, WorkerMark, WorkerRow, Workers, WriteError,
};
use std::time::Duration;
use uuid::Uuid;

/// How long a reader of the feed is kept while events are there that it may not read yet: those of a transaction that began
/// after one that is open.
const FEED_LOOK: Duration = Duration::from_millis(5);
const FEED_LOOKS: u32 = 200;

#[async_trait]
impl Catalog for PostgresStore {
    async fn load(&self) -> Result<Snapshot, StoreError> {
        let replica = self.replica;
        self.read(move |reader| Box::pin(catalog::load(reader, replica))).await
    }

    async fn intern_class(&self, class: MatchClass) -> Result<ClassRow, StoreError> {
        self.write(catalog::InternClass(class)).await
    }

    async fn put_queue(&self, namespace: &str, name: &str, given: GivenPolicy) -> Result<QueueRow, StoreError> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.write(catalog::PutQueue { namespace, name, given }).await
    }

    async fn pause_queue(&self, queue: QueueId, paused: bool) -> Result<Option<Commit>, StoreError> {
        self.write(catalog::PauseQueue { queue, paused }).await
    }

    async fn queue_counts(&self, queue: QueueId) -> Result<QueueCounts, StoreError> {
        self.read(move |reader| Box::pin(catalog::queue_counts(reader, queue))).await
    }

    async fn health(&self) -> Result<StoreHealth, StoreError> {
        let location = self.location.clone();
        self.read(move |reader| {
            Box::pin(async move {
                let bytes = single::<i64>(reader.conn(), sql::STORE_BYTES, &[]).await?.unwrap_or(0);
                let schema_version = cache::schema_version(reader.conn()).await?;
                Ok(StoreHealth { backend: "postgres", location, bytes: u64::try_from(bytes).ok(), schema_version })
            })
        })
        .await
    }

    fn pulse(&self) -> Pulse {
        self.pulse_now()
    }
}

#[async_trait]
impl Runs for PostgresStore {
    async fn create(&self, request: CreateRequest) -> Result<Created, CreateError> {
        self.write(request).await
    }

    async fn get(&self, namespace: &str, id: RunId) -> Result<Option<RunRow>, StoreError> {
        let namespace = namespace.to_owned();
        self.read(move |reader| Box::pin(async move { list::get_run(reader, &namespace, id).await })).await
    }

    async fn list(&self, query: RunQuery) -> Result<Page<RunRow>, StoreError> {
        self.read(move |reader| Box::pin(async move { list::list(reader, &query).await })).await
    }

    async fn first_in_line(&self, class: ClassId, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        self.read(move |reader| Box::pin(async move { list::first_in_line(reader, class, limit).await })).await
    }

    async fn cancel(
        &self,
        namespace: &str,
        id: RunId,
        reason: Reason,
        note: Option<String>,
    ) -> Result<Cancelled, WriteError> {
        let mut hints = Commit::default();
        loop {
            let namespace = namespace.to_owned();
            let (more, commit) = self.write(CancelFamily { namespace: namespace.clone(), id }).await?;
            add_hints(&mut hints, commit);
            if more {
                continue;
            }
            let mut cancelled = self.write(Cancel { namespace, id, reason, note }).await?;
            add_hints(&mut hints, cancelled.commit);
            cancelled.commit = hints;
            return Ok(cancelled);
        }
    }

    async fn release(
        &self,
        namespace: &str,
        id: RunId,
        data: Option<Json>,
        key: Option<Idempotency>,
    ) -> Result<Commit, WriteError> {
        self.write(Release { namespace: namespace.to_owned(), id, data, key }).await
    }

    async fn delete(&self, namespace: &str, id: RunId) -> Result<(), WriteError> {
        self.write(Delete { namespace: namespace.to_owned(), id }).await
    }
}

#[async_trait]
impl Leases for PostgresStore {
    async fn claim(&self, order: ClaimOrder) -> Result<Claimed, StoreError> {
        self.write(order).await
    }

    async fn report(&self, sender: Holder, items: Vec<Item>) -> Result<Reported, StoreError> {
        self.write(Report { sender, items }).await
    }

    async fn lose(&self, verdict: Verdict) -> Result<LoseOutcome, StoreError> {
        self.write(verdict).await
    }

    async fn leases_of(&self, holder: Holder) -> Result<Vec<LeaseRow>, StoreError> {
        self.read(move |reader| Box::pin(lease::leases_of(reader, holder))).await
    }
}

#[async_trait]
impl Workers for PostgresStore {
    async fn register(&self, registration: Registration) -> Result<Registered, RegisterError> {
        self.write(registration).await
    }

    async fn open_session(&self, holder: Holder, replica: ReplicaId) -> Result<Option<Opened>, StoreError> {
        self.write(OpenSession { holder, replica }).await
    }

    async fn mark_worker(&self, worker: WorkerId, mark: WorkerMark) -> Result<Option<WorkerRow>, StoreError> {
        self.write(Mark { worker, mark }).await
    }

    async fn worker(&self, worker: WorkerId) -> Result<Option<WorkerRow>, StoreError> {
        self.read(move |reader| Box::pin(workers::worker(reader.conn(), worker))).await
    }

    async fn workers(
        &self,
        namespace: Option<&str>,
        after: Option<WorkerId>,
        limit: u32,
    ) -> Result<Vec<WorkerRow>, StoreError> {
        let namespace = namespace.map(str::to_owned);
        self.read(move |reader| {
            Box::pin(async move { workers::workers(reader, namespace.as_deref(), after, limit).await })
        })
        .await
    }

    async fn claim_request(&self, holder: Holder, request: Uuid) -> Result<Option<Vec<LeaseRow>>, StoreError> {
        self.read(move |reader| Box::pin(claim::request_leases(reader, holder, request))).await
    }
}

#[async_trait]
impl History for PostgresStore {
    async fn output(&self, id: RunId, query: OutputQuery) -> Result<Option<OutputPage>, StoreError> {
        self.read(move |reader| Box::pin(async move { output::read(reader, id, &query).await })).await
    }

    async fn attempts(&self, namespace: &str, id: RunId) -> Result<Option<Vec<AttemptRow>>, StoreError> {
        let namespace = namespace.to_owned();
        self.read(move |reader| Box::pin(async move { history::attempts(reader, &namespace, id).await })).await
    }

    async fn events(&self, namespace: &str, id: RunId) -> Result<Option<Vec<Event>>, StoreError> {
        let namespace = namespace.to_owned();
        self.read(move |reader| Box::pin(async move { history::events(reader, &namespace, id).await })).await
    }

    async fn recoveries(&self, query: RecoveryQuery) -> Result<Page<RecoveryRow>, StoreError> {
        self.read(move |reader| Box::pin(async move { history::recoveries(reader, &query).await })).await
    }

    async fn subject(&self, namespace: &str, name: &str, limit: u32) -> Result<SubjectRow, StoreError> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.read(move |reader| Box::pin(async move { subject::read(reader, &namespace, &name, limit).await })).await
    }

    async fn feed(&self, from: FeedFrom, limit: u32) -> Result<FeedPage, StoreError> {
        for _ in 0..FEED_LOOKS {
            let (page, waiting) = self.read(move |reader| Box::pin(feed::page(reader, from, limit))).await?;
            if !page.events.is_empty() || !waiting {
                return Ok(page);
            }
            self.pause(FEED_LOOK).await;
        }
        self.read(move |reader| Box::pin(feed::page(reader, from, limit))).await.map(|(page, _)| page)
    }
}

#[async_trait]
impl Sweeps for PostgresStore {
    async fn advance_observed(&self, to: Observed) -> Result<Observed, StoreError> {
        self.write(AdvanceObserved(to)).await
    }

    async fn due(&self, limit: u32) -> Result<Swept, StoreError> {
        self.write(Due(limit)).await
    }

    async fn overdue(&self, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        let now = self.process_now();
        self.read(move |reader| Box::pin(list::overdue(reader, now, limit))).await
    }

    async fn expire(&self, runs: Vec<Expiry>) -> Result<Swept, StoreError> {
        self.write(Expire(runs)).await
    }

    async fn leases_after(
        &self,
        cursor: Option<LeaseCursor>,
        limit: u32,
    ) -> Result<Page<LeaseRow, LeaseCursor>, StoreError> {
        self.read(move |reader| Box::pin(sweeps::leases_after(reader, cursor, limit))).await
    }

    async fn ready_classes(&self) -> Result<Vec<ClassId>, StoreError> {
        self.read(|reader| Box::pin(cache::ready_classes(reader.conn()))).await
    }

    async fn audit_waiting(&self, limit: u32) -> Result<Swept, StoreError> {
        self.write(AuditWaiting(limit)).await
    }

    async fn audit_subjects(&self, limit: u32) -> Result<Swept, StoreError> {
        self.write(AuditSubjects(limit)).await
    }

    async fn announce(&self, notices: Vec<(Wall, Notice)>) -> Result<(), StoreError> {
        self.write(feed::Announce(notices)).await
    }

    async fn retention(&self, limit: u32) -> Result<Swept, StoreError> {
        self.write(Retention(limit)).await
    }

    async fn worker_gc(&self, unheard: Millis, limit: u32) -> Result<Swept, StoreError> {
        self.write(WorkerGc { unheard, limit }).await
    }
}

#[async_trait]
impl Replicas for PostgresStore {
    async fn join(&self, name: &str, address: &str) -> Result<Joined, StoreError> {
        self.write(replicas::Join { name: name.to_owned(), address: address.to_owned() }).await
    }

    async fn beat(&self, beat: ReplicaBeat) -> Result<Option<ReplicaView>, StoreError> {
        self.write(beat).await
    }

    async fn adopt(&self, adoption: Adoption) -> Result<Adopted, StoreError> {
        self.write(adoption).await
    }

    async fn homes(&self, replica: ReplicaId) -> Result<Homes, StoreError> {
        self.read(move |reader| Box::pin(replicas::homes(reader, replica))).await
    }
}

fn add_hints(all: &mut Commit, more: Commit) {
    all.ready.extend(more.ready);
    all.changed.extend(more.changed);
    all.cancels.extend(more.cancels);
}
