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
//! | `balance` | a load balancer that sprays |
//! | [`cluster`] | replicas over one PostgreSQL, workers, the database and the network between them fail, for as long as you like |
//! | [`link`] | something on the way between two processes |
//! | `load` | who asks, and writes down what was answered |
//! | [`read`] | a run as the API shows it |
//! | [`store`] | the server is killed with `kill -9` in a loop |
//! | [`process`] | a server and workers of a built binary |
//! | [`rng`] | numbers that follow from a seed |

mod balance;
pub mod cluster;
pub mod history;
pub mod link;
pub mod liveness;
mod load;
pub mod process;
pub mod read;
pub mod rng;
pub mod store;
