//! The feed: a row per batch, and pages of rows for readers.
//!
//! A row's place is the transaction that wrote it. Transactions commit out of the order of their numbers, so a reader stops
//! at the oldest one that is open: which of those before it will be there is decided, and no event appears behind a cursor. An
//! application that enqueues in its own transaction may write several rows in it; their events are numbered through.

use crate::db::Op;
use crate::fault::{Answer, Done, Fault};
use crate::reader::Reader;
use crate::sql;
use crate::tx::Tx;
use crate::value::{get, query, single, values_of};
use async_trait::async_trait;
use outlive_core::feed::{FeedEvent, Notice};
use outlive_core::{QueueId, Wall};
use outlive_store::feed::read;
use outlive_store::{FeedCursor, FeedFrom, FeedPage, StoreError};
use serde::de::IgnoredAny;

/// Rows that one page looks at, about.
const ROWS: i64 = 1_000;

/// A queue takes no claims, or takes them again.
pub(crate) fn queue_paused(tx: &mut Tx<'_>, queue: QueueId, paused: bool) {
    let event = FeedEvent::Queue { at: tx.now, queue, paused };
    tx.pending.feed.push(&event);
}

/// What the server says of itself.
pub(crate) struct Announce(pub(crate) Vec<(Wall, Notice)>);

#[async_trait]
impl Op for Announce {
    type Answer = ();
    type Refusal = StoreError;

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<(), StoreError> {
        for (at, notice) in &self.0 {
            tx.pending.feed.push(&FeedEvent::Notice { at: *at, notice: notice.clone() });
        }
        Ok(Ok(()))
    }
}

/// A page, and whether rows are there that may not be read yet.
pub(crate) async fn page(reader: &Reader<'_>, from: FeedFrom, limit: u32) -> Done<(FeedPage, bool)> {
    let conn = reader.conn();
    let rows = query(conn, sql::FEED_BOUNDS, &[]).await?;
    let bounds = rows.first().ok_or_else(|| Fault::damaged("outlive.meta has no row"))?;
    let (floor, last): (i64, Option<i64>) = (get(bounds, 0)?, get(bounds, 1)?);
    let (waiting, horizon): (bool, i64) = (get(bounds, 2)?, get(bounds, 3)?);
    let horizon = horizon.to_string();
    let oldest = FeedCursor::before(floor + 1);
    let head = FeedCursor::before(last.unwrap_or(floor).max(floor) + 1);
    let (start, gap) = match from {
        FeedFrom::Oldest => (oldest, false),
        FeedFrom::Head | FeedFrom::Recent(0) => (head, false),
        FeedFrom::Recent(n) => {
            let before = values_of![horizon.as_str(), i64::from(n) - 1];
            (single::<i64>(conn, sql::FEED_BEFORE, before).await?.map_or(oldest, FeedCursor::before), false)
        }
        FeedFrom::After(cursor) if (oldest..=head).contains(&cursor) => (cursor, false),
        FeedFrom::After(_) => (oldest, true),
    };
    let mut page = FeedPage { events: Vec::new(), next: start, at_head: false, gap };
    let rows = query(conn, sql::FEED_PAGE, values_of![start.row.to_string(), horizon, ROWS]).await?;
    // The transaction whose rows are being read, and how many events its rows before this one have.
    let (mut current, mut before) = (0, 0);
    for row in &rows {
        let (number, body): (i64, &str) = (get(row, 0)?, get(row, 1)?);
        if number != current {
            if page.events.len() >= limit as usize {
                break;
            }
            (current, before) = (number, 0);
        }
        let skipped = if number == start.row { start.index } else { 0 };
        let events = read(number, body, skipped.saturating_sub(before))?;
        page.events.extend(
            events.into_iter().map(|(place, event)| (FeedCursor { index: place.index + before, ..place }, event)),
        );
        let all = serde_json::from_str::<Vec<IgnoredAny>>(body)?.len();
        before += u32::try_from(all).unwrap_or(u32::MAX);
        page.next = FeedCursor::before(number + 1);
    }
    page.at_head = page.next >= head && !waiting;
    Ok((page, waiting))
}
