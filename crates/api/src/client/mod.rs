//! The typed client: one method per call, over one pooled connection set.
//!
//! | file | what |
//! |---|---|
//! | [`http`] | requests, errors, JSON |
//! | `servers` | which of several servers is asked, and when the next one may be |
//! | [`calls`] | one method per endpoint |
//! | [`output`], [`events`] | following a run's output, and the feed; both are server-sent events (`sse`) |
//! | [`socket`] | a worker's session |

pub mod calls;
pub mod events;
pub mod http;
pub mod output;
mod servers;
pub mod socket;
mod sse;

pub use http::{Client, ClientError};
