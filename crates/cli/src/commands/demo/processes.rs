//! Processes of workers and of attempts, as the kernel shows them.

use outlive_core::{Epoch, RunId};
use std::collections::BTreeSet;
use std::time::Duration;

/// A process, by number and start, so that a number used again is not taken for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    pid: u32,
    started: u64,
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
pub(super) async fn left_over(remains: &BTreeSet<Process>, lost: &[(RunId, Epoch)]) -> BTreeSet<u32> {
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

/// Processes of one of these attempts.
pub(super) fn alive_with(attempts: &[(RunId, Epoch)]) -> BTreeSet<u32> {
    pids().filter(|&pid| stat(pid).is_some() && carries(pid, attempts)).collect()
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
