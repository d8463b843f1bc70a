//! What the writer knows without asking: there is only one, so it is exact. Whenever a transaction is rolled back, all of
//! it is read again.

use crate::fault::Done;
use crate::leased::LeasedRuns;
use crate::rows::{column, known, observed, prepared, single};
use crate::sql;
use outlive_core::class::MatchClass;
use outlive_core::given::GivenPolicy;
use outlive_core::policy::QueuePolicy;
use outlive_core::{ClassId, Observed, QueueId, State, Wall};
use outlive_store::{ClassRow, QueueRow};
use rusqlite::{Connection, params};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// States before the first terminal one: those that are counted.
pub(crate) const ACTIVE_STATES: usize = State::Succeeded as usize;

/// A queue with its exact counts.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) row: QueueRow,
    pub(crate) policy: Arc<QueuePolicy>,
    pub(crate) classes: Vec<ClassId>,
    counts: [i64; ACTIVE_STATES],
    written: [i64; ACTIVE_STATES],
}

impl Queue {
    /// Open leases.
    pub(crate) fn leased(&self) -> i64 {
        [State::Claimed, State::Running, State::Cancelling].iter().map(|&s| self.counts[s as usize]).sum()
    }

    /// Whether `max_running` leases (or more) are open.
    pub(crate) fn is_full(&self) -> bool {
        self.policy.max_running.is_some_and(|max| self.leased() >= i64::from(max))
    }
}

/// A match class; `active` is kept for pinned ones only.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) row: ClassRow,
    pub(crate) namespace: Arc<str>,
    pub(crate) active: i64,
    written: i64,
}

/// A pass of the audit over all rows: what it has counted so far. Changes behind its cursor are counted as they happen, so
/// the sum is exact when the pass ends, however long it took.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cursor: i64,
    pub(crate) counts: BTreeMap<(QueueId, i64), i64>,
    pub(crate) unreadable: u32,
}

/// Where the keyed passes of the sweeps are. Losing them costs a pass, nothing else.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    pub(crate) tally: Tally,
    pub(crate) audit_slot: String,
    pub(crate) subject: String,
    pub(crate) retention: i64,
    pub(crate) retention_slot: String,
    pub(crate) worker: i64,
}

#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) queues: HashMap<QueueId, Queue>,
    pub(crate) classes: HashMap<ClassId, Class>,
    pub(crate) class_ids: HashMap<Arc<MatchClass>, ClassId>,
    /// Leased runs that gave their business key up, and the runs that wait for the end of those leases.
    pub(crate) key_waits: BTreeMap<i64, Vec<i64>>,
    pub(crate) observed: Observed,
    pub(crate) cursors: Cursors,
    pub(crate) leased: LeasedRuns,
    last_seq: i64,
    changed: bool,
}

impl Cache {
    pub(crate) fn load(conn: &Connection) -> Done<Self> {
        let mut cache = Self {
            queues: HashMap::new(),
            classes: HashMap::new(),
            class_ids: HashMap::new(),
            key_waits: BTreeMap::new(),
            observed: meta_observed(conn)?,
            cursors: Cursors::default(),
            leased: LeasedRuns::default(),
            last_seq: single::<Option<i64>>(conn, sql::RUN_MAX_SEQ, &[])?.flatten().unwrap_or(0),
            changed: false,
        };
        for row in queues(conn)? {
            cache.add_queue(row);
        }
        let mut statement = prepared(conn, sql::COUNT_ALL)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (queue, state, n): (i64, u8, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if let Some(queue) = cache.queues.get_mut(&QueueId(queue)) {
                *known(queue.counts.get_mut(usize::from(state)), "queue_count.state")? = n;
                queue.written = queue.counts;
            }
        }
        for (row, active) in classes(conn)? {
            cache.add_class(row, active);
        }
        let mut statement = prepared(conn, sql::KEY_WAIT_ALL)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            cache.key_waits.entry(row.get(1)?).or_default().push(row.get(0)?);
        }
        Ok(cache)
    }

    pub(crate) fn add_queue(&mut self, row: QueueRow) {
        let policy = Arc::new(row.policy.clone());
        let zero = [0; ACTIVE_STATES];
        self.queues.insert(row.id, Queue { row, policy, classes: Vec::new(), counts: zero, written: zero });
    }

    pub(crate) fn add_class(&mut self, row: ClassRow, active: i64) {
        if let Some(queue) = self.queues.get_mut(&row.queue) {
            queue.classes.push(row.id);
        }
        self.class_ids.insert(row.class.clone(), row.id);
        let namespace = row.class.namespace.as_str().into();
        self.classes.insert(row.id, Class { row, namespace, active, written: active });
    }

    /// The number of the next run.
    pub(crate) const fn next_seq(&mut self) -> i64 {
        self.last_seq += 1;
        self.last_seq
    }

    /// Counts a run that goes from one state to another; `None` is no run.
    pub(crate) fn count(&mut self, run: &outlive_core::run::Run, from: Option<State>, to: Option<State>) {
        if from == to {
            return;
        }
        self.changed = true;
        let active = |state: Option<State>| state.filter(|s| !s.is_terminal());
        let behind_tally = run.seq <= self.cursors.tally.cursor;
        for (state, by) in [(active(from), -1), (active(to), 1)] {
            let Some(state) = state else { continue };
            if let Some(queue) = self.queues.get_mut(&run.queue) {
                queue.counts[state as usize] += by;
            }
            if behind_tally {
                *self.cursors.tally.counts.entry((run.queue, state.number())).or_default() += by;
            }
        }
        let pinned = self.classes.get_mut(&run.class).filter(|class| class.row.class.pin.is_some());
        if let Some(class) = pinned {
            class.active += i64::from(active(to).is_some()) - i64::from(active(from).is_some());
        }
    }

    /// Sets a count that the audit found to be wrong. Returns whether it was.
    pub(crate) fn correct(&mut self, queue: QueueId, state: usize, n: i64) -> bool {
        let count = self.queues.get_mut(&queue).and_then(|queue| queue.counts.get_mut(state));
        let wrong = count.filter(|count| **count != n).map(|count| *count = n).is_some();
        self.changed |= wrong;
        wrong
    }

    /// Writes the counts that differ from their rows.
    pub(crate) fn flush(&mut self, conn: &Connection) -> Done<()> {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        for (id, queue) in self.queues.iter_mut().filter(|(_, queue)| queue.counts != queue.written) {
            for (state, (n, written)) in (0i64..).zip(queue.counts.iter().zip(queue.written)) {
                if *n != written {
                    prepared(conn, sql::COUNT_PUT)?.execute(params![id.0, state, n])?;
                }
            }
            queue.written = queue.counts;
        }
        for (id, class) in self.classes.iter_mut().filter(|(_, class)| class.active != class.written) {
            prepared(conn, sql::CLASS_ACTIVE)?.execute(params![id.0, class.active])?;
            class.written = class.active;
        }
        Ok(())
    }
}

fn meta_observed(conn: &Connection) -> Done<Observed> {
    Ok(prepared(conn, sql::META_GET)?.query_row([], |row| row.get(2)).map(observed)?)
}

/// All queues, oldest first.
pub(crate) fn queues(conn: &Connection) -> Done<Vec<QueueRow>> {
    let mut statement = prepared(conn, sql::QUEUE_ALL)?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let given: String = row.get(3)?;
        let given: GivenPolicy = serde_json::from_str(&given)?;
        all.push(QueueRow {
            id: QueueId(row.get(0)?),
            namespace: row.get(1)?,
            name: row.get(2)?,
            policy: given.policy().clone(),
            set: given.set(),
            paused: row.get(4)?,
            created_at: Wall(row.get(5)?),
        });
    }
    Ok(all)
}

/// All match classes, oldest first, with their counts of active runs.
pub(crate) fn classes(conn: &Connection) -> Done<Vec<(ClassRow, i64)>> {
    let mut statement = prepared(conn, sql::CLASS_ALL)?;
    let mut rows = statement.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let class: String = row.get(2)?;
        let class = Arc::new(serde_json::from_str(&class)?);
        all.push((ClassRow { id: ClassId(row.get(0)?), queue: QueueId(row.get(1)?), class }, row.get(3)?));
    }
    Ok(all)
}

/// Classes that have a ready run.
pub(crate) fn ready_classes(conn: &Connection) -> Done<Vec<ClassId>> {
    Ok(column(conn, sql::READY_CLASSES, &[])?.into_iter().map(ClassId).collect())
}
