//! What can go wrong, one enum per kind of caller.

use outlive_core::{RunId, State};

/// The store itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was written. Trying again may help.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The disk (or a set limit) is full. Nothing was written.
    #[error("the store is full: {0}")]
    Full(String),
    /// Whether it was written is not known. Repeating the same call is safe.
    #[error("the outcome of a commit is not known: {0}")]
    Unknown(String),
    /// A row or file is not what it must be. Not retried.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// Another process has it open, or it is of a newer version, or on a file system that cannot hold it.
    #[error("the store cannot be opened: {0}")]
    Refused(String),
}

/// Creation.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CreateError {
    /// An active run of the queue has the same business key.
    #[error("key \"{key}\" is taken by the active run {by}")]
    KeyConflict {
        /// Which item of the batch.
        index: usize,
        /// The key.
        key: String,
        /// Who has it.
        by: RunId,
    },
    /// The same idempotency key (or run id) with another body.
    #[error("the idempotency key was used for another request")]
    IdempotencyMismatch,
    /// A client-chosen id exists with another body.
    #[error("a run with id {id} exists and is not this one")]
    IdConflict {
        /// Which item of the batch.
        index: usize,
        /// The id.
        id: RunId,
    },
    /// Only repetitions were to be answered, and this is none.
    #[error("nothing new is admitted now, and this request was not made before")]
    WouldBeNew,
    /// A parent or retried run that does not exist in the namespace.
    #[error("run {id} does not exist")]
    RunNotFound {
        /// Which item of the batch.
        index: usize,
        /// The id.
        id: RunId,
    },
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A write to one run by a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No such run in the namespace.
    #[error("no such run")]
    NotFound,
    /// It has ended.
    #[error("the run has ended: {0}")]
    Terminal(State),
    /// It has not ended.
    #[error("the run has not ended: {0}")]
    NotTerminal(State),
    /// The same idempotency key with another body.
    #[error("the idempotency key was used for another request")]
    IdempotencyMismatch,
    /// It waits for nothing that could be released.
    #[error("the run is {0}; only held and scheduled runs can be released")]
    NotWaiting(State),
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Registration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Another process has the name.
    #[error("the name \"{name}\" is in use by a worker that answers")]
    NameInUse {
        /// The name.
        name: String,
    },
    /// The store itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}
