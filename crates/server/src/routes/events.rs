//! `GET /v1/events`: everything that happens, as server-sent events.
//!
//! A reader reads pages out of the store until it is at the head, then waits for a wake or for the next poll: a push is a hint,
//! and a slow reader is simply a reader of pages. A place is the store's generation, a row and the number of an event in it; it
//! stands before every event and in every ping, so that a reader who wants few types does not fall out of what is kept.

use crate::app::App;
use crate::extract::{Namespace, Query};
use crate::reply::Fault;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use futures_util::Stream;
use outlive_api::events::{FeedData, FeedEvent as Wire, FeedGap};
use outlive_api::problem::Problem;
use outlive_core::WorkerId;
use outlive_core::feed::{FeedEvent, Notice, TypeFilter};
use outlive_store::{FeedCursor, FeedFrom, FeedPage, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Interval;
use utoipa::IntoParams;

/// Events per page.
const PAGE: u32 = 500;
/// A place on a silent stream.
const PING: Duration = Duration::from_secs(15);
/// The feed is read this often although nothing woke the reader.
const POLL: Duration = Duration::from_secs(1);
/// And no more often than this, however much happens: what is committed meanwhile comes in one page.
const PACE: Duration = Duration::from_millis(20);
/// Names of workers that a reader remembers.
const NAMES: usize = 10_000;
/// Events that `recent` may ask for.
const RECENT: u32 = 10_000;

/// How to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadQuery {
    /// Only these types, separated by commas: names, or groups as `run.*`.
    types: Option<String>,
    /// Only what comes after this place (the `id` of an event). Also as `Last-Event-ID`. Without it: what comes from now on, or,
    /// without `follow`, all that is kept.
    after: Option<String>,
    /// Without a place: begin so early that at least this many of the newest events are read (of any type and namespace).
    recent: Option<u32>,
    /// Wait for more; default true.
    follow: Option<bool>,
}

/// Everything that happens.
#[utoipa::path(get, path = "/v1/events", tag = "operations", params(ReadQuery),
    responses((status = 200, body = FeedData, content_type = "text/event-stream"),
        (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    headers: HeaderMap,
    Query(query): Query<ReadQuery>,
) -> Result<Response, Fault> {
    let types = TypeFilter::parse(query.types.as_deref().unwrap_or_default());
    let types = types.map_err(|e| Fault::field("types", e.to_string()))?;
    let follow = query.follow.unwrap_or(true);
    if query.recent.is_some_and(|n| n > RECENT) {
        return Err(Fault::field("recent", format!("must be at most {RECENT}")));
    }
    let resume = headers.get("last-event-id").and_then(|v| v.to_str().ok()).map(str::to_owned).or(query.after);
    let resume = resume.filter(|r| !r.is_empty());
    let (from, restored) = match (&resume, query.recent) {
        (Some(text), _) => match place(text).ok_or_else(|| Fault::field("after", "is not a place of this feed"))? {
            (life, cursor) if life == app.life() => (FeedFrom::After(cursor), false),
            _ => (FeedFrom::Oldest, true),
        },
        (None, Some(n)) => (FeedFrom::Recent(n), false),
        (None, None) if follow => (FeedFrom::Head, false),
        (None, None) => (FeedFrom::Oldest, false),
    };
    let wake = app.hub.feed();
    let page = app.store.feed(from, PAGE).await?;
    let mut reader = Reader {
        namespace,
        types,
        follow,
        wake,
        names: BTreeMap::new(),
        ready: VecDeque::new(),
        next: page.next,
        at_head: false,
        ping: tokio::time::interval(PING),
        app,
    };
    if let Some(after) = resume.filter(|_| page.gap || restored) {
        let why = if restored { "restored" } else { "retention" }.to_owned();
        reader.write(None, "gap", &FeedGap { after, why });
    }
    reader.take(page).await?;
    let response = Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .header(header::CACHE_CONTROL, "no-store")
        .header("x-accel-buffering", "no")
        .body(Body::from_stream(reader.stream()));
    response.map_err(|e| Fault::new(outlive_api::problem::Code::Internal, e.to_string()))
}

impl App {
    /// What tells places of this life of the store from those of another.
    fn life(&self) -> u32 {
        self.generation.as_fields().0
    }
}

/// A place as a text, read: `<life>-<row>-<number>`.
fn place(text: &str) -> Option<(u32, FeedCursor)> {
    let mut parts = text.splitn(3, '-');
    let life = u32::from_str_radix(parts.next()?, 16).ok()?;
    let (row, index) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some((life, FeedCursor { row, index }))
}

struct Reader {
    app: Arc<App>,
    namespace: String,
    types: TypeFilter,
    follow: bool,
    wake: watch::Receiver<u64>,
    names: BTreeMap<WorkerId, Option<String>>,
    ready: VecDeque<Bytes>,
    next: FeedCursor,
    at_head: bool,
    ping: Interval,
}

impl Reader {
    fn id(&self, place: FeedCursor) -> String {
        format!("{:08x}-{}-{}", self.app.life(), place.row, place.index)
    }

    /// Turns a page into what is written.
    async fn take(&mut self, page: FeedPage) -> Result<(), StoreError> {
        for (place, event) in page.events {
            let name = event.type_name();
            if self.types.wants(name)
                && let Some(event) = self.wire(event).await?
            {
                self.write(Some(place), name, &event);
            }
        }
        (self.next, self.at_head) = (page.next, page.at_head);
        Ok(())
    }

    fn write(&mut self, place: Option<FeedCursor>, name: &str, data: &impl Serialize) {
        let id = place.map(|place| format!("id: {}\n", self.id(place))).unwrap_or_default();
        if let Ok(data) = serde_json::to_string(data) {
            self.ready.push_back(format!("{id}event: {name}\ndata: {data}\n\n").into());
        }
    }

    fn write_place(&mut self) {
        let place = format!(": nothing so far\nid: {}\n\n", self.id(self.next));
        self.ready.push_back(place.into());
    }

    /// An event of the reader's tenant, or of the server itself, as it is sent.
    async fn wire(&mut self, event: FeedEvent) -> Result<Option<Wire>, StoreError> {
        let name = event.type_name();
        Ok(match event {
            FeedEvent::Run { at, run, queue, epoch, state, reason, worker, .. } => {
                let Some(queue) = self.app.queue(queue).await?.filter(|q| q.namespace == self.namespace) else {
                    return Ok(None);
                };
                let worker_name = match worker {
                    Some(worker) => self.worker_name(worker).await?,
                    None => None,
                };
                Some(Wire {
                    namespace: Some(queue.namespace.clone()),
                    queue: Some(queue.name.clone()),
                    run_id: Some(run),
                    epoch: Some(epoch),
                    state: Some(state),
                    reason,
                    worker_id: worker,
                    worker_name,
                    ..Wire::of(name, at)
                })
            }
            FeedEvent::Worker { at, namespace, name: worker_name, worker, incarnation, reason, .. } => {
                Some(namespace).filter(|n| *n == self.namespace).map(|namespace| Wire {
                    namespace: Some(namespace),
                    worker_id: Some(worker),
                    worker_name: Some(worker_name),
                    incarnation: Some(incarnation),
                    reason,
                    ..Wire::of(name, at)
                })
            }
            FeedEvent::Subject { at, namespace, subject, run, change } => {
                Some(namespace).filter(|n| *n == self.namespace).map(|namespace| Wire {
                    namespace: Some(namespace),
                    subject: Some(subject),
                    run_id: Some(run),
                    status: Some(change.status.as_str().to_owned()),
                    previous: Some(change.previous.as_str().to_owned()),
                    active_count: Some(change.active),
                    last: change.last.map(Into::into),
                    ..Wire::of(name, at)
                })
            }
            FeedEvent::Queue { at, queue, .. } => {
                let queue = self.app.queue(queue).await?.filter(|q| q.namespace == self.namespace);
                queue.map(|queue| Wire {
                    namespace: Some(queue.namespace.clone()),
                    queue: Some(queue.name.clone()),
                    ..Wire::of(name, at)
                })
            }
            FeedEvent::Notice { at, notice } => {
                let (phase, detail) = match notice {
                    Notice::BreakerOpened(why) => (None, Some(why)),
                    Notice::BreakerClosed => (None, None),
                    Notice::SweepFailed { phase, error } => (Some(phase), Some(error)),
                };
                Some(Wire { phase, detail, ..Wire::of(name, at) })
            }
        })
    }

    async fn worker_name(&mut self, worker: WorkerId) -> Result<Option<String>, StoreError> {
        if let Some(known) = self.names.get(&worker) {
            return Ok(known.clone());
        }
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        let name = self.app.store.worker(worker).await?.map(|row| row.profile.name);
        self.names.insert(worker, name.clone());
        Ok(name)
    }

    fn stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures_util::stream::unfold(self, |mut reader| async move {
            let bytes = reader.next().await?;
            Some((Ok(bytes), reader))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.app.is_stopping() || (self.at_head && !self.follow) {
                return None;
            }
            if self.at_head {
                tokio::select! {
                    // The first tick comes at once: a reader knows from where to resume before anything happened.
                    _ = self.ping.tick() => {
                        self.write_place();
                        continue;
                    }
                    _ = tokio::time::timeout(POLL, self.wake.changed()) => tokio::time::sleep(PACE).await,
                }
            }
            if let Err(error) = self.read().await {
                tracing::warn!(%error, "the feed is not readable now");
                self.at_head = true;
            }
        }
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let page = self.app.store.feed(FeedFrom::After(self.next), PAGE).await?;
        if page.gap {
            let (after, why) = (self.id(self.next), "retention".to_owned());
            self.write(None, "gap", &FeedGap { after, why });
        }
        self.take(page).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_nothing_else_does() {
        assert_eq!(place("0badcafe-12-3"), Some((0x0bad_cafe, FeedCursor { row: 12, index: 3 })));
        for bad in
            ["", "12", "0badcafe", "0badcafe-1", "x-1-2", "0badcafe-1-2-3", "0badcafe-1--2", "0badcafe-1-9999999999"]
        {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
