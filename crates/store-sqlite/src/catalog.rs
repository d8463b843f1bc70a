//! Queues and match classes.

use crate::cache::{self, ready_classes};
use crate::fault::Done;
use crate::rows::{execute, observed, prepared};
use crate::tx::Tx;
use crate::{feed, sql};
use outlive_core::class::MatchClass;
use outlive_core::given::GivenPolicy;
use outlive_core::{ClassId, QueueId, ReplicaId, State, Wall};
use outlive_store::{ClassRow, Commit, QueueCounts, QueueRow, Snapshot};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::Arc;
use uuid::Uuid;

/// The only replica that a SQLite file has. It is the same one after a restart, so the homes of sessions stay true.
pub(crate) const REPLICA: ReplicaId = ReplicaId(1);

pub(crate) fn load(conn: &Connection) -> Done<Snapshot> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let (generation, secret, at): (Uuid, [u8; 32], i64) = prepared(conn, sql::META_GET)?.query_row([], read)?;
    Ok(Snapshot {
        generation,
        secret,
        observed: observed(at),
        replica: REPLICA,
        queues: cache::queues(conn)?,
        classes: cache::classes(conn)?.into_iter().map(|(row, _)| row).collect(),
        ready: ready_classes(conn)?,
    })
}

pub(crate) fn intern_class(tx: &mut Tx<'_>, class: &MatchClass) -> Done<ClassRow> {
    if let Some(known) = tx.cache.class_ids.get(class).and_then(|id| tx.cache.classes.get(id)) {
        return Ok(known.row.clone());
    }
    let queue = match queue_named(tx, &class.namespace, &class.queue) {
        Some(queue) => queue,
        None => add_queue(tx, &class.namespace, &class.queue, &GivenPolicy::default())?.id,
    };
    // Sets and maps are ordered, so equal classes have equal texts.
    let text = serde_json::to_string(class)?;
    prepared(tx.conn, sql::CLASS_INSERT)?.execute(params![queue.0, text])?;
    let row = ClassRow { id: ClassId(tx.conn.last_insert_rowid()), queue, class: Arc::new(class.clone()) };
    tx.cache.add_class(row.clone(), 0);
    Ok(row)
}

fn queue_named(tx: &Tx<'_>, namespace: &str, name: &str) -> Option<QueueId> {
    let named = |row: &QueueRow| row.namespace == namespace && row.name == name;
    tx.cache.queues.values().find(|queue| named(&queue.row)).map(|queue| queue.row.id)
}

fn add_queue(tx: &mut Tx<'_>, namespace: &str, name: &str, given: &GivenPolicy) -> Done<QueueRow> {
    let text = serde_json::to_string(given)?;
    prepared(tx.conn, sql::QUEUE_INSERT)?.execute(params![namespace, name, text, tx.now.0])?;
    let row = QueueRow {
        id: QueueId(tx.conn.last_insert_rowid()),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        policy: given.policy().clone(),
        set: given.set(),
        paused: false,
        created_at: tx.now,
    };
    tx.cache.add_queue(row.clone());
    Ok(row)
}

pub(crate) fn put_queue(tx: &mut Tx<'_>, namespace: &str, name: &str, given: &GivenPolicy) -> Done<QueueRow> {
    let Some(id) = queue_named(tx, namespace, name) else {
        return add_queue(tx, namespace, name, given);
    };
    let text = serde_json::to_string(given)?;
    execute(tx.conn, sql::QUEUE_POLICY, &[&id.0, &text])?;
    let Some(queue) = tx.cache.queues.get_mut(&id) else { return tx.queue(id).map(|queue| queue.row.clone()) };
    queue.row.policy = given.policy().clone();
    queue.row.set = given.set();
    queue.policy = Arc::new(given.policy().clone());
    Ok(queue.row.clone())
}

pub(crate) fn pause_queue(tx: &mut Tx<'_>, id: QueueId, paused: bool) -> Done<Option<Commit>> {
    let Some(queue) = tx.cache.queues.get_mut(&id) else { return Ok(None) };
    let was = std::mem::replace(&mut queue.row.paused, paused);
    execute(tx.conn, sql::QUEUE_PAUSE, &[&id.0, &paused])?;
    if was != paused {
        feed::queue_paused(tx, id, paused);
    }
    if !paused {
        tx.hint_queue(id)?;
    }
    Ok(Some(tx.take_hints()))
}

pub(crate) fn queue_counts(conn: &Connection, queue: QueueId) -> Done<QueueCounts> {
    let mut counts = QueueCounts::default();
    let mut statement = prepared(conn, sql::COUNT_OF)?;
    let mut rows = statement.query([queue.0])?;
    while let Some(row) = rows.next()? {
        let n: i64 = row.get(1)?;
        match State::from_number(row.get(0)?) {
            Some(State::Held) => counts.held = n,
            Some(State::Scheduled) => counts.scheduled = n,
            Some(State::Queued) => counts.queued = n,
            _ => counts.running += n,
        }
    }
    let mut first: Option<(i64, Option<i64>)> = None;
    for class in crate::rows::column::<i64>(conn, sql::CLASS_OF_QUEUE, &[&queue.0])? {
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let of_class = prepared(conn, sql::READY_FIRST)?.query_row([class], read).optional()?;
        first = [first, of_class].into_iter().flatten().min_by_key(|(rank, _)| *rank);
    }
    counts.oldest_queued_at = first.and_then(|(_, queued_at)| queued_at).map(Wall);
    Ok(counts)
}
