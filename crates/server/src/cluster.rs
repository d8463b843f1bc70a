//! This replica among others over one store.
//!
//! What a replica may do and whom it judges is decided by the engine (`outlive_core::engine::replicas`). Here is what it asks
//! for: its row is written and the others' are read, each second, in one statement; the sessions of a replica that is gone are
//! taken over, page by page; homes are read again when others took some.

use crate::app::App;
use crate::start::session_info;
use outlive_api::ops::Replica;
use outlive_api::workers::WireOrder;
use outlive_core::engine::{Input, OwnRow, Rows};
use outlive_core::{Holder, LeaseRef, Reason, ReplicaId, State};
use outlive_store::{Adopted, Adoption, Exchange, Joined, ReplicaBeat, ReplicaRow, StoreError};
use std::sync::{Arc, PoisonError, RwLock};

/// Workers taken over in one transaction.
const PAGE: u32 = 500;

/// The seat of this process, and what it saw of the others.
pub(crate) struct Cluster {
    pub(crate) exchange: Arc<dyn Exchange>,
    start: i64,
    rows: RwLock<Vec<ReplicaRow>>,
}

impl Cluster {
    pub(crate) fn new(exchange: Arc<dyn Exchange>, joined: Joined) -> Self {
        Self { exchange, start: joined.start, rows: RwLock::default() }
    }

    /// All replicas, this one included, as they were read last.
    pub(crate) fn rows(&self) -> Vec<ReplicaRow> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl App {
    /// Where other replicas that write their rows can be reached.
    pub(crate) fn other_addresses(&self) -> Vec<String> {
        let rows = self.cluster.as_ref().map(Cluster::rows).unwrap_or_default();
        let others = rows.into_iter().filter(|row| self.hears_replica(row.row.replica) && !row.address.is_empty());
        others.map(|row| row.address).collect()
    }

    /// All replicas for people.
    pub(crate) fn replica_views(&self) -> Vec<Replica> {
        let rows = self.cluster.as_ref().map(Cluster::rows).unwrap_or_default();
        let view = |row: ReplicaRow| Replica {
            id: row.row.replica.0,
            live: row.row.replica == self.replica || self.hears_replica(row.row.replica),
            name: row.name,
            address: row.address,
            started_at: row.started_at,
        };
        rows.into_iter().map(view).collect()
    }

    /// Whether another replica writes its row.
    pub(crate) fn hears_replica(&self, replica: ReplicaId) -> bool {
        replica != self.replica && self.driver.look(|engine| engine.hears_replica(replica))
    }

    /// Writes this replica's row and reads all rows.
    pub(crate) async fn write_row(self: &Arc<Self>, row: OwnRow) {
        let Some(cluster) = &self.cluster else { return };
        let sent = self.clock.boot();
        match self.store.beat(ReplicaBeat { replica: self.replica, start: cluster.start, row }).await {
            Ok(Some(view)) => {
                let others = view.rows.iter().map(|row| &row.row).filter(|row| row.replica != self.replica);
                let peers = others.cloned().collect();
                *cluster.rows.write().unwrap_or_else(PoisonError::into_inner) = view.rows;
                self.input(Input::Rows(Rows { sent, observed: view.observed, taken: view.taken, peers }));
                self.driver.replicas_are(self.other_addresses());
            }
            Ok(None) => {
                tracing::error!(
                    name = self.config.replica,
                    "another process has this replica's name; this one ends. Give each replica a name of its own"
                );
                self.broken.send_replace(true);
            }
            Err(error) => {
                tracing::warn!(%error, "this replica's row was not written");
                self.input(Input::RowUnwritten);
            }
        }
    }

    /// Takes over what a replica that is gone had.
    pub(crate) async fn adopt_from(self: &Arc<Self>, from: ReplicaId, beat: i64) {
        match self.take_over(Adoption { from, beat: Some(beat), to: self.replica, after: None, limit: PAGE }).await {
            Ok(0) => {}
            Ok(sessions) => tracing::info!(%from, sessions, "took the sessions of a replica that is gone over"),
            Err(error) => {
                tracing::warn!(%from, %error, "sessions of a replica that is gone could not be taken over yet");
            }
        }
    }

    /// Takes over what is at home at a replica that there is not: nothing leads there but damage, and nobody else would.
    pub(crate) async fn adopt_from_nobody(self: &Arc<Self>, from: ReplicaId) -> Result<usize, StoreError> {
        self.take_over(Adoption { from, beat: None, to: self.replica, after: None, limit: PAGE }).await
    }

    /// At the start: what an earlier process in this seat had.
    pub(crate) async fn adopt_own(self: &Arc<Self>) -> Result<(), StoreError> {
        let own = Adoption { from: self.replica, beat: None, to: self.replica, after: None, limit: PAGE };
        self.take_over(own).await.map(|_| ())
    }

    async fn take_over(self: &Arc<Self>, mut adoption: Adoption) -> Result<usize, StoreError> {
        let mut taken = 0;
        loop {
            let Adopted { sessions, lost_race, next } = self.store.adopt(adoption).await?;
            taken += sessions.len();
            for (worker, leases) in sessions {
                let leases = leases.iter().filter_map(|row| self.lease_info(row)).collect();
                self.input(Input::Adopt(session_info(&worker, worker.home_seq, leases)));
            }
            if lost_race || next.is_none() {
                return Ok(taken);
            }
            adoption.after = next;
        }
    }

    /// Reads which sessions have their home here.
    pub(crate) async fn read_homes(self: &Arc<Self>) {
        let read = self.store.homes(self.replica).await;
        self.input(read.map_or(Input::HomesUnread, Input::Homes));
    }

    /// Whether the session of this worker is at another replica that lives.
    pub(crate) async fn is_elsewhere(&self, holder: Holder) -> Result<bool, StoreError> {
        if self.cluster.is_none() {
            return Ok(false);
        }
        let row = self.store.worker(holder.worker).await?;
        Ok(row.is_some_and(|row| row.holder() == holder && row.session_open && self.hears_replica(row.replica)))
    }

    /// What a worker whose home is another replica should be told, by the rows alone.
    pub(crate) async fn orders_from_rows(
        &self,
        holder: Holder,
        held: &[LeaseRef],
    ) -> Result<Vec<WireOrder>, StoreError> {
        let rows = self.store.leases_of(holder).await?;
        let has = |lease: &LeaseRef| rows.iter().any(|row| (row.run.id, row.run.epoch) == (lease.run_id, lease.epoch));
        let lost = held.iter().filter(|lease| !has(lease)).map(|lease| WireOrder::Lost {
            run_id: lease.run_id,
            epoch: lease.epoch,
            reason: Reason::LeaseReleased,
        });
        let cancelling = rows.iter().filter(|row| row.run.state == State::Cancelling);
        let cancels = cancelling.map(|row| WireOrder::Cancel { run_id: row.run.id, epoch: row.run.epoch });
        let worker = self.store.worker(holder.worker).await?;
        let drain = worker.is_some_and(|row| row.draining).then_some(WireOrder::Drain);
        Ok(drain.into_iter().chain(cancels).chain(lost).collect())
    }
}
