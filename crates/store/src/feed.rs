//! The feed as rows: one per group commit, which says enough of every event in it to send it.
//!
//! A row's body is a JSON array of arrays, small since there is one for every run's every step; a first number says what each
//! is. Both backends store the same text, and skip what a newer version wrote that this one does not know.
//!
//! ```text
//! [kind, "run id", epoch, state, reason|null, at, queue, worker|null]                               0… of EventKind
//! [32 + edge, at, "namespace", "name", worker, incarnation, reason|null]
//! [40, at, queue, paused]
//! [48, at, "namespace", "subject", "run id", status, previous, active, last|null]                   last: [run, state, outcome, reason, at]
//! [56, at, "why"] [57, at] [58, at, "phase", "error"]
//! ```

use outlive_core::feed::{FeedEvent, Notice, WorkerEdge};
use outlive_core::run::{Event, EventKind, Run};
use outlive_core::subject::{LastRun, SubjectChange, SubjectStatus};
use outlive_core::{Epoch, Incarnation, Outcome, QueueId, Reason, RunId, State, Wall, WorkerId};
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use std::fmt::{self, Write};

const WORKER: u8 = 32;
const QUEUE: u8 = 40;
const SUBJECT: u8 = 48;
const BREAKER_OPENED: u8 = 56;
const BREAKER_CLOSED: u8 = 57;
const SWEEP_FAILED: u8 = 58;

/// A place in the feed: behind an event, by its row and its number within it. Number 0 is before the row's first event, also
/// if there is no such row yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedCursor {
    /// The row, in order of commits.
    pub row: i64,
    /// The event within it, from 1.
    pub index: u32,
}

impl FeedCursor {
    /// Before all events of a row.
    #[must_use]
    pub const fn before(row: i64) -> Self {
        Self { row, index: 0 }
    }
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedFrom {
    /// With the oldest event that is kept.
    Oldest,
    /// Behind the newest: only what comes.
    Head,
    /// So that at least this many of the newest are read, if there are as many.
    Recent(u32),
    /// After this event.
    After(FeedCursor),
}

/// A part of the feed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedPage {
    /// In the order of their commits, each with its place.
    pub events: Vec<(FeedCursor, FeedEvent)>,
    /// After which the next page begins. It moves on over events that are not known here.
    pub next: FeedCursor,
    /// Nothing more is there now.
    pub at_head: bool,
    /// The place that was asked for is not there: what came after it was deleted (retention), or it never was. The page then
    /// begins with the oldest event that is kept.
    pub gap: bool,
}

/// The body of a row that is being written.
#[derive(Debug, Default)]
pub struct Body(String);

impl Body {
    fn begin(&mut self) {
        self.0.push(if self.0.is_empty() { '[' } else { ',' });
    }

    /// Adds an event of a run.
    pub fn run(&mut self, run: &Run, event: &Event) {
        self.begin();
        let (kind, state) = (event.kind as u8, event.state as u8);
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        let id = run.id.0.hyphenated().encode_lower(&mut id);
        let _ = write!(self.0, "[{kind},\"{id}\",{},{state},", event.epoch.0);
        let _ = match event.reason {
            Some(reason) => write!(self.0, "{}", reason as u8),
            None => write!(self.0, "null"),
        };
        let _ = write!(self.0, ",{},{},", event.at.0, run.queue.0);
        let _ = match run.holder.filter(|_| event.epoch.0 > 0) {
            Some(holder) => write!(self.0, "{}]", holder.worker.0),
            None => write!(self.0, "null]"),
        };
    }

    /// Adds any other event.
    pub fn push(&mut self, event: &FeedEvent) {
        let number = |reason: &Option<Reason>| reason.map(|reason| reason as u8);
        match event {
            FeedEvent::Run { kind, at, run, queue, epoch, state, reason, worker } => {
                let (kind, state) = (*kind as u8, *state as u8);
                let worker = worker.map(|worker| worker.0);
                self.tuple(&(kind, run, epoch, state, number(reason), at, queue, worker));
            }
            FeedEvent::Worker { edge, at, namespace, name, worker, incarnation, reason } => {
                let kind = WORKER + *edge as u8;
                self.tuple(&(kind, at, namespace, name, worker.0, incarnation, number(reason)));
            }
            FeedEvent::Queue { at, queue, paused } => self.tuple(&(QUEUE, at, queue, paused)),
            FeedEvent::Subject { at, namespace, subject, run, change } => {
                let SubjectChange { status, previous, active, last } = change;
                let last = last.as_ref().map(|last| {
                    let outcome = last.outcome.map(|outcome| outcome as u8);
                    (last.run, last.state as u8, outcome, number(&last.reason), last.at)
                });
                let (status, previous) = (*status as u8, *previous as u8);
                self.tuple(&(SUBJECT, at, namespace, subject, run, status, previous, active, last));
            }
            FeedEvent::Notice { at, notice } => match notice {
                Notice::BreakerOpened(why) => self.tuple(&(BREAKER_OPENED, at, why)),
                Notice::BreakerClosed => self.tuple(&(BREAKER_CLOSED, at)),
                Notice::SweepFailed { phase, error } => self.tuple(&(SWEEP_FAILED, at, phase, error)),
            },
        }
    }

    fn tuple(&mut self, tuple: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(tuple) {
            self.begin();
            self.0.push_str(&text);
        }
    }

    /// What was added, as the text of a row; none if nothing was. Begins anew.
    pub fn take(&mut self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        self.0.push(']');
        Some(std::mem::take(&mut self.0))
    }
}

/// The events of a row with their places, after a number within it (0: all).
///
/// # Errors
/// What is wrong with the text.
pub fn read(row: i64, body: &str, after: u32) -> Result<Vec<(FeedCursor, FeedEvent)>, serde_json::Error> {
    let events: Vec<Known> = serde_json::from_str(body)?;
    let placed = (1u32..).zip(events).filter(|(index, _)| *index > after);
    Ok(placed.filter_map(|(index, Known(event))| Some((FeedCursor { row, index }, event?))).collect())
}

/// An event, or one that only a newer version knows.
struct Known(Option<FeedEvent>);

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_seq(Array).map(Self)
    }
}

struct Array;

impl<'de> Visitor<'de> for Array {
    type Value = Option<FeedEvent>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array that begins with the number of its kind")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let kind: u8 = next(&mut seq)?;
        let event = match kind {
            SUBJECT => subject(&mut seq)?,
            QUEUE => Some(FeedEvent::Queue { at: next(&mut seq)?, queue: next(&mut seq)?, paused: next(&mut seq)? }),
            BREAKER_OPENED => notice(next(&mut seq)?, Notice::BreakerOpened(next(&mut seq)?)),
            BREAKER_CLOSED => notice(next(&mut seq)?, Notice::BreakerClosed),
            SWEEP_FAILED => {
                let at = next(&mut seq)?;
                notice(at, Notice::SweepFailed { phase: next(&mut seq)?, error: next(&mut seq)? })
            }
            kind => match (EventKind::from_number(kind.into()), kind.checked_sub(WORKER)) {
                (Some(kind), _) => run(kind, &mut seq)?,
                (None, Some(edge)) => worker(WorkerEdge::from_number(edge.into()), &mut seq)?,
                (None, None) => None,
            },
        };
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(event)
    }
}

fn next<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(seq: &mut A) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| A::Error::custom("an event is too short"))
}

fn reason<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<Option<Reason>, A::Error> {
    Ok(next::<Option<i64>, A>(seq)?.and_then(Reason::from_number))
}

#[expect(clippy::unnecessary_wraps, reason = "an arm among others that may not know their event")]
const fn notice(at: Wall, notice: Notice) -> Option<FeedEvent> {
    Some(FeedEvent::Notice { at, notice })
}

fn run<'de, A: SeqAccess<'de>>(kind: EventKind, seq: &mut A) -> Result<Option<FeedEvent>, A::Error> {
    let (run, epoch): (RunId, Epoch) = (next(seq)?, next(seq)?);
    let state = State::from_number(next(seq)?);
    let reason = reason(seq)?;
    let (at, queue): (Wall, QueueId) = (next(seq)?, next(seq)?);
    // Rows of the first version end here.
    let worker = seq.next_element::<Option<i64>>()?.flatten().map(WorkerId);
    Ok(state.map(|state| FeedEvent::Run { kind, at, run, queue, epoch, state, reason, worker }))
}

fn worker<'de, A: SeqAccess<'de>>(edge: Option<WorkerEdge>, seq: &mut A) -> Result<Option<FeedEvent>, A::Error> {
    let Some(edge) = edge else { return Ok(None) };
    let (at, namespace, name): (Wall, String, String) = (next(seq)?, next(seq)?, next(seq)?);
    let (worker, incarnation): (i64, Incarnation) = (next(seq)?, next(seq)?);
    let (worker, reason) = (WorkerId(worker), reason(seq)?);
    Ok(Some(FeedEvent::Worker { edge, at, namespace, name, worker, incarnation, reason }))
}

fn subject<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<Option<FeedEvent>, A::Error> {
    type Last = (RunId, i64, Option<i64>, Option<i64>, Wall);
    let (at, namespace, subject): (Wall, String, String) = (next(seq)?, next(seq)?, next(seq)?);
    let run: RunId = next(seq)?;
    let (status, previous) = (SubjectStatus::from_number(next(seq)?), SubjectStatus::from_number(next(seq)?));
    let active: i64 = next(seq)?;
    let last = next::<Option<Last>, A>(seq)?.and_then(|(run, state, outcome, reason, at)| {
        let state = State::from_number(state)?;
        let (outcome, reason) = (outcome.and_then(Outcome::from_number), reason.and_then(Reason::from_number));
        Some(LastRun { run, state, outcome, reason, at })
    });
    Ok(status.zip(previous).map(|(status, previous)| {
        let change = SubjectChange { status, previous, active, last };
        FeedEvent::Subject { at, namespace, subject, run, change }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn one_of_each() -> Vec<FeedEvent> {
        let run = RunId(Uuid::from_u128(5));
        let (at, queue) = (Wall(17), QueueId(3));
        let text = || "a \"name\"\n".to_owned();
        let mut all: Vec<FeedEvent> = EventKind::ALL
            .iter()
            .map(|&kind| FeedEvent::Run {
                kind,
                at,
                run,
                queue,
                epoch: Epoch(2),
                state: State::Running,
                reason: (kind == EventKind::Lost).then_some(Reason::WorkerDisconnected),
                worker: (kind != EventKind::Created).then_some(WorkerId(4)),
            })
            .collect();
        for edge in [WorkerEdge::Online, WorkerEdge::Offline, WorkerEdge::Left, WorkerEdge::Removed] {
            let reason = (edge == WorkerEdge::Offline).then_some(Reason::WorkerHeartbeatLost);
            let (worker, incarnation) = (WorkerId(4), Incarnation(9));
            all.push(FeedEvent::Worker { edge, at, namespace: text(), name: text(), worker, incarnation, reason });
        }
        for last in [None, Some(LastRun { run, state: State::Lost, outcome: None, reason: Some(Reason::Evicted), at })]
        {
            let (status, previous) = (SubjectStatus::Working, SubjectStatus::Idle);
            let change = SubjectChange { status, previous, active: 2, last };
            all.push(FeedEvent::Subject { at, namespace: text(), subject: text(), run, change });
        }
        all.extend([true, false].map(|paused| FeedEvent::Queue { at, queue, paused }));
        let failed = Notice::SweepFailed { phase: text(), error: text() };
        let notices = [Notice::BreakerOpened(text()), Notice::BreakerClosed, failed];
        all.extend(notices.map(|notice| FeedEvent::Notice { at, notice }));
        all
    }

    #[test]
    fn every_event_reads_back_as_it_was_written() {
        let all = one_of_each();
        let mut body = Body::default();
        all.iter().for_each(|event| body.push(event));
        let text = body.take().unwrap();
        assert_eq!(body.take(), None);
        let read_back: Vec<_> = read(8, &text, 0).unwrap();
        let places: Vec<_> = read_back.iter().map(|(place, _)| (place.row, place.index)).collect();
        assert_eq!(places, (1..=u32::try_from(all.len()).unwrap()).map(|index| (8, index)).collect::<Vec<_>>());
        assert_eq!(read_back.into_iter().map(|(_, event)| event).collect::<Vec<_>>(), all);
        let names: std::collections::BTreeSet<_> = all.iter().map(FeedEvent::type_name).collect();
        assert_eq!(names, outlive_core::feed::types().collect(), "a test for each type that a reader may ask for");
    }

    #[test]
    fn a_row_of_the_first_version_is_read_and_what_a_newer_one_wrote_is_passed_over() {
        let id = "00000000-0000-0000-0000-000000000005";
        let text = format!("[[0,\"{id}\",0,2,null,17,3],[200,[1],{{}}],[99,1],[57,18,\"more\"]]");
        let events = read(1, &text, 0).unwrap();
        assert_eq!(events.iter().map(|(place, _)| place.index).collect::<Vec<_>>(), [1, 4]);
        assert!(matches!(events[0].1, FeedEvent::Run { worker: None, at: Wall(17), .. }));
        assert_eq!(read(1, &text, 1).unwrap().len(), 1);
    }
}
