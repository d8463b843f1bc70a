//! Following a run's output: server-sent events, with the offset to resume from.

use super::http::{Ask, Client, ClientError, query};
use crate::output::{AttemptLost, AttemptStarted, Chunk, End, Gap, OutputEvent};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use outlive_core::RunId;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Sleep;

/// An open stream.
#[derive(Debug)]
pub struct OutputStream {
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

/// What a stream of output shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputQuery<'a> {
    /// Every attempt, not only the current one.
    pub all: bool,
    /// This channel alone.
    pub channel: Option<&'a str>,
    /// End after what is stored, without waiting for more.
    pub stored_only: bool,
}

impl Client {
    /// Opens the stream of a run's output. `after`: the last id that was seen; `all`: every attempt, not only the current one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn output(&self, id: RunId, after: Option<&str>, all: bool) -> Result<OutputStream, ClientError> {
        self.output_of(id, after, OutputQuery { all, ..OutputQuery::default() }).await
    }

    /// The same with every choice.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn output_of(
        &self,
        id: RunId,
        after: Option<&str>,
        what: OutputQuery<'_>,
    ) -> Result<OutputStream, ClientError> {
        let pairs = [
            ("view", if what.all { "all" } else { "live" }.to_owned()),
            ("channel", what.channel.unwrap_or_default().to_owned()),
            ("follow", if what.stored_only { "false" } else { "true" }.to_owned()),
        ];
        let headers: Vec<_> = after.map(|id| ("last-event-id", id)).into_iter().collect();
        let path = format!("/v1/runs/{id}/output{}", query(&pairs));
        let response = self.send(&Ask { headers: &headers, ..Ask::get(&path) }).await?;
        let body = response.into_body();
        Ok(OutputStream { body, buffer: Vec::new(), last_id: None, client: self.clone(), silence: silence() })
    }
}

impl OutputStream {
    /// The last id that was seen: resume after it.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// The next event; `None` when the server closed the stream.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when the connection broke: open again after [`Self::last_id`].
    pub async fn next(&mut self) -> Result<Option<OutputEvent>, ClientError> {
        loop {
            while let Some(end) = find(&self.buffer, b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(event) = self.read(&String::from_utf8_lossy(&block))? {
                    return Ok(Some(event));
                }
            }
            let frame = tokio::select! {
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

    fn read(&mut self, block: &str) -> Result<Option<OutputEvent>, ClientError> {
        let (mut name, mut data, mut id) = ("", "", None);
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("event", v)) => name = v,
                Some(("data", v)) => data = v,
                Some(("id", v)) => id = Some(v.to_owned()),
                _ => {}
            }
        }
        if id.is_some() {
            self.last_id = id;
        }
        let bad = |e: serde_json::Error| ClientError::Answer(e.to_string());
        Ok(Some(match name {
            "attempt" => OutputEvent::Attempt(serde_json::from_str::<AttemptStarted>(data).map_err(bad)?),
            "chunk" => OutputEvent::Chunk(serde_json::from_str::<Chunk>(data).map_err(bad)?),
            "lost" => OutputEvent::Lost(serde_json::from_str::<AttemptLost>(data).map_err(bad)?),
            "gap" => OutputEvent::Gap(serde_json::from_str::<Gap>(data).map_err(bad)?),
            "end" => OutputEvent::End(serde_json::from_str::<End>(data).map_err(bad)?),
            _ => return Ok(None),
        }))
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
