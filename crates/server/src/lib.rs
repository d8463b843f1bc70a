//! The control plane as a library: `start` a server, `stop` it.
//!
//! ```text
//!   routes/ ──┐                                   ┌── services/  ticks, in one table
//!   session/ ─┼──► Driver (the engine and its connections) ──► Store
//!             └──► App   (store, catalogue, hub, clock) ◄──┘
//! ```
//!
//! A handler or loop reads, calls the store or the engine, and answers; what a run means and who is dead is decided in
//! `outlive-core`. [`app`] is the only module that names a backend.

mod app;
mod catalog;
mod cluster;
mod commit;
mod disk;
mod driver;
mod errands;
mod extract;
mod hub;
mod listen;
mod metrics;
mod notices;
mod openapi;
mod opening;
#[cfg(test)]
mod policies;
mod reply;
mod router;
mod routes;
mod safety;
mod services;
mod session;
mod start;
#[cfg(test)]
mod suspended {
    mod tests;
}
mod token;
mod view;

pub use app::{Backend, History, Restoring, Survey, backup, examine, survey};
pub use openapi::openapi;
pub use outlive_store::{Backup, Restored, StoreError, StoreState};
pub use start::{Config, Server, StartError, StoreLocation, start, start_on};
