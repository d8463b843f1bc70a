//! The agent: it holds a session with a server, the leases that come over it, and the processes that do the work.
//!
//! ```text
//!             ┌─────────────── agent process ────────────────┐
//!   server ◄──┤ session thread      spawner    outbox        │
//!   WebSocket │  agent::Agent        thread    thread        │      ┌───────┐
//!             │  (decides)    ◄────► process thread ─────────┼─────►│ work  │ own group, cgroup, PDEATHSIG
//!             │      │               pipes, channel, exits   │      └───────┘
//!             └──────┼───────────────────────────────────────┘          ▲ freeze, thaw, kill
//!                    └── pipe: trust deadlines ──► guard process ───────┘
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`agent`] | the decisions, as a state machine without I/O, and the thread that plays it against a server |
//! | [`guard`] | the process that freezes work at its deadline and kills it when the agent is gone |
//! | [`reach`] | everything that one lease has started: how to find, freeze, thaw and kill it |
//! | [`runtime`] | what handles a kind: commands, and handlers inside the process |
//! | [`channel`] | the socket between an attempt and its agent |
//! | [`state`], [`outbox`] | what survives the agent |
//!
//! Nothing but [`sys`] contains unsafe code.

pub mod agent;
pub mod channel;
pub mod config;
pub mod guard;
pub mod outbox;
pub mod reach;
pub mod runtime;
pub mod state;
pub mod sys;

pub use agent::io::run;
pub use config::{AgentConfig, AgentError, AgentExit, AgentStatus, Shutdown};
pub use guard::guard_main;
pub use runtime::{Attempt, Busy, Handler};
