//! What the engine remembers of a session.

use super::grace::Grace;
use super::input::{ConnId, LeaseInfo, Presence};
use super::leases::{HeldLease, Leases, Maybe, Table};
use super::limits::UNDECLARED;
use super::observed::TICK;
use super::status::Status;
use crate::class::WorkerProfile;
use crate::options::AttemptLimits;
use crate::policy::{Liveness, Takeover, derive};
use crate::run::Evidence;
use crate::time::{Millis, Mono, Observed};
use crate::{Holder, HomeSeq, LeaseRef, Reason, RunId};

/// A lease that is being taken from a worker that may be alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldAndRevoked {
    lease: LeaseRef,
    why: (Reason, Evidence),
    confirmed: Maybe,
}

/// The number before that of the first push: a push in several messages needs one for those before its last. (0 is what a worker
/// holds and did not name.)
pub(super) const BEFORE_PUSHES: u64 = 1;

/// An open connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// Its number.
    pub id: ConnId,
    /// The first beat has been read: it may be given work.
    pub greeted: bool,
    /// Total granted by the worker.
    pub granted: u64,
    /// Total pushed, or reserved for claims under way.
    pub used: u64,
    /// The last push.
    pub push_seq: u64,
}

/// What is different where several replicas share a store.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shared {
    /// Others may have taken it over: until its home has been read again its beats extend no trust.
    pub doubted: bool,
    /// How much later its silence is judged: what other replicas heard of it must have had its time to come.
    pub exchange: Millis,
}

/// A worker incarnation at its home.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Who.
    pub holder: Holder,
    /// What it offers.
    pub profile: WorkerProfile,
    /// How it shows that it lives.
    pub presence: Presence,
    /// Its home.
    pub home_seq: HomeSeq,
    /// It takes nothing new.
    pub draining: bool,
    /// Its connection, if it has one.
    pub conn: Option<Connection>,
    /// Free slots of a polling worker that waits now.
    pub wants: u32,
    /// A proxy stands between.
    pub proxied: bool,
    /// The beat interval that it was told.
    pub heartbeat: Millis,
    /// The last sign of life.
    pub heard: Observed,
    /// The same on the process's clock, for measurements.
    pub heard_at: Mono,
    /// When its connection ended by EOF or RST.
    pub closed: Option<(Observed, Mono)>,
    /// When it last asked for another session beside its connection, and has not got it yet.
    pub knocked: Option<Observed>,
    /// How often its countdown was begun anew since it was heard.
    pub rearmed: u8,
    /// It was begun anew, and it has not been heard since.
    pub grace: Option<Grace>,
    /// The breaker closed then, while it was absent: it has half a TTL more from there.
    pub spared: Option<Observed>,
    /// It was absent when the breaker closed, and has not been heard since: it does not open the breaker again.
    pub excused: bool,
    /// What it holds.
    pub leases: Leases,
    /// The policies of what it holds.
    pub policies: Table<Liveness>,
    /// How long attempts of what it holds may take.
    pub limits: Table<AttemptLimits>,
    /// Leases that beats have named although the worker is not known to beat.
    pub beaters: u32,
    /// Its entry in the engine's timers.
    pub timer: Option<Observed>,
    /// Over how many of its leases a verdict is being written.
    pub judged: usize,
    /// The verdict that ends the session is being written.
    pub ending: bool,
    /// What several replicas change.
    pub shared: Shared,
    /// The least TTL of its queues: by it an idle session is judged.
    pub least: Liveness,
}

impl Session {
    /// Takes a lease in.
    pub(super) fn hold(&mut self, info: &LeaseInfo, push_seq: u64, now: Observed) {
        self.drop_lease(info.lease.run_id);
        let (policy, limits) = (self.policies.take(info.liveness), self.limits.take(info.limits));
        let mut held = HeldLease::new(info, policy, limits, push_seq);
        if !matches!(self.presence, Presence::None(_)) {
            held.named = Maybe::at(now);
        }
        self.leases.put(held);
        self.arm(info.lease.run_id);
    }

    /// Takes several in: room for them is made once.
    pub(super) fn hold_all(&mut self, infos: &[LeaseInfo], push_seq: u64, now: Observed) {
        self.leases.reserve(infos.len());
        infos.iter().for_each(|info| self.hold(info, push_seq, now));
    }

    /// Forgets a lease; whether it was there.
    pub(super) fn drop_lease(&mut self, run: RunId) -> bool {
        let Some(held) = self.leases.remove(run) else { return false };
        self.policies.give_back(held.policy);
        self.limits.give_back(held.limits);
        self.judged -= usize::from(held.judged);
        self.beaters -= u32::from(self.is_beater(&held));
        true
    }

    /// What is being taken from it, with the last beat that confirmed it.
    pub(super) fn revoked(&self) -> Vec<HeldAndRevoked> {
        let of = |held: &HeldLease| {
            held.revoked.map(|why| HeldAndRevoked { lease: held.lease(), why, confirmed: held.named })
        };
        self.leases.iter().filter_map(of).collect()
    }

    /// Goes on taking what was being taken on an earlier connection; a new connection gives no new time.
    pub(super) fn revoke_again(&mut self, earlier: &[HeldAndRevoked]) {
        for one in earlier {
            if let Some(held) = self.leases.exact(one.lease) {
                held.revoked = Some(one.why);
                held.named = one.confirmed;
                self.arm(one.lease.run_id);
            }
        }
    }

    /// Whether a person has all that it holds taken from it.
    pub(super) fn is_evicted(&self) -> bool {
        self.leases.iter().any(|held| matches!(held.revoked, Some((Reason::Evicted, _))))
    }

    /// Whether this very lease is held.
    pub(super) fn holds(&self, lease: LeaseRef) -> bool {
        self.leases.get(lease.run_id).is_some_and(|held| held.epoch == lease.epoch)
    }

    /// Free credit: what may be claimed for it now. An absent worker, one that has missed beats included, takes nothing new;
    /// and nobody is given more than the slots that it registered.
    pub(super) fn free(&self, now: Observed) -> u32 {
        if self.draining || self.ending || self.status(now) == Status::Suspect {
            return 0;
        }
        let credit = match (&self.conn, self.presence) {
            (Some(conn), _) if conn.greeted => {
                u32::try_from(conn.granted.saturating_sub(conn.used)).unwrap_or(u32::MAX)
            }
            (_, Presence::Poll(_) | Presence::None(_)) => self.wants,
            _ => 0,
        };
        let held = u32::try_from(self.leases.len()).unwrap_or(u32::MAX);
        credit.min(self.profile.slots.saturating_sub(held))
    }

    /// How often it must beat: for its queues as they are now, and for each lease by the terms it was given.
    pub(super) fn needed_beat(&self) -> Millis {
        let held = self.policies.in_use().map(|(_, p)| p.lease_ttl);
        derive::heartbeat(held.fold(self.least.lease_ttl, Millis::min))
    }

    /// How long a reconnect may take.
    pub(super) fn window(&self) -> Millis {
        derive::reconnect_window(self.heartbeat, self.proxied)
    }

    /// The TTL by which this worker is judged under a policy.
    pub(super) fn ttl(&self, policy: &Liveness) -> Millis {
        match self.presence {
            Presence::Poll(interval) | Presence::None(Some(interval)) => policy.lease_ttl.max(Millis(interval.0 * 3)),
            // Of a run that it names in its beats; the others are under `claim_ttl`.
            Presence::None(None) => policy.lease_ttl.max(UNDECLARED),
            Presence::Session => policy.lease_ttl,
        }
    }

    /// Until a closed session is judged at the latest: what is due is looked at one tick later, or two.
    pub(super) fn judged_after_close(&self) -> Millis {
        let grace = self.judged_by().map(|(_, policy)| policy.offline_grace).max().unwrap_or_default();
        self.window() + grace + TICK + TICK
    }

    /// When this session's leases of a policy are lost if nothing more is heard, and by which evidence. Of a worker that does not
    /// beat each run is judged by itself; when it holds none, it is there for as long as one could have been without a sign.
    pub(super) fn lost_at(&self, policy: &Liveness) -> Option<(Observed, Evidence)> {
        if matches!(self.presence, Presence::None(_)) {
            return self.leases.is_empty().then(|| (self.heard + policy.claim_ttl, Evidence::Silence));
        }
        let silence = self.silent_until(self.ttl(policy) + policy.offline_grace + self.shared.exchange);
        let (at, evidence) = match self.closed {
            Some((at, _)) if policy.takeover == Takeover::Fast => {
                let closed = at + self.window() + policy.offline_grace;
                if closed < silence { (closed, Evidence::SessionClosed) } else { (silence, Evidence::Silence) }
            }
            _ => (silence, Evidence::Silence),
        };
        let spared = self.spared.map(|at| at + self.ttl(policy).percent(50));
        Some((spared.map_or(at, |until| at.max(until)), evidence))
    }

    /// Half of the least TTL by which it is or may be judged: two and a half of its beats. None for a worker that does not
    /// beat. Not the TTL of what it holds alone: of a fleet with the same beats all must count as silent at the same time.
    pub(super) fn half_ttl(&self) -> Option<Millis> {
        let held = self.judged_by().map(|(_, policy)| policy);
        let least = held.chain([&self.least]).map(|policy| self.ttl(policy)).min()?;
        let beats = !matches!(self.presence, Presence::None(_)) || self.beaters > 0;
        beats.then(|| least.percent(50))
    }

    /// The policies of what it holds; an idle session is judged by the least TTL of its queues.
    pub(super) fn judged_by(&self) -> impl Iterator<Item = (u32, &Liveness)> {
        let idle = self.leases.is_empty().then_some((u32::MAX, &self.least));
        self.policies.in_use().chain(idle)
    }

    /// Whether a verdict over a policy's leases would take any; over none at all, whether it would end the session.
    pub(super) fn has_unjudged(&self, policy: u32) -> bool {
        policy == u32::MAX || (self.unjudged() > 0 && self.leases.iter().any(|l| l.policy == policy && !l.judged))
    }

    /// Leases over which no verdict is being written.
    pub(super) fn unjudged(&self) -> usize {
        self.leases.len() - self.judged
    }

    /// When to look at it next.
    pub(super) fn next_due(&self) -> Option<Observed> {
        let verdict = self.judged_by().filter_map(|(_, p)| self.lost_at(p)).map(|(at, _)| at).min();
        [verdict, self.leases.next_look()].into_iter().flatten().min()
    }

    /// When a revoked lease may be taken although the worker did not say that the process is gone.
    pub(super) fn revocation_over(&self, held: &HeldLease) -> Observed {
        let policy = self.policies.get(held.policy);
        held.named.get().unwrap_or_default() + self.ttl(policy) + policy.offline_grace
    }
}
