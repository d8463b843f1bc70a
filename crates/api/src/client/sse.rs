//! Server-sent events, as blocks: what every stream of the server is read by.

use super::http::{Client, ClientError};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Sleep;

/// One block of a stream. A comment has neither a name nor data, but may have an id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) name: String,
    pub(super) data: String,
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Blocks {
    body: Incoming,
    buffer: Vec<u8>,
    last_id: Option<String>,
    client: Client,
    silence: Pin<Box<Sleep>>,
}

/// A server sends something each 15 s, if only a ping. Three of them missing: it is not there any more.
const SILENCE: Duration = Duration::from_secs(45);

fn silence() -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(SILENCE))
}

impl Blocks {
    pub(super) fn of(client: &Client, response: Response<Incoming>) -> Self {
        let (body, client) = (response.into_body(), client.clone());
        Self { body, buffer: Vec::new(), last_id: None, client, silence: silence() }
    }

    /// The last id that was seen: resume after it.
    pub(super) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The next block; `None` when the server closed the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Block>, ClientError> {
        loop {
            if let Some(end) = find(&self.buffer, b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(Some(self.read(&String::from_utf8_lossy(&block))));
            }
            let frame = tokio::select! {
                // What has come is read first, however long this reader was busy with what came before.
                biased;
                frame = self.body.frame() => frame,
                () = &mut self.silence => return Err(self.client.unreachable("nothing has come for 45 s")),
            };
            self.silence = silence();
            match frame {
                None => return Ok(None),
                Some(Err(e)) => return Err(self.client.unreachable(e)),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
            }
        }
    }

    fn read(&mut self, text: &str) -> Block {
        let mut block = Block::default();
        for line in text.lines() {
            match line.split_once(": ") {
                Some(("event", v)) => v.clone_into(&mut block.name),
                Some(("data", v)) => v.clone_into(&mut block.data),
                Some(("id", v)) => self.last_id = Some(v.to_owned()),
                _ => {}
            }
        }
        block
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
