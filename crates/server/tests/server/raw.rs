//! HTTP by hand: one request on one connection, everything of the answer.

use std::fmt::Write as _;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request as it is repeated: the same bytes.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<String>,
}

impl Request {
    pub(crate) fn new(method: &'static str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body: None }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn json(mut self, body: &impl serde::Serialize) -> Self {
        self.body = Some(serde_json::to_string(body).unwrap());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        if let Some(body) = &self.body {
            let length = body.len();
            write!(text, "content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        } else {
            text += "content-length: 0\r\n\r\n";
        }
        text.into_bytes()
    }

    /// Sends it and reads to the end of the connection.
    pub(crate) async fn send(&self, to: SocketAddr) -> Answer {
        let mut tcp = TcpStream::connect(to).await.unwrap();
        tcp.write_all(&self.bytes()).await.unwrap();
        let mut bytes = Vec::new();
        tokio::time::timeout(crate::support::PATIENCE, tcp.read_to_end(&mut bytes)).await.unwrap().unwrap();
        Answer::read(&bytes)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: serde_json::Value,
}

impl Answer {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = serde_json::from_str(body).unwrap_or_else(|_| serde_json::Value::String(body.to_owned()));
        Self { status, head: head.to_lowercase(), body }
    }

    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}
