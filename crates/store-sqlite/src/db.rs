//! The synchronous core: one writing connection, transactions over groups of commands.
//!
//! ```text
//! BEGIN IMMEDIATE ─► command ─► command ─► … ─► counts, feed ─► COMMIT ─► answers
//!                       └ fails: ROLLBACK, read the cache again, and run each command in a transaction of its own,
//!                         so that only the guilty one fails
//! ```
//!
//! A command may therefore run twice; it changes nothing but the transaction that it is given.

use crate::cache::Cache;
use crate::fault::{Answer, Done, Fault};
use crate::feed::Feed;
use crate::reader::Classes;
use crate::sql;
use crate::tx::Tx;
use outlive_core::clock::Clock;
use outlive_store::{Commit, StoreError, Trouble};
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A write that waits for its turn.
pub(crate) trait Command: Send {
    /// Runs in an open transaction; keeps its answer until it is known whether that was committed.
    fn run(&mut self, tx: &mut Tx<'_>) -> Done<()>;
    /// Gives the answer, or why there is none.
    fn settle(self: Box<Self>, failed: Option<StoreError>);
}

/// A command made of a closure. `deliver` gets the answer.
pub(crate) struct Write<F, T, E, D> {
    work: F,
    answer: Option<Result<T, E>>,
    deliver: D,
}

impl<F, T, E, D> Write<F, T, E, D> {
    pub(crate) const fn new(work: F, deliver: D) -> Self {
        Self { work, answer: None, deliver }
    }
}

impl<F, T, E, D> Command for Write<F, T, E, D>
where
    F: FnMut(&mut Tx<'_>) -> Answer<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
    D: FnOnce(Result<T, E>) + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Done<()> {
        self.answer = Some((self.work)(tx)?);
        Ok(())
    }

    fn settle(self: Box<Self>, failed: Option<StoreError>) {
        let missing = || Err(StoreError::Unavailable("the command was not carried out".to_owned()).into());
        let answer = match failed {
            Some(error) => Err(error.into()),
            None => self.answer.unwrap_or_else(missing),
        };
        (self.deliver)(answer);
    }
}

/// What other threads may see of the writer.
#[derive(Debug)]
pub(crate) struct Signs {
    /// When the last transaction was committed.
    pub(crate) committed: AtomicU64,
    /// When the oldest command that is not answered was given; [`NOTHING`]: none.
    pub(crate) pending: AtomicU64,
    /// Nothing more is written.
    pub(crate) broken: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
}

impl Signs {
    /// What is wrong now.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault was met, by a write or a read.
    pub(crate) fn met(&self, fault: &Fault) {
        if let Some(new) = fault.trouble() {
            let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            if *trouble != Some(Trouble::Damaged) {
                *trouble = Some(new);
            }
        }
    }

    /// A transaction was committed: there is room, and the file takes writes.
    fn committed_now(&self, at: u64) {
        self.committed.store(at, Ordering::Relaxed);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *trouble != Some(Trouble::Damaged) {
            *trouble = None;
        }
    }
}

/// No command waits.
pub(crate) const NOTHING: u64 = u64::MAX;

pub(crate) struct Db {
    pub(crate) conn: Connection,
    pub(crate) classes: Classes,
    cache: Cache,
    feed: Feed,
    clock: Arc<dyn Clock>,
    signs: Arc<Signs>,
    broken: Option<String>,
}

impl Db {
    pub(crate) fn new(conn: Connection, clock: Arc<dyn Clock>) -> Done<Self> {
        let cache = Cache::load(&conn)?;
        let signs = Signs {
            committed: AtomicU64::new(clock.mono().0),
            pending: AtomicU64::new(NOTHING),
            broken: AtomicBool::new(false),
            trouble: Mutex::new(None),
        };
        let (classes, feed) = (Classes::default(), Feed::default());
        Ok(Self { conn, classes, cache, feed, clock, signs: Arc::new(signs), broken: None })
    }

    pub(crate) fn signs(&self) -> Arc<Signs> {
        self.signs.clone()
    }

    /// Runs a group in one transaction and answers every command of it.
    pub(crate) fn transact(&mut self, mut group: Vec<Box<dyn Command>>) {
        let failed = match self.attempt(&mut group) {
            Ok(()) => None,
            // A full disk wrote nothing; what is small may still fit.
            Err(Failure::Before(_) | Failure::Committing(Fault::Full(_))) if group.len() > 1 => {
                return self.one_by_one(group);
            }
            Err(Failure::Before(fault)) => Some(fault.refused()),
            Err(Failure::Committing(fault)) => Some(fault.unknown()),
        };
        if failed.is_none() {
            self.signs.committed_now(self.clock.mono().0);
        }
        // Before the answers: who has one finds nothing of it pending.
        self.signs.pending.store(NOTHING, Ordering::Release);
        for command in group {
            command.settle(failed.clone());
        }
    }

    fn one_by_one(&mut self, group: Vec<Box<dyn Command>>) {
        for command in group {
            self.transact(vec![command]);
        }
    }

    fn attempt(&mut self, group: &mut [Box<dyn Command>]) -> Result<(), Failure> {
        if let Some(why) = &self.broken {
            return Err(Failure::Before(Fault::Io(format!("restart the server: {why}"))));
        }
        let written = self.run_all(group);
        let committed = match written {
            Ok(()) => self.execute(sql::COMMIT).map_err(Failure::Committing),
            Err(fault) => Err(Failure::Before(fault)),
        };
        if let Err(failure) = &committed {
            self.undo(failure);
        }
        committed
    }

    fn run_all(&mut self, group: &mut [Box<dyn Command>]) -> Done<()> {
        self.execute(sql::BEGIN)?;
        for command in group {
            let mut tx = Tx {
                conn: &self.conn,
                cache: &mut self.cache,
                feed: &mut self.feed,
                now: self.clock.wall(),
                hints: Commit::default(),
            };
            let ran = catch_unwind(AssertUnwindSafe(|| command.run(&mut tx)));
            ran.map_err(|_| Fault::Other("the command panicked; its transaction was rolled back".to_owned()))??;
        }
        self.cache.flush(&self.conn)?;
        self.feed.flush(&self.conn, self.clock.wall())
    }

    /// Leaves nothing of a failed transaction, neither in the file nor in memory. After an error of the disk nothing more is
    /// written: what an earlier `fsync` lost cannot be known (the pages are clean now).
    fn undo(&mut self, failure: &Failure) {
        let (Failure::Before(fault) | Failure::Committing(fault)) = failure;
        self.signs.met(fault);
        if !self.conn.is_autocommit()
            && let Err(fault) = self.execute(sql::ROLLBACK)
        {
            self.broken = Some(format!("a rollback failed: {fault:?}"));
        }
        if let Failure::Before(Fault::Io(why)) | Failure::Committing(Fault::Io(why)) = failure {
            tracing::error!(why, "the disk failed; the store writes nothing more");
            self.broken = Some(why.clone());
        }
        self.feed.clear();
        match Cache::load(&self.conn) {
            Ok(cache) => self.cache = cache,
            Err(fault) => self.broken = Some(format!("the store cannot be read again: {fault:?}")),
        }
        self.signs.broken.store(self.broken.is_some(), Ordering::Release);
    }

    fn execute(&self, sql: &'static str) -> Done<()> {
        crate::rows::execute(&self.conn, sql, &[]).map(drop)
    }
}

enum Failure {
    /// Nothing was written.
    Before(Fault),
    /// While committing: what was written is not known, unless the fault says so.
    Committing(Fault),
}

#[cfg(test)]
mod tests;
