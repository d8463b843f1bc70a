//! One file per resource or verb; each handler reads, calls, answers.

pub(crate) mod actions;
pub(crate) mod claim;
pub(crate) mod create;
pub(crate) mod echo;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod output;
pub(crate) mod queues;
pub(crate) mod recoveries;
pub(crate) mod register;
pub(crate) mod report;
pub(crate) mod runs;
pub(crate) mod server;
pub(crate) mod signal;
pub(crate) mod stuck;
pub(crate) mod subjects;
pub(crate) mod workers;
