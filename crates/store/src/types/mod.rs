//! The values that go in and out of a store.

mod catalog;
mod history;
mod leases;
mod replicas;
mod runs;
mod sweeps;
mod workers;

pub use catalog::*;
pub use history::*;
pub use leases::*;
pub use replicas::*;
pub use runs::*;
pub use sweeps::*;
pub use workers::*;
