//! Deterministic simulation over the real engine, store and worker logic.
//!
//! One number decides everything: which runs clients create, how long every message takes, what fails and when. The engine,
//! the agent, the guard's watch, the run's transitions and the store (SQLite in memory behind the fault decorator) are the real
//! ones; the world around them (time, network, processes, the server's shell) is made of events in one queue. After every
//! write the rows that it changed are compared by the invariants of `outlive_core::invariants`; the same seed gives the same
//! event log, byte for byte, and a failure is played again from its number:
//!
//! ```text
//! cargo run -p outlive-sim -- --seed 17 --scenario lost_replies --log
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`run`] | one history from its seed |
//! | [`scenario`] | which faults strike |
//! | [`twin`] | the same world with one rule missing: what the checks must catch |
//!
//! *Left out on purpose*: an agent that is stopped while its connection is dropped. It cannot notice the end, so that its guard
//! freezes at the deadline of the last acknowledged beat, while the server may act after the window: the work of both may overlap.
//! Nor is a direct connection dropped while one side of it cannot be told: that is what a proxy may do, and does here.
//! Once the guard freezes what an agent that does not speak to it holds, this fault belongs in `faults.rs`.
//!
//! Suspended hosts are not in this world: all clocks of a host go on.

mod check;
mod clients;
mod faults;
mod host;
mod log;
mod net;
mod poller;
mod queue;
mod rng;
pub mod run;
pub mod scenario;
mod server;
mod store;
pub mod twin;
mod world;

pub use check::Counts;
pub use run::{Options, Report, play};
pub use scenario::{SCENARIOS, Scenario, by_name};
pub use twin::Twin;
