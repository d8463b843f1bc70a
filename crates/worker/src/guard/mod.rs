//! The guard: a small process beside the agent that stops work whose lease may be somebody else's.
//!
//! ```text
//!   agent ── stdin: track, trust, group, untrack ──► guard ──► freeze, thaw, kill
//!         ◄─ stdout: ready, frozen, thawed, stopped ─┘
//! ```
//!
//! Its rule is a level, not a sequence of orders: *the work of a lease stands still exactly while its trust deadline is over*.
//! So it needs no agent to freeze (a stopped agent's work freezes too), and a deadline that moves into the future is the thaw.
//! When its stdin ends, the agent is gone, however it went: the guard kills everything that the agent has started, again until
//! a pass finds nothing, and ends.
//!
//! Its deadlines are on a clock that counts suspend, and so is its timer.

mod process;
mod protocol;
mod starter;
mod watch;

pub use process::guard_main;
pub use protocol::{Command, Header, Reply};
pub use starter::{Guard, Started};
pub use watch::{Act, Watch};
