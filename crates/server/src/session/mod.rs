//! Worker sessions: one task per connection, which reads, hears, and writes what the engine made.
//!
//! ```text
//!   socket ─► heard ─► beat   ─► engine (under its lock, answers are queued in order)
//!                  └─► report ─► reports task ─► store (one call at a time, what waits goes together) ─► results
//!   queue of messages ─► socket
//! ```
//!
//! Bytes count as hearing when they arrive, before any store work.

mod reports;
pub(crate) mod selfbeat;

use crate::app::App;
use crate::driver::Out;
use crate::extract::{Token, WorkerPath};
use crate::reply::Fault;
use crate::start::session_info;
use crate::view;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::Response;
use outlive_api::problem::{Code, Problem};
use outlive_api::session::{CloseReason, MESSAGE_LIMIT, READ_BUFFER, ServerMessage, WorkerMessage};
use outlive_core::Holder;
use outlive_core::engine::{BeatInfo, CloseKind, ConnId, Input};
use outlive_core::limits::sizes;
use reports::{Report, Reports};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// `GET /v1/workers/{id}/session`: upgrade to a WebSocket.
#[utoipa::path(get, path = "/v1/workers/{id}/session", tag = "workers", params(("id" = String, Path)),
    responses((status = 101, description = "a WebSocket; JSON texts, see the session messages"),
        (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    WorkerPath(worker): WorkerPath,
    token: Token,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Fault> {
    let holder = token.of(worker)?;
    let upgrade = upgrade.map_err(|e| Fault::new(Code::InvalidRequest, format!("this is a WebSocket: {e}")))?;
    if app.is_stopping() {
        return Err(Fault::new(Code::Draining, "the server stops; try again in a moment"));
    }
    // Authenticated bytes count as hearing before any store work: a store that is slow now must not make this worker look dead.
    app.input(Input::Heard(holder, None));
    let proxied = crate::routes::echo::is_proxied(&headers, peer);
    let Some(opening) = app.open_session(holder).await? else {
        return Err(app.not_current(holder).await);
    };
    let upgrade = upgrade.max_message_size(MESSAGE_LIMIT).max_frame_size(MESSAGE_LIMIT).read_buffer_size(READ_BUFFER);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let Some(opened) = opening.take() else { return };
        let leases = opened.leases.iter().filter_map(|row| app.lease_info(row)).collect();
        let info = session_info(&opened.worker, opened.home_seq, leases);
        let held = opened.leases.into_iter().map(|row| {
            let policy = app.catalog.policy(row.run.queue);
            view::lease(row, &policy)
        });
        let (conn, queue) = app.driver.connect(held.collect());
        if app.is_stopping() {
            app.say_goodbye();
        }
        app.input(Input::Open(info, Some(conn), proxied));
        let kind = Connection { app: Arc::clone(&app), holder, conn }.serve(socket, queue).await;
        app.driver.disconnect(conn);
        app.input(Input::Closed(holder, conn, kind));
    }))
}

impl App {
    /// Why a worker's token does not open anything.
    pub(crate) async fn not_current(&self, holder: Holder) -> Fault {
        match self.store.worker(holder.worker).await {
            Ok(None) => Fault::worker_not_found(holder.worker),
            Ok(Some(row)) if row.left => Fault::new(Code::SessionReplaced, "this worker said goodbye; register again"),
            Ok(Some(row)) => Fault::new(
                Code::SessionReplaced,
                format!("incarnation {} of this worker has taken over; stop the work and exit", row.incarnation),
            ),
            Err(error) => error.into(),
        }
    }
}

struct Connection {
    app: Arc<App>,
    holder: Holder,
    conn: ConnId,
}

impl Connection {
    /// Until either side ends it; how it ended.
    async fn serve(self, mut socket: WebSocket, mut queue: mpsc::Receiver<Out>) -> CloseKind {
        // What a worker does not know it passes over; the version after this one, as the test of an upgrade plays it, says such a thing.
        if cfg!(feature = "next") {
            let _ = socket.send(Message::Text(r#"{"type":"of_the_next_version","value":1}"#.into())).await;
        }
        let (reports, mut results) = Reports::start(Arc::clone(&self.app), self.holder);
        loop {
            tokio::select! {
                // What the engine made goes out before more comes in: an acknowledgement must not wait behind reports.
                biased;
                out = queue.recv() => match out {
                    Some(Out::Message(message)) => if let Err(error) = send(&mut socket, &message).await {
                        return close_kind(&error);
                    },
                    Some(Out::Last(message)) => {
                        let _ = send(&mut socket, &message).await;
                        let _ = socket.send(Message::Close(None)).await;
                        return CloseKind::Ours;
                    }
                    // The engine cut it off: its messages were not read in time.
                    None => return CloseKind::Ours,
                },
                Some(message) = results.recv() => if let Err(error) = send(&mut socket, &message).await {
                    return close_kind(&error);
                },
                incoming = socket.recv() => {
                    let message = match incoming {
                        Some(Ok(message)) => message,
                        Some(Err(error)) => return close_kind(&error),
                        None => return CloseKind::Ended,
                    };
                    self.app.input(Input::Heard(self.holder, Some(self.conn)));
                    let text = match &message {
                        Message::Text(text) => text.as_str(),
                        Message::Close(_) => return CloseKind::Ended,
                        Message::Ping(_) | Message::Pong(_) => continue,
                        Message::Binary(_) => return refuse(&mut socket, "messages are JSON texts").await,
                    };
                    match WorkerMessage::parse(text) {
                        Ok(WorkerMessage::Beat(beat)) => self.beat(&beat),
                        Ok(WorkerMessage::Report { items, .. }) if items.len() > sizes::BATCH => {
                            return refuse(&mut socket, "a report has at most 1,000 items").await;
                        }
                        Ok(WorkerMessage::Report { report_seq, items, replay }) => {
                            let report = Report { seq: report_seq, items, replay };
                            if let Err(kind) = reports.queue(report, &mut results, &mut socket).await {
                                return kind;
                            }
                        }
                        Err(detail) => return refuse(&mut socket, &detail).await,
                    }
                }
            }
        }
    }

    fn beat(&self, beat: &outlive_api::session::Beat) {
        let beat = BeatInfo {
            beat_seq: beat.beat_seq,
            credit: beat.credit,
            seen_push_seq: beat.seen_push_seq,
            timer: beat.timer,
            held: beat.held.iter().map(outlive_api::session::Held::info).collect(),
        };
        self.app.input(Input::Beat(self.holder, self.conn, beat));
    }
}

async fn send(socket: &mut WebSocket, message: &ServerMessage) -> Result<(), axum::Error> {
    match serde_json::to_string(message) {
        Ok(text) => socket.send(Message::Text(text.into())).await,
        Err(error) => {
            tracing::error!(%error, "a message could not be written");
            Ok(())
        }
    }
}

/// A message that is not understood ends the connection: nothing after it can be trusted to be in order.
async fn refuse(socket: &mut WebSocket, detail: &str) -> CloseKind {
    let close = ServerMessage::Close { why: CloseReason::Protocol, keep_trust_ms: 0, r#try: Vec::new() };
    let _ = send(socket, &close).await;
    let reason: String = detail.chars().take(100).collect();
    let _ = socket.send(Message::Close(Some(CloseFrame { code: close_code::POLICY, reason: reason.into() }))).await;
    CloseKind::Ours
}

/// Only what the other side's kernel said is its end. A time-out or an unreachable network is silence: nothing came.
fn close_kind(error: &axum::Error) -> CloseKind {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    use tokio_tungstenite::tungstenite::Error as Socket;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            let ended = matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof);
            return if ended { CloseKind::Ended } else { CloseKind::TimedOut };
        }
        if let Some(Socket::Protocol(_) | Socket::ConnectionClosed | Socket::AlreadyClosed) = e.downcast_ref::<Socket>()
        {
            return CloseKind::Ended; // an end without a closing handshake reads as a protocol error
        }
        cause = e.source();
    }
    CloseKind::Ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    #[test]
    fn only_an_end_that_the_other_side_s_kernel_told_is_evidence() {
        let kind = |k: ErrorKind| close_kind(&axum::Error::new(Error::from(k)));
        assert_eq!(kind(ErrorKind::ConnectionReset), CloseKind::Ended);
        assert_eq!(kind(ErrorKind::BrokenPipe), CloseKind::Ended);
        for silent in [ErrorKind::TimedOut, ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable] {
            assert_eq!(kind(silent), CloseKind::TimedOut);
        }
    }
}
