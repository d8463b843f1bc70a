//! Background duties.

use super::Commit;
use outlive_core::explain::Cause;
use outlive_core::{RunId, Wall};

/// A run that nobody took in time, with what kept it from being taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Which.
    pub id: RunId,
    /// The causes of explain; may be none if nothing is known.
    pub because: Vec<Cause>,
}

/// What a tick did.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// Rows that wanted something.
    pub found: u64,
    /// Rows that got it.
    pub acted: u64,
    /// Rows that wanted it no more when it came to them: somebody else was there first.
    pub lost_race: u64,
    /// Rows that cannot be read; they are named in the log, and hold nothing else up.
    pub failed: u64,
    /// Another replica does this now: nothing was looked at.
    pub not_owner: bool,
    /// There may be more.
    pub more: bool,
    /// When the next row is due, if the tick knows.
    pub next_due: Option<Wall>,
    /// Hints.
    pub commit: Commit,
}
