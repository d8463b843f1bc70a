//! A worker's session: the WebSocket itself, without any meaning.

use super::http::{Client, ClientError};
use crate::session::MESSAGE_LIMIT;
use outlive_core::WorkerId;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// An open session.
pub type SessionSocket = WebSocketStream<TcpStream>;

impl Client {
    /// Opens a worker's session. The agent's own address travels along, so that the server can tell a proxy between them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn session(&self, worker: WorkerId) -> Result<SessionSocket, ClientError> {
        let stream = TcpStream::connect(self.authority()).await.map_err(|e| self.unreachable(e))?;
        stream.set_nodelay(true).map_err(|e| self.unreachable(e))?;
        let local = stream.local_addr().map_err(|e| self.unreachable(e))?.to_string();
        self.session_over(stream, worker, "/v1/workers", &local).await
    }

    pub(crate) async fn session_over(
        &self,
        stream: TcpStream,
        worker: WorkerId,
        prefix: &str,
        local: &str,
    ) -> Result<SessionSocket, ClientError> {
        let uri = format!("ws://{}{prefix}/{worker}/session", self.authority());
        let mut request = uri.into_client_request().map_err(|e| ClientError::Address(e.to_string()))?;
        let headers = request.headers_mut();
        let mut set = |name: &'static str, value: &str| {
            HeaderValue::from_str(value)
                .map(|v| headers.insert(name, v))
                .map_err(|e| ClientError::Answer(e.to_string()))
        };
        set(crate::NAMESPACE_HEADER, &self.namespace)?;
        set(crate::LOCAL_ADDRESS_HEADER, local)?;
        if let Some(token) = &self.token {
            set("authorization", &format!("Bearer {token}"))?;
        }
        let config =
            WebSocketConfig::default().max_message_size(Some(MESSAGE_LIMIT)).max_frame_size(Some(MESSAGE_LIMIT));
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err(match serde_json::from_slice(&body) {
                    Ok(problem) => ClientError::Problem(Box::new(problem)),
                    Err(_) => ClientError::Answer(format!("status {}", response.status())),
                })
            }
            Err(other) => Err(self.unreachable(other)),
        }
    }
}
