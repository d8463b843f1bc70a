//! What must hold whatever was done. Pure: facts in, findings out.
//!
//! | file | what |
//! |---|---|
//! | [`run`] | one run by itself: its end, its attempts, each byte of its log, its checkpoints, when it executed |
//! | [`across`] | several at once: limits and serial keys |
//! | [`recovery`] | how long each recovery took, against the bound I11 |

mod across;
mod recovery;
mod run;

pub use across::Span;
pub use recovery::{Recovered, Worst};

use super::ledger::{Ledger, Loss};
use crate::history::{self, History};
use crate::read::Entry;
use outlive_core::print::Notes;
use outlive_core::stamps::{Overlap, Stamp};
use outlive_core::{Epoch, Incarnation, Millis, Reason, RunId, State, Wall};
use std::collections::BTreeMap;
use std::fmt;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What its bytes follow from.
    pub seed: u64,
    /// How many lines it prints, over all its attempts.
    pub lines: u64,
    /// How many of its attempts fail by themselves.
    pub failures: u64,
    /// In the queue with a limit.
    pub capped: bool,
    /// Never at once with others of the same one.
    pub serial: Option<String>,
}

/// One attempt, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its epoch.
    pub epoch: Epoch,
    /// Whose.
    pub worker: String,
    /// Which of its starts.
    pub incarnation: Incarnation,
    /// From when on.
    pub claimed: Wall,
    /// Until when.
    pub ended: Option<Wall>,
    /// Why it ended, unless it ended well.
    pub reason: Option<Reason>,
}

/// What is there of one run when everything is over.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which.
    pub run: RunId,
    /// The request that made it.
    pub ask: u64,
    /// What was asked for; none: a polling worker's.
    pub order: Option<Order>,
    /// Its state.
    pub state: State,
    /// Its epoch.
    pub epoch: Epoch,
    /// Attempts that failed by themselves.
    pub failures: u64,
    /// Its checkpoint.
    pub checkpoint: Option<u64>,
    /// Oldest first.
    pub attempts: Vec<Tried>,
    /// Its log over all attempts.
    pub log: Vec<Entry>,
    /// What its attempts stamped while they executed.
    pub stamps: Vec<Stamp>,
    /// What they noted.
    pub notes: Notes,
    /// Ends of its transitions, as its own events tell them: state by state.
    pub ends_told: u64,
}

/// What is known beside the runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What callers were told.
    pub history: History,
    /// What was done.
    pub ledger: Ledger,
    /// How often the feed told the end of a run, and as what.
    pub feed: BTreeMap<RunId, Vec<State>>,
    /// What readers that followed a run saw of it, to its end.
    pub followed: Vec<(RunId, Vec<Entry>)>,
    /// Every recovery.
    pub recoveries: Vec<Recovered>,
    /// Moments at which the store had more of something than it may have.
    pub excesses: Vec<String>,
    /// The lease of every queue here.
    pub lease_ttl: Millis,
    /// The most that may run at once in the queue with a limit.
    pub cap: u32,
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// What was acknowledged is not there, or is there twice.
    Told(history::Finding),
    /// A run did not end as it should.
    EndedAs(RunId, State),
    /// Its end was told so often, by its own events or by the feed.
    FinishedNotOnce(RunId, u64, &'static str),
    /// The feed told another end than the one that is there.
    FeedDiffers(RunId, Vec<State>, State),
    /// An attempt was taken from its worker, to which nothing had been done that explains it.
    FalseKill(RunId, Epoch, Loss),
    /// It failed by itself more or less often than it was told to.
    Failures(RunId, u64, u64),
    /// The log has something of an attempt after its successor's marker, or markers that do not rise.
    StaleWrite(RunId, Epoch, Epoch),
    /// What an attempt printed is not what is in the log: the first byte that differs, or where one of both ends.
    Bytes(RunId, Epoch, usize),
    /// A reader that followed saw something else than what is in the log.
    ReaderSaw(RunId, String),
    /// An attempt did not start from the last acknowledged checkpoint before it.
    CheckpointLost(RunId, Epoch, u64, u64),
    /// Two attempts executed at once.
    Overlap(RunId, Overlap),
    /// Runs with one serial key executed at once.
    SerialBroken(String, RunId, RunId),
    /// So many executed at once in the queue with a limit, at this reading of the machine's clock.
    CapExceeded(usize, u64),
    /// The same, as the store itself had it.
    Excess(String),
    /// A recovery took longer than I11 allows: run, lost epoch, milliseconds, and how many it had.
    TooSlow(RunId, Epoch, Millis, Millis),
    /// The cluster did not come back after a blow.
    NotSettled(String),
    /// What was to be done was not done, so that nothing is proved.
    NoBlow(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Whether it was closed by its worker's fault or absence.
#[must_use]
pub fn is_loss(tried: &Tried) -> bool {
    run::loss(tried).is_some()
}

/// Everything that is wrong; and the slowest recoveries.
#[must_use]
pub fn check(facts: &Facts, seen: &[Seen]) -> (Vec<Finding>, Worst) {
    let found: Vec<_> = seen.iter().map(run::found).collect();
    let mut findings: Vec<_> = history::check(&facts.history, &found).into_iter().map(Finding::Told).collect();
    for one in seen {
        run::check(facts, one, &mut findings);
    }
    run::readers(facts, seen, &mut findings);
    across::check(facts, seen, &mut findings);
    let worst = recovery::check(facts, seen, &mut findings);
    (findings, worst)
}

#[cfg(test)]
mod tests;
