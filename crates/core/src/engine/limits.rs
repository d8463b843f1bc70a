//! The limits that a judge keeps over each lease (design, section 3), all in observed time.
//!
//! | limit | counts from | who keeps it first |
//! |---|---|---|
//! | `start_timeout` | the claim, until anything is said | the judge |
//! | `claim_ttl` | the last sign of life of a worker that does not beat | the judge |
//! | silence of a beater among those | the last beat that named the run, or statement about it | the judge |
//! | `progress_timeout` | the last statement, or thaw | the agent; the judge for workers that have none |
//! | `run_timeout` | the start; frozen time does not count | the agent; the judge later, by a margin |
//!
//! A lease has one entry in its session's ordered set, at the earliest moment at which a limit could be due when the entry was
//! made. Beats and statements only move values; when the moment comes it is computed again, and usually moved.
//!
//! The last two end the *work*, and no evidence is needed for them; yet while a worker that beats is not heard, nothing is known
//! of its work, and absence is what it is judged by. A rule for workers that do not beat (`claim_ttl`) never touches a run that a
//! beat has named: from then on it is judged by silence, like any other beater's.

use super::Engine;
use super::input::{HeldInfo, LeaseInfo, Presence};
use super::leases::{HeldLease, Maybe};
use super::observed::TICK;
use super::session::Session;
use super::status::Status;
use crate::options::AttemptLimits;
use crate::policy::Liveness;
use crate::policy::derive::backstop_margin as margin;
use crate::run::Evidence;
use crate::time::{Millis, Mono, Observed};
use crate::{Holder, LeaseRef, Reason, RunId};

/// A worker that is not heard is asked again after this, before a limit of its work is applied.
const NOT_HEARD: Millis = Millis::secs(1);
/// What a worker that declares no interval may be silent for, at least, once it beats.
pub(super) const UNDECLARED: Millis = Millis::secs(60);

/// When a limit is due, and which.
type Due = (Observed, Reason);

impl Session {
    /// Whether a beat has named this lease although its worker is not known to beat.
    pub(super) fn is_beater(&self, held: &HeldLease) -> bool {
        matches!(self.presence, Presence::None(_)) && held.named.get().is_some()
    }

    /// The earliest limit of a lease; of one that is being taken, the end of the time that its worker has to stop.
    fn next_limit(&self, held: &HeldLease) -> Option<Due> {
        if held.judged {
            return None;
        }
        if let Some((reason, _)) = held.revoked {
            return Some((self.revocation_over(held), reason));
        }
        let policy = self.policies.get(held.policy);
        let ttl = self.ttl(policy);
        let beats = !matches!(self.presence, Presence::None(_));
        // For a worker that does not beat, the claim is the start.
        let begun = held.started || !beats;
        let start = (!begun).then(|| (held.begun + policy.start_timeout, Reason::StartTimeout));
        let sign = match held.named.get() {
            Some(at) if !beats => Some((self.named_lost_at(at.max(held.moved), policy), Reason::WorkerHeartbeatLost)),
            _ => (!beats).then(|| (held.moved + policy.claim_ttl, Reason::ClaimTtlExceeded)),
        };
        let AttemptLimits { run_timeout, progress_timeout } = *self.limits.get(held.limits);
        let run =
            begun.then(|| (held.begun + run_timeout + held.frozen + margin(run_timeout, ttl), Reason::RunTimeout));
        let progress = progress_timeout.filter(|_| begun).map(|limit| {
            let later = if self.presence == Presence::Session { margin(limit, ttl) } else { Millis::ZERO };
            (held.moved + limit + later, Reason::ProgressTimeout)
        });
        [start, sign, progress, run].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn named_lost_at(&self, last_sign: Observed, policy: &Liveness) -> Observed {
        let at = last_sign + self.ttl(policy) + policy.offline_grace;
        self.spared.map_or(at, |spared| at.max(spared + self.ttl(policy).percent(50)))
    }

    /// Makes sure that a lease is looked at when one of its limits may be due. Whether that is sooner than it was.
    pub(super) fn arm(&mut self, run: RunId) -> bool {
        let Some(held) = self.leases.get(run) else { return false };
        let Some((due, _)) = self.next_limit(held) else { return false };
        if held.looked_at().is_some_and(|at| at <= due) {
            return false;
        }
        self.leases.look_at(run, due);
        true
    }

    /// Something was said about a lease: it has begun, and it moves. Whether it is to be looked at sooner.
    pub(super) fn reported(&mut self, run: RunId, now: Observed) -> bool {
        let Some(held) = self.leases.get_mut(run) else { return false };
        if !held.started {
            held.started = true;
            held.begun = now;
        }
        held.moved = held.moved.max(now);
        self.arm(run)
    }

    /// The store has its start and the last statement about it: they may have come in at another replica. Whether it is to be
    /// looked at sooner.
    pub(super) fn seen(&mut self, run: RunId, begun: Observed, last: Observed) -> bool {
        let Some(held) = self.leases.get_mut(run) else { return false };
        if !held.started {
            held.started = true;
            held.begun = held.begun.max(begun);
        }
        held.moved = held.moved.max(last);
        self.arm(run)
    }

    /// A beat named a lease. Time in which its work stood still counts for no limit, and its progress begins anew after it.
    pub(super) fn named(&mut self, info: &HeldInfo, now: Observed) {
        let is_not_known_to_beat = matches!(self.presence, Presence::None(_));
        let Some(held) = self.leases.get_mut(info.lease.run_id) else { return };
        if info.frozen > held.frozen {
            held.frozen = info.frozen;
            held.moved = held.moved.max(now);
        }
        if is_not_known_to_beat {
            let earlier = held.named.get();
            held.named = Maybe::at(earlier.map_or(now, |at| at.max(now)));
            self.beaters += u32::from(earlier.is_none());
            self.arm(info.lease.run_id);
        }
    }

    /// What a worker that is not known to beat named last, and when.
    pub(super) fn last_named(&self) -> Option<(Mono, Vec<HeldInfo>)> {
        let beaters = || self.leases.iter().filter(|held| self.is_beater(held));
        let last = beaters().filter_map(|held| held.named.get()).max()?;
        let at = Mono(self.heard_at.0.saturating_sub(self.heard.since(last).0));
        let of = beaters().filter(|held| held.named.get() == Some(last));
        let info = |held: &HeldLease| HeldInfo { lease: held.lease(), frozen: held.frozen };
        Some((at, of.map(info).collect()))
    }

    /// It is heard again after a time in which it was not, or could not be: what it said meanwhile is still on its way.
    pub(super) fn heard_again(&mut self, now: Observed) {
        let beats = !matches!(self.presence, Presence::None(_));
        for held in self.leases.iter_mut() {
            if beats {
                held.moved = held.moved.max(now);
            } else if let Some(named) = held.named.get() {
                held.named = Maybe::at(named.max(now));
            }
        }
    }

    /// After a start of the judge nobody knows which of these runs a beat had named: before `claim_ttl` takes one of them, a
    /// beater can show itself.
    pub(super) fn gives_beaters_time(&mut self, now: Observed) {
        if !matches!(self.presence, Presence::None(_)) {
            return;
        }
        let runs: Vec<RunId> = self.leases.iter().map(|held| held.run).collect();
        for run in runs {
            let Some(held) = self.leases.get(run) else { continue };
            let policy = *self.policies.get(held.policy);
            let least = now + self.ttl(&policy);
            if held.moved + policy.claim_ttl < least
                && let Some(held) = self.leases.get_mut(run)
            {
                held.moved = Observed(least.0.saturating_sub(policy.claim_ttl.0));
            }
        }
    }
}

impl Engine {
    /// Statements came in for these leases.
    pub(super) fn reported(&mut self, leases: &[(Holder, LeaseRef)]) {
        let observed = self.observed.now();
        let mut sooner = std::collections::BTreeSet::new();
        for (holder, lease) in leases {
            if let Some(session) = self.sessions.get_mut(holder).filter(|s| s.holds(*lease))
                && session.reported(lease.run_id, observed)
            {
                sooner.insert(*holder);
            }
        }
        for holder in sooner {
            self.reschedule(holder);
        }
    }

    /// What the store has of leases, with its own times.
    pub(super) fn seen(&mut self, leases: &[(Holder, LeaseInfo)]) {
        for (holder, info) in leases.iter().filter(|(_, info)| info.started) {
            let (begun, last) = (self.local(info.begun), self.local(info.since));
            let session = self.sessions.get_mut(holder).filter(|s| s.holds(info.lease));
            if session.is_some_and(|session| session.seen(info.lease.run_id, begun, last)) {
                self.reschedule(*holder);
            }
        }
    }

    /// How long nothing has been said about a lease, in observed time.
    #[must_use]
    pub fn still_for(&self, holder: Holder, lease: LeaseRef) -> Option<Millis> {
        let held = self.sessions.get(&holder)?.leases.get(lease.run_id).filter(|held| held.epoch == lease.epoch)?;
        Some(self.observed.now().since(held.moved))
    }

    /// Limits of leases that are due, and revocations that have run out.
    pub(super) fn limits_due(&mut self, holder: Holder, now: Mono) {
        let observed = self.observed.now();
        let Some(session) = self.sessions.get(&holder) else { return };
        let heard = matches!(session.presence, Presence::None(_)) || session.is_heard(observed);
        // One by one: what a limit revokes may have run out as well.
        while let Some(session) = self.sessions.get_mut(&holder)
            && let Some(run) = session.leases.pop_due(observed)
        {
            let Some(held) = session.leases.get(run) else { continue };
            let (lease, revoked) = (held.lease(), held.revoked);
            let Some((at, reason)) = session.next_limit(held) else { continue };
            match revoked {
                _ if at > observed => {
                    session.arm(run);
                }
                Some((_, evidence)) => self.take(holder, lease, reason, evidence, now),
                None if heard || reason == Reason::StartTimeout => self.limit(holder, lease, reason, now),
                None => session.leases.look_at(run, observed + NOT_HEARD),
            }
        }
    }

    fn limit(&mut self, holder: Holder, lease: LeaseRef, reason: Reason, now: Mono) {
        let Some(session) = self.sessions.get(&holder) else { return };
        if reason != Reason::WorkerHeartbeatLost {
            return match session.presence {
                Presence::Session => self.revoke(holder, lease, reason, Evidence::Limit),
                Presence::Poll(_) | Presence::None(_) => self.take(holder, lease, reason, Evidence::Limit, now),
            };
        }
        // Silence, if only of one run: it passes the gate of all verdicts by absence.
        let observed = self.observed.now();
        if self.gate(1) {
            self.take(holder, lease, reason, Evidence::Silence, now);
        } else if let Some(session) = self.sessions.get_mut(&holder) {
            session.leases.look_at(lease.run_id, observed + TICK);
        }
    }
}

impl Session {
    /// Whether it is heard now, so that what is known of its work is true.
    fn is_heard(&self, now: Observed) -> bool {
        let greeted = self.presence != Presence::Session || self.conn.as_ref().is_some_and(|conn| conn.greeted);
        greeted && !matches!(self.status(now), Status::Suspect | Status::Offline)
    }
}
