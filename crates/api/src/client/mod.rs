//! The typed client: one method per call, over one pooled connection set.
//!
//! | file | what |
//! |---|---|
//! | [`http`] | requests, errors, JSON |
//! | [`calls`] | one method per endpoint |
//! | [`sse`] | following a run's output |
//! | [`socket`] | a worker's session |

pub mod calls;
pub mod http;
pub mod socket;
pub mod sse;

pub use http::{Client, ClientError};
