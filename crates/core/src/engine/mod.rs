//! When a worker is dead, who gets which work, and what each connection is told.

pub mod status;

pub use status::Status;
