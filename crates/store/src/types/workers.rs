//! Workers, and their sessions as rows.

use super::LeaseRow;
use outlive_core::class::WorkerProfile;
use outlive_core::home::HomeRow;
use outlive_core::{Holder, HomeSeq, Incarnation, Millis, Observed, ReplicaId, Wall, WorkerId};
use uuid::Uuid;

/// How a process presents itself.
#[derive(Clone, Debug)]
pub struct Registration {
    /// What it offers; names its tenant and itself.
    pub profile: WorkerProfile,
    /// New at each process start.
    pub instance: Uuid,
    /// The secret of its state folder.
    pub outbox_key: String,
    /// How it shows that it lives.
    pub presence: Presence,
    /// Its version.
    pub version: String,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: i64,
    /// The old process is known to be gone, or may be taken over.
    pub may_replace: bool,
}

/// How a worker shows that it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A connection with beats.
    Session,
    /// Requests, at least one in each interval.
    Poll(Millis),
    /// Not at all: `claim_ttl` only. It may have declared an interval for the runs that it names in beats all the same.
    None(Option<Millis>),
}

/// The answer to a registration.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The worker as it is now.
    pub worker: WorkerRow,
    /// The same instance registered again: incarnation and leases are kept.
    pub resumed: bool,
    /// The incarnation that this one replaced: the newest that still holds leases, else the one before.
    pub replaced: Option<Holder>,
    /// The replaced one is known to be gone, evidence 3: it had the same `outbox_key`, or it polled.
    pub same_state_folder: bool,
}

/// A worker name and its current incarnation.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerRow {
    /// Its row.
    pub id: WorkerId,
    /// What it offers.
    pub profile: WorkerProfile,
    /// The current start.
    pub incarnation: Incarnation,
    /// The current process.
    pub instance: Uuid,
    /// How it shows that it lives.
    pub presence: Presence,
    /// Its version.
    pub version: String,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: i64,
    /// First registration of the name.
    pub first_seen_at: Wall,
    /// Registration of this incarnation.
    pub registered_at: Wall,
    /// The last sign of life that was written (a session opened, became suspect, or ended).
    pub last_heard_at: Wall,
    /// It takes nothing new.
    pub draining: bool,
    /// It said goodbye.
    pub left: bool,
    /// A session of this incarnation is open or may come back. Its edges are told in the transactions that make them:
    /// `worker.online`, `worker.offline`, `worker.left`.
    pub session_open: bool,
    /// Its home.
    pub replica: ReplicaId,
    /// Rises with each home.
    pub home_seq: HomeSeq,
    /// How often it was taken over from a replica that was gone since a session of it opened.
    pub rearmed: u8,
    /// The store's observed clock when a session of it opened, or when it was taken over for the first times.
    pub armed: Observed,
    /// Attempts that were lost on it, ever.
    pub losses: i64,
}

impl WorkerRow {
    /// The current holder.
    #[must_use]
    pub const fn holder(&self) -> Holder {
        Holder { worker: self.id, incarnation: self.incarnation }
    }

    /// Where it is at home.
    #[must_use]
    pub const fn home(&self) -> HomeRow {
        let Self { incarnation, left, session_open: open, replica, home_seq, .. } = *self;
        HomeRow { incarnation, left, open, replica, home_seq }
    }
}

/// A session that opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The worker.
    pub worker: WorkerRow,
    /// Its home from now on.
    pub home_seq: HomeSeq,
    /// What it holds.
    pub leases: Vec<LeaseRow>,
}

/// A change to a worker's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerMark {
    /// Takes nothing new, or takes again.
    Draining(bool),
    /// It said goodbye; its session is over.
    Left,
    /// The last sign of life.
    Heard(Wall),
}
