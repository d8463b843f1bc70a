//! The rows: a run, a closed attempt, and what one transition changes beside the run's own row.

use crate::ids::{ClassId, Epoch, Holder, LeaseRef, QueueId, RunId};
use crate::json::Json;
use crate::policy::LeaseTerms;
use crate::report::{ErrorReport, ExitReport};
use crate::state::{Outcome, Reason, State};
use crate::time::{Observed, Wall};
use serde::{Deserialize, Serialize};

/// The hot row of a run: narrow, and all that a transition needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The row's number in its store, in order of creation. 0 before it has one.
    pub seq: i64,
    /// The public identity.
    pub id: RunId,
    /// What it needs of a worker; names namespace, queue and kind.
    pub class: ClassId,
    /// Its queue, for policy, caps and counts.
    pub queue: QueueId,
    /// Where it is in its life.
    pub state: State,
    /// Queued, but another run holds (or is first in line for) its serial key or business key: not in the ready index.
    pub blocked: bool,
    /// The static order of claims.
    pub rank: i64,
    /// −100 to 100.
    pub priority: i16,
    /// The fence.
    pub epoch: Epoch,
    /// Failures of the work.
    pub failures: u32,
    /// Losses of its workers, ever.
    pub losses: u32,
    /// Losses since the last new checkpoint or release by a person.
    pub losses_in_row: u32,
    /// Whose doing the end (or the last closed attempt) was.
    pub outcome: Option<Outcome>,
    /// Why it ended, waits or was last lost.
    pub reason: Option<Reason>,
    /// Creation, store time.
    pub created_at: Wall,
    /// Last queueing.
    pub queued_at: Option<Wall>,
    /// The clock of the waiting state: due time if scheduled, expiry if held or queued.
    pub due_at: Option<Wall>,
    /// Claim of the current or last epoch.
    pub claimed_at: Option<Wall>,
    /// Start of the current or last epoch.
    pub started_at: Option<Wall>,
    /// The end.
    pub finished_at: Option<Wall>,
    /// The store's observed clock at the claim, and then at the last report about the run: what `claim_ttl` and *stalled* count from.
    pub lease_observed: Observed,
    /// The store's observed clock at the claim, then at the start of the attempt: where its limits count from.
    pub begun_observed: Observed,
    /// The terms of the open or last lease.
    pub terms: LeaseTerms,
    /// Who holds the open lease, or held the last one.
    pub holder: Option<Holder>,
    /// How the last lease closed.
    pub closed_by: ClosedBy,
    /// Where its output log ends.
    pub output: OutputHead,
    /// Runs with the same one never run at once.
    pub serial_key: Option<String>,
    /// Unique among the active runs of its queue.
    pub key: Option<String>,
    /// The recovery row that waits for this run's next claim, start or catch-up.
    pub recovery: Option<i64>,
    /// Its options name subjects, which follow its transitions. Set by the store that creates it.
    pub has_subjects: bool,
}

/// The end of an output log. Offset 0 is nothing; markers use offsets like frames do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputHead {
    /// The offset of the next entry, from 1.
    pub next: i64,
    /// The last frame of the current epoch.
    pub seq: i64,
    /// Bytes appended, ever.
    pub bytes: i64,
    /// The offset of the current attempt's marker; 0 before its start.
    pub marker: i64,
}

/// How a lease closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum ClosedBy {
    /// It is open, or there was none.
    #[default]
    Open = 0,
    /// Its holder said so.
    Report = 1,
    /// Loss, limit or person.
    Loss = 2,
}

impl ClosedBy {
    /// Reads a row's number.
    #[must_use]
    pub const fn from_number(n: i64) -> Option<Self> {
        match n {
            0 => Some(Self::Open),
            1 => Some(Self::Report),
            2 => Some(Self::Loss),
            _ => None,
        }
    }
}

/// What proved a loss (design, section 4), strongest first; then what is not evidence but a rule or a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Evidence {
    /// 1: the agent saw its child end.
    ExitReport = 1,
    /// 2: it said goodbye.
    Goodbye = 2,
    /// 3: a newer incarnation of the name.
    NewerIncarnation = 3,
    /// 4: EOF or RST, and no new session within the window.
    SessionClosed = 4,
    /// 5: nothing heard for the TTL.
    Silence = 5,
    /// A limit of section 3.
    Limit = 6,
    /// Somebody said so.
    Person = 7,
}

impl Evidence {
    /// Reads a row's number.
    #[must_use]
    pub const fn from_number(n: i64) -> Option<Self> {
        Some(match n {
            1 => Self::ExitReport,
            2 => Self::Goodbye,
            3 => Self::NewerIncarnation,
            4 => Self::SessionClosed,
            5 => Self::Silence,
            6 => Self::Limit,
            7 => Self::Person,
            _ => return None,
        })
    }

    /// Whether it rests on absence, so that pauses of the judge and mass failures hold it back.
    #[must_use]
    pub const fn by_absence(self) -> bool {
        matches!(self, Self::SessionClosed | Self::Silence)
    }

    /// The stable name in metrics and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExitReport => "exit_report",
            Self::Goodbye => "goodbye",
            Self::NewerIncarnation => "newer_incarnation",
            Self::SessionClosed => "session_closed",
            Self::Silence => "silence",
            Self::Limit => "limit",
            Self::Person => "person",
        }
    }
}

/// A closed attempt that did not end its run: the row that then materialises.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Its epoch.
    pub epoch: Epoch,
    /// Who held it.
    pub holder: Holder,
    /// Claim.
    pub claimed_at: Wall,
    /// Start; none if it never started.
    pub started_at: Option<Wall>,
    /// The last sign of life before it closed.
    pub last_heard_at: Wall,
    /// The close.
    pub ended_at: Wall,
    /// None for a release.
    pub outcome: Option<Outcome>,
    /// Why.
    pub reason: Reason,
    /// How the process ended.
    pub exit: Option<ExitReport>,
    /// What the work said.
    pub error: Option<ErrorReport>,
    /// How it closed.
    pub closed_by: ClosedBy,
    /// The offset of its marker; 0 if it never started.
    pub marker: i64,
    /// The offset of its `lost` marker; 0 if it was not lost.
    pub lost_marker: i64,
    /// The number of its last frame.
    pub last_seq: i64,
    /// The checkpoint when it closed, which its successor starts from. A transition leaves it empty: the store copies the
    /// one it has (or the one in the same change).
    pub checkpoint: Option<Json>,
}

/// A transition's event, for the feed and, if it cannot be derived, for the run's history.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub at: Wall,
    /// In which epoch.
    pub epoch: Epoch,
    /// The state after it.
    pub state: State,
    /// Why.
    pub reason: Option<Reason>,
    /// A sentence or note for people.
    pub note: Option<String>,
}

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $text:literal,)*) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum EventKind { $($(#[$doc])* $variant = $number,)* }

        impl EventKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable name on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Reads a row's number.
            #[must_use]
            pub const fn from_number(n: i64) -> Option<Self> {
                match n { $($number => Some(Self::$variant),)* _ => None }
            }

            /// Whether it must be kept with the run, because rows of runs and attempts do not tell it.
            #[must_use]
            pub const fn is_kept(self) -> bool {
                matches!(
                    self,
                    Self::Queued | Self::Scheduled | Self::Held | Self::CancelRequested | Self::Released | Self::Salvaged
                )
            }
        }
    };
}

event_kinds! {
    /// The run exists.
    Created = 0 "run.created",
    /// It waits for a worker.
    Queued = 1 "run.queued",
    /// It waits for a time.
    Scheduled = 2 "run.scheduled",
    /// It waits for a release.
    Held = 3 "run.held",
    /// A worker took it.
    Claimed = 4 "run.claimed",
    /// The attempt began.
    Started = 5 "attempt.started",
    /// The attempt was lost.
    Lost = 6 "attempt.lost",
    /// The attempt failed and another follows.
    AttemptFailed = 7 "attempt.failed",
    /// The worker handed it back.
    HandedBack = 8 "attempt.released",
    /// Somebody asked for its end.
    CancelRequested = 9 "run.cancel_requested",
    /// Somebody released it.
    Released = 10 "run.released",
    /// It ended.
    Finished = 11 "run.finished",
    /// A success that arrived after the loss was accepted.
    Salvaged = 12 "run.salvaged",
}

/// How far the work says it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 1.
    pub fraction: Option<f64>,
    /// For people.
    pub note: Option<String>,
    /// When it was said.
    pub at: Wall,
}

/// What changes in the run's detail row. `None` leaves a column as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DetailPatch {
    /// The last checkpoint.
    pub checkpoint: Option<Json>,
    /// The last progress.
    pub progress: Option<Progress>,
    /// The structured result.
    pub result: Option<Json>,
    /// What the work said when it failed.
    pub error: Option<ErrorReport>,
    /// How the last process ended.
    pub exit: Option<ExitReport>,
    /// Details of the reason, for programs: why nobody took a run that expired.
    pub reason_detail: Option<Json>,
    /// Data for the next attempt, from whoever released it; `null` takes back what there was.
    pub resume_data: Option<Json>,
    /// A note for people: why it waits, or why it was cancelled.
    pub note: Option<String>,
}

impl DetailPatch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a transition does to the measured recovery of the run.
#[derive(Clone, Debug, PartialEq)]
pub enum RecoveryStep {
    /// A recovery begins.
    Lost {
        /// The lost attempt.
        epoch: Epoch,
        /// Who had it.
        holder: Holder,
        /// What proved it.
        evidence: Evidence,
        /// Why.
        reason: Reason,
        /// The last sign of life.
        last_heard_at: Wall,
        /// The verdict.
        lost_at: Wall,
        /// When it was (or will be) queued again; none if it ended or is held.
        queued_at: Option<Wall>,
    },
    /// The run is leased again.
    Claimed {
        /// By whom.
        holder: Holder,
        /// The new epoch.
        epoch: Epoch,
        /// When.
        at: Wall,
    },
    /// The new attempt began.
    Started(Wall),
    /// It reported a checkpoint (none) or progress (its fraction).
    Advanced {
        /// When.
        at: Wall,
        /// None: a checkpoint, which counts as caught up.
        fraction: Option<f64>,
    },
    /// The run ended, or was lost again, before it caught up.
    Over,
    /// The lost attempt's own success was accepted after all.
    Salvaged,
}

/// Everything that one transition changes beside the run's own row.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// An attempt to materialise.
    pub closed: Option<Attempt>,
    /// Columns of the detail row.
    pub detail: DetailPatch,
    /// For the feed; those of [`EventKind`] that cannot be derived are kept with the run as well.
    pub events: Vec<Event>,
    /// Steps of the run's recovery, in order.
    pub recovery: Vec<RecoveryStep>,
    /// Frames to append, with their offsets.
    pub frames: Vec<(i64, crate::report::Frame)>,
    /// The lease closed: serial key and cap are free.
    pub freed: bool,
}

impl Change {
    /// Nothing changes beside the row.
    #[must_use]
    pub fn none(run: &Run) -> Self {
        Self {
            from: run.state,
            closed: None,
            detail: DetailPatch::default(),
            events: Vec::new(),
            recovery: Vec::new(),
            frames: Vec::new(),
            freed: false,
        }
    }

    pub(crate) fn event(&mut self, run: &Run, kind: EventKind, at: Wall, note: Option<String>) {
        self.events.push(Event { kind, at, epoch: run.epoch, state: run.state, reason: run.reason, note });
    }
}

impl Run {
    /// The open lease, if there is one.
    #[must_use]
    pub fn lease(&self) -> Option<(Holder, LeaseRef)> {
        let holder = self.holder.filter(|_| self.state.is_leased())?;
        Some((holder, LeaseRef { run_id: self.id, epoch: self.epoch }))
    }

    /// Whether a worker ever had it. Its epoch does not tell: a restored store raises all of them.
    #[must_use]
    pub const fn was_claimed(&self) -> bool {
        self.claimed_at.is_some()
    }

    /// What people call the attempt: failures + 1, or the last one's number once the run has ended.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        let failed_for_good = matches!(self.state, State::Failed | State::TimedOut);
        if failed_for_good && self.failures > 0 { self.failures } else { self.failures + 1 }
    }

    /// Whether a worker could take it now, caps and rates apart.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self.state, State::Queued) && !self.blocked
    }
}
