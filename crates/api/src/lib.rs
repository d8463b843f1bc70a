//! The HTTP contract: wire types, error codes, paths and the typed client.
//!
//! Base path `/v1`, JSON, `snake_case`; times in RFC 3339 UTC with milliseconds, durations as texts (`"10s"`) or whole
//! milliseconds in fields that end in `_ms`. Bodies that people write refuse unknown fields, worker messages ignore them.
//!
//! | module | what |
//! |---|---|
//! | [`runs`], [`output`], [`queues`], [`workers`], [`events`], [`ops`] | bodies of the resource of that name |
//! | [`session`] | the messages of a worker's WebSocket |
//! | [`report`] | the items of a report, on every channel |
//! | [`problem`] | errors |
//! | [`client`] | the typed client |
//! | [`clock`] | the only place that reads a real clock |

pub mod client;
pub mod clock;
pub mod events;
pub mod ops;
pub mod output;
pub mod problem;
pub mod queues;
pub mod report;
pub mod runs;
pub mod session;
pub mod time;
pub mod workers;

/// The protocol that this build speaks. (With the feature `next` it plays the version after this one, for the test of an upgrade.)
pub const PROTOCOL: u32 = if cfg!(feature = "next") { 2 } else { 1 };
/// What a server speaks: its own and the one before, so that servers can be upgraded first and workers later.
pub const PROTOCOLS: std::ops::RangeInclusive<u32> = before(PROTOCOL)..=PROTOCOL;

/// The protocol before this one; the first has none.
const fn before(protocol: u32) -> u32 {
    if protocol > 1 { protocol - 1 } else { 1 }
}

/// Where a server listens if nobody says otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7070";
/// The namespace of requests that name none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The header that names a namespace.
pub const NAMESPACE_HEADER: &str = "outlive-namespace";
/// The header in which an agent names its own socket address, so that the server can tell a proxy between them.
pub const LOCAL_ADDRESS_HEADER: &str = "outlive-local-address";
