//! Why a command could not be carried out, and what the caller is told.

use outlive_store::{StoreError, Trouble};
use rusqlite::{ErrorCode, ffi};

/// The store's own failure; a refusal of the request is an answer, not a fault.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The disk or a set limit is full.
    Full(String),
    /// The file, or its file system, takes no writes.
    ReadOnly(String),
    /// The file is not what SQLite wrote.
    Corrupt(String),
    /// Reading or writing the file failed: nothing more is trusted to it.
    Io(String),
    /// A row is not what it must be.
    Damaged(String),
    /// Anything else that SQLite said.
    Other(String),
}

impl Fault {
    /// For a value that no writer of this crate could have stored.
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    /// What the caller is told when nothing was written.
    pub(crate) fn refused(&self) -> StoreError {
        match self {
            Self::Full(why) => StoreError::Full(why.clone()),
            Self::Corrupt(why) | Self::Damaged(why) => StoreError::Corrupt(why.clone()),
            Self::ReadOnly(why) | Self::Io(why) | Self::Other(why) => StoreError::Unavailable(why.clone()),
        }
    }

    /// What the caller is told when it happened while committing.
    pub(crate) fn unknown(&self) -> StoreError {
        match self {
            Self::Full(why) => StoreError::Full(why.clone()),
            Self::ReadOnly(why) => StoreError::Unavailable(why.clone()),
            Self::Io(why) | Self::Corrupt(why) | Self::Damaged(why) | Self::Other(why) => {
                StoreError::Unknown(why.clone())
            }
        }
    }

    /// What people should know about the file, until it is over.
    pub(crate) const fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Full(_) => Some(Trouble::Full),
            Self::ReadOnly(_) => Some(Trouble::ReadOnly),
            Self::Corrupt(_) => Some(Trouble::Damaged),
            Self::Io(_) | Self::Damaged(_) | Self::Other(_) => None,
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        if matches!(
            error,
            rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        ) {
            return Self::Damaged(format!("a row holds what it cannot hold: {text}"));
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(text),
            // The index of the log could not grow: nothing had been written yet.
            Some(ErrorCode::SystemIoFailure) if extended(&error) == ffi::SQLITE_IOERR_SHMSIZE => Self::Full(text),
            Some(ErrorCode::SystemIoFailure) => Self::Io(text),
            Some(ErrorCode::ReadOnly) => Self::ReadOnly(text),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(text),
            _ => Self::Other(text),
        }
    }
}

fn extended(error: &rusqlite::Error) -> i32 {
    error.sqlite_error().map_or(0, |e| e.extended_code)
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
