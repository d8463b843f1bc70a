//! Copies of a store: what was saved, and what a restored one starts from.

use serde::Serialize;
use std::path::PathBuf;
use uuid::Uuid;

/// A copy of a store: complete, consistent, read through, and on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Where it is.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Runs of every state in it.
    pub runs: u64,
    /// Of these, how many a worker was at when it was made.
    pub leased: u64,
    /// The generation of the store that it is a copy of.
    pub generation: Uuid,
    /// The version of its schema.
    pub schema: i64,
}

/// A store that was made from a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Where it is.
    pub file: PathBuf,
    /// The store that was there before, kept beside it.
    pub replaced: Option<PathBuf>,
    /// Runs of every state in it.
    pub runs: u64,
    /// Runs that were leased when the copy was made, and are queued again.
    pub requeued: u64,
    /// Runs that were leased and about to be cancelled: they are.
    pub cancelled: u64,
    /// The new generation. Tokens and leases of any other are void.
    pub generation: Uuid,
}
