//! The contract, method by method: which are commands, which are reads. No logic here.

use crate::fault::Done;
use crate::store::SqliteStore;
use crate::{
    cache, catalog, claim, control, create, feed, history, lease, list, lose, open, output, replicas, report, rows,
    sql, subject, sweeps, workers,
};
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
use uuid::Uuid;

/// A command that has no refusals of its own.
fn sure<T>(done: Done<T>) -> Done<Result<T, StoreError>> {
    done.map(Ok)
}

#[async_trait]
impl Catalog for SqliteStore {
    async fn load(&self) -> Result<Snapshot, StoreError> {
        self.read(|reader| catalog::load(reader.conn())).await
    }

    async fn intern_class(&self, class: MatchClass) -> Result<ClassRow, StoreError> {
        self.write(1, move |tx| sure(catalog::intern_class(tx, &class))).await
    }

    async fn put_queue(&self, namespace: &str, name: &str, policy: GivenPolicy) -> Result<QueueRow, StoreError> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.write(1, move |tx| sure(catalog::put_queue(tx, &namespace, &name, &policy))).await
    }

    async fn pause_queue(&self, queue: QueueId, paused: bool) -> Result<Option<Commit>, StoreError> {
        self.write(1, move |tx| sure(catalog::pause_queue(tx, queue, paused))).await
    }

    async fn queue_counts(&self, queue: QueueId) -> Result<QueueCounts, StoreError> {
        self.read(move |reader| catalog::queue_counts(reader.conn(), queue)).await
    }

    async fn health(&self) -> Result<StoreHealth, StoreError> {
        let location = self.path().map_or_else(|| ":memory:".to_owned(), |path| path.display().to_string());
        self.read(move |reader| {
            let bytes = rows::single::<i64>(reader.conn(), sql::STORE_BYTES, &[])?.unwrap_or(0);
            let schema_version = open::schema_version(reader.conn())?;
            Ok(StoreHealth { backend: "sqlite", location, bytes: u64::try_from(bytes).ok(), schema_version })
        })
        .await
    }

    fn pulse(&self) -> Pulse {
        self.pulse_now()
    }
}

#[async_trait]
impl Runs for SqliteStore {
    async fn create(&self, request: CreateRequest) -> Result<Created, CreateError> {
        self.write(request.runs.len(), move |tx| create::create(tx, &request)).await
    }

    async fn get(&self, namespace: &str, id: RunId) -> Result<Option<RunRow>, StoreError> {
        let namespace = namespace.to_owned();
        self.read(move |reader| list::get(reader, &namespace, id)).await
    }

    async fn list(&self, query: RunQuery) -> Result<Page<RunRow>, StoreError> {
        self.read(move |reader| list::list(reader, &query)).await
    }

    async fn first_in_line(&self, class: ClassId, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        self.read(move |reader| list::first_in_line(reader, class, limit)).await
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
            let (namespace, note) = (namespace.to_owned(), note.clone());
            let family = namespace.clone();
            let (more, commit) = self.write(control::FAMILY, move |tx| control::cancel_family(tx, &family, id)).await?;
            add_hints(&mut hints, commit);
            if more {
                continue;
            }
            let cancel = move |tx: &mut crate::tx::Tx<'_>| control::cancel(tx, &namespace, id, reason, note.as_ref());
            let mut cancelled = self.write(1, cancel).await?;
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
        let namespace = namespace.to_owned();
        self.write(1, move |tx| control::release(tx, &namespace, id, data.as_ref(), key.as_ref())).await
    }

    async fn delete(&self, namespace: &str, id: RunId) -> Result<(), WriteError> {
        let namespace = namespace.to_owned();
        self.write(1, move |tx| control::delete(tx, &namespace, id)).await
    }
}

#[async_trait]
impl Leases for SqliteStore {
    async fn claim(&self, order: ClaimOrder) -> Result<Claimed, StoreError> {
        self.write(order.max as usize, move |tx| sure(claim::claim(tx, &order))).await
    }

    async fn report(&self, sender: Holder, items: Vec<Item>) -> Result<Reported, StoreError> {
        self.write(items.len(), move |tx| sure(report::report(tx, sender, &items))).await
    }

    async fn lose(&self, verdict: Verdict) -> Result<LoseOutcome, StoreError> {
        let weight = verdict.leases.as_ref().map_or(1_000, Vec::len);
        self.write(weight, move |tx| sure(lose::lose(tx, &verdict))).await
    }

    async fn leases_of(&self, holder: Holder) -> Result<Vec<LeaseRow>, StoreError> {
        let class_of = move |reader: &crate::reader::Reader<'_>| {
            lease::leases_of(reader.conn(), holder, |run| reader.class(run.class).map(|row| row.class))
        };
        self.read(class_of).await
    }
}

#[async_trait]
impl Workers for SqliteStore {
    async fn register(&self, registration: Registration) -> Result<Registered, RegisterError> {
        self.write(1, move |tx| workers::register(tx, &registration)).await
    }

    async fn open_session(&self, holder: Holder, replica: ReplicaId) -> Result<Option<Opened>, StoreError> {
        self.write(1, move |tx| sure(workers::open_session(tx, holder, replica))).await
    }

    async fn mark_worker(&self, worker: WorkerId, mark: WorkerMark) -> Result<Option<WorkerRow>, StoreError> {
        self.write(1, move |tx| sure(workers::mark(tx, worker, mark))).await
    }

    async fn worker(&self, worker: WorkerId) -> Result<Option<WorkerRow>, StoreError> {
        self.read(move |reader| workers::worker(reader.conn(), worker)).await
    }

    async fn workers(
        &self,
        namespace: Option<&str>,
        after: Option<WorkerId>,
        limit: u32,
    ) -> Result<Vec<WorkerRow>, StoreError> {
        let namespace = namespace.map(str::to_owned);
        self.read(move |reader| workers::workers(reader.conn(), namespace.as_deref(), after, limit)).await
    }

    async fn claim_request(&self, holder: Holder, request: Uuid) -> Result<Option<Vec<LeaseRow>>, StoreError> {
        let answered = move |reader: &crate::reader::Reader<'_>| {
            let class_of = |class: ClassId| reader.class(class).map(|row| row.class);
            claim::request_leases(reader.conn(), holder, request, class_of)
        };
        self.read(answered).await
    }
}

#[async_trait]
impl History for SqliteStore {
    async fn output(&self, id: RunId, query: OutputQuery) -> Result<Option<OutputPage>, StoreError> {
        self.read(move |reader| {
            let namespace_of =
                |run: &outlive_core::run::Run| reader.class(run.class).map(|row| row.class.namespace.clone());
            output::read(reader.conn(), namespace_of, id, &query)
        })
        .await
    }

    async fn attempts(&self, namespace: &str, id: RunId) -> Result<Option<Vec<AttemptRow>>, StoreError> {
        let namespace = namespace.to_owned();
        self.read(move |reader| history::attempts(reader, &namespace, id)).await
    }

    async fn events(&self, namespace: &str, id: RunId) -> Result<Option<Vec<Event>>, StoreError> {
        let namespace = namespace.to_owned();
        self.read(move |reader| history::events(reader, &namespace, id)).await
    }

    async fn recoveries(&self, query: RecoveryQuery) -> Result<Page<RecoveryRow>, StoreError> {
        self.read(move |reader| history::recoveries(reader, &query)).await
    }

    async fn subject(&self, namespace: &str, name: &str, limit: u32) -> Result<SubjectRow, StoreError> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.read(move |reader| subject::read(reader, &namespace, &name, limit)).await
    }

    async fn feed(&self, from: FeedFrom, limit: u32) -> Result<FeedPage, StoreError> {
        self.read(move |reader| feed::page(reader.conn(), from, limit)).await
    }
}

#[async_trait]
impl Sweeps for SqliteStore {
    async fn advance_observed(&self, to: Observed) -> Result<Observed, StoreError> {
        self.write(1, move |tx| sure(sweeps::advance_observed(tx, to))).await
    }

    async fn due(&self, limit: u32) -> Result<Swept, StoreError> {
        let now = self.wall();
        let rows = self.read(move |reader| sweeps::due_rows(reader, now, limit)).await?;
        let more = rows.len() == limit as usize;
        let mut swept = match self.due_of(rows.clone()).await {
            Err(StoreError::Corrupt(_)) => self.due_each(rows).await?,
            swept => swept?,
        };
        swept.more = more && swept.acted > 0;
        Ok(swept)
    }

    async fn overdue(&self, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        let now = self.wall();
        self.read(move |reader| list::overdue(reader, now, limit)).await
    }

    async fn expire(&self, runs: Vec<Expiry>) -> Result<Swept, StoreError> {
        self.write(runs.len(), move |tx| sure(sweeps::expire(tx, &runs))).await
    }

    async fn leases_after(
        &self,
        cursor: Option<LeaseCursor>,
        limit: u32,
    ) -> Result<Page<LeaseRow, LeaseCursor>, StoreError> {
        self.read(move |reader| sweeps::leases_after(reader, cursor, limit)).await
    }

    async fn ready_classes(&self) -> Result<Vec<ClassId>, StoreError> {
        self.read(|reader| cache::ready_classes(reader.conn())).await
    }

    async fn audit_waiting(&self, limit: u32) -> Result<Swept, StoreError> {
        self.write(limit as usize, move |tx| sure(sweeps::audit_waiting(tx, limit))).await
    }

    async fn audit_subjects(&self, limit: u32) -> Result<Swept, StoreError> {
        self.write(limit as usize, move |tx| sure(subject::audit(tx, limit))).await
    }

    async fn announce(&self, notices: Vec<(Wall, Notice)>) -> Result<(), StoreError> {
        self.write(1, move |tx| {
            feed::announce(tx, &notices);
            Ok(Ok(()))
        })
        .await
    }

    async fn retention(&self, limit: u32) -> Result<Swept, StoreError> {
        self.write(limit as usize, move |tx| sure(sweeps::retention(tx, limit))).await
    }

    async fn worker_gc(&self, unheard: Millis, limit: u32) -> Result<Swept, StoreError> {
        self.write(limit as usize, move |tx| sure(sweeps::worker_gc(tx, unheard, limit))).await
    }
}

#[async_trait]
impl Replicas for SqliteStore {
    async fn join(&self, name: &str, address: &str) -> Result<Joined, StoreError> {
        let (name, address) = (name.to_owned(), address.to_owned());
        self.write(1, move |tx| sure(replicas::join(tx, &name, &address))).await
    }

    async fn beat(&self, beat: ReplicaBeat) -> Result<Option<ReplicaView>, StoreError> {
        self.write(1, move |tx| sure(replicas::beat(tx, &beat))).await
    }

    async fn adopt(&self, adoption: Adoption) -> Result<Adopted, StoreError> {
        self.write(adoption.limit as usize, move |tx| sure(replicas::adopt(tx, &adoption))).await
    }

    async fn homes(&self, replica: ReplicaId) -> Result<Homes, StoreError> {
        self.read(move |reader| replicas::homes(reader.conn(), replica)).await
    }
}

impl SqliteStore {
    async fn due_of(&self, rows: Vec<i64>) -> Result<Swept, StoreError> {
        self.write(rows.len(), move |tx| sure(sweeps::due(tx, &rows))).await
    }

    /// One of them cannot be read or written: each by itself, so that it holds up nobody.
    async fn due_each(&self, rows: Vec<i64>) -> Result<Swept, StoreError> {
        let mut all = Swept::default();
        for row in rows {
            match self.due_of(vec![row]).await {
                Ok(one) => {
                    (all.found, all.acted) = (all.found + one.found, all.acted + one.acted);
                    all.lost_race += one.lost_race;
                    all.next_due = one.next_due;
                    add_hints(&mut all.commit, one.commit);
                }
                Err(StoreError::Corrupt(why)) => {
                    tracing::error!(row, why, "a run that is due cannot be handled");
                    (all.found, all.failed) = (all.found + 1, all.failed + 1);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

fn add_hints(all: &mut Commit, more: Commit) {
    all.ready.extend(more.ready);
    all.changed.extend(more.changed);
    all.cancels.extend(more.cancels);
}
