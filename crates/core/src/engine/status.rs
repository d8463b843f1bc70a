//! The one predicate by which everybody sees a worker: claim, sweep, API, command line, metrics.

use serde::{Deserialize, Serialize};

/// A worker's status. Derived from evidence and `now`, never a stored truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Status {
    /// Heard within its interval; takes work.
    Online = 0,
    /// Its connection ended, or it missed beats: takes no new work, nothing is taken from it yet.
    Suspect = 1,
    /// Written off.
    Offline = 2,
    /// Finishes what it has, takes nothing new.
    Draining = 3,
    /// It said goodbye.
    Left = 4,
}

impl Status {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Suspect => "suspect",
            Self::Offline => "offline",
            Self::Draining => "draining",
            Self::Left => "left",
        }
    }

    /// Reads a row's number.
    #[must_use]
    pub const fn from_number(n: i64) -> Option<Self> {
        Some(match n {
            0 => Self::Online,
            1 => Self::Suspect,
            2 => Self::Offline,
            3 => Self::Draining,
            4 => Self::Left,
            _ => return None,
        })
    }
}

impl super::session::Session {
    /// The predicate. A connected worker is suspect when it has missed two and a half beats.
    pub(super) fn status(&self, now: crate::Observed) -> Status {
        use super::input::Presence;
        let silent_for = now.since(self.heard);
        let missed = match self.presence {
            Presence::Session => self.conn.is_none() || silent_for > self.heartbeat.percent(250),
            Presence::Poll(interval) => silent_for > interval.percent(250),
            Presence::None(_) => false,
        };
        if self.ending {
            Status::Offline
        } else if missed {
            Status::Suspect
        } else if self.draining {
            Status::Draining
        } else {
            Status::Online
        }
    }
}
