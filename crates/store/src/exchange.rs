//! What replicas over one store tell each other.
//!
//! ```text
//!   replica A: commit ──► hints ─────────────► replica B: a class became ready, a lease ended, a reader may read
//!   replica A: order for a worker of B ──► errand (kept until read) ──► replica B: told over its session
//! ```
//!
//! [`Hints`] may be lost, doubled or late: behind each stands a level that a sweep or a poll reads anyway. An [`Errand`] is kept
//! until its replica has read it, or until nobody would act on it any more. Neither decides anything: ownership is in the rows.
//! A store with one replica has no exchange.

use crate::{CancelOrder, Commit, StoreError};
use async_trait::async_trait;
use outlive_core::{ClassId, Holder, Json, LeaseRef, Reason, ReplicaId, RunId};
use serde::{Deserialize, Serialize};

/// What may concern another replica in a transaction that this one committed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hints {
    /// Classes that may have a ready run that they had not before.
    pub ready: Vec<ClassId>,
    /// Leases that ended.
    pub ended: Vec<(Holder, LeaseRef)>,
    /// Leased runs that somebody asked to end.
    pub cancels: Vec<CancelOrder>,
    /// Runs whose state or log changed.
    pub changed: Vec<RunId>,
    /// Queues or classes are there that were not, or have another policy.
    pub catalog: bool,
    /// An errand was written.
    pub errands: bool,
}

impl Hints {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes another's in, each thing once.
    pub fn merge(&mut self, other: Self) {
        fn add<T: PartialEq>(to: &mut Vec<T>, from: Vec<T>) {
            for one in from {
                if !to.contains(&one) {
                    to.push(one);
                }
            }
        }
        add(&mut self.ready, other.ready);
        self.ended.extend(other.ended);
        self.cancels.extend(other.cancels);
        self.changed.extend(other.changed);
        self.catalog |= other.catalog;
        self.errands |= other.errands;
    }
}

impl From<&Commit> for Hints {
    fn from(commit: &Commit) -> Self {
        Self {
            ready: commit.ready.clone(),
            ended: commit.changed.iter().filter_map(|c| c.freed).collect(),
            cancels: commit.cancels.clone(),
            changed: commit.changed.iter().map(|c| c.id).collect(),
            ..Self::default()
        }
    }
}

/// Something that the home of a session is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// The worker takes nothing new, or takes again.
    Drain {
        /// Whom.
        holder: Holder,
        /// Or takes again.
        draining: bool,
    },
    /// What it holds is taken from a worker that may be alive.
    Revoke {
        /// Whom.
        holder: Holder,
        /// Why.
        reason: Reason,
    },
    /// The session is over; nothing is to be taken from it.
    Gone {
        /// Whom.
        holder: Holder,
        /// Why.
        reason: Reason,
    },
    /// A message for a running attempt.
    Signal {
        /// Whom.
        holder: Holder,
        /// For which attempt.
        lease: LeaseRef,
        /// Its name.
        name: String,
        /// What it says.
        data: Json,
    },
}

/// The way between replicas. One replica's end of it.
#[async_trait]
pub trait Exchange: Send + Sync {
    /// The next hints of other replicas' commits; waits for them. Comes at least each second, empty if nothing was heard; what can
    /// be read as a level is then in it again: `catalog` if queues or classes changed, `errands` if any wait.
    async fn hints(&self) -> Hints;
    /// Writes an errand for another replica.
    async fn tell(&self, to: ReplicaId, errand: Errand) -> Result<(), StoreError>;
    /// Takes errands for this replica, oldest first, at most `limit`; each is given once.
    async fn errands(&self, limit: u32) -> Result<Vec<Errand>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_core::{Epoch, Incarnation, WorkerId};

    fn holder(worker: i64) -> Holder {
        Holder { worker: WorkerId(worker), incarnation: Incarnation(1) }
    }

    #[test]
    fn what_is_told_reads_back_as_it_was_written() {
        let lease = LeaseRef { run_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(), epoch: Epoch(2) };
        let data = Json::parse(r#"{"to": [1, "left"]}"#.to_owned()).unwrap();
        for errand in [
            Errand::Drain { holder: holder(1), draining: true },
            Errand::Revoke { holder: holder(1), reason: Reason::Evicted },
            Errand::Gone { holder: holder(1), reason: Reason::WorkerReplaced },
            Errand::Signal { holder: holder(1), lease, name: "steer".into(), data },
        ] {
            let text = serde_json::to_string(&errand).unwrap();
            assert_eq!(serde_json::from_str::<Errand>(&text).unwrap(), errand, "{text}");
        }
        let hints = Hints { ended: vec![(holder(1), lease)], changed: vec![lease.run_id], ..Hints::default() };
        assert_eq!(serde_json::from_str::<Hints>(&serde_json::to_string(&hints).unwrap()).unwrap(), hints);
    }

    #[test]
    fn hints_that_wait_go_together_and_a_class_is_named_once() {
        let mut hints = Hints { ready: vec![ClassId(1)], ..Hints::default() };
        assert!(!hints.is_empty());
        hints.merge(Hints { ready: vec![ClassId(1), ClassId(2)], errands: true, ..Hints::default() });
        assert_eq!(hints, Hints { ready: vec![ClassId(1), ClassId(2)], errands: true, ..Hints::default() });
    }
}
