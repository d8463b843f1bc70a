//! A worker's session: the WebSocket itself, without any meaning.

use super::http::{Client, ClientError};
use crate::problem::{Code, Problem};
use crate::session::{MESSAGE_LIMIT, READ_BUFFER, WorkerMessage};
use outlive_core::WorkerId;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

/// An open session.
pub type SessionSocket = WebSocketStream<TcpStream>;

/// What fits into the buffer that the server reads into, beside a frame's header of at most 14 bytes.
const FRAME: usize = READ_BUFFER - 14;

/// A message as one or more frames, to be sent one after the other. Whoever reads a frame needs a buffer for all of it, and the
/// library's never shrinks: beats that name a thousand leases would cost the server a hundred kilobytes of each connection for good.
#[must_use]
pub fn frames(message: &WorkerMessage) -> Vec<Message> {
    let mut rest = bytes::Bytes::from(serde_json::to_vec(message).unwrap_or_default());
    let mut frames = Vec::with_capacity(1 + rest.len() / FRAME);
    let mut kind = Data::Text;
    loop {
        let part = rest.split_to(rest.len().min(FRAME));
        frames.push(Message::Frame(Frame::message(part, OpCode::Data(kind), rest.is_empty())));
        if rest.is_empty() {
            return frames;
        }
        kind = Data::Continue;
    }
}

impl Client {
    /// Opens a worker's session. The agent's own address travels along, so that the server can tell a proxy between them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn session(&self, worker: WorkerId) -> Result<SessionSocket, ClientError> {
        self.upgrade(&format!("/v1/workers/{worker}/session")).await
    }

    /// Opens a connection that only says what the way to the server does to it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn echo(&self) -> Result<SessionSocket, ClientError> {
        self.upgrade("/v1/server/echo").await
    }

    async fn upgrade(&self, path: &str) -> Result<SessionSocket, ClientError> {
        let stream = TcpStream::connect(self.authority()).await.map_err(|e| self.unreachable(e))?;
        stream.set_nodelay(true).map_err(|e| self.unreachable(e))?;
        let local = stream.local_addr().map_err(|e| self.unreachable(e))?.to_string();
        let uri = format!("ws://{}{path}", self.authority());
        let mut request = uri.into_client_request().map_err(|e| ClientError::Address(e.to_string()))?;
        let headers = request.headers_mut();
        let mut set = |name: &'static str, value: &str| {
            HeaderValue::from_str(value)
                .map(|v| headers.insert(name, v))
                .map_err(|e| ClientError::Answer(e.to_string()))
        };
        set(crate::NAMESPACE_HEADER, &self.namespace)?;
        set(crate::LOCAL_ADDRESS_HEADER, &local)?;
        if let Some(token) = &self.token {
            set("authorization", &format!("Bearer {token}"))?;
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_LIMIT))
            .max_frame_size(Some(MESSAGE_LIMIT))
            .read_buffer_size(READ_BUFFER);
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err(refusal(response.status().as_u16(), &body))
            }
            Err(other) => Err(self.unreachable(other)),
        }
    }
}

/// Why an upgrade was refused. Of the body only what came together with the head is there: the status alone must be enough.
fn refusal(status: u16, body: &[u8]) -> ClientError {
    if let Ok(problem) = serde_json::from_slice(body) {
        return ClientError::Problem(Box::new(problem));
    }
    let code = match status {
        401 => Code::Unauthenticated,
        404 => Code::WorkerNotFound,
        409 => Code::SessionReplaced,
        _ => return ClientError::Answer(format!("status {status}")),
    };
    ClientError::Problem(Box::new(Problem::new(code, format!("the server refuses the session: {}", code.title()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Beat, Held};
    use outlive_core::{Epoch, RunId};

    #[test]
    fn a_message_is_sent_in_frames_that_fit_into_the_reader_s_buffer() {
        let held: Vec<_> = (0..1_000)
            .map(|i| Held { run_id: RunId(uuid::Uuid::from_u128(i)), epoch: Epoch(1), frozen_ms: 0 })
            .collect();
        for count in [0, 1, 80, 1_000] {
            let beat = WorkerMessage::Beat(Beat { held: held[..count].to_vec(), ..Beat::default() });
            let mut text = Vec::new();
            let frames = frames(&beat);
            for (i, frame) in frames.iter().enumerate() {
                let Message::Frame(frame) = frame else { panic!("a frame") };
                assert!(frame.len() <= READ_BUFFER);
                assert_eq!(frame.header().is_final, i + 1 == frames.len());
                assert_eq!(frame.header().opcode, OpCode::Data(if i == 0 { Data::Text } else { Data::Continue }));
                text.extend_from_slice(frame.payload());
            }
            assert_eq!(text, serde_json::to_vec(&beat).unwrap());
        }
    }

    #[test]
    fn a_refusal_whose_body_is_cut_off_is_known_by_its_status() {
        assert_eq!(refusal(401, b"").code(), Some("unauthenticated"));
        assert_eq!(refusal(409, br#"{"type":"urn:out"#).code(), Some("session_replaced"));
        assert_eq!(refusal(502, b"<html>").code(), None);
        let whole = serde_json::to_vec(&Problem::new(Code::NotOwner, "not yours")).unwrap();
        assert_eq!(refusal(403, &whole).code(), Some("not_owner"));
    }
}
