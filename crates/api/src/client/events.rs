//! Following the feed, with the place to resume from.

use super::http::{Ask, Client, ClientError, query};
use super::sse::Blocks;
use crate::events::{FeedEvent, FeedGap};

/// An open stream.
#[derive(Debug)]
pub struct EventStream(Blocks);

/// What a stream of events shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventQuery<'a> {
    /// Types and groups, separated by commas; empty: all.
    pub types: &'a str,
    /// Only what comes after this place. Without it: what comes from now on, or, with `stored_only`, all that is kept.
    pub after: Option<&'a str>,
    /// Without a place: begin so early that at least this many of the newest are shown.
    pub recent: Option<u32>,
    /// End after what is stored, without waiting for more.
    pub stored_only: bool,
}

/// What comes out of the feed.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedItem {
    /// An event.
    Event(Box<FeedEvent>),
    /// Events that are not kept any more.
    Gap(FeedGap),
    /// Nothing, so far: but resume from here.
    Place,
}

impl Client {
    /// Opens the feed.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn events(&self, what: EventQuery<'_>) -> Result<EventStream, ClientError> {
        let pairs = [
            ("types", what.types.to_owned()),
            ("recent", what.recent.map(|n| n.to_string()).unwrap_or_default()),
            ("follow", if what.stored_only { "false" } else { "true" }.to_owned()),
        ];
        let headers: Vec<_> = what.after.map(|place| ("last-event-id", place)).into_iter().collect();
        let path = format!("/v1/events{}", query(&pairs));
        let response = self.send(&Ask { headers: &headers, ..Ask::get(&path) }).await?;
        Ok(EventStream(Blocks::of(self, response)))
    }
}

impl EventStream {
    /// The last place that was seen: resume after it.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.0.last_id()
    }

    /// What comes next; `None` when the server closed the stream.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when the connection broke: open again after [`Self::last_id`].
    pub async fn next(&mut self) -> Result<Option<FeedItem>, ClientError> {
        let Some(block) = self.0.next().await? else { return Ok(None) };
        let bad = |e: serde_json::Error| ClientError::Answer(e.to_string());
        Ok(Some(match block.name.as_str() {
            "" => FeedItem::Place,
            "gap" => FeedItem::Gap(serde_json::from_str(&block.data).map_err(bad)?),
            _ => FeedItem::Event(serde_json::from_str(&block.data).map_err(bad)?),
        }))
    }
}
