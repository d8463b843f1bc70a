//! Workers: who may write now, and what they are called.

use super::Tx;
use crate::fault::Done;
use crate::sql;
use crate::value::{get, query, values_of};
use outlive_core::{Holder, HomeSeq, Incarnation, ReplicaId, WorkerId};
use std::sync::Arc;
use tokio_postgres::Row;

/// What a worker's row says about who may write now.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub(crate) namespace: Arc<str>,
    pub(crate) incarnation: Incarnation,
    pub(crate) replica: ReplicaId,
    pub(crate) home_seq: HomeSeq,
    pub(crate) session_open: bool,
    pub(crate) draining: bool,
    pub(crate) left: bool,
}

impl Guard {
    /// Whether this is the holder's home still.
    pub(crate) fn holds(&self, holder: Holder, home: (ReplicaId, HomeSeq)) -> bool {
        self.incarnation == holder.incarnation && (self.replica, self.home_seq) == home
    }

    fn read(row: &Row) -> Done<(WorkerId, Self)> {
        let namespace: String = get(row, 1)?;
        let guard = Self {
            namespace: namespace.into(),
            incarnation: Incarnation(get(row, 2)?),
            replica: ReplicaId(get(row, 3)?),
            home_seq: HomeSeq(get(row, 4)?),
            session_open: get(row, 5)?,
            draining: get(row, 6)?,
            left: get(row, 7)?,
        };
        Ok((WorkerId(get(row, 0)?), guard))
    }
}

impl Tx<'_> {
    /// Reads who may write as these workers, and keeps it so until the end.
    pub(crate) async fn load_guards(&mut self, workers: &[WorkerId], sql: &'static str) -> Done<()> {
        let ids: Vec<i64> = workers.iter().map(|worker| worker.0).collect();
        for worker in workers {
            self.loaded.guards.insert(*worker, None);
        }
        let rows = query(self.conn, sql, values_of![ids]).await?;
        self.take_guards(&rows)
    }

    pub(crate) fn take_guards(&mut self, rows: &[Row]) -> Done<()> {
        for row in rows {
            let (id, guard) = Guard::read(row)?;
            self.loaded.guards.insert(id, Some(guard));
        }
        Ok(())
    }

    /// Who may write as this worker now; `None`: no such worker.
    pub(crate) async fn guard(&mut self, worker: WorkerId) -> Done<Option<Guard>> {
        if !self.loaded.guards.contains_key(&worker) {
            self.load_guards(&[worker], sql::WORKER_GUARDS).await?;
        }
        Ok(self.loaded.guards.get(&worker).cloned().flatten())
    }

    /// The same, with the row locked against claims: for who is about to change it, or what it holds.
    pub(crate) async fn guard_locked(&mut self, worker: WorkerId) -> Done<Option<Guard>> {
        if self.loaded.closing.insert(worker) {
            self.load_guards(&[worker], sql::WORKER_GUARD_LOCK).await?;
        }
        self.guard(worker).await
    }

    /// The tenant of a worker.
    pub(crate) async fn namespace_of(&mut self, worker: WorkerId) -> Done<Option<Arc<str>>> {
        Ok(self.cache.known.find_worker(self.conn, worker).await?.and_then(|named| named.namespace))
    }

    /// A worker's name, also after its deletion.
    pub(crate) async fn worker_name(&mut self, worker: WorkerId) -> Done<String> {
        self.cache.known.worker_name(self.conn, worker).await
    }
}
