//! The typed client: one method per call, over one pooled connection set.
//!
//! | file | what |
//! |---|---|
//! | [`http`] | requests, errors, JSON |
//! | `servers` | which of several servers is asked, and when the next one may be |
//! | [`calls`] | one method per endpoint |
//! | [`sse`] | following a run's output |
//! | [`socket`] | a worker's session |

pub mod calls;
pub mod http;
mod servers;
pub mod socket;
pub mod sse;

pub use http::{Client, ClientError};
