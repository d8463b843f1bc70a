//! Credit against ready classes.
//!
//! A class is *ready* when it may have a run to claim: a hint, raised by whoever made one ready and lowered by a claim that
//! found nothing. Hints carry a version, so that a claim which was sent before a hint cannot lower it. The audit raises the
//! hints again from rows, whatever was lost.

use super::Engine;
use super::effect::{ClaimToken, ClaimWanted, Effect, Say};
use super::input::{ClaimResult, LeaseInfo, Presence};
use super::session::Session;
use super::sessions::Sessions;
use crate::class::MatchClass;
use crate::run::Evidence;
use crate::time::{Millis, Mono};
use crate::{ClassId, Holder, HomeSeq, LeaseRef, Reason};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// After a claim that the store refused or that lost its race: wait, do not spin.
const REFUSED_WAIT: Millis = Millis(100);
/// Sessions among which one offer is spread.
const SPREAD: usize = 64;

#[derive(Clone, Debug)]
struct ClassState {
    class: Arc<MatchClass>,
    takers: BTreeSet<Holder>,
    ready: bool,
    version: u64,
    cursor: Option<Holder>,
}

#[derive(Clone, Debug)]
struct Pending {
    holder: Holder,
    home_seq: HomeSeq,
    max: u32,
    classes: Vec<(ClassId, u64)>,
}

/// Classes, who can take them, and claims under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Matching {
    classes: BTreeMap<ClassId, ClassState>,
    ready: BTreeSet<ClassId>,
    takes: BTreeMap<Holder, BTreeSet<ClassId>>,
    pending: BTreeMap<ClaimToken, Pending>,
    last_token: u64,
    rate_waits: BTreeSet<(Mono, ClassId)>,
}

impl Matching {
    pub(super) fn add_class(&mut self, id: ClassId, class: Arc<MatchClass>, sessions: &Sessions) {
        if self.classes.contains_key(&id) {
            return;
        }
        let takers: BTreeSet<_> =
            sessions.values().filter(|s| s.profile.can_take(&class).is_ok()).map(|s| s.holder).collect();
        for taker in &takers {
            self.takes.entry(*taker).or_default().insert(id);
        }
        self.classes.insert(id, ClassState { class, takers, ready: false, version: 0, cursor: None });
    }

    pub(super) fn add_session(&mut self, session: &Session) {
        let takes = self.takes.entry(session.holder).or_default();
        for (id, state) in &mut self.classes {
            if session.profile.can_take(&state.class).is_ok() {
                state.takers.insert(session.holder);
                takes.insert(*id);
            }
        }
    }

    pub(super) fn remove_session(&mut self, session: &Session) {
        for class in self.takes.remove(&session.holder).unwrap_or_default() {
            if let Some(state) = self.classes.get_mut(&class) {
                state.takers.remove(&session.holder);
            }
        }
    }
}

impl Engine {
    pub(super) fn ready(&mut self, classes: &[ClassId]) {
        for id in classes {
            if let Some(state) = self.matching.classes.get_mut(id) {
                state.ready = true;
                state.version += 1;
                self.matching.ready.insert(*id);
            }
        }
        for id in classes {
            self.match_class(*id);
        }
    }

    /// Gives a ready class to every session that can take it and has room.
    fn match_class(&mut self, id: ClassId) {
        let Some(state) = self.matching.classes.get(&id).filter(|s| s.ready) else { return };
        let takers: Vec<_> = state.takers.iter().copied().filter(|t| self.free_of(*t) > 0).take(SPREAD).collect();
        for taker in takers {
            self.match_session(taker);
        }
    }

    fn free_of(&self, holder: Holder) -> u32 {
        let now = self.observed.now();
        self.sessions.get(&holder).map_or(0, |session| session.free(now))
    }

    /// Claims for a session out of every ready class that it can take.
    pub(super) fn match_session(&mut self, holder: Holder) {
        let free = self.free_of(holder);
        if free == 0 {
            return;
        }
        let Some(takes) = self.matching.takes.get(&holder) else { return };
        let classes: Vec<_> = takes.intersection(&self.matching.ready).copied().collect();
        if !classes.is_empty() {
            self.claim(holder, free, classes);
        }
    }

    fn claim(&mut self, holder: Holder, max: u32, classes: Vec<ClassId>) {
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        match &mut session.conn {
            Some(conn) => conn.used += u64::from(max),
            None => session.wants = session.wants.saturating_sub(max),
        }
        let home_seq = session.home_seq;
        self.matching.last_token += 1;
        let token = ClaimToken(self.matching.last_token);
        let versions = classes.iter().map(|id| (*id, self.matching.classes.get(id).map_or(0, |s| s.version)));
        let pending = Pending { holder, home_seq, max, classes: versions.collect() };
        self.matching.pending.insert(token, pending);
        self.effects.push(Effect::Claim(ClaimWanted { token, holder, home_seq, max, classes }));
    }

    /// Runs are about to be created: room for them is reserved, spread over the sessions that can take them.
    pub(super) fn offer(&mut self, counts: &[(ClassId, u32)]) {
        for &(id, count) in counts {
            let Some(state) = self.matching.classes.get(&id) else { continue };
            let from = state.cursor;
            let after = state.takers.iter().copied().filter(|t| from.is_some_and(|f| *t > f));
            let before = state.takers.iter().copied().filter(|t| from.is_none_or(|f| *t <= f));
            let takers: Vec<_> = after.chain(before).filter(|t| self.free_of(*t) > 0).take(SPREAD).collect();
            let mut left = count;
            let mut last = None;
            for (n, taker) in takers.iter().enumerate() {
                let sharers = u32::try_from(takers.len() - n).unwrap_or(1);
                let share = left.div_ceil(sharers).min(self.free_of(*taker));
                if share == 0 {
                    continue;
                }
                self.claim(*taker, share, vec![id]);
                left -= share;
                last = Some(*taker);
            }
            if let (Some(last), Some(state)) = (last, self.matching.classes.get_mut(&id)) {
                state.cursor = Some(last);
            }
        }
    }

    pub(super) fn claim_done(&mut self, token: ClaimToken, mut result: ClaimResult, now: Mono) {
        let Some(pending) = self.matching.pending.remove(&token) else { return };
        let taken = u32::try_from(result.leases.len()).unwrap_or(u32::MAX);
        let refused = result.failed || result.lost_race;
        for (id, version) in &pending.classes {
            // Fewer than asked for: nothing more is there, whatever the store named.
            let empty = !refused && (taken < pending.max || result.exhausted.contains(id));
            if empty && let Some(state) = self.matching.classes.get_mut(id).filter(|s| s.version == *version) {
                state.ready = false;
                self.matching.ready.remove(id);
            }
            let wait = if refused { Some(REFUSED_WAIT) } else { result.retry_after.filter(|_| empty) };
            if let Some(wait) = wait {
                self.matching.rate_waits.insert((now + wait, *id));
            }
        }
        let observed = self.observed.stamp(now);
        // The audit may have met a lease before this answer did, and it may have been closed since.
        result.leases = self.local_leases(result.leases);
        let pushed = u32::try_from(result.leases.len()).unwrap_or(u32::MAX);
        let current = self.sessions.get_mut(&pending.holder).filter(|s| s.home_seq == pending.home_seq);
        let Some(session) = current else {
            self.still_ready(&pending);
            return;
        };
        let unused = pending.max.saturating_sub(pushed);
        let mut push = None;
        match &mut session.conn {
            Some(conn) => {
                conn.used = conn.used.saturating_sub(u64::from(unused));
                if pushed > 0 {
                    conn.push_seq += 1;
                    push = Some(conn.push_seq);
                }
            }
            // A poll that got something is answered; one that got nothing goes on waiting.
            None if pushed > 0 => session.wants = 0,
            None if session.presence != Presence::Session => session.wants += unused,
            None => {}
        }
        let leases: Vec<LeaseRef> = result.leases.iter().map(|l| l.lease).collect();
        // The store's observed clock moves once a second; the countdown begins now.
        let taken_now = |lease| LeaseInfo { begun: observed, since: observed, ..lease };
        let taken: Vec<_> = result.leases.into_iter().map(taken_now).collect();
        session.hold_all(&taken, push.unwrap_or(0), observed);
        let holder = pending.holder;
        if let Some(push_seq) = push {
            self.say(holder, Say::Push(push_seq, leases));
        }
        self.reschedule(holder);
        if !refused {
            self.match_session(holder);
            self.still_ready(&pending);
        }
    }

    /// Others may take what this claim left.
    fn still_ready(&mut self, pending: &Pending) {
        for (id, _) in &pending.classes {
            self.match_class(*id);
        }
    }

    pub(super) fn poll_wants(&mut self, holder: Holder, wants: u32, now: Mono) {
        self.heard(holder, None, now);
        if let Some(session) = self.sessions.get_mut(&holder) {
            session.wants = wants;
            self.match_session(holder);
        }
    }

    /// Nobody may wait for what its worker will never ask for.
    pub(super) fn undelivered(&mut self, holder: Holder, leases: &[LeaseRef], now: Mono) {
        for lease in leases {
            self.take(holder, *lease, Reason::LeaseReleased, Evidence::Goodbye, now);
        }
    }

    /// Whether a claim for this worker has not been answered yet.
    #[must_use]
    pub fn claims(&self, holder: Holder) -> bool {
        self.matching.pending.values().any(|pending| pending.holder == holder)
    }

    /// Whether the last claim out of this class found nothing that it may take before a time that has not come.
    #[must_use]
    pub fn waits_for_rate(&self, class: ClassId) -> bool {
        self.matching.rate_waits.iter().any(|(_, id)| *id == class)
    }

    pub(super) fn rates_due(&mut self, now: Mono) {
        let mut due = Vec::new();
        while let Some(&(at, id)) = self.matching.rate_waits.first()
            && at <= now
        {
            self.matching.rate_waits.pop_first();
            due.push(id);
        }
        if !due.is_empty() {
            self.ready(&due);
        }
    }
}
