//! What was acknowledged, against what is there at the end.
//!
//! A frame's text is `epoch.seq`, so that the log by itself tells what is missing or doubled. A checkpoint is a number that only
//! rises. A request carries its own number (`ask`), so that one that was carried out twice is seen.

use outlive_core::{Epoch, RunId, State};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Everything that a caller was told, as it was told.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Creations that were acknowledged, by request.
    pub created: BTreeMap<u64, RunId>,
    /// Frames that were acknowledged.
    pub frames: BTreeSet<(RunId, Epoch, u64)>,
    /// The largest checkpoint of each run that was acknowledged.
    pub checkpoints: BTreeMap<RunId, u64>,
    /// Ends that were acknowledged.
    pub finishes: BTreeMap<RunId, (Epoch, State)>,
    /// Cancels that were acknowledged.
    pub cancels: BTreeSet<RunId>,
    /// What readers saw, in order.
    pub sights: Vec<Sight>,
    /// Answers that no caller may get, in words.
    pub wrong: Vec<String>,
}

/// What a reader saw of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Which.
    pub run: RunId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its state.
    pub state: State,
}

/// A run as the API shows it when everything is over.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its id.
    pub id: RunId,
    /// The request that made it.
    pub ask: u64,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its state.
    pub state: State,
    /// Its checkpoint.
    pub checkpoint: Option<u64>,
    /// The lines of its log over all attempts, in order.
    pub lines: Vec<String>,
    /// How often its log says that it is over.
    pub ends: usize,
    /// Epochs of its attempts, oldest first.
    pub attempts: Vec<Epoch>,
    /// Lines that a success must have printed in its last attempt, where that is known.
    pub expected: Option<u64>,
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An acknowledged run is not there, or is there under another id.
    RunLost(u64, RunId),
    /// A request made more than one run.
    RunTwice(u64, usize),
    /// An acknowledged frame is not in the log.
    FrameLost(RunId, Epoch, u64),
    /// A frame is in the log more than once.
    FrameTwice(RunId, String),
    /// The frames of an attempt are not 1, 2, 3, …
    FrameOrder(RunId, Vec<String>),
    /// An acknowledged checkpoint is older than what is there, or gone.
    CheckpointLost(RunId, u64, Option<u64>),
    /// An acknowledged end is not there, or another one is.
    FinishChanged(RunId, State, State),
    /// An acknowledged cancel had no effect.
    CancelLost(RunId, State),
    /// A reader saw an epoch, and later a smaller one.
    EpochFell(RunId, Epoch, Epoch),
    /// A reader saw a terminal state, and later another one.
    TerminalChanged(RunId, State, State),
    /// It does not end.
    NotEnded(RunId, State),
    /// Its log says not once that it is over.
    EndNotOnce(RunId, usize),
    /// Its attempts do not rise one by one.
    AttemptsOutOfOrder(RunId, Vec<Epoch>),
    /// A success lacks lines.
    OutputIncomplete(RunId, u64, Vec<String>),
    /// An answer that no caller may get.
    Wrong(String),
}

impl Finding {
    /// Something happened more than once.
    #[must_use]
    pub const fn is_duplicate(&self) -> bool {
        matches!(self, Self::RunTwice(..) | Self::FrameTwice(..))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Everything that is wrong.
#[must_use]
pub fn check(history: &History, found: &[Found]) -> Vec<Finding> {
    let mut findings: Vec<_> = history.wrong.iter().cloned().map(Finding::Wrong).collect();
    let mut by_ask: BTreeMap<u64, Vec<RunId>> = BTreeMap::new();
    for run in found {
        by_ask.entry(run.ask).or_default().push(run.id);
    }
    findings
        .extend(by_ask.iter().filter(|(_, ids)| ids.len() > 1).map(|(&ask, ids)| Finding::RunTwice(ask, ids.len())));
    for (&ask, &id) in &history.created {
        if !by_ask.get(&ask).is_some_and(|ids| ids.contains(&id)) {
            findings.push(Finding::RunLost(ask, id));
        }
    }
    for run in found {
        run_by_itself(run, &mut findings);
        acknowledged(history, run, &mut findings);
    }
    sights(history, found, &mut findings);
    findings
}

/// What must hold of a run whatever was acknowledged.
fn run_by_itself(run: &Found, findings: &mut Vec<Finding>) {
    if !run.state.is_terminal() {
        findings.push(Finding::NotEnded(run.id, run.state));
    } else if run.ends != 1 {
        findings.push(Finding::EndNotOnce(run.id, run.ends));
    }
    let mut seen = BTreeSet::new();
    let mut by_epoch: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &run.lines {
        if !seen.insert(line) {
            findings.push(Finding::FrameTwice(run.id, line.clone()));
        }
        if let Some((epoch, seq)) = line.split_once('.') {
            by_epoch.entry(epoch).or_default().push(seq);
        }
    }
    for (epoch, seqs) in &by_epoch {
        let in_order = seqs.iter().enumerate().all(|(n, seq)| *seq == (n + 1).to_string());
        if !in_order {
            findings.push(Finding::FrameOrder(run.id, seqs.iter().map(|seq| format!("{epoch}.{seq}")).collect()));
        }
    }
    if !run.attempts.iter().zip(1..).all(|(epoch, n)| epoch.0 == n) {
        findings.push(Finding::AttemptsOutOfOrder(run.id, run.attempts.clone()));
    }
    if let Some(lines) = run.expected.filter(|_| run.state == State::Succeeded) {
        let last = by_epoch.get(run.epoch.0.to_string().as_str()).map_or(0, Vec::len);
        if last as u64 != lines {
            findings.push(Finding::OutputIncomplete(run.id, lines, run.lines.clone()));
        }
    }
}

fn acknowledged(history: &History, run: &Found, findings: &mut Vec<Finding>) {
    let of_run = (run.id, Epoch(i64::MIN), 0)..=(run.id, Epoch(i64::MAX), u64::MAX);
    for &(id, epoch, seq) in history.frames.range(of_run) {
        if !run.lines.contains(&format!("{}.{seq}", epoch.0)) {
            findings.push(Finding::FrameLost(id, epoch, seq));
        }
    }
    if let Some(&told) = history.checkpoints.get(&run.id)
        && run.checkpoint.is_none_or(|there| there < told)
    {
        findings.push(Finding::CheckpointLost(run.id, told, run.checkpoint));
    }
    match history.finishes.get(&run.id) {
        Some(&(epoch, state)) if (epoch, state) != (run.epoch, run.state) => {
            findings.push(Finding::FinishChanged(run.id, state, run.state));
        }
        _ => {}
    }
    // Where a success was under way already, it wins over a cancel.
    if history.cancels.contains(&run.id) && !matches!(run.state, State::Cancelled | State::Succeeded) {
        findings.push(Finding::CancelLost(run.id, run.state));
    }
}

fn sights(history: &History, found: &[Found], findings: &mut Vec<Finding>) {
    let mut last: BTreeMap<RunId, Sight> = BTreeMap::new();
    let at_the_end = found.iter().map(|run| Sight { run: run.id, epoch: run.epoch, state: run.state });
    for sight in history.sights.iter().copied().chain(at_the_end) {
        if let Some(before) = last.insert(sight.run, sight) {
            if before.epoch > sight.epoch {
                findings.push(Finding::EpochFell(sight.run, before.epoch, sight.epoch));
            }
            if before.state.is_terminal() && before.state != sight.state {
                findings.push(Finding::TerminalChanged(sight.run, before.state, sight.state));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> RunId {
        RunId::from_parts(outlive_core::Wall(1), n << 64)
    }

    fn found(n: u64) -> Found {
        Found {
            id: id(n.into()),
            ask: n,
            epoch: Epoch(2),
            state: State::Succeeded,
            checkpoint: Some(5),
            lines: ["1.1", "2.1", "2.2"].map(str::to_owned).to_vec(),
            ends: 1,
            attempts: vec![Epoch(1), Epoch(2)],
            expected: Some(2),
        }
    }

    /// A history in which all is well, with what is there at its end.
    fn well() -> (History, Vec<Found>) {
        let run = id(1);
        let sight = |epoch, state| Sight { run, epoch: Epoch(epoch), state };
        let history = History {
            created: [(1, run), (2, id(2))].into(),
            frames: [(run, Epoch(1), 1), (run, Epoch(2), 2)].into(),
            checkpoints: [(run, 4)].into(),
            finishes: [(run, (Epoch(2), State::Succeeded))].into(),
            cancels: [id(2)].into(),
            sights: vec![sight(1, State::Running), sight(2, State::Running), sight(2, State::Succeeded)],
            wrong: Vec::new(),
        };
        (history, vec![found(1), found(2)])
    }

    /// What the check says when something is different.
    fn with(change: impl FnOnce(&mut History, &mut Vec<Found>)) -> Vec<Finding> {
        let (mut history, mut found) = well();
        change(&mut history, &mut found);
        check(&history, &found)
    }

    #[test]
    fn a_history_in_which_all_is_well_has_no_findings() {
        assert_eq!(with(|_, _| {}), []);
    }

    #[test]
    fn a_lost_run_is_found() {
        assert_eq!(with(|_, found| drop(found.remove(1))), [Finding::RunLost(2, id(2))]);
    }

    #[test]
    fn a_run_that_was_made_twice_is_found() {
        let twice = with(|_, found| found.push(Found { id: id(9), ..found[0].clone() }));
        assert_eq!(twice, [Finding::RunTwice(1, 2)]);
        assert!(twice[0].is_duplicate());
    }

    #[test]
    fn a_lost_frame_is_found() {
        let lost = with(|_, found| drop(found[0].lines.pop()));
        let lines = found(1).lines[..2].to_vec();
        assert_eq!(lost, [Finding::OutputIncomplete(id(1), 2, lines), Finding::FrameLost(id(1), Epoch(2), 2)]);
        let first = with(|_, found| drop(found[0].lines.remove(0)));
        assert_eq!(first, [Finding::FrameLost(id(1), Epoch(1), 1)]);
    }

    #[test]
    fn a_doubled_frame_is_found() {
        let doubled = with(|_, found| found[0].lines.insert(1, "1.1".to_owned()));
        assert!(doubled.contains(&Finding::FrameTwice(id(1), "1.1".to_owned())), "{doubled:?}");
    }

    #[test]
    fn frames_out_of_order_are_found() {
        let swapped = with(|_, found| found[0].lines.swap(1, 2));
        assert_eq!(swapped, [Finding::FrameOrder(id(1), vec!["2.2".to_owned(), "2.1".to_owned()])]);
    }

    #[test]
    fn a_lost_checkpoint_is_found() {
        for there in [None, Some(3)] {
            assert_eq!(with(|_, found| found[0].checkpoint = there), [Finding::CheckpointLost(id(1), 4, there)]);
        }
    }

    #[test]
    fn a_changed_finish_is_found_by_whoever_reported_it_and_by_whoever_saw_it() {
        let changed = with(|_, found| found[0].state = State::Failed);
        let (was, is) = (State::Succeeded, State::Failed);
        assert_eq!(changed, [Finding::FinishChanged(id(1), was, is), Finding::TerminalChanged(id(1), was, is)]);
    }

    #[test]
    fn a_cancel_without_effect_is_found() {
        let ignored = with(|_, found| found[1].state = State::Failed);
        assert_eq!(ignored, [Finding::CancelLost(id(2), State::Failed)]);
    }

    #[test]
    fn an_epoch_that_falls_is_found() {
        let fell = with(|history, _| history.sights.swap(0, 1));
        assert_eq!(fell, [Finding::EpochFell(id(1), Epoch(2), Epoch(1))]);
    }

    #[test]
    fn a_run_that_does_not_end_or_ends_twice_is_found() {
        let runs = with(|history, found| {
            history.cancels.clear();
            found[1].state = State::Running;
        });
        assert_eq!(runs, [Finding::NotEnded(id(2), State::Running)]);
        assert_eq!(with(|_, found| found[1].ends = 2), [Finding::EndNotOnce(id(2), 2)]);
    }

    #[test]
    fn attempts_that_do_not_rise_one_by_one_are_found() {
        let epochs = vec![Epoch(1), Epoch(1)];
        let same = with(|_, found| found[1].attempts.clone_from(&epochs));
        assert_eq!(same, [Finding::AttemptsOutOfOrder(id(2), epochs)]);
    }
}
