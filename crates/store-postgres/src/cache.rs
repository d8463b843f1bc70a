//! What a replica keeps in memory. Nothing here is the truth: whatever another replica may change is read again when the
//! catalogue's number has risen, and whatever must be exact (caps, rates, serial keys) is read under a lock.

use crate::fault::{Done, Fault};
use crate::recent::Recent;
use crate::sql;
use crate::value::{get, query, single, values_of};
use outlive_core::class::MatchClass;
use outlive_core::given::GivenPolicy;
use outlive_core::policy::QueuePolicy;
use outlive_core::{ClassId, QueueId, Wall, WorkerId};
use outlive_store::{ClassRow, QueueRow};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_postgres::{Client, Row};

/// Names of workers that are remembered; beyond it all are read again.
const NAMES: usize = 65_536;

/// A queue with its policy.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) row: QueueRow,
    pub(crate) policy: Arc<QueuePolicy>,
    /// Nothing is claimed before: leases of another history of the database may be believed in.
    pub(crate) quiet_until: Wall,
}

impl Queue {
    pub(crate) fn new(row: QueueRow, quiet_until: Wall) -> Self {
        Self { policy: Arc::new(row.policy.clone()), row, quiet_until }
    }

    pub(crate) fn read(row: &Row) -> Done<Self> {
        let given: GivenPolicy = serde_json::from_str(get(row, 3)?)?;
        let queue = QueueRow {
            id: QueueId(get(row, 0)?),
            namespace: get(row, 1)?,
            name: get(row, 2)?,
            policy: given.policy().clone(),
            set: given.set(),
            paused: get(row, 4)?,
            created_at: Wall(get(row, 5)?),
        };
        Ok(Self::new(queue, Wall(get(row, 6)?)))
    }

    /// Whether claims must know how many there are: its row is locked for them.
    pub(crate) const fn is_limited(&self) -> bool {
        !self.row.paused && (self.row.policy.max_running.is_some() || self.row.policy.rate.is_some())
    }
}

/// A worker's name and tenant; neither ever changes.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct Facts {
    classes: HashMap<ClassId, ClassRow>,
    class_ids: HashMap<Arc<MatchClass>, ClassId>,
    workers: HashMap<WorkerId, Named>,
}

/// Facts that never change once they are committed, for the writer and all readers.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Facts>);

impl Known {
    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn class(&self, id: ClassId) -> Option<ClassRow> {
        self.lock().classes.get(&id).cloned()
    }

    pub(crate) fn class_of(&self, class: &MatchClass) -> Option<ClassRow> {
        let facts = self.lock();
        facts.class_ids.get(class).and_then(|id| facts.classes.get(id)).cloned()
    }

    pub(crate) fn add_class(&self, row: ClassRow) {
        let mut facts = self.lock();
        facts.class_ids.insert(row.class.clone(), row.id);
        facts.classes.insert(row.id, row);
    }

    /// A match class that a row names.
    pub(crate) async fn find_class(&self, conn: &Client, id: ClassId) -> Done<ClassRow> {
        if let Some(row) = self.class(id) {
            return Ok(row);
        }
        let rows = query(conn, sql::CLASS_GET, values_of![id.0]).await?;
        let row = rows.first().ok_or_else(|| Fault::damaged(format!("match class {id} does not exist")))?;
        let row = ClassRow { id, queue: QueueId(get(row, 0)?), class: Arc::new(serde_json::from_str(get(row, 1)?)?) };
        self.add_class(row.clone());
        Ok(row)
    }

    pub(crate) fn worker(&self, id: WorkerId) -> Option<Named> {
        self.lock().workers.get(&id).cloned()
    }

    pub(crate) fn add_worker(&self, id: WorkerId, named: Named) {
        let mut facts = self.lock();
        if facts.workers.len() >= NAMES {
            facts.workers.clear();
        }
        facts.workers.insert(id, named);
    }

    /// A worker's name, also after its deletion.
    pub(crate) async fn worker_name(&self, conn: &Client, id: WorkerId) -> Done<String> {
        Ok(self.find_worker(conn, id).await?.map(|named| named.name.to_string()).unwrap_or_default())
    }

    /// A worker's names, also after its deletion; none: there never was one.
    pub(crate) async fn find_worker(&self, conn: &Client, id: WorkerId) -> Done<Option<Named>> {
        if let Some(named) = self.worker(id) {
            return Ok(Some(named));
        }
        let rows = query(conn, sql::WORKER_NAMES, values_of![vec![id.0]]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (name, namespace): (&str, Option<String>) = (get(row, 1)?, get(row, 2)?);
        let named = Named { name: name.into(), namespace: namespace.map(Into::into) };
        self.add_worker(id, named.clone());
        Ok(Some(named))
    }

    /// After a transaction that was given up: what it made does not exist.
    pub(crate) fn forget(&self) {
        *self.lock() = Facts::default();
    }
}

/// Where the keyed passes of the sweeps are. Losing them costs a pass, nothing else.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    pub(crate) audit: i64,
    /// Rows of this pass that could not be read.
    pub(crate) audit_failed: u64,
    pub(crate) audit_slot: String,
    pub(crate) subject: String,
    pub(crate) retention: i64,
    pub(crate) retention_slot: String,
    pub(crate) worker: i64,
}

/// The writer's own.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) known: Arc<Known>,
    pub(crate) queues: HashMap<QueueId, Queue>,
    /// The catalogue's number when the queues were read; none: they must be.
    pub(crate) catalog: Option<i64>,
    /// The part of sums that this replica adds to.
    pub(crate) shard: i64,
    pub(crate) cursors: Cursors,
    pub(crate) recent: Recent,
}

impl Cache {
    pub(crate) fn new(known: Arc<Known>, shard: i64) -> Self {
        Self {
            known,
            queues: HashMap::new(),
            catalog: None,
            shard,
            cursors: Cursors::default(),
            recent: Recent::default(),
        }
    }

    /// Reads the queues again if the catalogue's number is another one.
    pub(crate) async fn refresh(&mut self, conn: &Client, catalog: i64) -> Done<()> {
        if self.catalog != Some(catalog) {
            self.queues = queues(conn).await?.into_iter().map(|queue| (queue.row.id, queue)).collect();
            self.catalog = Some(catalog);
        }
        Ok(())
    }

    /// After a transaction that was given up.
    pub(crate) fn forget(&mut self) {
        self.catalog = None;
        self.known.forget();
        self.recent.forget();
    }
}

/// All queues, oldest first.
pub(crate) async fn queues(conn: &Client) -> Done<Vec<Queue>> {
    query(conn, sql::QUEUE_ALL, &[]).await?.iter().map(Queue::read).collect()
}

/// All match classes, oldest first.
pub(crate) async fn classes(conn: &Client) -> Done<Vec<ClassRow>> {
    let read = |row: &Row| {
        let class = Arc::new(serde_json::from_str(get(row, 2)?)?);
        Ok(ClassRow { id: ClassId(get(row, 0)?), queue: QueueId(get(row, 1)?), class })
    };
    query(conn, sql::CLASS_ALL, &[]).await?.iter().map(read).collect()
}

/// Classes that have a ready run.
pub(crate) async fn ready_classes(conn: &Client) -> Done<Vec<ClassId>> {
    let ids: Vec<i64> = crate::value::column(conn, sql::READY_CLASSES, &[]).await?;
    Ok(ids.into_iter().map(ClassId).collect())
}

/// The version of the schema; 0: none yet.
pub(crate) async fn schema_version(conn: &Client) -> Done<i64> {
    Ok(single::<i64>(conn, sql::SCHEMA_VERSION, &[]).await?.unwrap_or(0))
}
