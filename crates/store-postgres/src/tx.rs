//! One batch of commands inside a transaction: its connection, what it has locked and read, what it will write, the time, and
//! the hints that each command leaves.
//!
//! Locks are taken in one order: workers, queues with a cap or a rate, serial keys, runs; each by number. A claim waits for
//! no run and no serial key; it passes over what is locked. What deadlocks in spite of it is tried again.

mod guards;

pub(crate) use guards::Guard;

use crate::cache::{Cache, Queue};
use crate::fault::{Done, Fault};
use crate::flush;
use crate::loaded::{Body, Line, Loaded, Means};
use crate::pending::Pending;
use crate::ready::{Place, Ready};
use crate::recent::{self, Made};
use crate::rows::{from_text, json, read_run, slot_of};
use crate::serial::Slot;
use crate::sql;
use crate::subject::{self, Moved};
use crate::value::{Param, column, execute, get, query, values_of};
use futures_util::future::join;
use outlive_core::class::MatchClass;
use outlive_core::policy::QueuePolicy;
use outlive_core::run::Run;
use outlive_core::{ClassId, Observed, QueueId, RunId, State, Wall};
use outlive_store::{ClassRow, Commit};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

/// Numbers that are taken at once when one is missing.
const NUMBERS: i64 = 16;
/// How often a key's row is made: a sweep may delete it before it is locked.
const LINE_TRIES: u32 = 4;

/// What the commands of a batch may use.
pub(crate) struct Tx<'a> {
    pub(crate) conn: &'a Client,
    pub(crate) cache: &'a mut Cache,
    /// The store's wall clock, read once for the batch.
    pub(crate) now: Wall,
    pub(crate) observed: Observed,
    pub(crate) loaded: Loaded,
    pub(crate) pending: Pending,
    pub(crate) ready: Ready,
    /// Hints that each command collects.
    pub(crate) hints: Vec<Commit>,
    /// Queues from which something can be claimed again, and the commands by which.
    pub(crate) opened: BTreeSet<(QueueId, usize)>,
    pub(crate) command: usize,
    /// Runs that moved, for their subjects.
    pub(crate) moved: Vec<Moved>,
    /// Queues or classes changed.
    pub(crate) hints_catalog: bool,
    /// Errands were written.
    pub(crate) hints_errands: bool,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(conn: &'a Client, cache: &'a mut Cache, now: Wall, observed: Observed) -> Self {
        Self {
            conn,
            cache,
            now,
            observed,
            loaded: Loaded::default(),
            pending: Pending::default(),
            ready: Ready::default(),
            hints: Vec::new(),
            opened: BTreeSet::new(),
            command: 0,
            moved: Vec::new(),
            hints_catalog: false,
            hints_errands: false,
        }
    }
}

/// Statements.
impl Tx<'_> {
    /// Writes what is pending, so that a statement sees it.
    pub(crate) async fn flush(&mut self) -> Done<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let forgotten = self.now - crate::create::IDEMPOTENCY_KEPT;
        flush::flush(self.conn, self.cache, &mut self.loaded, &mut self.pending, self.now, forgotten).await
    }

    /// Asks the database, behind everything that this transaction has changed.
    pub(crate) async fn query(&mut self, sql: &'static str, values: &[Param<'_>]) -> Done<Vec<Row>> {
        self.flush().await?;
        query(self.conn, sql, values).await
    }

    /// Changes rows that are in no cache of the transaction.
    pub(crate) async fn execute(&mut self, sql: &'static str, values: &[Param<'_>]) -> Done<u64> {
        self.flush().await?;
        execute(self.conn, sql, values).await
    }
}

/// The catalogue.
impl Tx<'_> {
    /// A match class that a row or a caller names.
    pub(crate) async fn class(&mut self, id: ClassId) -> Done<ClassRow> {
        let row = self.cache.known.find_class(self.conn, id).await?;
        if !self.cache.queues.contains_key(&row.queue) {
            // A queue that an application's transaction made: that raises no number.
            self.reload_queues().await?;
        }
        Ok(row)
    }

    pub(crate) async fn reload_queues(&mut self) -> Done<()> {
        let all = crate::cache::queues(self.conn).await?;
        self.cache.queues = all.into_iter().map(|queue| (queue.row.id, queue)).collect();
        Ok(())
    }

    /// Queues whose rows are locked now, as they say that they are.
    pub(crate) fn take_queues(&mut self, rows: &[Row]) -> Done<()> {
        for row in rows {
            let id = QueueId(get(row, 0)?);
            let (policy, paused) = (serde_json::from_str(get(row, 1)?)?, get(row, 2)?);
            if let Some(queue) = self.cache.queues.get_mut(&id) {
                let row = outlive_store::QueueRow { policy, paused, ..queue.row.clone() };
                *queue = Queue::new(row, queue.quiet_until);
            }
            self.loaded.queues.insert(id);
        }
        Ok(())
    }

    /// What a run needs of a worker.
    pub(crate) async fn match_class(&mut self, id: ClassId) -> Done<Arc<MatchClass>> {
        Ok(self.class(id).await?.class)
    }

    /// A queue that a row or a caller names.
    pub(crate) fn queue(&self, id: QueueId) -> Done<&Queue> {
        self.cache.queues.get(&id).ok_or_else(|| Fault::damaged(format!("queue {id} does not exist")))
    }

    pub(crate) fn policy(&self, id: QueueId) -> Done<Arc<QueuePolicy>> {
        self.queue(id).map(|queue| queue.policy.clone())
    }

    /// The name of a serial key's row.
    pub(crate) async fn slot_name(&mut self, run: &Run) -> Done<Option<String>> {
        let Some(key) = run.serial_key.clone() else { return Ok(None) };
        Ok(Some(slot_of(&self.class(run.class).await?.class.namespace, &key)))
    }

    /// The number of the next run.
    pub(crate) async fn next_seq(&mut self) -> Done<i64> {
        if self.loaded.seqs.is_empty() {
            self.loaded.seqs = column(self.conn, sql::RUN_SEQS, values_of![NUMBERS]).await?.into();
        }
        self.loaded.seqs.pop_front().ok_or_else(|| Fault::damaged("the sequence of runs gives no numbers"))
    }

    /// The number of the next recovery.
    pub(crate) async fn next_recovery(&mut self) -> Done<i64> {
        if self.loaded.recovery_ids.is_empty() {
            self.loaded.recovery_ids = column(self.conn, sql::RECOVERY_IDS, values_of![NUMBERS]).await?.into();
        }
        self.loaded
            .recovery_ids
            .pop_front()
            .ok_or_else(|| Fault::damaged("the sequence of recoveries gives no numbers"))
    }

    /// Counts a run that goes from one state to another; `None` is no run.
    pub(crate) async fn count(&mut self, run: &Run, from: Option<State>, to: Option<State>) -> Done<()> {
        if from == to {
            return Ok(());
        }
        let active = |state: Option<State>| state.filter(|s| !s.is_terminal());
        for (state, by) in [(active(from), -1), (active(to), 1)] {
            let Some(state) = state else { continue };
            *self.pending.sums.states.entry((run.queue, state.number())).or_default() += by;
            if let (true, Some(leased)) = (state.is_leased(), self.loaded.leased.get_mut(&run.queue)) {
                *leased += by;
            }
        }
        let by = i64::from(active(to).is_some()) - i64::from(active(from).is_some());
        if by != 0 && self.class(run.class).await?.class.pin.is_some() {
            *self.pending.sums.classes.entry(run.class).or_default() += by;
        }
        Ok(())
    }
}

/// Runs.
impl Tx<'_> {
    /// Locks the runs with these ids, and their serial keys before them.
    pub(crate) async fn lock_ids(&mut self, ids: &[RunId]) -> Done<()> {
        let missing: BTreeSet<Uuid> =
            ids.iter().filter(|id| !self.loaded.ids.contains_key(id)).map(|id| id.0).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<Uuid> = missing.into_iter().collect();
        let conn = self.conn;
        let values = values_of![missing];
        let lines = query(conn, sql::SERIAL_LOCK_IDS, values);
        let runs = query(conn, sql::RUN_LOCK_IDS, values);
        let (lines, runs) = join(lines, runs).await;
        for id in missing.iter().map(|id| RunId(*id)) {
            self.loaded.ids.entry(id).or_insert(None);
        }
        self.take_lines(&lines?)?;
        self.take_runs(&runs?).await
    }

    /// Locks the runs of these rows, and their serial keys before them.
    pub(crate) async fn lock_seqs(&mut self, seqs: &[i64]) -> Done<()> {
        let missing: BTreeSet<i64> = seqs.iter().copied().filter(|seq| !self.loaded.runs.contains_key(seq)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<i64> = missing.into_iter().collect();
        let conn = self.conn;
        let values = values_of![missing];
        let lines = query(conn, sql::SERIAL_LOCK_SEQS, values);
        let runs = query(conn, sql::RUN_LOCK_SEQS, values);
        let (lines, runs) = join(lines, runs).await;
        self.take_lines(&lines?)?;
        self.take_runs(&runs?).await
    }

    /// Locks ready runs, as far as nobody else is at them or at their serial keys; the others are passed over.
    pub(crate) async fn lock_ready(&mut self, places: &[(ClassId, Place)]) -> Done<()> {
        let mut wanted: Vec<(ClassId, Place, Option<String>)> = Vec::new();
        for &(class, place) in places {
            if !self.loaded.runs.contains_key(&place.1) {
                let slot = self.ready.pool(class).and_then(|pool| pool.runs.get(&place)).cloned().flatten();
                wanted.push((class, place, slot));
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let slots: BTreeSet<&String> = wanted.iter().filter_map(|(_, _, slot)| slot.as_ref()).collect();
        let slots: Vec<&str> =
            slots.into_iter().filter(|slot| !self.loaded.lines.contains_key(*slot)).map(String::as_str).collect();
        if !slots.is_empty() {
            let rows = query(self.conn, sql::SERIAL_LOCK_FREE, values_of![slots]).await?;
            self.take_lines(&rows)?;
        }
        let is_free = |slot: &Option<String>| slot.as_ref().is_none_or(|slot| self.loaded.lines.contains_key(slot));
        let seqs: Vec<i64> = wanted.iter().filter(|(_, _, slot)| is_free(slot)).map(|(_, place, _)| place.1).collect();
        let rows = query(self.conn, sql::RUN_LOCK_READY, values_of![seqs]).await?;
        self.take_runs(&rows).await?;
        for (class, place, _) in wanted {
            if self.loaded.unreadable.contains_key(&place.1) {
                self.ready.leave_out(class, place);
            } else if !self.loaded.runs.contains_key(&place.1) {
                self.ready.pass_over(class, place);
            }
        }
        Ok(())
    }

    pub(crate) async fn take_runs(&mut self, rows: &[Row]) -> Done<()> {
        for row in rows {
            let seq: i64 = get(row, 0)?;
            let read = match read_run(row) {
                Ok(run) => self.class(run.class).await.map(|_| run),
                Err(fault) => Err(fault),
            };
            match read {
                Ok(run) => self.loaded.put(run),
                // Only who asks for it is told: it is nobody else's matter in this batch.
                Err(Fault::Damaged(why)) => {
                    self.loaded.ids.insert(RunId(get(row, 1)?), Some(seq));
                    self.loaded.unreadable.insert(seq, why);
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    pub(crate) fn take_lines(&mut self, rows: &[Row]) -> Done<()> {
        for row in rows {
            let slot = Slot { holder: get(row, 1)?, head: get(row, 2)?, last_claimed: get(row, 3)? };
            let name: String = get(row, 0)?;
            self.loaded.lines.entry(name).or_insert(Line { slot, moved_by: None });
        }
        Ok(())
    }

    /// The row of a serial key, locked; made if it is not there and `make`.
    pub(crate) async fn line(&mut self, name: &str, make: bool) -> Done<Option<Slot>> {
        if let Some(line) = self.loaded.lines.get(name) {
            return Ok(Some(line.slot));
        }
        let names = vec![name];
        for _ in 0..LINE_TRIES {
            if make {
                execute(self.conn, sql::SERIAL_MAKE, values_of![names]).await?;
            }
            let rows = query(self.conn, sql::SERIAL_LOCK, values_of![names]).await?;
            self.take_lines(&rows)?;
            let found = self.loaded.lines.get(name).map(|line| line.slot);
            if found.is_some() || !make {
                return Ok(found);
            }
        }
        Err(Fault::Race("a serial key was forgotten at the same time".to_owned()))
    }

    /// The run, locked, if it is there.
    pub(crate) async fn run_by_id(&mut self, id: RunId) -> Done<Option<Run>> {
        self.lock_ids(&[id]).await?;
        let seq = self.loaded.ids.get(&id).copied().flatten();
        seq.map_or(Ok(()), |seq| self.loaded.must_be_readable(seq))?;
        Ok(seq.and_then(|seq| self.loaded.runs.get(&seq)).cloned())
    }

    /// The run, locked, if it is there.
    pub(crate) async fn run_by_seq(&mut self, seq: i64) -> Done<Option<Run>> {
        self.lock_seqs(&[seq]).await?;
        self.loaded.must_be_readable(seq)?;
        Ok(self.loaded.runs.get(&seq).cloned())
    }

    /// The run, locked, if it is in the namespace.
    pub(crate) async fn run_in(&mut self, namespace: &str, id: RunId) -> Done<Option<Run>> {
        match self.run_by_id(id).await? {
            Some(run) if self.class(run.class).await?.class.namespace == namespace => Ok(Some(run)),
            _ => Ok(None),
        }
    }

    /// The run as committed or as this transaction has made it, not locked: for who only asks.
    pub(crate) async fn look_at(&mut self, id: RunId) -> Done<Option<Run>> {
        if let Some(Some(seq)) = self.loaded.ids.get(&id) {
            return Ok(self.loaded.runs.get(seq).cloned());
        }
        if let Some(seen) = self.loaded.chosen.get(&id) {
            return Ok(seen.clone());
        }
        let run = crate::rows::run_by_id(self.conn, id).await?;
        self.loaded.chosen.insert(id, run.clone());
        Ok(run)
    }

    /// What the workers of these runs need beside their rows.
    pub(crate) async fn load_bodies(&mut self, seqs: &[i64]) -> Done<()> {
        let missing: Vec<i64> = seqs.iter().copied().filter(|seq| !self.loaded.bodies.contains_key(seq)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if self.pending.concerns(&missing) {
            self.flush().await?;
        }
        for row in query(self.conn, sql::LEASE_BODY, values_of![missing]).await? {
            let seq = get(&row, 0)?;
            match Body::read(&row) {
                Ok(body) => drop(self.loaded.bodies.insert(seq, body)),
                Err(Fault::Damaged(why)) => drop(self.loaded.unreadable.insert(seq, why)),
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// What the losses of these runs depend on.
    pub(crate) async fn load_means(&mut self, seqs: &[i64]) -> Done<()> {
        let missing: Vec<i64> = seqs.iter().copied().filter(|seq| !self.loaded.means.contains_key(seq)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if self.pending.concerns(&missing) {
            self.flush().await?;
        }
        let read = |row: &Row| {
            Ok(Means {
                options: from_text(get(row, 1)?)?.unwrap_or_default(),
                checkpoint: json(get(row, 2)?)?,
                progress: from_text(get(row, 3)?)?,
            })
        };
        for row in query(self.conn, sql::MEANS, values_of![missing]).await? {
            let seq = get(&row, 0)?;
            match read(&row) {
                Ok(means) => drop(self.loaded.means.insert(seq, means)),
                Err(Fault::Damaged(why)) => drop(self.loaded.unreadable.insert(seq, why)),
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// The same, of one run.
    pub(crate) async fn means(&mut self, seq: i64) -> Done<Means> {
        self.load_means(&[seq]).await?;
        self.loaded.must_be_readable(seq)?;
        Ok(self.loaded.means.get(&seq).cloned().unwrap_or_default())
    }
}

/// Hints.
impl Tx<'_> {
    /// The hints of the command that runs now.
    pub(crate) fn hints(&mut self) -> &mut Commit {
        if self.hints.len() <= self.command {
            self.hints.resize_with(self.command + 1, Commit::default);
        }
        &mut self.hints[self.command]
    }

    /// Tells that the class may have a ready run.
    pub(crate) fn hint_ready(&mut self, class: ClassId) {
        let ready = &mut self.hints().ready;
        if ready.last() != Some(&class) && !ready.contains(&class) {
            ready.push(class);
        }
    }

    /// Something can be claimed from the queue again: its classes that have a ready run are told at the end.
    pub(crate) fn hint_queue(&mut self, queue: QueueId) {
        self.opened.insert((queue, self.command));
    }

    /// What waited for the end of all commands: lines of serial keys, what is pending, queues that opened, sums and the feed.
    /// Which transaction it is, if it has something to tell.
    pub(crate) async fn conclude(&mut self) -> Done<Option<Made>> {
        crate::serial::settle(self).await?;
        let is_left = |seq| !self.pending.updates.contains_key(seq);
        if self.moved.is_empty() && self.opened.is_empty() && !self.loaded.assumed.keys().any(is_left) {
            return self.conclude_at_once().await;
        }
        self.flush().await?;
        recent::verify(self).await?;
        subject::settle(self).await?;
        let opened = std::mem::take(&mut self.opened);
        if !opened.is_empty() {
            let queues: BTreeSet<i64> = opened.iter().map(|(queue, _)| queue.0).collect();
            let queues: Vec<i64> = queues.into_iter().collect();
            for row in query(self.conn, sql::READY_OF_QUEUES, values_of![queues]).await? {
                let (queue, class) = (QueueId(get(&row, 0)?), ClassId(get(&row, 1)?));
                for (_, command) in opened.iter().filter(|(opened, _)| *opened == queue) {
                    self.command = *command;
                    self.hint_ready(class);
                }
            }
        }
        let last = self.pending.take_last();
        flush::finish(self.conn, self.cache.shard, last, self.now).await
    }

    /// Nothing depends on what is still written: all of it goes in one round trip.
    async fn conclude_at_once(&mut self) -> Done<Option<Made>> {
        let (conn, shard, now, last) = (self.conn, self.cache.shard, self.now, self.pending.take_last());
        match join(self.flush(), flush::finish(conn, shard, last, now)).await {
            (Ok(()), made) => made,
            (Err(Fault::Aborted), Err(fault)) | (Err(fault), _) => Err(fault),
        }
    }
}
