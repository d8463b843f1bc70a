//! Following a run's output, with the offset to resume from.

use super::http::{Ask, Client, ClientError, query};
use super::sse::Blocks;
use crate::output::{AttemptLost, AttemptStarted, Chunk, End, Gap, OutputEvent};
use outlive_core::RunId;

/// An open stream.
#[derive(Debug)]
pub struct OutputStream(Blocks);

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
        Ok(OutputStream(Blocks::of(self, response)))
    }
}

impl OutputStream {
    /// The last id that was seen: resume after it.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.0.last_id()
    }

    /// The next event; `None` when the server closed the stream.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when the connection broke: open again after [`Self::last_id`].
    pub async fn next(&mut self) -> Result<Option<OutputEvent>, ClientError> {
        let bad = |e: serde_json::Error| ClientError::Answer(e.to_string());
        while let Some(block) = self.0.next().await? {
            let data = &block.data;
            return Ok(Some(match block.name.as_str() {
                "attempt" => OutputEvent::Attempt(serde_json::from_str::<AttemptStarted>(data).map_err(bad)?),
                "chunk" => OutputEvent::Chunk(serde_json::from_str::<Chunk>(data).map_err(bad)?),
                "lost" => OutputEvent::Lost(serde_json::from_str::<AttemptLost>(data).map_err(bad)?),
                "gap" => OutputEvent::Gap(serde_json::from_str::<Gap>(data).map_err(bad)?),
                "end" => OutputEvent::End(serde_json::from_str::<End>(data).map_err(bad)?),
                _ => continue,
            }));
        }
        Ok(None)
    }
}
