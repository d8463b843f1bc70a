//! `GET /v1/runs/{id}/output`: the log as server-sent events, or as bytes.
//!
//! A reader reads pages out of the store until it is at the head, then waits for a wake or for the next poll. So a slow
//! reader is simply a reader of pages, and disconnecting changes nothing.

use crate::app::App;
use crate::extract::{Namespace, Query, RunPath};
use crate::hub::Waiter;
use crate::reply::Fault;
use crate::view;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use futures_util::Stream;
use outlive_api::output::{End, OutputEvent};
use outlive_api::problem::Problem;
use outlive_core::RunId;
use outlive_store::{OutputEntry, OutputFrom, OutputKind, OutputPage, OutputQuery};
use serde::Deserialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use utoipa::IntoParams;

/// Entries per page.
const PAGE: u32 = 1_000;
/// Bytes per page.
const PAGE_BYTES: usize = 1 << 20;
/// Comments on a silent stream.
const PING: Duration = Duration::from_secs(15);
/// The log is read this often although nothing woke the reader.
const POLL: Duration = Duration::from_secs(1);

/// How to read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadQuery {
    /// Only what comes after this offset.
    after: Option<String>,
    /// Only this channel.
    channel: Option<String>,
    /// `live` (default): from the current attempt on. `all`: every attempt.
    view: Option<String>,
    /// `sse` (default) or `text`.
    format: Option<String>,
    /// Wait for more until the run has ended; default true.
    follow: Option<bool>,
}

/// A run's output.
#[utoipa::path(get, path = "/v1/runs/{id}/output", tag = "runs", params(("id" = uuid::Uuid, Path), ReadQuery),
    responses((status = 200, content((OutputEvent = "text/event-stream"), (String = "application/octet-stream"))),
        (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn output(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    RunPath(id): RunPath,
    headers: HeaderMap,
    Query(query): Query<ReadQuery>,
) -> Result<Response, Fault> {
    let all = match query.view.as_deref() {
        None | Some("live") => false,
        Some("all") => true,
        Some(_) => return Err(Fault::field("view", "must be live or all")),
    };
    let text = match query.format.as_deref() {
        None | Some("sse") => false,
        Some("text") => true,
        Some(_) => return Err(Fault::field("format", "must be sse or text")),
    };
    let resume = headers.get("last-event-id").and_then(|v| v.to_str().ok()).map(str::to_owned).or(query.after);
    let from = match resume.filter(|r| !r.is_empty()) {
        Some(offset) => {
            let bad = || Fault::field("after", "is not an offset of this output");
            OutputFrom::After(offset.parse().ok().filter(|n| *n >= 0).ok_or_else(bad)?)
        }
        None if all => OutputFrom::After(0),
        None => OutputFrom::CurrentAttempt,
    };
    let waiter = Waiter::subscribe(&app, id);
    let mut reader = Reader {
        app,
        id,
        from,
        channel: query.channel,
        live: !all,
        text,
        follow: query.follow.unwrap_or(true),
        waiter,
        ready: VecDeque::new(),
        ended: false,
    };
    let first = reader.page().await?.filter(|p| p.namespace == namespace).ok_or_else(|| Fault::run_not_found(id))?;
    reader.take(first);
    let kind = if text { "application/octet-stream" } else { "text/event-stream" };
    let response = Response::builder()
        .header(header::CONTENT_TYPE, kind)
        .header(header::CACHE_CONTROL, "no-store")
        .header("x-accel-buffering", "no")
        .body(Body::from_stream(reader.stream()));
    response.map_err(|e| Fault::new(outlive_api::problem::Code::Internal, e.to_string()))
}

struct Reader {
    app: Arc<App>,
    id: RunId,
    from: OutputFrom,
    channel: Option<String>,
    live: bool,
    text: bool,
    follow: bool,
    waiter: Waiter,
    ready: VecDeque<Bytes>,
    ended: bool,
}

impl Reader {
    async fn page(&self) -> Result<Option<OutputPage>, outlive_store::StoreError> {
        let query = OutputQuery { from: self.from, channel: self.channel.clone(), limit: PAGE, max_bytes: PAGE_BYTES };
        self.app.store.output(self.id, query).await
    }

    /// Turns a page into what is written; whether anything more may be there at once.
    fn take(&mut self, page: OutputPage) -> bool {
        self.from = OutputFrom::After(page.next_after);
        for entry in page.entries {
            self.entry(entry);
        }
        if page.at_head && page.state.is_terminal() {
            if !self.text {
                let end = OutputEvent::End(End { state: page.state, epoch: page.epoch });
                self.event(page.end_offset, "end", &end);
            }
            self.ended = true;
        }
        self.ended |= page.at_head && !self.follow;
        !page.at_head
    }

    fn entry(&mut self, entry: OutputEntry) {
        let offset = entry.offset;
        if self.text {
            if let OutputKind::Frame { frame, .. } = entry.kind {
                self.ready.push_back(frame.bytes.into());
            }
            return;
        }
        let (name, event) = view::output_event(entry);
        // A reader of the live view drops what it showed; what is not yet written to it is dropped here.
        if self.live && name == "attempt" {
            self.ready.clear();
        }
        self.event(offset, name, &event);
    }

    fn event(&mut self, offset: i64, name: &str, event: &OutputEvent) {
        if let Ok(data) = serde_json::to_string(event) {
            self.ready.push_back(format!("id: {offset}\nevent: {name}\ndata: {data}\n\n").into());
        }
    }

    fn stream(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures_util::stream::unfold(self, |mut reader| async move {
            let bytes = reader.next().await?;
            metrics::counter!("outlive_output_bytes_total").increment(bytes.len() as u64);
            Some((Ok(bytes), reader))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        let mut silent = Duration::ZERO;
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.ended || self.app.is_stopping() {
                return None;
            }
            let more = match self.page().await {
                Ok(Some(page)) => self.take(page),
                Ok(None) => return None, // deleted
                Err(error) => {
                    tracing::warn!(run = %self.id, %error, "output not readable now");
                    false
                }
            };
            if !self.ready.is_empty() || self.ended || more {
                continue;
            }
            if tokio::time::timeout(POLL, self.waiter.changed()).await.is_err() {
                silent += POLL;
            }
            if silent >= PING {
                return Some(if self.text { Bytes::new() } else { Bytes::from_static(b": ping\n\n") });
            }
        }
    }
}
