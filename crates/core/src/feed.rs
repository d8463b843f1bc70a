//! The feed: everything that happens, in the order in which it was committed, with enough of each event to send it.
//!
//! An event belongs to the transaction that made it true. What the server itself has to say (its breaker, its sweeps) belongs
//! to no tenant and is shown to all.

use crate::engine::Status;
use crate::ids::{Epoch, Incarnation, QueueId, RunId, WorkerId};
use crate::run::EventKind;
use crate::state::{Reason, State};
use crate::subject::SubjectChange;
use crate::time::Wall;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedEvent {
    /// `run.…`, `attempt.…`
    Run {
        /// What happened.
        kind: EventKind,
        /// When.
        at: Wall,
        /// To which run.
        run: RunId,
        /// Its queue.
        queue: QueueId,
        /// In which epoch.
        epoch: Epoch,
        /// The state after it.
        state: State,
        /// Why.
        reason: Option<Reason>,
        /// Who holds it, or held it last.
        worker: Option<WorkerId>,
    },
    /// `worker.…`
    Worker {
        /// What happened.
        edge: WorkerEdge,
        /// When.
        at: Wall,
        /// The worker's tenant.
        namespace: String,
        /// Its name.
        name: String,
        /// Its row.
        worker: WorkerId,
        /// Which of its starts.
        incarnation: Incarnation,
        /// Why, if it went.
        reason: Option<Reason>,
    },
    /// `subject.changed`
    Subject {
        /// When.
        at: Wall,
        /// Its tenant.
        namespace: String,
        /// Its name.
        subject: String,
        /// The run that moved it.
        run: RunId,
        /// What changed.
        change: SubjectChange,
    },
    /// `queue.paused`, `queue.resumed`
    Queue {
        /// When.
        at: Wall,
        /// Which.
        queue: QueueId,
        /// No claims from now on.
        paused: bool,
    },
    /// What the server says of itself.
    Notice {
        /// When.
        at: Wall,
        /// What.
        notice: Notice,
    },
}

/// An edge of a worker's status that is told. Suspicion and draining are none: nothing has been taken from it, and it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WorkerEdge {
    /// Its session opened, and none was open before.
    Online = 0,
    /// It was written off, or replaced by a newer start of its name.
    Offline = 1,
    /// It said goodbye.
    Left = 2,
    /// It was offline for long, nothing belonged to it, and its row is gone.
    Removed = 3,
}

impl WorkerEdge {
    /// Reads a row's number.
    #[must_use]
    pub const fn from_number(n: i64) -> Option<Self> {
        match n {
            0 => Some(Self::Online),
            1 => Some(Self::Offline),
            2 => Some(Self::Left),
            3 => Some(Self::Removed),
            _ => None,
        }
    }

    /// The status that it leads to; none: there is no worker any more.
    #[must_use]
    pub const fn status(self) -> Option<Status> {
        match self {
            Self::Online => Some(Status::Online),
            Self::Offline => Some(Status::Offline),
            Self::Left => Some(Status::Left),
            Self::Removed => None,
        }
    }
}

/// What the server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// `breaker.opened`: why.
    BreakerOpened(String),
    /// `breaker.closed`
    BreakerClosed,
    /// `sweep.failed`: the first failure of a phase after a success.
    SweepFailed {
        /// Which.
        phase: String,
        /// How.
        error: String,
    },
}

impl FeedEvent {
    /// The stable name on the wire.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Run { kind, .. } => kind.as_str(),
            Self::Worker { edge: WorkerEdge::Online, .. } => "worker.online",
            Self::Worker { edge: WorkerEdge::Offline, .. } => "worker.offline",
            Self::Worker { edge: WorkerEdge::Left, .. } => "worker.left",
            Self::Worker { edge: WorkerEdge::Removed, .. } => "worker.removed",
            Self::Subject { .. } => "subject.changed",
            Self::Queue { paused: true, .. } => "queue.paused",
            Self::Queue { paused: false, .. } => "queue.resumed",
            Self::Notice { notice: Notice::BreakerOpened(_), .. } => "breaker.opened",
            Self::Notice { notice: Notice::BreakerClosed, .. } => "breaker.closed",
            Self::Notice { notice: Notice::SweepFailed { .. }, .. } => "sweep.failed",
        }
    }
}

/// Types beside those of [`EventKind`].
const OTHER_TYPES: &[&str] = &[
    "worker.online",
    "worker.offline",
    "worker.left",
    "worker.removed",
    "subject.changed",
    "queue.paused",
    "queue.resumed",
    "breaker.opened",
    "breaker.closed",
    "sweep.failed",
];

/// Every type that there is.
pub fn types() -> impl Iterator<Item = &'static str> {
    EventKind::ALL.iter().map(|kind| kind.as_str()).chain(OTHER_TYPES.iter().copied())
}

/// Which types a reader wants: names, or groups as `run.*`. Without any it wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeFilter(Vec<String>);

/// A name that no event has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no event is called \"{0}\"; there are: {all}", all = types().collect::<Vec<_>>().join(", "))]
pub struct UnknownType(pub String);

impl TypeFilter {
    /// Reads names that are separated by commas.
    ///
    /// # Errors
    /// A name or group that no event has: a reader that misspells would wait for ever.
    pub fn parse(text: &str) -> Result<Self, UnknownType> {
        let wanted: Vec<String> = text.split(',').map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect();
        match wanted.iter().find(|wanted| !types().any(|name| is_meant(wanted, name))) {
            Some(unknown) => Err(UnknownType(unknown.clone())),
            None => Ok(Self(wanted)),
        }
    }

    /// Whether events of this type are wanted.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| is_meant(wanted, name))
    }
}

fn is_meant(wanted: &str, name: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(group) => name.starts_with(group),
        None => wanted == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_names_and_groups() {
        let filter = TypeFilter::parse("run.*, worker.offline").unwrap();
        let wanted: Vec<_> = types().filter(|name| filter.wants(name)).collect();
        assert!(wanted.contains(&"run.created") && wanted.contains(&"run.finished"));
        assert!(wanted.contains(&"worker.offline") && !wanted.contains(&"worker.online"));
        assert!(!wanted.contains(&"attempt.lost"));
        assert!(types().all(|name| TypeFilter::parse("").unwrap().wants(name)));
        assert!(types().all(|name| TypeFilter::parse("*").unwrap().wants(name)));
    }

    #[test]
    fn a_name_that_no_event_has_is_refused() {
        for bad in ["run.finshed", "runs.*", "worker.offline,x"] {
            let error = TypeFilter::parse(bad).unwrap_err();
            assert!(bad.contains(&error.0), "{error}");
        }
    }
}
