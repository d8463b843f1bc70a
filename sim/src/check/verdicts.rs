//! Verdicts, when the engine gives them: who was silent for how long, and how many in a second.

use crate::world::World;
use outlive_core::engine::breaker::REAPED_RUNS;
use outlive_core::engine::{Input, VerdictWanted};
use outlive_core::invariants;
use outlive_core::run::Evidence;
use outlive_core::{Holder, LeaseRef, Millis, Reason};
use outlive_store::Presence;

/// Sessions that may be judged by absence in a second in worlds of this size, and what may come at once.
const SESSIONS: u64 = 50 + 10 + 1;
/// Runs, likewise, and what the last session of a second holds.
const RUNS: u64 = REAPED_RUNS + REAPED_RUNS / 5 + 100;

impl World {
    /// What a replica is told of leases of workers without sessions.
    pub(crate) fn signs(&mut self, input: &Input) {
        let (replica, now) = (self.server.index, self.now);
        match input {
            Input::Reported(leases) => {
                for (holder, lease) in leases.iter().filter(|(holder, _)| self.truth.pollers.contains_key(holder)) {
                    if self.server.engine.leases(*holder).contains(lease) {
                        self.truth.signs.insert((replica, *lease), now);
                    }
                }
            }
            Input::PollHeld(holder, held) => {
                let here = self.server.engine.leases(*holder);
                for info in held.iter().filter(|info| here.contains(&info.lease)) {
                    self.truth.signs.insert((replica, info.lease), now);
                    self.truth.named.insert(info.lease, now);
                }
            }
            _ => {}
        }
    }

    /// For how long a lease of this worker may be without a sign of life.
    fn patience(&self, holder: Holder, lease: LeaseRef) -> Option<Millis> {
        let policy = self.policy(self.truth.rows.get(&lease.run_id)?.queue);
        let presence = self.truth.poller_of(holder).map_or(Presence::Session, |p| self.pollers[p].presence());
        let ttl = match presence {
            Presence::Session => policy.lease_ttl,
            Presence::Poll(interval) | Presence::None(Some(interval)) => policy.lease_ttl.max(Millis(3 * interval.0)),
            Presence::None(None) => policy.lease_ttl.max(Millis::secs(60)),
        };
        Some(ttl + policy.offline_grace)
    }

    /// Whether `claim_ttl` may not touch it: its worker beats, or has named it within the time in which it must.
    pub(crate) fn beats(&self, holder: Holder, lease: LeaseRef) -> bool {
        let Some(poller) = self.truth.poller_of(holder) else { return true };
        let patience = self.patience(holder, lease).unwrap_or_default();
        let named = self.truth.named.get(&lease).is_some_and(|at| self.now - at < patience.0);
        named || matches!(self.pollers[poller].presence(), Presence::Poll(_))
    }

    /// The engine judges: each lease by its own TTL (I3), and not too many at once (I9).
    pub(crate) fn judges(&mut self, wanted: &VerdictWanted) {
        if !wanted.evidence.by_absence() {
            return;
        }
        if !wanted.end_session && wanted.leases.len() < self.server.engine.leases(wanted.holder).len() {
            self.truth.counts.partial += 1;
        }
        for lease in wanted.leases.iter().filter(|_| wanted.evidence == Evidence::Silence) {
            let named = self.truth.poller_of(wanted.holder).map(|p| self.pollers[p].presence());
            let silent_for = match named {
                Some(Presence::None(_)) if wanted.reason == Reason::WorkerHeartbeatLost => {
                    self.truth.counts.named += 1;
                    // What was named at other replicas alone is known here by notes, each some time after it was said.
                    let Some(sign) = self.truth.signs.get(&(self.server.index, *lease)) else { continue };
                    Millis(self.now - sign)
                }
                _ => wanted.silent_for,
            };
            let patience = self.patience(wanted.holder, *lease).unwrap_or_default();
            self.check(invariants::silence(*lease, silent_for, patience));
        }
        let (now, runs) = (self.now, wanted.leases.len() as u64);
        let reaped = &mut self.server.reaped;
        reaped.push_back((now, runs));
        while reaped.front().is_some_and(|(at, _)| at + 1_000 <= now) {
            reaped.pop_front();
        }
        let (sessions, runs) = (reaped.len() as u64, reaped.iter().map(|(_, runs)| runs).sum());
        self.truth.counts.reaped = self.truth.counts.reaped.max(sessions);
        self.check(invariants::reap_rate(sessions, Some(SESSIONS)));
        self.check(invariants::reap_rate(runs, Some(RUNS)));
    }
}
