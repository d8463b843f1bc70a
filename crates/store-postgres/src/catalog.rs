//! Queues and match classes.

use crate::cache::{self, Queue, ready_classes};
use crate::db::Op;
use crate::fault::{Answer, Done, Fault};
use crate::reader::Reader;
use crate::rows::observed;
use crate::tx::Tx;
use crate::value::{column, get, query, small, values_of};
use crate::{feed, sql};
use async_trait::async_trait;
use outlive_core::class::MatchClass;
use outlive_core::given::GivenPolicy;
use outlive_core::{ClassId, QueueId, ReplicaId, State, Wall};
use outlive_store::{ClassRow, Commit, QueueCounts, QueueRow, Snapshot, StoreError};
use std::sync::Arc;

pub(crate) async fn load(reader: &Reader<'_>, replica: ReplicaId) -> Done<Snapshot> {
    let conn = reader.conn();
    let rows = query(conn, sql::META_GET, &[]).await?;
    let row = rows.first().ok_or_else(|| Fault::damaged("outlive.meta has no row"))?;
    let secret: &[u8] = get(row, 1)?;
    Ok(Snapshot {
        generation: get(row, 0)?,
        secret: secret.try_into().map_err(|_| Fault::damaged("meta.secret has not 32 bytes"))?,
        observed: observed(get(row, 2)?),
        replica,
        queues: cache::queues(conn).await?.into_iter().map(|queue| queue.row).collect(),
        classes: cache::classes(conn).await?,
        ready: ready_classes(conn).await?,
    })
}

/// The number of a class, which it gets at first use.
pub(crate) struct InternClass(pub(crate) MatchClass);

#[async_trait]
impl Op for InternClass {
    type Answer = ClassRow;
    type Refusal = StoreError;

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<ClassRow, StoreError> {
        intern(tx, &self.0).await.map(Ok)
    }
}

/// The number of a class; makes it, and its queue, at first use.
pub(crate) async fn intern(tx: &mut Tx<'_>, class: &MatchClass) -> Done<ClassRow> {
    if let Some(known) = tx.cache.known.class_of(class) {
        return Ok(known);
    }
    // Sets and maps are ordered, so equal classes have equal texts.
    let text = serde_json::to_string(class)?;
    let found = tx.query(sql::CLASS_OF_TEXT, values_of![text]).await?;
    let (id, queue) = if let Some(row) = found.first() {
        (get(row, 0)?, QueueId(get(row, 1)?))
    } else {
        let queue = queue_named(tx, &class.namespace, &class.queue, &GivenPolicy::default()).await?.0.id;
        let made = tx.query(sql::CLASS_INSERT, values_of![queue.0, text]).await?;
        tx.hints_catalog = true;
        // Another replica was first: the next statement sees what it committed.
        let rows = if made.is_empty() { tx.query(sql::CLASS_OF_TEXT, values_of![text]).await? } else { made };
        let row = rows.first().ok_or_else(|| Fault::damaged("a new match class is not there"))?;
        (get(row, 0)?, queue)
    };
    let row = ClassRow { id: ClassId(id), queue, class: Arc::new(class.clone()) };
    tx.cache.known.add_class(row.clone());
    if !tx.cache.queues.contains_key(&queue) {
        tx.reload_queues().await?;
    }
    Ok(row)
}

/// A queue by its name, made with this policy if there is none; and whether it was.
async fn queue_named(tx: &mut Tx<'_>, namespace: &str, name: &str, given: &GivenPolicy) -> Done<(QueueRow, bool)> {
    let named = |row: &QueueRow| row.namespace == namespace && row.name == name;
    if let Some(queue) = tx.cache.queues.values().find(|queue| named(&queue.row)) {
        return Ok((queue.row.clone(), false));
    }
    let text = serde_json::to_string(given)?;
    let now = tx.now.0;
    let made = tx.execute(sql::QUEUE_INSERT, values_of![namespace, name, text, now]).await?;
    let rows = tx.query(sql::QUEUE_NAMED, values_of![namespace, name]).await?;
    let queue = Queue::read(rows.first().ok_or_else(|| Fault::damaged("a new queue is not there"))?)?;
    let row = queue.row.clone();
    tx.cache.queues.insert(row.id, queue);
    if made > 0 {
        changed(tx).await?;
    }
    Ok((row, made > 0))
}

/// Tells all replicas to read the queues again. This one has.
async fn changed(tx: &mut Tx<'_>) -> Done<()> {
    let rows = tx.query(sql::CATALOG_RAISE, &[]).await?;
    let number: i64 = get(rows.first().ok_or_else(|| Fault::damaged("outlive.meta has no row"))?, 0)?;
    // Only if nobody else has changed them since this one read them: else they are read again.
    tx.hints_catalog = true;
    tx.cache.catalog = tx.cache.catalog.filter(|read| read + 1 == number).map(|_| number);
    Ok(())
}

/// Creates a queue or replaces its policy.
pub(crate) struct PutQueue {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) given: GivenPolicy,
}

#[async_trait]
impl Op for PutQueue {
    type Answer = QueueRow;
    type Refusal = StoreError;

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<QueueRow, StoreError> {
        let (row, made) = queue_named(tx, &self.namespace, &self.name, &self.given).await?;
        if made {
            return Ok(Ok(row));
        }
        let text = serde_json::to_string(&self.given)?;
        let rows = tx.query(sql::QUEUE_POLICY, values_of![row.id.0, text]).await?;
        let queue = Queue::read(rows.first().ok_or_else(|| Fault::damaged("a queue is not there"))?)?;
        let row = queue.row.clone();
        tx.cache.queues.insert(row.id, queue);
        changed(tx).await?;
        Ok(Ok(row))
    }
}

/// Pauses or resumes.
pub(crate) struct PauseQueue {
    pub(crate) queue: QueueId,
    pub(crate) paused: bool,
}

#[async_trait]
impl Op for PauseQueue {
    type Answer = Option<Commit>;
    type Refusal = StoreError;

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Option<Commit>, StoreError> {
        // Under the row's lock: who pauses and who resumes at the same time do so one after the other.
        let rows = tx.query(sql::QUEUE_LOCK, values_of![vec![self.queue.0]]).await?;
        let Some(row) = rows.first() else { return Ok(Ok(None)) };
        if get::<bool>(row, 2)? != self.paused {
            feed::queue_paused(tx, self.queue, self.paused);
        }
        tx.execute(sql::QUEUE_PAUSE, values_of![self.queue.0, self.paused]).await?;
        if let Some(queue) = tx.cache.queues.get_mut(&self.queue) {
            queue.row.paused = self.paused;
        }
        changed(tx).await?;
        if !self.paused {
            tx.hint_queue(self.queue);
        }
        Ok(Ok(Some(Commit::default())))
    }

    fn finish(&self, answer: &mut Option<Commit>, _: &Tx<'_>, hints: Commit) {
        if let Some(commit) = answer {
            *commit = hints;
        }
    }
}

pub(crate) async fn queue_counts(reader: &Reader<'_>, queue: QueueId) -> Done<QueueCounts> {
    let (conn, mut counts) = (reader.conn(), QueueCounts::default());
    for row in query(conn, sql::COUNT_OF, values_of![queue.0]).await? {
        let n: i64 = get(&row, 1)?;
        match State::from_number(small(&row, 0)?) {
            Some(State::Held) => counts.held = n,
            Some(State::Scheduled) => counts.scheduled = n,
            Some(State::Queued) => counts.queued = n,
            _ => counts.running += n,
        }
    }
    let mut first: Option<(i64, Option<i64>)> = None;
    for class in column::<i64>(conn, sql::CLASS_OF_QUEUE, values_of![queue.0]).await? {
        let rows = query(conn, sql::READY_FIRST, values_of![class]).await?;
        let of_class = rows.first().map(|row| Done::Ok((get(row, 0)?, get(row, 1)?))).transpose()?;
        first = [first, of_class].into_iter().flatten().min_by_key(|(rank, _)| *rank);
    }
    counts.oldest_queued_at = first.and_then(|(_, queued_at)| queued_at).map(Wall);
    Ok(counts)
}
