//! Absence: silence, closed connections, and the verdicts that follow.
//!
//! A beat touches no timer, and a tick looks at what is due: see [`super::sessions`].

use super::Engine;
use super::breaker::Census;
use super::effect::{CloseWhy, Effect, Say, VerdictWanted};
use super::grace::REARMED_AT_MOST;
use super::input::{CloseKind, ConnId, HeldInfo, Presence, SessionInfo, VerdictResult};
use super::leases::{HeldLease, Leases, Table};
use super::observed::{Senses, TICK};
use super::replicas::Cluster;
use super::session::{BEFORE_PUSHES, Connection, Session};
use super::status::Status;
use crate::policy::derive;
use crate::run::Evidence;
use crate::time::{Millis, Mono};
use crate::{Holder, HomeSeq, LeaseRef, Reason};

/// A stall up to this long leaves the end of a connection evidence: the window begins when the end is read, and half a window
/// more or less is within the margin of the agents' trust. After a longer one it is silence.
const HICCUP: Millis = Millis(500);

impl Engine {
    pub(super) fn tick(&mut self, senses: &Senses, now: Mono) {
        let store_committed = self.observed.store_commits();
        self.observed.tick(now, senses);
        self.rearm(store_committed, now);
        self.graces_end();
        self.rates_due(now);
        let uncertain = std::mem::take(&mut self.uncertain);
        self.effects.extend(uncertain.into_iter().map(Effect::Verdict));
        let observed = self.observed.now();
        self.closed.tick(observed);
        self.replicas_tick(now);
        self.breaker_settles();
        while let Some(holder) = self.timers.pop_due(observed) {
            if let Some(session) = self.sessions.get_mut(&holder) {
                session.timer = None;
            }
            self.look_at(holder, now);
            self.reschedule(holder);
        }
    }

    /// A worker whose connection ended could not come back while this server was stopped, and may still be waiting for its next
    /// try: the end of its connection is no evidence any more, only silence is. (While only the store does not answer it can
    /// knock, which is heard.) When the store is back, silence begins anew, at most twice.
    fn rearm(&mut self, store_committed: bool, now: Mono) {
        let store_is_back = self.observed.store_commits() && !store_committed;
        let was_deaf = self.observed.deaf_for(now) > HICCUP;
        if !store_is_back && !was_deaf {
            return;
        }
        let observed = self.observed.stamp(now);
        if was_deaf {
            self.sessions.values_mut().for_each(|session| session.closed = None);
        }
        if store_is_back {
            self.arm_all_again(observed);
        }
    }

    /// The one gate of all verdicts by absence: a punctual judge, a closed breaker, and its rate.
    ///
    /// `runs`: how many leases the verdict would close.
    pub(super) fn gate(&mut self, runs: usize) -> bool {
        if self.observed.held_back().is_some() || self.breaker.is_open().is_some() {
            return false;
        }
        let (observed, sessions) = (self.observed.now(), &self.sessions);
        // Once for all that is due in this tick.
        let census = *self.census.get_or_insert_with(|| Census::of(sessions.values(), observed));
        let others = self.cluster.as_ref().map(|c| c.others(observed)).unwrap_or_default();
        if self.breaker.doubts(&census, others, observed) {
            self.effects.push(Effect::Breaker(self.breaker.is_open()));
            return false;
        }
        self.reap.takes(runs, census.absent, observed)
    }

    /// While the breaker is open: may it close? Then whoever is absent gets half a TTL more.
    fn breaker_settles(&mut self) {
        self.census = None;
        if self.breaker.is_open().is_none() || self.observed.held_back().is_some() {
            return;
        }
        let observed = self.observed.now();
        let census = Census::of(self.sessions.values(), observed);
        let others = self.cluster.as_ref().map(|c| c.others(observed)).unwrap_or_default();
        if !self.breaker.settles(&census, others, observed) {
            return;
        }
        self.effects.push(Effect::Breaker(None));
        for session in self.sessions.values_mut() {
            let silent = session.half_ttl().is_some_and(|half| observed.since(session.heard) > half);
            if silent || session.closed.is_some() {
                session.spared = Some(observed);
                session.excused = true;
            }
        }
    }

    /// A session's moment has come: what is due?
    fn look_at(&mut self, holder: Holder, now: Mono) {
        self.limits_due(holder, now);
        let observed = self.observed.now();
        let Some(session) = self.sessions.get(&holder) else { return };
        let due: Vec<_> = session
            .judged_by()
            .filter_map(|(index, policy)| session.lost_at(policy).map(|(at, evidence)| (index, at, evidence)))
            .filter(|(index, at, _)| *at <= observed && session.has_unjudged(*index))
            .map(|(index, _, evidence)| (index, evidence))
            .collect();
        let runs = session.unjudged();
        if due.is_empty() || !self.gate(runs) {
            return;
        }
        for (index, evidence) in due {
            self.judge(holder, index, evidence, now);
        }
    }

    /// Writes off the leases of one policy; the session as well if they are its last.
    fn judge(&mut self, holder: Holder, policy: u32, evidence: Evidence, now: Mono) {
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        let mut leases = Vec::new();
        for held in session.leases.iter_mut() {
            if held.policy == policy && !held.judged {
                held.judged = true;
                leases.push(held.lease());
            }
        }
        session.judged += leases.len();
        let end_session = session.unjudged() == 0 && !session.ending;
        if leases.is_empty() && !end_session {
            return;
        }
        session.ending |= end_session;
        let (reason, silent_for) = match (evidence, session.closed) {
            (Evidence::SessionClosed, Some((_, at))) => (Reason::WorkerDisconnected, now.since(at)),
            _ => (Reason::WorkerHeartbeatLost, now.since(session.heard_at)),
        };
        let home_seq = session.home_seq;
        self.effects.push(Effect::Verdict(VerdictWanted {
            holder,
            home_seq,
            leases,
            reason,
            evidence,
            silent_for,
            end_session,
            again: false,
        }));
    }

    /// Takes a lease back without absence being the reason: the fence alone protects, or the process is known to be gone.
    pub(super) fn take(&mut self, holder: Holder, lease: LeaseRef, reason: Reason, evidence: Evidence, now: Mono) {
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        let (home_seq, silent_for) = (session.home_seq, now.since(session.heard_at));
        let Some(held) = session.leases.exact(lease).filter(|held| !held.judged) else { return };
        held.judged = true;
        session.judged += 1;
        self.effects.push(Effect::Verdict(VerdictWanted {
            holder,
            home_seq,
            leases: vec![lease],
            reason,
            evidence,
            silent_for,
            end_session: false,
            again: false,
        }));
    }

    /// Takes a lease from a worker that may be alive: it is told, no longer confirmed, and given time to stop.
    pub(super) fn revoke(&mut self, holder: Holder, lease: LeaseRef, reason: Reason, evidence: Evidence) {
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        let Some(held) = session.leases.get_mut(lease.run_id).filter(|l| l.revoked.is_none()) else { return };
        held.revoked = Some((reason, evidence));
        session.arm(lease.run_id);
        self.say(holder, Say::Lost(lease, reason));
        self.reschedule(holder);
    }

    pub(super) fn revoke_all(&mut self, holder: Holder, reason: Reason, now: Mono) {
        let evidence = if reason == Reason::Evicted { Evidence::Person } else { Evidence::NewerIncarnation };
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        if reason == Reason::WorkerReplaced && session.leases.is_empty() {
            return self.gone(holder, reason);
        }
        session.draining = true;
        let may_be_alive = session.presence == Presence::Session;
        let leases: Vec<_> = session.leases.iter().map(HeldLease::lease).collect();
        for lease in leases {
            if may_be_alive {
                self.revoke(holder, lease, reason, evidence);
            } else {
                self.take(holder, lease, reason, evidence, now);
            }
        }
    }

    pub(super) fn verdict_done(&mut self, wanted: VerdictWanted, result: &VerdictResult) {
        let (holder, observed) = (wanted.holder, self.observed.now());
        let closed = match result {
            VerdictResult::Committed(closed) => closed,
            // The leases stay judged: no beat of this session is confirmed until the answer is known.
            VerdictResult::Unknown => return self.uncertain.push(VerdictWanted { again: true, ..wanted }),
            VerdictResult::Failed if wanted.again => return self.uncertain.push(wanted),
            // Not the newer session that may be the reason.
            VerdictResult::LostRace if self.is_empty_home(holder, wanted.home_seq) => {
                return self.forget(holder);
            }
            VerdictResult::LostRace | VerdictResult::Failed => {
                self.unjudge(&wanted);
                return self.retry_at(holder, observed + TICK);
            }
        };
        // A lease that was named and not closed was not open any more: either way it is not this session's. It is said although
        // the news of the commit may have come first and dropped it: an agent must not wait for its next timer beat to hear it.
        let same_home = self.sessions.get(&holder).is_some_and(|s| s.home_seq == wanted.home_seq);
        for lease in wanted.leases.iter().chain(closed.iter().filter(|l| !wanted.leases.contains(l))) {
            if let Some(session) = self.sessions.get_mut(&holder).filter(|s| same_home && s.holds(*lease)) {
                session.drop_lease(lease.run_id);
            }
            if same_home {
                self.say(holder, Say::Lost(*lease, wanted.reason));
            }
        }
        let Some(session) = self.sessions.get(&holder).filter(|s| s.home_seq == wanted.home_seq) else { return };
        // Nothing is left of a worker whose name is another's: it is told to end, too.
        if wanted.reason == Reason::WorkerReplaced && session.leases.is_empty() {
            return self.gone(holder, Reason::WorkerReplaced);
        }
        if wanted.end_session && session.leases.is_empty() {
            self.say(holder, Say::Close(CloseWhy::WrittenOff));
            self.forget(holder);
            self.effects.push(Effect::Announce(holder, Status::Offline));
            return;
        }
        // A claim that was under way may have brought a lease meanwhile: the session is judged on, for that lease.
        if let Some(session) = self.sessions.get_mut(&holder).filter(|_| wanted.end_session) {
            session.ending = false;
        }
        self.reschedule(holder);
    }

    fn is_empty_home(&self, holder: Holder, home_seq: HomeSeq) -> bool {
        self.sessions.get(&holder).is_some_and(|s| s.leases.is_empty() && s.home_seq == home_seq)
    }

    fn unjudge(&mut self, wanted: &VerdictWanted) {
        let Some(session) = self.sessions.get_mut(&wanted.holder) else { return };
        session.ending &= !wanted.end_session;
        for lease in &wanted.leases {
            if let Some(held) = session.leases.get_mut(lease.run_id) {
                session.judged -= usize::from(held.judged);
                held.judged = false;
                session.arm(lease.run_id);
            }
        }
    }

    pub(super) fn adopt(&mut self, info: SessionInfo, now: Mono) {
        let holder = info.holder;
        // What is in memory may be newer than the row from which this was read.
        if self.sessions.get(&holder).is_some_and(|s| s.home_seq >= info.home_seq) {
            return;
        }
        // A connection of the older home can neither claim nor be judged: the worker is to open another.
        if self.sessions.get(&holder).is_some_and(|s| s.conn.is_some()) {
            self.say(holder, Say::Close(CloseWhy::Superseded));
        }
        let (rearmed, armed) = (info.rearmed, self.local(info.armed));
        // A request that was late may have moved it here while its worker is connected elsewhere: that home must know.
        self.opened_here(holder, info.home_seq, now);
        self.admit(info, None, false, now);
        if let Some(session) = self.sessions.get_mut(&holder) {
            session.rearmed = rearmed;
            // One that goes from hand to hand is not armed for ever.
            if rearmed > REARMED_AT_MOST {
                session.heard = session.heard.min(armed);
            }
        }
        self.reschedule(holder);
    }

    /// By level, not by edge: a lease that no session is known to hold is watched from now on like any other, with a full
    /// TTL. A connected worker that does not name it gives it up within two beats.
    pub(super) fn audit(&mut self, info: SessionInfo, now: Mono) {
        let (holder, observed) = (info.holder, self.observed.now());
        if !self.sessions.contains_key(&holder) {
            return self.adopt(info, now);
        }
        let leases = self.local_leases(info.leases);
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        for lease in &leases {
            if !session.leases.contains(lease.lease.run_id) {
                session.hold(lease, 0, observed);
            }
        }
        self.reschedule(holder);
    }

    pub(super) fn open(&mut self, info: SessionInfo, conn: Option<ConnId>, proxied: bool, now: Mono) {
        let holder = info.holder;
        // Two openings may arrive in the other order than the store saw them.
        if self.sessions.get(&holder).is_some_and(|s| s.home_seq > info.home_seq) {
            if let Some(id) = conn {
                self.effects.push(Effect::Say(holder, id, Say::Close(CloseWhy::Superseded)));
            }
            return;
        }
        if let Some(old) = self.sessions.get(&holder)
            && old.conn.is_some()
            && old.conn.as_ref().map(|c| c.id) != conn
        {
            self.say(holder, Say::Close(CloseWhy::Superseded));
        }
        self.opened_here(holder, info.home_seq, now);
        self.is_back(holder);
        self.admit(info, conn, proxied, now);
        self.effects.push(Effect::Announce(holder, Status::Online));
        self.reschedule(holder);
    }

    fn admit(&mut self, info: SessionInfo, conn: Option<ConnId>, proxied: bool, now: Mono) {
        // What is being taken from this worker stays so: the connection may have ended before it could be told.
        let revoked = self.sessions.get(&info.holder).map(Session::revoked).unwrap_or_default();
        self.forget(info.holder);
        let observed = self.observed.stamp(now);
        let least = self.least_liveness(&info.profile.namespace, info.profile.queues.iter());
        let mut session = Session {
            holder: info.holder,
            profile: info.profile,
            presence: info.presence,
            home_seq: info.home_seq,
            draining: info.draining,
            conn: conn.map(|id| Connection { id, greeted: false, granted: 0, used: 0, push_seq: BEFORE_PUSHES }),
            wants: 0,
            proxied,
            heartbeat: derive::heartbeat(least.lease_ttl),
            heard: observed,
            heard_at: now,
            closed: None,
            knocked: None,
            rearmed: 0,
            grace: None,
            spared: None,
            excused: false,
            leases: Leases::default(),
            policies: Table::default(),
            limits: Table::default(),
            beaters: 0,
            timer: None,
            judged: 0,
            ending: false,
            shared: self.cluster.as_ref().map(Cluster::of_session).unwrap_or_default(),
            least,
        };
        session.hold_all(&self.local_leases(info.leases), 0, observed);
        session.revoke_again(&revoked);
        session.gives_beaters_time(observed);
        session.heartbeat = session.needed_beat();
        self.matching.add_session(&session);
        self.sessions.insert(session);
    }

    pub(super) fn forget(&mut self, holder: Holder) {
        if let Some(old) = self.sessions.remove(&holder) {
            self.let_go += 1;
            self.is_not_awaited(holder);
            if let Some(due) = old.timer {
                self.timers.remove(due, holder);
            }
            self.matching.remove_session(&old);
        }
    }

    pub(super) fn heard(&mut self, holder: Holder, conn: Option<ConnId>, now: Mono) {
        let observed = self.observed.stamp(now);
        let Some(session) = self.sessions.get_mut(&holder) else { return self.heard_of(holder, now) };
        let current = session.conn.as_ref().map(|c| c.id);
        // Not the bytes of a connection that it has given up.
        if current == conn || conn.is_none() {
            if session.status(observed) == Status::Suspect {
                session.heard_again(observed);
            }
            session.knocked = current.filter(|_| conn.is_none()).map(|_| observed).or(session.knocked);
            session.lives(observed, now);
            // It knocks. Whether or not it is let in (the store may refuse), the end of its connection was not its own.
            session.closed = None;
            self.is_back(holder);
        }
    }

    pub(super) fn closed(&mut self, holder: Holder, conn: ConnId, kind: CloseKind, now: Mono) {
        let observed = self.observed.stamp(now);
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        let Some(current) = session.conn.take_if(|c| c.id == conn) else {
            return; // an old connection: nothing follows from its end
        };
        // A connection on which the worker never spoke may be one that it had given up before it was opened here (a server that
        // was stopped opens what waited meanwhile): its end says nothing about the worker. That is silence, if anything.
        // And after a stall of its own the judge does not know when the end came, nor whether the worker could come back since.
        let blind = self.observed.deaf_for(now) > HICCUP;
        // It is about to replace this connection itself: the other one, not this one, tells how it is.
        let knocks = session.knocked.is_some_and(|at| observed.since(at) <= session.window());
        if kind == CloseKind::Ended && current.greeted && !blind && !knocks {
            session.closed = Some((observed, now));
            self.effects.push(Effect::Announce(holder, Status::Suspect));
        }
        self.reschedule(holder);
    }

    pub(super) fn drain(&mut self, holder: Holder, draining: bool) {
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        if session.draining == draining {
            return;
        }
        session.draining = draining;
        if draining {
            self.say(holder, Say::Drain);
        } else {
            self.match_session(holder);
        }
        let status = if draining { Status::Draining } else { Status::Online };
        self.effects.push(Effect::Announce(holder, status));
    }

    pub(super) fn gone(&mut self, holder: Holder, reason: Reason) {
        let Some(session) = self.sessions.get(&holder) else { return };
        let leases: Vec<_> = session.leases.iter().map(HeldLease::lease).collect();
        for lease in leases {
            self.say(holder, Say::Lost(lease, reason));
        }
        if self.sessions.get(&holder).is_some_and(|s| s.conn.is_some()) {
            self.say(holder, Say::Close(CloseWhy::Replaced));
        }
        self.forget(holder);
        let status = if reason == Reason::WorkerLeft { Status::Left } else { Status::Offline };
        self.effects.push(Effect::Announce(holder, status));
    }

    pub(super) fn poll_held(&mut self, holder: Holder, held: &[HeldInfo], now: Mono) {
        self.heard(holder, None, now);
        let observed = self.observed.stamp(now);
        let Some(session) = self.sessions.get_mut(&holder) else { return self.named_here(holder, held) };
        for info in held {
            if session.holds(info.lease) {
                session.named(info, observed);
            }
        }
        self.reschedule(holder);
    }

    /// Makes sure that the session is looked at when something may be due.
    pub(super) fn reschedule(&mut self, holder: Holder) {
        let Some(session) = self.sessions.get(&holder) else { return };
        if let Some(due) = session.next_due().filter(|_| !session.ending) {
            self.retry_at(holder, due.max(self.observed.now() + Millis(1)));
        }
    }

    fn retry_at(&mut self, holder: Holder, due: crate::Observed) {
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        if let Some(old) = session.timer {
            if old <= due {
                return;
            }
            self.timers.remove(old, holder);
        }
        session.timer = Some(due);
        self.timers.insert(due, holder);
    }
}
