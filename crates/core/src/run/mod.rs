//! The life of a run, as pure transitions over its row.
//!
//! A store loads a [`Run`], calls one transition, and writes the row and the returned [`Change`] in one transaction. It never
//! decides anything itself. What the normal path (one attempt, no output) leaves is this row and nothing else: its attempt, its
//! markers and its events are *derived* from it ([`mod@derive`]); they materialise only when an attempt closes without ending
//! the run.
//!
//! | file | transition |
//! |---|---|
//! | [`record`] | the row itself, the closed attempt, the change |
//! | [`begin`] | create, due, release, expire: the waiting states |
//! | [`lease`] | claim, start, the fence |
//! | [`report`] | what a worker says |
//! | [`finish`] | loss, cancel, and how every attempt closes |
//! | [`mod@derive`] | attempts, markers and events from rows |

pub mod begin;
pub mod derive;
pub mod finish;
pub mod lease;
pub mod record;
pub mod report;

pub use finish::{Loss, LossBudget};
pub use lease::Fence;
pub use record::{
    Attempt, Change, ClosedBy, DetailPatch, Event, EventKind, Evidence, OutputHead, Progress, RecoveryStep, Run,
};
pub use report::ReportContext;

#[cfg(test)]
mod tests;
