//! Real processes: commands, the guard, and whole agents against a server of their own.

mod agent;
mod bench;
mod commands;
mod failover;
mod fake_server;
mod guard;
mod handlers;
mod hazards;
mod limits;
mod namespaces;
mod support;
