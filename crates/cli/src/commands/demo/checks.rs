//! What must hold after a worker was killed, looked up afterwards from outside.

use crate::exit::Failure;
use crate::render::text;
use outlive_api::client::Client;
use outlive_api::client::sse::OutputQuery;
use outlive_api::ops::Recovery;
use outlive_api::output::OutputEvent;
use outlive_api::runs::Run;
use outlive_core::{Epoch, RunId, State};
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// One thing that must hold.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) ok: bool,
    pub(super) text: String,
}

/// A process, by number and start, so that a number used again is not taken for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    pid: u32,
    started: u64,
}

/// All checks.
pub(super) async fn all(
    client: &Client,
    runs: &[Run],
    recoveries: &[Recovery],
    had: usize,
    lines: u32,
    remains: &BTreeSet<Process>,
) -> Result<Vec<Check>, Failure> {
    let mut logs = Vec::with_capacity(runs.len());
    for run in runs {
        logs.push(read(client, run.id).await?);
    }
    let good = runs.iter().filter(|r| r.state == State::Succeeded).count();
    let recovered = recoveries.iter().filter(|r| r.outcome == "recovered").count();
    let whole = logs.iter().filter(|log| is_whole(log, lines)).count();
    let clean = logs.iter().filter(|log| is_fenced(log)).count();
    let lost: Vec<_> = recoveries.iter().map(|r| (r.run_id, r.from.epoch)).collect();
    let left = left_over(remains, &lost).await;
    let of = |n: usize| format!("{n} of {}", runs.len());
    Ok(vec![
        Check { ok: good == runs.len(), text: format!("{} runs succeeded", of(good)) },
        Check {
            ok: recovered == had && recoveries.len() == had,
            text: format!("{recovered} of {had} lost runs recovered, no other run was touched"),
        },
        Check {
            ok: whole == runs.len(),
            text: format!("{} outputs have every line of their last attempt exactly once", of(whole)),
        },
        Check {
            ok: clean == runs.len(),
            text: format!("{} outputs have nothing of a dead attempt after its successor's start", of(clean)),
        },
        Check {
            ok: left.is_empty(),
            text: if left.is_empty() {
                format!(
                    "no process of the killed worker is left ({} before)",
                    text::count(remains.len(), "process").replace("processs", "processes")
                )
            } else {
                format!("processes of the killed worker are left: {left:?}")
            },
        },
    ])
}

/// What of a run's output the checks need.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Attempt { epoch: Epoch, after_line: u32 },
    Text { epoch: Epoch, text: String },
    End,
}

async fn read(client: &Client, id: RunId) -> Result<Vec<Entry>, Failure> {
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
fn is_whole(log: &[Entry], lines: u32) -> bool {
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
fn is_fenced(log: &[Entry]) -> bool {
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

/// A process and all its descendants.
pub(super) fn processes_of(root: u32) -> BTreeSet<Process> {
    let all: Vec<_> = pids().filter_map(|pid| stat(pid).map(|(parent, started)| (pid, parent, started))).collect();
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        found.extend(
            all.iter().filter(|(_, parent, _)| found.contains(parent)).map(|(pid, ..)| *pid).collect::<Vec<_>>(),
        );
        if found.len() == before {
            break;
        }
    }
    all.iter().filter(|(pid, ..)| found.contains(pid)).map(|&(pid, _, started)| Process { pid, started }).collect()
}

/// What is left of those processes, or carries one of those leases. A process that was just killed may take a moment.
async fn left_over(remains: &BTreeSet<Process>, lost: &[(RunId, Epoch)]) -> BTreeSet<u32> {
    const LOOKS: usize = 20;
    let mut left = BTreeSet::new();
    for _ in 0..LOOKS {
        left = remains
            .iter()
            .filter(|p| stat(p.pid).is_some_and(|(_, started)| started == p.started))
            .map(|p| p.pid)
            .collect();
        left.extend(pids().filter(|&pid| carries(pid, lost)));
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    left
}

/// Whether a process has the environment of one of these attempts.
fn carries(pid: u32, lost: &[(RunId, Epoch)]) -> bool {
    let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
    let has = |text: String| environment.split(|&b| b == 0).any(|v| v == text.as_bytes());
    lost.iter().any(|(run, epoch)| has(format!("OUTLIVE_RUN_ID={run}")) && has(format!("OUTLIVE_EPOCH={epoch}")))
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str().and_then(|n| n.parse().ok()))
}

/// Parent and start of a process that is not a zombie.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    (state != "Z" && state != "X").then_some((parent, started))
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

    #[test]
    fn this_process_is_found_with_its_children() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = processes_of(std::process::id());
        assert!(found.iter().any(|p| p.pid == child.id()) && found.len() >= 2);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(stat(child.id()).is_none());
    }
}
