//! What the engine wants done. The shell carries effects out in order and never decides.

use super::breaker::Opened;
use super::input::ConnId;
use super::replicas::OwnRow;
use super::status::Status;
use crate::run::Evidence;
use crate::time::Millis;
use crate::{ClassId, Holder, HomeSeq, LeaseRef, Reason, ReplicaId};

/// Names a claim until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimToken(pub u64);

/// A claim to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimWanted {
    /// For the answer.
    pub token: ClaimToken,
    /// For whom.
    pub holder: Holder,
    /// Its home, to be checked again in the transaction.
    pub home_seq: HomeSeq,
    /// At most this many.
    pub max: u32,
    /// Out of these classes.
    pub classes: Vec<ClassId>,
}

/// A verdict to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictWanted {
    /// Whose leases.
    pub holder: Holder,
    /// Its home, to be checked again in the transaction.
    pub home_seq: HomeSeq,
    /// Which; may be none when only the session ends.
    pub leases: Vec<LeaseRef>,
    /// Why.
    pub reason: Reason,
    /// What proves it.
    pub evidence: Evidence,
    /// Since the last sign of life, on the process's clock.
    pub silent_for: Millis,
    /// The session is over as well.
    pub end_session: bool,
    /// An earlier try may have been written: a refusal now proves nothing.
    pub again: bool,
}

/// Why the server closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseWhy {
    /// Another connection of the same incarnation opened.
    Superseded,
    /// A newer incarnation has the name, or it said goodbye.
    Replaced,
    /// It was written off.
    WrittenOff,
}

/// A message for a worker that has a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// The answer to the first beat.
    Hello {
        /// Its home.
        home_seq: HomeSeq,
        /// Beat each so often.
        heartbeat: Millis,
        /// How long a reconnect may take.
        window: Millis,
        /// A proxy stands between.
        proxied: bool,
    },
    /// `leases` with `push_seq` 0: what it holds and did not name.
    Held(Vec<LeaseRef>),
    /// `leases`: the ones just claimed. The number before is nothing else's: it is for the parts before the last, where one message is not
    /// enough.
    Push(u64, Vec<LeaseRef>),
    /// Not its lease any more.
    Lost(LeaseRef, Reason),
    /// Somebody asks for its end.
    Cancel(LeaseRef, Reason),
    /// Take nothing new.
    Drain,
    /// The beat is confirmed.
    BeatAck(u64),
    /// The beat is heard, and confirms nothing: the session's home may be elsewhere by now.
    Unsure(u64),
    /// The connection ends after this.
    Close(CloseWhy),
}

/// Everything that the engine may want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Say something, in order, on this connection.
    Say(Holder, ConnId, Say),
    /// Tell a worker without a connection at its next request.
    Order(Holder, Say),
    /// Claim.
    Claim(ClaimWanted),
    /// Write a verdict.
    Verdict(VerdictWanted),
    /// The status changed.
    Announce(Holder, Status),
    /// The breaker opened, or closed.
    Breaker(Option<Opened>),
    /// Write this replica's row and read the others'; answered by `Rows` or `RowUnwritten`.
    WriteRow(OwnRow),
    /// Take over the sessions of a replica that is gone, if its row is still this one; each is then an `Adopt`.
    AdoptFrom {
        /// Whose.
        replica: ReplicaId,
        /// The row.
        beat: i64,
    },
    /// Read which sessions have their home here; answered by `Homes` or `HomesUnread`.
    ReadHomes,
}
