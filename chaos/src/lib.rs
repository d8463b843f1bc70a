//! Faults done to real processes under load.
//!
//! ```text
//!   load (clients, polling workers, real workers, watchers) ──► the binary's server ◄── SIGKILL, start, SIGKILL, …
//!     │ every answer                                                  │ at the end, through the API
//!     ▼                                                               ▼
//!   history: what was acknowledged ────────────► check ◄──────── what is there
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`history`] | what was acknowledged, what is there, and the check of one against the other: pure |
//! | [`liveness`] | servers, workers, clocks, networks and stores fail around live runs; nobody who lives is taken for dead |
//! | [`read`] | a run as the API shows it |
//! | [`store`] | the server is killed with `kill -9` in a loop |
//! | [`process`] | a server and workers of a built binary |
//! | [`rng`] | numbers that follow from a seed |

pub mod history;
pub mod liveness;
pub mod process;
pub mod read;
pub mod rng;
pub mod store;
