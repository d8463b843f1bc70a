//! The agent's decisions, and the thread that plays them.
//!
//! [`Agent`] is a state machine without I/O: inputs in, effects out, time as an argument, no randomness but a seed. The
//! thread in [`io`] plays it against a real server and real processes, the simulation against a world of its own.
//!
//! ```text
//!   Connected, Server, Disconnected ──►┌──────────────────────────────┐──► Connect, Send, Close
//!   Child (started, output, ended)  ──►│ link     connection, beats   │──► Spawn, Stop, Tell, Window
//!   Stored, Guard, Shutdown, time   ──►│ run      one attempt each    │──► Guard (trust deadlines)
//!                                      │ reports  what is not yet     │──► Store, Forget
//!                                      │          acknowledged        │──► Exit
//!                                      └──────────────────────────────┘
//! ```
//!
//! An attempt's life here:
//!
//! ```text
//!   lease ─► waiting ─► starting ─► running ─► ended ─► (answered: forgotten)
//!              │           │  cancel, limit,     ▲
//!              │           └► release, drain ─► stopping (TERM, grace, KILL)
//!              └─────────── lost, fenced ─────► doomed (KILL) ─► (reaped: forgotten)
//! ```
//!
//! *Waiting* lasts while an older attempt of the same run still has a process here, or while trust is over. *Ended* lasts
//! until the server has answered the terminal report, which is sent only after the outbox has it.

mod addresses;
mod attempts;
mod beats;
mod connect;
mod ending;
mod guarding;
pub mod io;
mod limits;
mod link;
mod replay;
mod reports;
mod run;
mod shell;
mod speech;
mod state_machine;
#[cfg(test)]
mod tests;
pub mod types;
mod wire;

pub use state_machine::{Agent, Settings};
pub use types::{Call, ChildEvent, Conn, Effect, End, GuardEvent, Input, Now, Parsed, Stop};
