//! The feed: one row per group commit that says enough of every event to send it.
//!
//! The body is a JSON array of arrays `[kind, "run id", epoch, state, reason or null, time, queue]`, numbers as in rows.

use crate::fault::Done;
use crate::rows::prepared;
use crate::sql;
use outlive_core::Wall;
use outlive_core::run::{Event, Run};
use rusqlite::{Connection, params};
use std::fmt::Write;

/// Events of a batch, as they will be stored.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    body: String,
}

impl Feed {
    /// Adds an event of `run`.
    pub(crate) fn push(&mut self, run: &Run, event: &Event) {
        self.body.push(if self.body.is_empty() { '[' } else { ',' });
        let (kind, state) = (event.kind as u8, event.state as u8);
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        let id = run.id.0.hyphenated().encode_lower(&mut id);
        let _ = write!(self.body, "[{kind},\"{id}\",{},{state},", event.epoch.0);
        let _ = match event.reason {
            Some(reason) => write!(self.body, "{}", reason as u8),
            None => write!(self.body, "null"),
        };
        let _ = write!(self.body, ",{},{}]", event.at.0, run.queue.0);
    }

    /// Writes what was added since the last time.
    pub(crate) fn flush(&mut self, conn: &Connection, now: Wall) -> Done<()> {
        if self.body.is_empty() {
            return Ok(());
        }
        self.body.push(']');
        prepared(conn, sql::FEED_INSERT)?.execute(params![now.0, self.body])?;
        self.body.clear();
        Ok(())
    }

    /// Forgets what a rolled back transaction added.
    pub(crate) fn clear(&mut self) {
        self.body.clear();
    }
}
