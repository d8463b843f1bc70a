//! The policies of `examples/policies/` on simulated time: four production systems as configurations of this one, and the
//! failures that each of them knew.
//!
//! The whole server runs here (routes, engine, sweeps, SQLite in memory) on a clock that moves only when nothing else is left to do.
//! Tests speak HTTP to it, as the workers and clients of those systems would: three hours pass in a few seconds.

mod attune;
mod lobu_connectors;
mod lobu_watchers;
mod multica;
pub(crate) mod support;
