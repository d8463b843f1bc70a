//! The feed: a row per group commit, and pages of rows for readers.
//!
//! There is one writer, so rows become visible in the order of their numbers, and numbers have no holes: a row whose number is
//! not the next one of those that are kept follows rows that were deleted.

use crate::fault::{Done, Fault};
use crate::rows::{prepared, single};
use crate::sql;
use crate::tx::Tx;
use outlive_core::feed::{FeedEvent, Notice};
use outlive_core::run::{Event, Run};
use outlive_core::{QueueId, Wall};
use outlive_store::feed::{Body, read};
use outlive_store::{FeedCursor, FeedFrom, FeedPage};
use rusqlite::{Connection, params};

/// Rows that one page looks at, at most.
const ROWS: u32 = 1_000;

/// Events of a batch, as they will be stored.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    body: Body,
}

impl Feed {
    /// Adds an event of `run`.
    pub(crate) fn run(&mut self, run: &Run, event: &Event) {
        self.body.run(run, event);
    }

    /// Adds any other event.
    pub(crate) fn push(&mut self, event: &FeedEvent) {
        self.body.push(event);
    }

    /// Writes what was added since the last time.
    pub(crate) fn flush(&mut self, conn: &Connection, now: Wall) -> Done<()> {
        if let Some(body) = self.body.take() {
            prepared(conn, sql::FEED_INSERT)?.execute(params![now.0, body])?;
        }
        Ok(())
    }

    /// Forgets what a rolled back transaction added.
    pub(crate) fn clear(&mut self) {
        drop(self.body.take());
    }
}

/// A queue takes no claims, or takes them again.
pub(crate) fn queue_paused(tx: &mut Tx<'_>, queue: QueueId, paused: bool) {
    let event = FeedEvent::Queue { at: tx.now, queue, paused };
    tx.feed.push(&event);
}

/// What the server says of itself.
pub(crate) fn announce(tx: &mut Tx<'_>, notices: &[(Wall, Notice)]) {
    for (at, notice) in notices {
        tx.feed.push(&FeedEvent::Notice { at: *at, notice: notice.clone() });
    }
}

/// A page.
pub(crate) fn page(conn: &Connection, from: FeedFrom, limit: u32) -> Done<FeedPage> {
    let bounds = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let (first, last): (Option<i64>, Option<i64>) = prepared(conn, sql::FEED_BOUNDS)?.query_row([], bounds)?;
    let oldest = FeedCursor::before(first.unwrap_or(1));
    let head = FeedCursor::before(last.unwrap_or(0) + 1);
    let recent = |n: u32| single::<i64>(conn, sql::FEED_BEFORE, &[&n.saturating_sub(1)]);
    let (start, gap) = match from {
        FeedFrom::Oldest => (oldest, false),
        FeedFrom::Head | FeedFrom::Recent(0) => (head, false),
        FeedFrom::Recent(n) => (recent(n)?.map_or(oldest, FeedCursor::before), false),
        FeedFrom::After(cursor) if (oldest..=head).contains(&cursor) => (cursor, false),
        FeedFrom::After(_) => (oldest, true),
    };
    let mut page = FeedPage { events: Vec::new(), next: start, at_head: false, gap };
    let mut statement = prepared(conn, sql::FEED_PAGE)?;
    let mut rows = statement.query(params![start.row, ROWS])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let body = row.get_ref(1)?.as_str().map_err(|_| Fault::damaged("feed.body is no text"))?;
        let skipped = if number == start.row { start.index } else { 0 };
        page.events.extend(read(number, body, skipped)?);
        page.next = FeedCursor::before(number + 1);
        if page.events.len() >= limit as usize {
            break;
        }
    }
    page.at_head = page.next >= head;
    Ok(page)
}
