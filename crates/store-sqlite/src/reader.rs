//! Reads: a connection of their own, and the match classes that it has met. Classes never change and are never deleted, so a
//! reader may keep them for good.

use crate::fault::{Done, Fault};
use crate::rows::{execute, prepared};
use crate::sql;
use outlive_core::{ClassId, QueueId};
use outlive_store::ClassRow;
use rusqlite::{Connection, OptionalExtension};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Classes that a connection has read.
pub(crate) type Classes = RefCell<HashMap<ClassId, ClassRow>>;

/// One read: a snapshot of committed rows.
pub(crate) struct Reader<'a> {
    conn: &'a Connection,
    classes: &'a Classes,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(conn: &'a Connection, classes: &'a Classes) -> Self {
        Self { conn, classes }
    }

    pub(crate) const fn conn(&self) -> &'a Connection {
        self.conn
    }

    /// A match class that a row names.
    pub(crate) fn class(&self, id: ClassId) -> Done<ClassRow> {
        if let Some(known) = self.classes.borrow().get(&id) {
            return Ok(known.clone());
        }
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let found: Option<(i64, String)> = prepared(self.conn, sql::CLASS_GET)?.query_row([id.0], read).optional()?;
        let (queue, class) = found.ok_or_else(|| Fault::damaged(format!("match class {id} does not exist")))?;
        let row = ClassRow { id, queue: QueueId(queue), class: Arc::new(serde_json::from_str(&class)?) };
        self.classes.borrow_mut().insert(id, row.clone());
        Ok(row)
    }
}

/// Runs `f` over one snapshot.
pub(crate) fn read<T>(conn: &Connection, classes: &Classes, f: impl FnOnce(&Reader<'_>) -> Done<T>) -> Done<T> {
    execute(conn, sql::SNAPSHOT, &[])?;
    let snapshot = Snapshot(conn);
    let value = f(&Reader::new(conn, classes));
    drop(snapshot);
    value
}

/// An open transaction of a read. It ends whatever becomes of the read, also if that panics: nothing was written.
struct Snapshot<'a>(&'a Connection);

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        if let Err(fault) = execute(self.0, sql::ROLLBACK, &[]) {
            tracing::warn!(?fault, "a read did not end; the next one on its connection will be refused");
        }
    }
}
