//! What must hold whatever was done: false kills 0, stale writes 0, runs lost 0, overlap 0. Pure: facts in, findings out.

use crate::history::{self, Found, History};
use crate::read::{Entry, lines, out_of_place};
use outlive_core::stamps::{Overlap, Stamp, overlap, spans};
use outlive_core::{Epoch, Reason, RunId, State};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One attempt, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its epoch.
    pub epoch: Epoch,
    /// Whose.
    pub worker: String,
    /// Whether its command was started.
    pub started: bool,
    /// Why it ended, unless it was the last one and ended well.
    pub reason: Option<Reason>,
}

/// What is there of one run when everything is over.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which.
    pub run: RunId,
    /// Its state.
    pub state: State,
    /// Oldest first.
    pub attempts: Vec<Tried>,
    /// Its log over all attempts.
    pub log: Vec<Entry>,
    /// What its attempts stamped while they executed.
    pub stamps: Vec<Stamp>,
}

/// What the fault gives a right to.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    /// Workers from which runs may be taken: they were killed, or away for longer than a lease.
    pub may_lose: BTreeSet<String>,
    /// Runs that they had, and must have lost, with the epochs.
    pub must_move: BTreeMap<RunId, Epoch>,
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An attempt was ended although its worker was there: by the server, or by its own agent.
    FalseKill(RunId, Epoch, String, Option<Reason>),
    /// The log has something of an attempt after its successor's marker, or markers that do not rise.
    StaleWrite(RunId, Epoch, Epoch),
    /// A run that was asked for is not there.
    RunLost(RunId),
    /// It did not succeed.
    NotSucceeded(RunId, State),
    /// Two attempts executed at once.
    Overlap(RunId, Overlap),
    /// Its worker was gone, and nobody else went on.
    NotTaken(RunId, Epoch),
    /// An attempt was started and did not stamp: nothing is known of when it executed.
    NotStamped(RunId, Epoch),
    /// Something else is wrong with its log or its attempts.
    Log(history::Finding),
    /// What was to be done was not done, so that nothing is proved.
    NoFault(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Everything that is wrong.
#[must_use]
pub fn check(rights: &Rights, asked: &BTreeSet<RunId>, seen: &[Seen]) -> Vec<Finding> {
    let there: BTreeSet<RunId> = seen.iter().map(|run| run.run).collect();
    let mut findings: Vec<_> = asked.difference(&there).map(|&run| Finding::RunLost(run)).collect();
    for run in seen {
        of_run(rights, run, &mut findings);
    }
    findings
}

fn of_run(rights: &Rights, run: &Seen, findings: &mut Vec<Finding>) {
    if run.state != State::Succeeded {
        findings.push(Finding::NotSucceeded(run.run, run.state));
    }
    // All but the last one were ended by somebody.
    for tried in run.attempts.iter().rev().skip(1) {
        if !rights.may_lose.contains(&tried.worker) {
            findings.push(Finding::FalseKill(run.run, tried.epoch, tried.worker.clone(), tried.reason));
        }
    }
    let last = run.attempts.last().map_or(Epoch(0), |tried| tried.epoch);
    if let Some(&epoch) = rights.must_move.get(&run.run).filter(|epoch| **epoch >= last) {
        findings.push(Finding::NotTaken(run.run, epoch));
    }
    let stamped = spans(&run.stamps);
    let blind = run.attempts.iter().filter(|tried| tried.started && !stamped.contains_key(&tried.epoch));
    findings.extend(blind.map(|tried| Finding::NotStamped(run.run, tried.epoch)));
    findings.extend(overlap(&run.stamps).map(|overlap| Finding::Overlap(run.run, overlap)));
    findings.extend(stale(run));
    findings.extend(log(run).into_iter().map(Finding::Log));
}

/// Something of an attempt after a later one had begun, by its place or by its text.
fn stale(run: &Seen) -> Option<Finding> {
    let foreign = |entry: &Entry| match entry {
        Entry::Bytes(epoch, bytes) => {
            let own = |line: &str| line.split_once('.').is_none_or(|(e, _)| e == epoch.0.to_string());
            (!String::from_utf8_lossy(bytes).lines().all(own)).then_some((*epoch, *epoch))
        }
        Entry::Marker(_) | Entry::End => None,
    };
    let found = out_of_place(&run.log).or_else(|| run.log.iter().find_map(foreign));
    found.map(|(epoch, current)| Finding::StaleWrite(run.run, epoch, current))
}

/// What must hold of any log: each line once and in order, an end once, attempts that rise.
fn log(run: &Seen) -> Vec<history::Finding> {
    let found = Found {
        id: run.run,
        ask: 0,
        epoch: run.attempts.last().map_or(Epoch(0), |tried| tried.epoch),
        state: run.state,
        checkpoint: None,
        lines: lines(&run.log),
        ends: run.log.iter().filter(|entry| **entry == Entry::End).count(),
        attempts: run.attempts.iter().map(|tried| tried.epoch).collect(),
        expected: None,
    };
    history::check(&History::default(), &[found])
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_core::Wall;

    fn id() -> RunId {
        RunId::from_parts(Wall(1), 7 << 64)
    }

    fn stamp(epoch: i64, at: u64) -> Stamp {
        Stamp { epoch: Epoch(epoch), pid: u32::try_from(epoch).unwrap(), at }
    }

    fn tried(epoch: i64, worker: &str, reason: Option<Reason>) -> Tried {
        Tried { epoch: Epoch(epoch), worker: worker.to_owned(), started: true, reason }
    }

    /// A run whose first worker was killed, as it should be.
    fn well() -> (Rights, Seen) {
        let seen = Seen {
            run: id(),
            state: State::Succeeded,
            attempts: vec![tried(1, "dead", Some(Reason::WorkerDisconnected)), tried(2, "alive", None)],
            log: vec![
                Entry::Marker(Epoch(1)),
                Entry::Bytes(Epoch(1), "1.1\n1.2\n".into()),
                Entry::Marker(Epoch(2)),
                Entry::Bytes(Epoch(2), "2.1\n".into()),
                Entry::End,
            ],
            stamps: vec![stamp(1, 10), stamp(1, 20), stamp(2, 30), stamp(2, 40)],
        };
        (Rights { may_lose: ["dead".to_owned()].into(), must_move: [(id(), Epoch(1))].into() }, seen)
    }

    fn with(change: impl FnOnce(&mut Rights, &mut Seen)) -> Vec<Finding> {
        let (mut rights, mut seen) = well();
        change(&mut rights, &mut seen);
        check(&rights, &[id()].into(), &[seen])
    }

    #[test]
    fn a_run_that_was_moved_from_a_dead_worker_has_no_findings() {
        assert_eq!(with(|_, _| {}), []);
    }

    #[test]
    fn a_run_that_was_taken_from_a_live_worker_is_a_false_kill() {
        let found = with(|rights, _| rights.may_lose.clear());
        let why = Some(Reason::WorkerDisconnected);
        assert_eq!(found, [Finding::FalseKill(id(), Epoch(1), "dead".to_owned(), why)]);
    }

    #[test]
    fn an_older_attempt_that_goes_on_beside_its_successor_is_overlap() {
        let found = with(|_, seen| seen.stamps.push(stamp(1, 35)));
        let by = Overlap { older: Epoch(1), newer: Epoch(2), by: 5 };
        assert_eq!(found, [Finding::Overlap(id(), by)]);
    }

    #[test]
    fn a_stale_write_is_found_by_the_log_and_by_the_text() {
        let found = with(|_, seen| seen.log.insert(3, Entry::Bytes(Epoch(1), "1.3\n".into())));
        assert_eq!(found, [Finding::StaleWrite(id(), Epoch(1), Epoch(2))]);
        let found = with(|_, seen| seen.log.insert(4, Entry::Bytes(Epoch(2), "1.3\n".into())));
        assert_eq!(found, [Finding::StaleWrite(id(), Epoch(2), Epoch(2))]);
        let found = with(|_, seen| seen.log[2] = Entry::Marker(Epoch(1)));
        assert_eq!(found[0], Finding::StaleWrite(id(), Epoch(1), Epoch(1)));
    }

    #[test]
    fn a_run_that_is_gone_or_failed_is_found() {
        assert_eq!(check(&Rights::default(), &[id()].into(), &[]), [Finding::RunLost(id())]);
        assert_eq!(with(|_, seen| seen.state = State::Failed), [Finding::NotSucceeded(id(), State::Failed)]);
    }

    #[test]
    fn a_run_that_stayed_with_a_dead_worker_is_found() {
        let found = with(|_, seen| {
            seen.attempts.pop();
            seen.log.drain(2..4);
            seen.stamps.truncate(2);
        });
        assert_eq!(found, [Finding::NotTaken(id(), Epoch(1))]);
    }

    #[test]
    fn an_attempt_of_which_nothing_is_known_is_found() {
        assert_eq!(with(|_, seen| seen.stamps.truncate(2)), [Finding::NotStamped(id(), Epoch(2))]);
    }

    #[test]
    fn a_doubled_line_is_found() {
        let found = with(|_, seen| seen.log.insert(4, Entry::Bytes(Epoch(2), "2.1\n".into())));
        assert!(matches!(&found[..], [Finding::Log(_), ..]), "{found:?}");
    }
}
