//! `GET /v1/server/echo`: what the way to this server does to a WebSocket, for `outlive doctor`.

use crate::reply::Fault;
use axum::extract::ConnectInfo;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;
use outlive_api::ops::Peer;
use outlive_api::problem::{Code, Problem};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::Semaphore;

/// No connection lasts longer.
const LONGEST: Duration = Duration::from_secs(30);
/// Bytes of a message.
const MESSAGE: usize = 256;
/// Connections at once, of everybody.
static ROOM: Semaphore = Semaphore::const_new(16);

/// Upgrade to a WebSocket that says from where it is seen and gives each text back.
#[utoipa::path(get, path = "/v1/server/echo", tag = "operations",
    responses((status = 101, description = "a WebSocket: first from where the server sees it (Peer), then each text (256 bytes) comes back; ends after 30 s"),
        (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn open(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Fault> {
    let upgrade = upgrade.map_err(|e| Fault::new(Code::InvalidRequest, format!("this is a WebSocket: {e}")))?;
    let busy = |_| Fault::new(Code::RateLimited, "as many connections are being examined as may be at once; try again");
    let room = ROOM.try_acquire().map_err(busy)?;
    let seen = Peer { address: peer.to_string(), proxied: is_proxied(&headers, peer) };
    let upgrade = upgrade.max_message_size(MESSAGE).max_frame_size(MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _room = room;
        drop(tokio::time::timeout(LONGEST, echo(socket, seen)).await);
    }))
}

/// Whether a client's own address is another than the one from which it comes.
pub(crate) fn is_proxied(headers: &HeaderMap, peer: SocketAddr) -> bool {
    let local = headers.get(outlive_api::LOCAL_ADDRESS_HEADER).and_then(|v| v.to_str().ok());
    local.and_then(|l| l.parse::<SocketAddr>().ok()).is_some_and(|own| own != peer)
}

async fn echo(mut socket: WebSocket, seen: Peer) -> Option<()> {
    socket.send(Message::Text(serde_json::to_string(&seen).ok()?.into())).await.ok()?;
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(text) = message {
            socket.send(Message::Text(text)).await.ok()?;
        }
    }
    Some(())
}
