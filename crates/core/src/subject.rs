//! Subjects: what runs are *about* (an agent, an issue, a feed). A run names up to four.
//!
//! A subject is never written by anybody: its status follows from its runs, and each of their transitions moves it in the
//! same transaction.
//!
//! ```text
//!   idle ──created──► queued ──claimed──► working
//!    ▲                  ▲ └── lost, handed back, failed with a retry ──┘ │
//!    └──────────────── the last active run ended ◄──────────────────────┘
//! ```

use crate::ids::RunId;
use crate::run::Run;
use crate::state::{Outcome, Reason, State};
use crate::time::Wall;
use serde::{Deserialize, Serialize};

/// What a subject's runs add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum SubjectStatus {
    /// No run of it is active.
    Idle = 0,
    /// Runs of it wait (for a worker, a time, a release); none is leased.
    Queued = 1,
    /// A worker has a run of it.
    Working = 2,
}

impl SubjectStatus {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Queued => "queued",
            Self::Working => "working",
        }
    }

    /// Reads a row's number.
    #[must_use]
    pub const fn from_number(n: i64) -> Option<Self> {
        match n {
            0 => Some(Self::Idle),
            1 => Some(Self::Queued),
            2 => Some(Self::Working),
            _ => None,
        }
    }
}

/// A subject's row: counts of its runs, and its last end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Runs that have not ended.
    pub active: i64,
    /// Those of them that are leased.
    pub working: i64,
    /// The run that ended last.
    pub last: Option<LastRun>,
}

/// How the last run of a subject ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// Which.
    pub run: RunId,
    /// How.
    pub state: State,
    /// Whose doing it was.
    pub outcome: Option<Outcome>,
    /// Why.
    pub reason: Option<Reason>,
    /// When.
    pub at: Wall,
}

/// A change that is told: of the status, or of how many runs are active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectChange {
    /// The status after it.
    pub status: SubjectStatus,
    /// The status before it.
    pub previous: SubjectStatus,
    /// Active runs after it.
    pub active: i64,
    /// The run that ended last, this one included.
    pub last: Option<LastRun>,
}

impl Subject {
    /// The status.
    #[must_use]
    pub const fn status(&self) -> SubjectStatus {
        match (self.active, self.working) {
            (_, 1..) => SubjectStatus::Working,
            (1.., _) => SubjectStatus::Queued,
            _ => SubjectStatus::Idle,
        }
    }

    /// A run of it came from a state (`None`: it is new) into the one that it has now. Tells what changed for the subject.
    /// Counts never fall below zero: a row that was wrong is put right by the audit, not made worse.
    #[must_use]
    pub fn follow(&mut self, before: Option<State>, run: &Run) -> Option<SubjectChange> {
        let (previous, had) = (self.status(), self.active);
        let counted = |state: State| (i64::from(!state.is_terminal()), i64::from(state.is_leased()));
        let (was, is) = (before.map_or((0, 0), counted), counted(run.state));
        self.active = (self.active + is.0 - was.0).max(0);
        self.working = (self.working + is.1 - was.1).max(0);
        if let (true, Some(at)) = (run.state.is_terminal(), run.finished_at) {
            let Run { id, state, outcome, reason, .. } = *run;
            self.last = Some(LastRun { run: id, state, outcome, reason, at });
        }
        let (status, active) = (self.status(), self.active);
        let moved = (status, active) != (previous, had);
        moved.then(|| SubjectChange { status, previous, active, last: self.last.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::QueuePolicy;
    use crate::run::begin::NewRun;
    use crate::{ClassId, QueueId};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn run(state: State) -> Run {
        let new = NewRun {
            id: RunId(Uuid::from_u128(7)),
            class: ClassId(1),
            queue: QueueId(1),
            priority: 0,
            run_at: None,
            hold: false,
            serial_key: None,
            key: None,
            queue_ttl: None,
        };
        let mut run = Run::create(new, &QueuePolicy::default(), Wall(1));
        run.state = state;
        run.finished_at = state.is_terminal().then_some(Wall(9));
        run
    }

    fn step(subject: &mut Subject, before: Option<State>, after: State) -> Option<(&'static str, &'static str, i64)> {
        let change = subject.follow(before, &run(after))?;
        Some((change.previous.as_str(), change.status.as_str(), change.active))
    }

    #[test]
    fn one_run_takes_its_subject_through_a_life_with_a_loss() {
        let mut s = Subject::default();
        assert_eq!(step(&mut s, None, State::Queued), Some(("idle", "queued", 1)));
        assert_eq!(step(&mut s, Some(State::Queued), State::Claimed), Some(("queued", "working", 1)));
        assert_eq!(step(&mut s, Some(State::Claimed), State::Running), None);
        assert_eq!(step(&mut s, Some(State::Running), State::Queued), Some(("working", "queued", 1)));
        assert_eq!(step(&mut s, Some(State::Queued), State::Claimed), Some(("queued", "working", 1)));
        assert_eq!(step(&mut s, Some(State::Claimed), State::Cancelling), None);
        assert_eq!(step(&mut s, Some(State::Cancelling), State::Cancelled), Some(("working", "idle", 0)));
        assert_eq!(s.last.map(|last| (last.state, last.at)), Some((State::Cancelled, Wall(9))));
    }

    #[test]
    fn what_waits_for_a_time_or_a_release_is_queued() {
        for waiting in [State::Held, State::Scheduled, State::Queued] {
            let mut s = Subject::default();
            assert_eq!(step(&mut s, None, waiting), Some(("idle", "queued", 1)));
            assert_eq!(step(&mut s, Some(waiting), State::Expired), Some(("queued", "idle", 0)));
        }
    }

    #[test]
    fn a_second_run_changes_the_count_and_the_first_end_leaves_it_working() {
        let mut s = Subject::default();
        assert_eq!(step(&mut s, None, State::Claimed), Some(("idle", "working", 1)));
        assert_eq!(step(&mut s, None, State::Claimed), Some(("working", "working", 2)));
        assert_eq!(step(&mut s, Some(State::Claimed), State::Failed), Some(("working", "working", 1)));
        assert_eq!(step(&mut s, Some(State::Claimed), State::Succeeded), Some(("working", "idle", 0)));
    }

    proptest! {
        /// Whatever its runs do, a subject's counts are those of its runs, and a change is told exactly when one is seen.
        #[test]
        fn counts_are_those_of_the_runs(moves in prop::collection::vec((0usize..4, 0usize..State::ALL.len()), 0..60)) {
            let mut subject = Subject::default();
            let mut runs: [Option<State>; 4] = [None; 4];
            for (which, to) in moves {
                let (before, to) = (runs[which], State::ALL[to]);
                if before.is_some_and(|before| before.is_terminal() || !before.may_become(to)) {
                    continue;
                }
                let seen = (subject.status(), subject.active);
                let told = subject.follow(before, &run(to));
                runs[which] = Some(to);
                let active = runs.iter().flatten().filter(|s| !s.is_terminal()).count();
                let leased = runs.iter().flatten().filter(|s| s.is_leased()).count();
                prop_assert_eq!((subject.active.try_into(), subject.working.try_into()), (Ok(active), Ok(leased)));
                prop_assert_eq!(told.is_some(), seen != (subject.status(), subject.active));
                prop_assert_eq!(told.map_or(seen.0, |change| change.previous), seen.0);
            }
        }
    }
}
