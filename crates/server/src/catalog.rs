//! Queues and match classes in memory: small, read on every request, written through.

use crate::app::App;
use outlive_core::class::MatchClass;
use outlive_core::engine::Input;
use outlive_core::policy::QueuePolicy;
use outlive_core::{ClassId, QueueId};
use outlive_store::{ClassRow, QueueRow, StoreError};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

/// Worker rows are remembered this long: for warnings, explanations and lists, never for claims.
const WORKERS_FRESH: outlive_core::Millis = outlive_core::Millis(500);

type WorkersOf = (outlive_core::Mono, Arc<Vec<outlive_store::WorkerRow>>);

#[derive(Default)]
struct Maps {
    workers: BTreeMap<String, WorkersOf>,
    queues: BTreeMap<QueueId, Arc<QueueRow>>,
    by_name: BTreeMap<(String, String), QueueId>,
    classes: HashMap<Arc<MatchClass>, (ClassId, QueueId)>,
    by_id: BTreeMap<ClassId, ClassRow>,
}

/// The maps.
#[derive(Default)]
pub(crate) struct CatalogCache(RwLock<Maps>);

impl CatalogCache {
    fn read<T>(&self, look: impl FnOnce(&Maps) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Maps) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn queue(&self, id: QueueId) -> Option<Arc<QueueRow>> {
        self.read(|m| m.queues.get(&id).cloned())
    }

    pub(crate) fn queue_named(&self, namespace: &str, name: &str) -> Option<Arc<QueueRow>> {
        self.read(|m| {
            let id = m.by_name.get(&(namespace.to_owned(), name.to_owned()))?;
            m.queues.get(id).cloned()
        })
    }

    pub(crate) fn queues(&self) -> Vec<Arc<QueueRow>> {
        self.read(|m| m.queues.values().cloned().collect())
    }

    pub(crate) fn queues_of(&self, namespace: &str) -> Vec<Arc<QueueRow>> {
        self.read(|m| m.queues.values().filter(|q| q.namespace == namespace).cloned().collect())
    }

    pub(crate) fn workers(
        &self,
        namespace: &str,
        now: outlive_core::Mono,
    ) -> Option<Arc<Vec<outlive_store::WorkerRow>>> {
        self.read(|m| {
            let (at, rows) = m.workers.get(namespace)?;
            (now.since(*at) <= WORKERS_FRESH).then(|| Arc::clone(rows))
        })
    }

    pub(crate) fn remember_workers(
        &self,
        namespace: &str,
        now: outlive_core::Mono,
        rows: Arc<Vec<outlive_store::WorkerRow>>,
    ) {
        self.write(|m| m.workers.insert(namespace.to_owned(), (now, rows)));
    }

    pub(crate) fn forget_workers(&self) {
        self.write(|m| m.workers.clear());
    }

    pub(crate) fn policy(&self, id: QueueId) -> QueuePolicy {
        self.queue(id).map(|q| q.policy.clone()).unwrap_or_default()
    }

    pub(crate) fn has_class(&self, id: ClassId) -> bool {
        self.read(|m| m.by_id.contains_key(&id))
    }

    fn has_queue(&self, row: &QueueRow) -> bool {
        self.read(|m| m.queues.get(&row.id).is_some_and(|known| **known == *row))
    }

    pub(crate) fn class(&self, id: ClassId) -> Option<ClassRow> {
        self.read(|m| m.by_id.get(&id).cloned())
    }

    pub(crate) fn classes_of(&self, queue: QueueId) -> Vec<ClassId> {
        self.read(|m| m.by_id.values().filter(|c| c.queue == queue).map(|c| c.id).collect())
    }
}

impl App {
    pub(crate) fn learn_queue(self: &Arc<Self>, queue: QueueRow) {
        let (id, liveness) = (queue.id, queue.policy.liveness());
        let name = (queue.namespace.clone(), queue.name.clone());
        self.catalog.write(|m| {
            m.by_name.insert(name.clone(), id);
            m.queues.insert(id, Arc::new(queue));
        });
        self.input(Input::Queue(id, name, liveness));
    }

    pub(crate) fn learn_class(self: &Arc<Self>, row: ClassRow) {
        self.input(Input::Class(row.id, Arc::clone(&row.class)));
        self.catalog.write(|m| {
            m.classes.insert(Arc::clone(&row.class), (row.id, row.queue));
            m.by_id.insert(row.id, row);
        });
    }

    /// What is new in the store: another replica may have made or changed it.
    pub(crate) async fn learn_catalog(self: &Arc<Self>) -> Result<(), StoreError> {
        let snapshot = self.store.load().await?;
        for queue in snapshot.queues.into_iter().filter(|q| !self.catalog.has_queue(q)) {
            self.learn_queue(queue);
        }
        for class in snapshot.classes.into_iter().filter(|c| !self.catalog.has_class(c.id)) {
            self.learn_class(class);
        }
        Ok(())
    }

    /// Whether a run of this class was created before.
    pub(crate) fn knows(&self, class: &MatchClass) -> bool {
        self.catalog.read(|m| m.classes.contains_key(class))
    }

    /// The numbers of a match class; made at first use, with its queue.
    pub(crate) async fn class(self: &Arc<Self>, class: &MatchClass) -> Result<(ClassId, QueueId), StoreError> {
        if let Some(known) = self.catalog.read(|m| m.classes.get(class).copied()) {
            return Ok(known);
        }
        let row = self.store.intern_class(class.clone()).await?;
        let known = (row.id, row.queue);
        self.queue(row.queue).await?;
        self.learn_class(row);
        Ok(known)
    }

    /// A queue that a row names; read from the store when it is not known here yet.
    pub(crate) async fn queue(self: &Arc<Self>, id: QueueId) -> Result<Option<Arc<QueueRow>>, StoreError> {
        if self.catalog.queue(id).is_none() {
            self.learn_catalog().await?;
        }
        Ok(self.catalog.queue(id))
    }
}
