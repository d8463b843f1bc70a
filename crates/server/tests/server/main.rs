//! A real server on a free port, over its real interface.

mod audit;
mod bad_input;
mod bad_sessions;
mod breaker;
mod cut;
mod events;
mod liveness;
mod lost_answers;
mod polling;
mod postgres;
mod raw;
mod replicas;
mod restart;
mod runs;
mod safety;
mod sessions;
mod settings;
mod signals;
mod small_disk;
mod store_faults;
mod support;
