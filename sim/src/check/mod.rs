//! What is true, and whether it is as it must be.
//!
//! The truth has the last row of every run and the moments that no process in the world can know of another: who executes,
//! who was blameless. After every write each row that changed is read from the store itself, past all faults, and compared
//! with the row before it by the functions of `outlive_core::invariants`.

mod ends;
mod levels;
mod replay;
mod rows;
mod verdicts;

pub(crate) use ends::at_the_end;
pub(crate) use levels::{Levels, look};
pub(crate) use replay::replays;

use outlive_core::invariants::{self, Check};
use outlive_core::run::{Evidence, Run};
use outlive_core::{Epoch, Holder, HomeSeq, LeaseRef, QueueId, RunId};
use std::collections::{BTreeMap, BTreeSet};

/// The truth.
#[derive(Default)]
pub(crate) struct Truth {
    pub rows: BTreeMap<RunId, Run>,
    /// Runs that somebody has tried to create.
    pub known: BTreeSet<RunId>,
    /// Those of them that may still change.
    pub active: BTreeSet<RunId>,
    /// The verdict that is being written.
    pub judging: Option<Judging>,
    hosts: BTreeMap<Holder, usize>,
    pollers: BTreeMap<Holder, usize>,
    /// When a replica last heard of a lease of a worker without a session.
    signs: BTreeMap<(usize, LeaseRef), u64>,
    /// When a worker that does not beat last named a lease in a beat.
    named: BTreeMap<LeaseRef, u64>,
    /// The home of a holder's session that was opened last, in the store, and the connection for which it was.
    sessions: BTreeMap<Holder, (HomeSeq, usize)>,
    /// The newest attempt of which something has executed.
    begun: BTreeMap<RunId, Epoch>,
    by_queue: BTreeMap<QueueId, BTreeSet<RunId>>,
    by_serial: BTreeMap<String, BTreeSet<RunId>>,
    serial_keys: BTreeMap<RunId, String>,
    /// When each host was last given something.
    claimed_at: BTreeMap<usize, u64>,
    pub levels: Levels,
    pub counts: Counts,
    /// When a server or its way to the store last did what it should not, or went back to what it should.
    pub troubled_at: u64,
    /// When the process of an attempt ended under a living agent, and where.
    exits: BTreeMap<LeaseRef, (u64, usize)>,
    /// Leases that are on their way to their workers, with the connection.
    in_flight: BTreeMap<LeaseRef, usize>,
}

/// A verdict that is being written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judging {
    pub holder: Holder,
    pub evidence: Evidence,
    /// The home that judges, for verdicts by absence.
    pub home: Option<HomeSeq>,
}

/// What happened, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Leases closed as lost.
    pub losses: u64,
    /// Of them by absence.
    pub by_absence: u64,
    /// Sessions whose grace was shortened.
    pub shortened: u64,
    /// Of them by `claim_ttl`.
    pub claim_ttl: u64,
    /// Runs that a worker which does not beat had named, judged by silence.
    pub named: u64,
    /// The most sessions that a replica judged by absence in one second.
    pub reaped: u64,
    /// Verdicts over some of a session's leases, while others are held on.
    pub partial: u64,
    /// Attempts that executed.
    pub attempts: u64,
    /// Rows compared.
    pub rows: u64,
}

impl Truth {
    pub(crate) fn created(&mut self, run: RunId, serial_key: Option<&String>) {
        self.known.insert(run);
        self.active.insert(run);
        if let Some(key) = serial_key {
            self.serial_keys.insert(run, key.clone());
        }
    }

    pub(crate) fn registered(&mut self, holder: Holder, host: usize) {
        self.hosts.insert(holder, host);
    }

    pub(crate) fn polls(&mut self, holder: Holder, poller: usize) {
        self.pollers.insert(holder, poller);
    }

    pub(crate) fn poller_of(&self, holder: Holder) -> Option<usize> {
        self.pollers.get(&holder).copied()
    }

    pub(crate) fn opened(&mut self, holder: Holder, home: HomeSeq, link: usize) {
        self.sessions.insert(holder, (home, link));
    }

    /// Everybody who ever registered.
    pub(crate) fn holders(&self) -> Vec<Holder> {
        self.hosts.keys().copied().collect()
    }

    /// The home of a holder's session that was opened last.
    pub(crate) fn home_of(&self, holder: Holder) -> Option<HomeSeq> {
        self.sessions.get(&holder).map(|(home, _)| *home)
    }

    /// The process of an attempt ended, and its agent lives.
    pub(crate) fn exited(&mut self, lease: LeaseRef, now: u64, host: usize) {
        self.exits.insert(lease, (now, host));
    }

    /// A lease is on its way to its worker.
    pub(crate) fn sent(&mut self, lease: LeaseRef, link: usize) {
        self.in_flight.insert(lease, link);
    }

    /// It has arrived.
    pub(crate) fn arrived(&mut self, lease: LeaseRef) {
        self.in_flight.remove(&lease);
    }

    pub(crate) fn host_of(&self, holder: Holder) -> Option<usize> {
        self.hosts.get(&holder).copied()
    }

    pub(crate) fn serial_key(&self, run: RunId) -> Option<String> {
        self.serial_keys.get(&run).cloned()
    }

    /// An attempt begins, or goes on, to execute; these others of its run or serial key do.
    pub(crate) fn executes(&mut self, lease: LeaseRef, others: &[LeaseRef]) -> Check {
        self.counts.attempts += 1;
        let newest = self.begun.entry(lease.run_id).or_default();
        *newest = (*newest).max(lease.epoch);
        invariants::overlap(lease.run_id, lease.epoch, *newest)?;
        for other in others {
            if other.run_id == lease.run_id {
                invariants::overlap(lease.run_id, other.epoch, lease.epoch)?;
            } else {
                let key = self.serial_key(lease.run_id).unwrap_or_default();
                invariants::serial(&format!("{key} (executing)"), &[lease.run_id, other.run_id])?;
            }
        }
        Ok(())
    }
}
