//! One command inside a transaction: its connection, the writer's knowledge, the time, and the hints that it leaves.

use crate::cache::{Cache, Class, Queue};
use crate::fault::{Done, Fault};
use crate::feed::Feed;
use crate::rows::{self, prepared, single};
use crate::sql;
use outlive_core::class::MatchClass;
use outlive_core::policy::QueuePolicy;
use outlive_core::run::Run;
use outlive_core::{ClassId, Holder, HomeSeq, Incarnation, QueueId, ReplicaId, Wall, WorkerId};
use outlive_store::Commit;
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::Arc;

/// What a command may use.
pub(crate) struct Tx<'a> {
    pub(crate) conn: &'a Connection,
    pub(crate) cache: &'a mut Cache,
    pub(crate) feed: &'a mut Feed,
    /// The store's wall clock, read once for the command.
    pub(crate) now: Wall,
    /// Hints that the command collects.
    pub(crate) hints: Commit,
}

/// What a worker's row says about who may write now.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) namespace: String,
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
}

impl Tx<'_> {
    /// A match class that a row or a caller names.
    pub(crate) fn class(&self, id: ClassId) -> Done<&Class> {
        self.cache.classes.get(&id).ok_or_else(|| Fault::damaged(format!("match class {id} does not exist")))
    }

    /// What a run needs of a worker.
    pub(crate) fn match_class(&self, id: ClassId) -> Done<Arc<MatchClass>> {
        self.class(id).map(|class| class.row.class.clone())
    }

    /// A queue that a row or a caller names.
    pub(crate) fn queue(&self, id: QueueId) -> Done<&Queue> {
        self.cache.queues.get(&id).ok_or_else(|| Fault::damaged(format!("queue {id} does not exist")))
    }

    pub(crate) fn policy(&self, id: QueueId) -> Done<Arc<QueuePolicy>> {
        self.queue(id).map(|queue| queue.policy.clone())
    }

    /// Writes a new run's row.
    pub(crate) fn insert_run(&mut self, run: &Run, namespace: &str) -> Done<()> {
        rows::insert_run(self.conn, run, namespace)?;
        self.cache.leased.written(run);
        Ok(())
    }

    /// Writes what a transition may have changed; exactly one row must be there.
    pub(crate) fn update_run(&mut self, run: &Run) -> Done<()> {
        rows::update_run(self.conn, run)?;
        self.cache.leased.written(run);
        Ok(())
    }

    /// Writes what a report that leaves the state alone may have changed: nothing that an index knows.
    pub(crate) fn touch_run(&mut self, run: &Run) -> Done<()> {
        rows::touch_run(self.conn, run)?;
        self.cache.leased.written(run);
        Ok(())
    }

    /// A run by its public identity, most likely one with an open lease.
    pub(crate) fn leased_run(&self, id: outlive_core::RunId) -> Done<Option<Run>> {
        let Some(known) = self.cache.leased.get(id) else { return rows::run_by_id(self.conn, id) };
        debug_assert_eq!(rows::run_by_id(self.conn, id)?.as_ref(), Some(known), "the writer's knowledge of a row");
        Ok(Some(known.clone()))
    }

    /// The run, if it is in the namespace.
    pub(crate) fn run_in(&self, namespace: &str, id: outlive_core::RunId) -> Done<Option<Run>> {
        match rows::run_by_id(self.conn, id)? {
            Some(run) if *self.class(run.class)?.namespace == *namespace => Ok(Some(run)),
            _ => Ok(None),
        }
    }

    /// Who may write as this worker now; `None`: no such worker.
    pub(crate) fn guard(&self, worker: WorkerId) -> Done<Option<Guard>> {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Guard {
                namespace: row.get(0)?,
                incarnation: Incarnation(row.get(1)?),
                replica: ReplicaId(row.get(2)?),
                home_seq: HomeSeq(row.get(3)?),
                session_open: row.get(4)?,
                draining: row.get(5)?,
                left: row.get(6)?,
            })
        };
        Ok(prepared(self.conn, sql::WORKER_GUARD)?.query_row([worker.0], read).optional()?)
    }

    /// A worker's name, also after its deletion.
    pub(crate) fn worker_name(&self, worker: WorkerId) -> Done<String> {
        worker_name(self.conn, worker)
    }

    /// Tells that the class may have a ready run.
    pub(crate) fn hint_ready(&mut self, class: ClassId) {
        if self.hints.ready.last() != Some(&class) && !self.hints.ready.contains(&class) {
            self.hints.ready.push(class);
        }
    }

    /// Tells which classes of a queue have a ready run: it can be claimed from again.
    pub(crate) fn hint_queue(&mut self, queue: QueueId) -> Done<()> {
        for class in self.queue(queue)?.classes.clone() {
            let mut first = prepared(self.conn, sql::READY_FIRST)?;
            if first.exists(params![class.0])? {
                drop(first);
                self.hint_ready(class);
            }
        }
        Ok(())
    }

    /// The command's hints, at its end.
    pub(crate) fn take_hints(&mut self) -> Commit {
        std::mem::take(&mut self.hints)
    }
}

/// A worker's name, also after its deletion.
pub(crate) fn worker_name(conn: &Connection, worker: WorkerId) -> Done<String> {
    Ok(single(conn, sql::WORKER_NAME, &[&worker.0])?.unwrap_or_default())
}
