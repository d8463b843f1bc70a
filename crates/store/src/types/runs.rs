//! Runs as clients create, read and end them.

use super::{ClaimOrder, Claimed, Commit};
use outlive_core::class::MatchClass;
use outlive_core::options::RunOptions;
use outlive_core::report::{ErrorReport, ExitReport};
use outlive_core::run::begin::NewRun;
use outlive_core::run::{Progress, Run};
use outlive_core::{Holder, Json, LeaseRef, Reason, RunId, State, Wall};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A worker that must be told to cancel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelOrder {
    /// Whom.
    pub holder: Holder,
    /// What.
    pub lease: LeaseRef,
    /// Why.
    pub reason: Reason,
}

/// Runs to create, all or nothing.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The tenant.
    pub namespace: String,
    /// At most 1,000.
    pub runs: Vec<CreateRun>,
    /// The client's idempotency key.
    pub idempotency: Option<Idempotency>,
    /// Claims to make in the same transaction, after the creation.
    pub claims: Vec<ClaimOrder>,
    /// Answers only what an earlier request made: a repetition gets its first answer, anything new is
    /// [`CreateError::WouldBeNew`](crate::CreateError::WouldBeNew). For callers that admit nothing new now.
    pub only_known: bool,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct CreateRun {
    /// The row.
    pub new: NewRun,
    /// Whether the client chose the id, so that a repetition is a repetition.
    pub id_chosen: bool,
    /// What the business key does when it is taken.
    pub on_conflict: OnConflict,
    /// The input.
    pub input: Json,
    /// The rest.
    pub options: RunOptions,
    /// What the first attempt starts from.
    pub checkpoint: Option<Json>,
}

/// What a taken business key does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Refused.
    #[default]
    Reject,
    /// The run that has it is the answer.
    Return,
    /// A waiting one ends `superseded`; a leased one is cancelled and gives the key up at once; the new one waits.
    Replace,
}

/// An idempotency key with the hash of the request that it was used for. Kept for 24 h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The client's text.
    pub key: String,
    /// Of the body.
    pub body_hash: [u8; 32],
}

/// What a creation made.
#[derive(Clone, Debug)]
pub struct Created {
    /// In the order of the request.
    pub runs: Vec<CreatedRun>,
    /// One per claim order, in order.
    pub claimed: Vec<Claimed>,
    /// Hints.
    pub commit: Commit,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct CreatedRun {
    /// The row as it is at the end of the transaction.
    pub run: Run,
    /// It was there before (same id, idempotency key, or `on_conflict: return`).
    pub existed: bool,
}

/// A cancel.
#[derive(Clone, Debug)]
pub struct Cancelled {
    /// The state after it.
    pub state: State,
    /// Hints; `cancels` names the workers to tell.
    pub commit: Commit,
}

/// A run with all that people may see.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// The hot row.
    pub run: Run,
    /// What it needs of a worker.
    pub class: Arc<MatchClass>,
    /// Its input.
    pub input: Json,
    /// Its options.
    pub options: RunOptions,
    /// The rest.
    pub detail: Detail,
    /// The holder's name.
    pub worker_name: Option<String>,
    /// While it is cancelling: when somebody asked for that.
    pub cancel_requested_at: Option<Wall>,
}

/// The detail row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detail {
    /// The last checkpoint.
    pub checkpoint: Option<Json>,
    /// The last progress.
    pub progress: Option<Progress>,
    /// The structured result.
    pub result: Option<Json>,
    /// What the work said.
    pub error: Option<ErrorReport>,
    /// How the process ended.
    pub exit: Option<ExitReport>,
    /// For people.
    pub note: Option<String>,
    /// Details of the run's reason, for programs.
    pub reason_detail: Option<Json>,
    /// For the next attempt.
    pub resume_data: Option<Json>,
}

/// Which runs.
#[derive(Clone, Debug, Default)]
pub struct RunQuery {
    /// The tenant.
    pub namespace: String,
    /// Any of these; empty: all.
    pub states: Vec<State>,
    /// Lane.
    pub queue: Option<String>,
    /// Kind.
    pub kind: Option<String>,
    /// The name of the worker that holds or last held it.
    pub worker: Option<String>,
    /// A subject.
    pub subject: Option<String>,
    /// A serial key.
    pub serial_key: Option<String>,
    /// A parent.
    pub parent: Option<RunId>,
    /// A tag.
    pub tag: Option<(String, String)>,
    /// A reason.
    pub reason: Option<Reason>,
    /// The last characters of the id, lower-case hexadecimal and dashes.
    pub id_suffix: Option<String>,
    /// The first characters of the id, likewise.
    pub id_prefix: Option<String>,
    /// At most this many.
    pub limit: u32,
    /// Older than this row.
    pub cursor: Option<i64>,
}

/// A page. `next` is a cursor for the rest; a page may be empty and still have one (a bounded scan).
#[derive(Clone, Debug)]
pub struct Page<T, C = i64> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins.
    pub next: Option<C>,
}
