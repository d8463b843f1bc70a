//! A run's output as it was stored, over all attempts.

use crate::exit::Failure;
use outlive_api::client::Client;
use outlive_api::client::output::OutputQuery;
use outlive_api::output::OutputEvent;
use outlive_core::{Epoch, RunId};

/// What of it the checks need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Attempt { epoch: Epoch, after_line: u32 },
    Text { epoch: Epoch, text: String },
    End,
}

pub(super) async fn read(client: &Client, id: RunId) -> Result<Vec<Entry>, Failure> {
    let mut stream = client.output_of(id, None, OutputQuery { all: true, channel: None, stored_only: true }).await?;
    let mut log = Vec::new();
    while let Some(event) = stream.next().await? {
        match event {
            OutputEvent::Attempt(a) => {
                let at = a.checkpoint.and_then(|c| c.read::<serde_json::Value>().ok()).and_then(|c| c["i"].as_u64());
                let after_line = at.and_then(|i| u32::try_from(i).ok()).unwrap_or(0);
                log.push(Entry::Attempt { epoch: a.epoch, after_line });
            }
            OutputEvent::Chunk(chunk) => {
                log.push(Entry::Text {
                    epoch: chunk.epoch,
                    text: String::from_utf8_lossy(&chunk.bytes()).into_owned(),
                });
            }
            OutputEvent::End(_) => {
                log.push(Entry::End);
                break;
            }
            _ => {}
        }
    }
    Ok(log)
}

/// The last attempt has each line after its checkpoint exactly once, in order, and then the end.
pub(super) fn is_whole(log: &[Entry], lines: u32) -> bool {
    let Some(last) = log.iter().rposition(|e| matches!(e, Entry::Attempt { .. })) else { return false };
    let Entry::Attempt { after_line, .. } = log[last] else { return false };
    let mut text = String::new();
    for entry in &log[last..] {
        if let Entry::Text { text: part, .. } = entry {
            text.push_str(part);
        }
    }
    let expected: String =
        (after_line + 1..=lines).flat_map(|n| ["line ".into(), n.to_string(), "\n".into()]).collect();
    text == expected && log.last() == Some(&Entry::End)
}

/// After an attempt's marker there is nothing of an earlier one.
pub(super) fn is_fenced(log: &[Entry]) -> bool {
    let mut current = Epoch(0);
    log.iter().all(|entry| match entry {
        Entry::Attempt { epoch, .. } => {
            let rises = *epoch > current;
            current = *epoch;
            rises
        }
        Entry::Text { epoch, .. } => *epoch == current,
        Entry::End => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(epoch: i64, after_line: u32) -> Entry {
        Entry::Attempt { epoch: Epoch(epoch), after_line }
    }

    fn text(epoch: i64, text: &str) -> Entry {
        Entry::Text { epoch: Epoch(epoch), text: text.to_owned() }
    }

    #[test]
    fn a_whole_output_has_every_line_of_its_last_attempt_once() {
        let good = [
            attempt(1, 0),
            text(1, "line 1\nline 2\n"),
            attempt(2, 1),
            text(2, "line 2\nli"),
            text(2, "ne 3\n"),
            Entry::End,
        ];
        assert!(is_whole(&good, 3) && is_fenced(&good));
        let missing = [attempt(1, 0), text(1, "line 1\nline 3\n"), Entry::End];
        let doubled = [attempt(1, 0), text(1, "line 1\nline 1\nline 2\nline 3\n"), Entry::End];
        let endless = [attempt(1, 2), text(1, "line 3\n")];
        assert!([&missing[..], &doubled, &endless, &[]].iter().all(|log| !is_whole(log, 3)));
    }

    #[test]
    fn a_line_of_a_dead_attempt_after_its_successor_is_seen() {
        assert!(!is_fenced(&[attempt(1, 0), text(1, "a"), attempt(2, 0), text(1, "b")]));
        assert!(!is_fenced(&[attempt(2, 0), attempt(1, 0)]));
    }
}
