//! A PostgreSQL of its own, for tests, chaos and the demo: made in a temporary folder, on a free port and a socket in that
//! folder, behind a random password; so nobody finds it by accident and it finds nobody. It ends with its [`Server`], and,
//! if the process that has it is killed, by the kernel's death signal.
//!
//! ```text
//! Server::start ─► initdb ─► [keeper thread] setpriv --pdeathsig INT postgres -D folder ─► answers ─► url(database)
//! ```
//!
//! `fsync` and everything else that durability rests on is as PostgreSQL ships it. PostgreSQL refuses to run as root; as
//! root it is started as the user `postgres` (or `nobody`).
//!
//! | file | holds |
//! |---|---|
//! | `programs` | where PostgreSQL's programs are, and as whom they run |
//! | `keeper` | a child that ends with this process |
//! | `server` | the server |
//! | `database` | databases on it, each for one test; where tests find a shared server |
//! | `bouncer` | a pgbouncer in front of it |
//! | `redis` | a Redis, for the liveness exchange |
//! | `certificate` | certificates for those that speak TLS (a feature of that name) |

mod bouncer;
#[cfg(feature = "certificate")]
mod certificate;
mod database;
mod keeper;
mod programs;
mod redis;
mod server;

pub use bouncer::Bouncer;
#[cfg(feature = "certificate")]
pub use certificate::{Signed, signed_for};
pub use database::{Database, SHARED, Template, shared};
pub use redis::Redis;
pub use server::{Options, Server, sql as ask};

/// Why something could not be started or asked, as a lower-case fragment.
pub type Failure = String;
