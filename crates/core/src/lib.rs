//! What a run means and when a worker is dead, as pure decisions.
//!
//! Nothing in this crate spawns, sleeps, reads a clock, talks to a store or a socket. Time is an argument everywhere, which
//! is what lets the simulation play years of it.
//!
//! | module | answers |
//! |---|---|
//! | [`run`] | what happens to a run when somebody creates, claims, reports, loses or cancels it |
//! | [`engine`] | when a worker is dead, who gets which work, what each connection is told |
//! | [`policy`], [`limits`], [`budget`] | the values by which they decide |
//! | [`given`] | what somebody said of a policy, and what is default |
//! | [`replica_name`] | what a server is called among those that share a store |
//! | [`resources`] | what one attempt may use of its host |
//! | [`class`] | which worker can take which run |
//! | [`subject`], [`feed`] | what the runs of a subject add up to; what is told of everything |
//! | [`room`] | whether the disk has room for new runs |
//! | [`invariants`] | what must hold whatever happens |
//! | [`stamps`] | whether two attempts of a run executed at once, by what they stamped themselves |
//! | [`mod@print`] | what the commands of tests print, byte by byte, and note |

pub mod budget;
pub mod class;
pub mod clock;
pub mod effective;
pub mod engine;
pub mod explain;
pub mod feed;
pub mod given;
pub mod home;
pub mod ids;
pub mod invariants;
pub mod json;
pub mod limits;
pub mod names;
pub mod options;
pub mod policy;
pub mod possible;
pub mod print;
pub mod replica_name;
pub mod report;
pub mod resources;
pub mod room;
pub mod run;
pub mod stamps;
pub mod state;
pub mod subject;
pub mod time;

pub use ids::{ClassId, Epoch, Holder, HomeSeq, Incarnation, LeaseRef, QueueId, ReplicaId, RunId, WorkerId};
pub use json::Json;
pub use state::{Outcome, Reason, State};
pub use time::{Millis, Mono, Observed, Wall};
