//! The binary as a person or a script uses it, against real servers and workers on free ports in temporary folders.
//! Tests wait for states, never for a time.

mod benches;
mod chaos;
mod client;
mod cluster;
mod contract;
mod copies;
mod cuts;
mod demos;
mod deploy;
mod dev;
mod disk_errors;
mod doctor;
mod events;
mod failover;
mod limits;
mod outage;
mod outbox;
mod support;
mod takeover;
mod upgrade;
mod waiting;
