//! Transactions over groups of commands.
//!
//! ```text
//! BEGIN, what the commands need (one round trip) ─► command ─► command ─► … ─► lines, rows, counts, feed ─► COMMIT ─► answers
//!    ├ lost a race (deadlock, a unique key, a lock): ROLLBACK, and the same again, a few times
//!    └ fails: ROLLBACK, and each command in a transaction of its own, so that only the guilty one fails
//! ```
//!
//! A command may therefore run more than once; it changes nothing but the transaction that it is given.

use crate::cache::Cache;
use crate::fault::{Answer, Done, Fault};
use crate::needs::Needs;
use crate::pool::Pool;
use crate::rows::observed;
use crate::signs::Signs;
use crate::sql;
use crate::store::Time;
use crate::tx::Tx;
use crate::value::{execute, get};
use async_trait::async_trait;
use deadpool_postgres::Object;
use futures_util::FutureExt as _;
use outlive_core::Wall;
use outlive_core::clock::Clock;
use outlive_store::{Commit, Hints, StoreError};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_postgres::Client;

/// How often a group is tried that loses races: each time one of those whom it met has gone on.
const TRIES: u32 = 8;
/// How often it is tried over new connections: the first may be a remainder of a server that has been started again.
const CONNECTIONS: u32 = 3;
/// A group that takes longer is given up with its connection: the server is gone, or as good as that.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a command is.
#[async_trait]
pub(crate) trait Op: Send + Sync + 'static {
    type Answer: Send + Sync;
    type Refusal: From<StoreError> + Send + Sync;

    /// How many runs, items or leases are in it.
    fn weight(&self) -> usize {
        1
    }

    /// What it will ask for, as far as it knows.
    fn needs<'c>(&'c self, _: &mut Needs<'c>) {}

    /// Runs in an open transaction.
    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Self::Answer, Self::Refusal>;

    /// Completes the answer when all commands of the group have run.
    fn finish(&self, _: &mut Self::Answer, _: &Tx<'_>, _: Commit) {}
}

/// A write that waits for its turn.
#[async_trait]
pub(crate) trait Command: Send {
    fn weight(&self) -> usize;
    fn needs<'c>(&'c self, needs: &mut Needs<'c>);
    /// Runs; keeps its answer until it is known whether that was committed.
    async fn run(&mut self, tx: &mut Tx<'_>) -> Done<()>;
    fn finish(&mut self, tx: &Tx<'_>, hints: Commit);
    /// Gives the answer, or why there is none.
    fn settle(self: Box<Self>, failed: Option<StoreError>);
}

/// A command with the place for its answer.
pub(crate) struct Write<O: Op> {
    op: O,
    answer: Option<Result<O::Answer, O::Refusal>>,
    reply: oneshot::Sender<Result<O::Answer, O::Refusal>>,
}

impl<O: Op> Write<O> {
    pub(crate) const fn new(op: O, reply: oneshot::Sender<Result<O::Answer, O::Refusal>>) -> Self {
        Self { op, answer: None, reply }
    }
}

#[async_trait]
impl<O: Op> Command for Write<O> {
    fn weight(&self) -> usize {
        self.op.weight()
    }

    fn needs<'c>(&'c self, needs: &mut Needs<'c>) {
        self.op.needs(needs);
    }

    async fn run(&mut self, tx: &mut Tx<'_>) -> Done<()> {
        self.answer = Some(self.op.run(tx).await?);
        Ok(())
    }

    fn finish(&mut self, tx: &Tx<'_>, hints: Commit) {
        if let Some(Ok(answer)) = &mut self.answer {
            self.op.finish(answer, tx, hints);
        }
    }

    fn settle(self: Box<Self>, failed: Option<StoreError>) {
        let missing = || Err(StoreError::Unavailable("the command was not carried out".to_owned()).into());
        let answer = match failed {
            Some(error) => Err(error.into()),
            None => self.answer.unwrap_or_else(missing),
        };
        drop(self.reply.send(answer));
    }
}

/// What others are told after a commit.
pub(crate) type Told = Hints;

pub(crate) struct Db {
    pool: Pool,
    cache: Cache,
    conn: Option<Object>,
    time: Time,
    clock: Arc<dyn Clock>,
    signs: Arc<Signs>,
}

impl Db {
    pub(crate) fn new(pool: Pool, cache: Cache, time: Time, clock: Arc<dyn Clock>, signs: Arc<Signs>) -> Self {
        Self { pool, cache, conn: None, time, clock, signs }
    }

    /// Runs a group in one transaction and answers every command of it.
    pub(crate) async fn transact(&mut self, mut group: Vec<Box<dyn Command>>) -> Told {
        let (mut tries, mut connections) = (0, 0);
        let (failed, told) = loop {
            match self.attempt(&mut group).await {
                Ok(told) => break (None, told),
                Err(Failure::Before(Fault::Race(why))) if tries < TRIES => {
                    tracing::debug!(why, tries, "a race was lost; the group is tried again");
                    tries += 1;
                }
                Err(Failure::Before(Fault::Gone(why))) if connections < CONNECTIONS && self.signs.is_whole() => {
                    tracing::debug!(why, "a connection is gone; the group is tried over another one");
                    connections += 1;
                }
                // Nothing was written; what is small, or meets nobody, may still go.
                Err(Failure::Before(fault)) if group.len() > 1 && !matches!(fault, Fault::Gone(_)) => {
                    return Box::pin(self.one_by_one(group)).await;
                }
                Err(Failure::Before(fault)) => break (Some(fault.refused()), Told::default()),
                Err(Failure::Committing(fault)) => break (Some(fault.unknown()), Told::default()),
            }
        };
        if failed.is_none() {
            self.signs.committed_now(self.clock.mono().0);
        }
        // Before the answers: who has one finds nothing of it pending.
        self.signs.nothing_pending();
        for command in group {
            command.settle(failed.clone());
        }
        told
    }

    async fn one_by_one(&mut self, group: Vec<Box<dyn Command>>) -> Told {
        let mut told = Told::default();
        for command in group {
            told.merge(Box::pin(self.transact(vec![command])).await);
        }
        told
    }

    async fn attempt(&mut self, group: &mut [Box<dyn Command>]) -> Result<Told, Failure> {
        if let Some(why) = self.signs.why_broken() {
            return Err(Failure::Before(Fault::Other(format!("restart the server: {why}"))));
        }
        let conn = match self.conn.take() {
            Some(conn) if !conn.is_closed() => conn,
            _ => self.pool.get().await.map_err(Failure::Before)?,
        };
        let mut committing = false;
        let work = run(&conn, &mut self.cache, self.time, &*self.clock, group, &mut committing);
        let done = match tokio::time::timeout(PATIENCE, work).await {
            Ok(done) => done,
            Err(_) => Err(Fault::Gone(format!("the server did not answer for {} s", PATIENCE.as_secs()))),
        };
        let fault = match done {
            Ok(told) => {
                self.conn = Some(conn);
                return Ok(told);
            }
            Err(fault) => fault,
        };
        self.signs.met(&fault);
        self.cache.forget();
        let clean = !matches!(fault, Fault::Gone(_)) && !committing;
        if clean && matches!(tokio::time::timeout(PATIENCE, execute(&conn, sql::ROLLBACK, &[])).await, Ok(Ok(_))) {
            self.conn = Some(conn);
        } else {
            // Not back into the pool: nobody knows what goes on in it.
            drop(Object::take(conn));
        }
        Err(if committing { Failure::Committing(fault) } else { Failure::Before(fault) })
    }
}

async fn run(
    conn: &Client,
    cache: &mut Cache,
    time: Time,
    clock: &dyn Clock,
    group: &mut [Box<dyn Command>],
    committing: &mut bool,
) -> Done<Told> {
    let mut needs = Needs::default();
    for command in group.iter() {
        command.needs(&mut needs);
    }
    needs.look_for_limits(cache);
    let assumed = needs.assume(&cache.recent);
    let mut gathered = needs.gather(conn).await?;
    let head = gathered.head()?;
    let database: i64 = get(&head, 11)?;
    let now = match time {
        Time::Database => Wall(database),
        Time::Process => clock.wall(),
    };
    cache.refresh(conn, get(&head, 9)?).await?;
    let mut tx = Tx::new(conn, cache, now, observed(get(&head, 8)?));
    for (run, made) in assumed {
        tx.loaded.assumed.insert(run.seq, made);
        tx.loaded.put(run);
    }
    needs.fill(&mut tx, gathered).await?;
    drop(needs);
    for (i, command) in group.iter_mut().enumerate() {
        tx.command = i;
        let ran = AssertUnwindSafe(command.run(&mut tx)).catch_unwind().await;
        ran.map_err(|_| Fault::Other("the command panicked; its transaction was rolled back".to_owned()))??;
    }
    let made = tx.conclude().await?;
    let mut hints = std::mem::take(&mut tx.hints);
    hints.resize_with(group.len(), Commit::default);
    let mut told = Told { catalog: tx.hints_catalog, errands: tx.hints_errands, ..Told::default() };
    for (command, hints) in group.iter_mut().zip(hints) {
        told.merge(Hints::from(&hints));
        command.finish(&tx, hints);
    }
    *committing = true;
    execute(conn, sql::COMMIT, &[]).await?;
    let Tx { cache, loaded, .. } = tx;
    cache.recent.follow(&loaded, made);
    Ok(told)
}

enum Failure {
    /// Nothing was written.
    Before(Fault),
    /// While committing: what was written is not known, unless the fault says so.
    Committing(Fault),
}
