//! Identities. Each has a type of its own, so that none is passed for another.

use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// A run. A UUIDv7: creation time first, so that new rows are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl RunId {
    /// A UUIDv7 from a time and 74 random bits of `random`.
    #[must_use]
    pub fn from_parts(at: crate::Wall, random: u128) -> Self {
        let bytes = random.to_be_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&bytes[..10]);
        let millis = u64::try_from(at.0).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for RunId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// The fence: rises by one at every claim of a run and never falls. 0 before the first claim.
    Epoch, i64
}
impl Epoch {
    /// By so much the epochs of a store that was restored lie above those of its copy: no lease of the store that was lost can
    /// be mistaken for one of the new one, unless a run was claimed a million times after the copy was made.
    pub const JUMP: i64 = 1 << 20;
}
number_id! {
    /// How often a worker name has started.
    Incarnation, i64
}
number_id! {
    /// Rises whenever a session's home changes; a write for an older home finds nothing.
    HomeSeq, i64
}
number_id! {
    /// A queue's row in its store.
    QueueId, i64
}
number_id! {
    /// A match class: runs that exactly the same workers can take (see [`crate::class`]).
    ClassId, i64
}
number_id! {
    /// A server replica's row in its store.
    ReplicaId, i64
}

impl Epoch {
    /// The epoch of the next claim.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A worker name's row in its store; `wk_12` on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub i64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wk_{}", self.0)
    }
}

/// Why a text is not a worker id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a worker id; one looks like wk_12")]
pub struct BadWorkerId(String);

impl std::str::FromStr for WorkerId {
    type Err = BadWorkerId;
    fn from_str(text: &str) -> Result<Self, BadWorkerId> {
        let number = text.strip_prefix("wk_").and_then(|n| n.parse().ok());
        number.map(Self).ok_or_else(|| BadWorkerId(text.to_owned()))
    }
}

impl Serialize for WorkerId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkerId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One process of a worker name: who may hold a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// Which worker.
    pub worker: WorkerId,
    /// Which of its starts.
    pub incarnation: Incarnation,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.worker, self.incarnation)
    }
}

/// The right to act for a run, as its holder presents it on every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseRef {
    /// The run.
    pub run_id: RunId,
    /// The epoch of the claim that opened the lease.
    pub epoch: Epoch,
}
