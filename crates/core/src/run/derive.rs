//! What the rows of the normal path say without saying it: the current attempt, the markers of the log, the history.

use super::record::{Attempt, ClosedBy, Event, EventKind, Run};
use crate::ids::Epoch;
use crate::json::Json;
use crate::report::ExitReport;
use crate::state::{Outcome, Reason, State};
use crate::time::Wall;

/// One attempt as people see it, open or closed.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptView {
    /// The closed attempt, or the open one with what is known so far (`ended_at` is then meaningless).
    pub attempt: Attempt,
    /// Whether it still goes on.
    pub open: bool,
}

/// Every attempt of a run, oldest first: the materialised ones and the one that the run's row carries.
#[must_use]
pub fn attempts(run: &Run, mut closed: Vec<Attempt>, exit: Option<ExitReport>) -> Vec<AttemptView> {
    closed.sort_by_key(|a| a.epoch);
    let mut views: Vec<_> = closed.into_iter().map(|attempt| AttemptView { attempt, open: false }).collect();
    let materialised = views.last().is_some_and(|v| v.attempt.epoch == run.epoch);
    // A salvaged attempt whose start was told after its loss: the run's row has what the attempt's row could not know.
    if let Some(last) = views.last_mut().filter(|v| materialised && v.attempt.marker == 0 && run.output.marker > 0) {
        (last.attempt.started_at, last.attempt.marker) = (run.started_at, run.output.marker);
    }
    if let (false, Some(holder), Some(claimed_at)) = (materialised, run.holder, run.claimed_at)
        && (run.state.is_leased() || run.state.is_terminal())
    {
        let open = run.state.is_leased();
        let ended_at = run.finished_at.unwrap_or(claimed_at);
        let attempt = Attempt {
            epoch: run.epoch,
            holder,
            claimed_at,
            started_at: run.started_at,
            last_heard_at: ended_at,
            ended_at,
            outcome: run.outcome.filter(|_| !open),
            reason: run.reason.unwrap_or(Reason::LeaseReleased),
            exit,
            error: None,
            closed_by: if open { ClosedBy::Open } else { run.closed_by },
            marker: run.output.marker,
            lost_marker: 0,
            last_seq: run.output.seq,
            checkpoint: None,
        };
        views.push(AttemptView { attempt, open });
    }
    views
}

/// An entry of the log that is no frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Marker {
    /// An attempt starts: a reader of the live view drops what it showed before.
    Attempt {
        /// Its epoch.
        epoch: Epoch,
        /// Its worker's row.
        holder: crate::ids::Holder,
        /// The attempt before it.
        recovered_from: Option<(Epoch, Reason)>,
        /// What it starts from.
        checkpoint: Option<Json>,
        /// When it started.
        at: Wall,
    },
    /// The attempt was lost; another may follow.
    Lost {
        /// Its epoch.
        epoch: Epoch,
        /// Why.
        reason: Reason,
    },
}

/// The markers of a log with their offsets, in order of offset.
#[must_use]
pub fn markers(attempts: &[AttemptView]) -> Vec<(i64, Marker)> {
    let mut markers = Vec::new();
    let mut before: Option<&Attempt> = None;
    for AttemptView { attempt, .. } in attempts {
        if let (1.., Some(at)) = (attempt.marker, attempt.started_at) {
            let marker = Marker::Attempt {
                epoch: attempt.epoch,
                holder: attempt.holder,
                recovered_from: before.map(|b| (b.epoch, b.reason)),
                checkpoint: before.and_then(|b| b.checkpoint.clone()),
                at,
            };
            markers.push((attempt.marker, marker));
        }
        if attempt.lost_marker > 0 {
            markers.push((attempt.lost_marker, Marker::Lost { epoch: attempt.epoch, reason: attempt.reason }));
        }
        before = Some(attempt);
    }
    markers.sort_by_key(|(offset, _)| *offset);
    markers
}

/// The whole history, oldest first: what the rows tell and what was kept.
#[must_use]
pub fn history(run: &Run, attempts: &[AttemptView], kept: Vec<Event>) -> Vec<Event> {
    let mut events = vec![created(run)];
    for view in attempts {
        let a = &view.attempt;
        let mut push = |kind, at, state, reason| {
            events.push(Event { kind, at, epoch: a.epoch, state, reason, note: None });
        };
        push(EventKind::Claimed, a.claimed_at, State::Claimed, None);
        if let Some(at) = a.started_at {
            push(EventKind::Started, at, State::Running, None);
        }
        let failed = a.outcome == Some(Outcome::User);
        let is_the_end = run.state.is_terminal() && a.epoch == run.epoch;
        if view.open || (is_the_end && (run.closed_by == ClosedBy::Report || failed)) {
            continue;
        }
        let kind = match (a.closed_by, a.reason) {
            (ClosedBy::Loss, _) if !failed => EventKind::Lost,
            (_, Reason::LeaseReleased) => EventKind::HandedBack,
            _ => EventKind::AttemptFailed,
        };
        push(kind, a.ended_at, State::Running, Some(a.reason));
    }
    events.extend(kept);
    if let Some(at) = run.finished_at {
        let (epoch, state, reason) = (run.epoch, run.state, run.reason);
        events.push(Event { kind: EventKind::Finished, at, epoch, state, reason, note: None });
    }
    events.sort_by_key(|e| (e.at, e.epoch, e.kind == EventKind::Finished));
    events
}

/// The first event of every run.
#[must_use]
pub const fn created(run: &Run) -> Event {
    let state = if run.was_claimed() || run.state.is_terminal() { State::Queued } else { run.state };
    Event { kind: EventKind::Created, at: run.created_at, epoch: Epoch(0), state, reason: None, note: None }
}
