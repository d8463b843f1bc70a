//! Why a command could not be carried out, and what the caller is told.

use outlive_store::{StoreError, Trouble};
use std::error::Error as _;
use tokio_postgres::error::SqlState;

/// The store's own failure; a refusal of the request is an answer, not a fault.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The disk or a set limit is full.
    Full(String),
    /// The server takes no writes: a standby, or set so.
    ReadOnly(String),
    /// The server says that its files are not what it wrote.
    Corrupt(String),
    /// Another transaction was first: the same again will see what it did.
    Race(String),
    /// The connection is gone, or none could be had.
    Gone(String),
    /// An earlier statement of the transaction failed; that one says why.
    Aborted,
    /// A row is not what it must be.
    Damaged(String),
    /// Anything else that the server said.
    Other(String),
}

impl Fault {
    /// For a value that no writer of this crate could have stored.
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    fn text(&self) -> String {
        match self {
            Self::Full(why)
            | Self::ReadOnly(why)
            | Self::Corrupt(why)
            | Self::Race(why)
            | Self::Gone(why)
            | Self::Damaged(why)
            | Self::Other(why) => why.clone(),
            Self::Aborted => "the transaction was given up".to_owned(),
        }
    }

    /// What the caller is told when nothing was written.
    pub(crate) fn refused(&self) -> StoreError {
        match self {
            Self::Full(why) => StoreError::Full(why.clone()),
            Self::Corrupt(why) | Self::Damaged(why) => StoreError::Corrupt(why.clone()),
            _ => StoreError::Unavailable(self.text()),
        }
    }

    /// What the caller is told when it happened while committing.
    pub(crate) fn unknown(&self) -> StoreError {
        match self {
            Self::Full(why) => StoreError::Full(why.clone()),
            Self::ReadOnly(why) | Self::Race(why) => StoreError::Unavailable(why.clone()),
            _ => StoreError::Unknown(self.text()),
        }
    }

    /// What people should know about the store, until it is over.
    pub(crate) const fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Full(_) => Some(Trouble::Full),
            Self::ReadOnly(_) => Some(Trouble::ReadOnly),
            Self::Corrupt(_) => Some(Trouble::Damaged),
            _ => None,
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let text = said(&error);
        let Some(code) = error.code() else { return Self::Gone(text) };
        match *code {
            SqlState::DISK_FULL | SqlState::INSUFFICIENT_RESOURCES | SqlState::PROGRAM_LIMIT_EXCEEDED => {
                Self::Full(text)
            }
            SqlState::READ_ONLY_SQL_TRANSACTION => Self::ReadOnly(text),
            SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => Self::Corrupt(text),
            SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::LOCK_NOT_AVAILABLE
            | SqlState::UNIQUE_VIOLATION => Self::Race(text),
            SqlState::IN_FAILED_SQL_TRANSACTION => Self::Aborted,
            SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            | SqlState::TOO_MANY_CONNECTIONS => Self::Gone(text),
            _ if code.code().starts_with("08") => Self::Gone(text),
            _ => Self::Other(text),
        }
    }
}

/// What went wrong, with its cause: the server's own words if it said any.
pub(crate) fn said(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

impl From<deadpool_postgres::PoolError> for Fault {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) => Self::Gone(said(&error)),
            other => Self::Gone(format!("no connection could be had: {other}")),
        }
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(format!("a stored JSON text cannot be read: {error}"))
    }
}

/// The result of a statement or of a group of them.
pub(crate) type Done<T> = Result<T, Fault>;
/// Outside: whether the store could; inside: what it answers.
pub(crate) type Answer<T, E> = Done<Result<T, E>>;
