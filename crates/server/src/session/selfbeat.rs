//! The replica's session with itself: a beat each tick, through its own listener.
//!
//! If these come late, so does everybody's; observed time then stands still (see `outlive_core::engine::observed`).

use crate::app::App;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::response::Response;
use futures_util::SinkExt as _;
use outlive_core::engine::TICK;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite;

/// The listener's side.
pub(crate) async fn receive(State(app): State<Arc<App>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            if let Message::Text(text) = message
                && let Ok(sent) = text.parse::<u64>()
            {
                app.self_beat.fetch_max(sent, Ordering::AcqRel);
            }
        }
    })
}

/// The sending side: connects, beats, connects again.
pub(crate) async fn keep(app: Arc<App>, address: SocketAddr) {
    let target = match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), address.port()),
        _ => address,
    };
    let mut ticks = tokio::time::interval(TICK.duration());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Ok(stream) = TcpStream::connect(target).await else { continue };
        drop(stream.set_nodelay(true));
        let uri = format!("ws://{target}{}", app.signer.self_path);
        let Ok((mut socket, _)) = tokio_tungstenite::client_async(uri, stream).await else { continue };
        loop {
            let sent = app.clock.boot().0.to_string();
            if socket.send(tungstenite::Message::text(sent)).await.is_err() {
                break;
            }
            ticks.tick().await;
        }
    }
}
