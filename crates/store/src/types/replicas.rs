//! Several servers over one store.

use super::{LeaseRow, WorkerRow};
use outlive_core::engine::{OwnRow, PeerRow, Seat};
use outlive_core::{Observed, ReplicaId, Wall, WorkerId};

/// The seat of a replica, taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// For the engine.
    pub seat: Seat,
    /// Which start of this name it is: part of every beat.
    pub start: i64,
}

/// A replica's row to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaBeat {
    /// Whose.
    pub replica: ReplicaId,
    /// As it joined.
    pub start: i64,
    /// What it says.
    pub row: OwnRow,
}

/// What was read with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaView {
    /// The store's observed clock.
    pub observed: Observed,
    /// How often others have taken sessions from this replica.
    pub taken: i64,
    /// All replicas, this one included, in order of id.
    pub rows: Vec<ReplicaRow>,
}

/// A replica as others and people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaRow {
    /// For the engine.
    pub row: PeerRow,
    /// Its stable name.
    pub name: String,
    /// Where it can be reached, `host:port`; empty: it did not say.
    pub address: String,
    /// When its process started.
    pub started_at: Wall,
    /// When it wrote its row last, for people: nothing is decided by it.
    pub wrote_at: Wall,
}

/// Workers to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// From whom.
    pub from: ReplicaId,
    /// Its row must still be this one; none: it is the caller's own seat, or has no row.
    pub beat: Option<i64>,
    /// By whom.
    pub to: ReplicaId,
    /// After this worker.
    pub after: Option<WorkerId>,
    /// At most this many.
    pub limit: u32,
}

/// Workers taken over.
#[derive(Clone, Debug, Default)]
pub struct Adopted {
    /// Those that have an open session or hold leases, with the leases of their current incarnation.
    pub sessions: Vec<(WorkerRow, Vec<LeaseRow>)>,
    /// The other row has changed: nothing was written.
    pub lost_race: bool,
    /// Where the next page begins.
    pub next: Option<WorkerId>,
}
