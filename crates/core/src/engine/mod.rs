//! When a worker is dead, who gets which work, and what each connection is told.
//!
//! ```text
//!              ┌──────────────────────────── Engine ───────────────────────────┐
//!   sockets ──►│ observed   the judge's clock: runs only while it could hear   │──► Say   (sockets)
//!   store   ──►│ evidence   silence, closed connections → verdicts             │──► Verdict, Claim (store)
//!              │ limits     starts, runs, progress: what a lease may take      │
//!   ticks   ──►│ reconcile  beats against leases: lost, resend, take back      │──► Announce
//!              │ matching   credit against ready classes → claims              │
//!              └───────────────────────────────────────────────────────────────┘
//! ```
//!
//! [`Engine::handle`] is the only way in: an input and `now`, effects out. It reads no clock, spawns nothing, and iterates
//! over ordered maps alone, so that the same inputs give the same effects, in a simulation or in a replay.
//!
//! What is kept here is memory: ownership of a run is in the store, and every [`effect::ClaimWanted`] and
//! [`effect::VerdictWanted`] is checked again there, in its own transaction, against (incarnation, home, `home_seq`).
//!
//! Several replicas over one store are [`replicas`]: rows, notes, adoption.
//!
//! All verdicts by absence leave through one gate (`evidence::gate`): a punctual judge, a closed [`breaker`], and its rate.

pub mod breaker;
mod closed;
pub mod effect;
mod evidence;
mod grace;
pub mod input;
mod leases;
mod limits;
mod matching;
pub mod observed;
mod reconcile;
pub mod replicas;
mod session;
mod sessions;
mod signs;
pub mod status;
#[cfg(test)]
mod tests;
pub mod trust;
mod work;

pub use breaker::Tally;
pub use breaker::{BreakerMode, Opened};
pub use effect::{ClaimToken, ClaimWanted, CloseWhy, Effect, Say, VerdictWanted};
pub use grace::REARMED_AT_MOST;
pub use input::{
    BeatInfo, ClaimResult, CloseKind, ConnId, HeldInfo, Input, LeaseInfo, Presence, SessionInfo, VerdictResult,
};
pub use observed::{HeldBack, ObservedClock, Senses, TICK};
pub use replicas::{Homes, Note, OwnRow, PeerRow, Rows, Seat};
pub use signs::Signs;
pub use status::Status;

use crate::policy::{Liveness, QueuePolicy};
use crate::time::{Millis, Mono, Observed};
use crate::{Holder, HomeSeq, LeaseRef, QueueId, Reason};
use breaker::{Breaker, Census, Reap};
use closed::Closed;
use grace::Graces;
use leases::HeldLease;
use matching::Matching;
use replicas::Cluster;
use session::Session;
use sessions::{Sessions, Timers};
use std::collections::{BTreeMap, BTreeSet};

/// The engine of one replica.
#[derive(Clone, Debug)]
pub struct Engine {
    observed: ObservedClock,
    sessions: Sessions,
    queues: BTreeMap<QueueId, Liveness>,
    queue_names: BTreeMap<(String, String), QueueId>,
    matching: Matching,
    timers: Timers,
    closed: Closed,
    breaker: Breaker,
    reap: Reap,
    graces: Graces,
    /// Of this tick, once it is needed.
    census: Option<Census>,
    /// Among other replicas; none: it is the only one.
    cluster: Option<Cluster>,
    /// Verdicts of which it is not known whether they were written: given again each tick.
    uncertain: Vec<VerdictWanted>,
    /// How many sessions have been let go, ever.
    let_go: u64,
    effects: Vec<Effect>,
}

impl Engine {
    /// An engine that goes on from the store's observed clock.
    #[must_use]
    pub fn new(observed: Observed, now: Mono) -> Self {
        Self {
            observed: ObservedClock::starting_at(observed, now),
            sessions: Sessions::default(),
            queues: BTreeMap::new(),
            queue_names: BTreeMap::new(),
            matching: Matching::default(),
            timers: Timers::default(),
            closed: Closed::default(),
            breaker: Breaker::default(),
            reap: Reap::full(observed),
            graces: Graces::default(),
            census: None,
            cluster: None,
            uncertain: Vec::new(),
            let_go: 0,
            effects: Vec::new(),
        }
    }

    /// The same with another breaker: for a history that is played again to see what it would hide, and for what checks must
    /// catch.
    #[must_use]
    pub fn with_breaker(self, mode: BreakerMode) -> Self {
        Self { breaker: Breaker::of(mode), ..self }
    }

    /// One input; what follows from it, in order.
    pub fn handle(&mut self, input: Input, now: Mono) -> Vec<Effect> {
        match input {
            Input::Tick(senses) => self.tick(&senses, now),
            Input::Queue(id, name, liveness) => {
                // Whoever takes from a queue of this name may have to beat faster, before it gets a run.
                self.queue_names.insert(name, id);
                self.queue_changed(id, liveness);
            }
            Input::Class(id, class) => self.matching.add_class(id, class, &self.sessions),
            Input::Ready(classes) => self.ready(&classes),
            Input::Offer(counts) => self.offer(&counts),
            Input::Adopt(info) => self.adopt(info, now),
            Input::Open(info, conn, proxied) => self.open(info, conn, proxied, now),
            Input::Heard(holder, conn) => self.heard(holder, conn, now),
            Input::Beat(holder, conn, beat) => self.beat(holder, conn, &beat, now),
            Input::PollHeld(holder, held) => self.poll_held(holder, &held, now),
            Input::PollWants(holder, wants) => self.poll_wants(holder, wants, now),
            Input::Undelivered(holder, leases) => self.undelivered(holder, &leases, now),
            Input::Closed(holder, conn, kind) => self.closed(holder, conn, kind, now),
            Input::ClaimDone(token, result) => self.claim_done(token, result, now),
            Input::Reported(leases) => self.reported(&leases),
            Input::Ended(leases) => self.ended(&leases),
            Input::Cancel(holder, lease, reason) => self.cancel(holder, lease, reason),
            Input::VerdictDone(wanted, result) => self.verdict_done(wanted, &result),
            Input::Drain(holder, draining) => self.drain(holder, draining),
            Input::Gone(holder, reason) => self.gone(holder, reason),
            Input::Revoke(holder, reason) => self.revoke_all(holder, reason, now),
            Input::Audit(info) => self.audit(info, now),
            Input::Seen(leases) => self.seen(&leases),
            Input::Rows(rows) => self.rows(rows, now),
            Input::Noted(notes) => notes.iter().for_each(|note| self.noted(note, now)),
            Input::RowUnwritten => self.row_unwritten(),
            Input::Homes(homes) => self.homes(&homes),
            Input::HomesUnread => self.homes_unread(),
            Input::Moved(holder, home_seq) => self.moved(holder, home_seq),
        }
        std::mem::take(&mut self.effects)
    }

    /// Observed time, for the store's clock and for people.
    #[must_use]
    pub const fn observed(&self) -> &ObservedClock {
        &self.observed
    }

    /// Why verdicts by absence wait although the judge is punctual; none if the breaker is closed.
    #[must_use]
    pub fn breaker(&self) -> Option<Opened> {
        self.breaker.is_open()
    }

    /// Sessions and leases in memory.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.sessions.len(), self.sessions.values().map(|s| s.leases.len()).sum())
    }

    /// A session as people may see it.
    #[must_use]
    pub fn session(&self, holder: Holder, now: Mono) -> Option<SessionView> {
        let session = self.sessions.get(&holder)?;
        Some(SessionView {
            status: session.status(self.observed.now()),
            heard_ago: now.since(session.heard_at),
            connected: session.conn.is_some(),
            least_ttl: session.ttl(&session.least),
            held: session.leases.len(),
        })
    }

    /// Which session of this worker is here.
    #[must_use]
    pub fn home_seq(&self, holder: Holder) -> Option<HomeSeq> {
        self.sessions.get(&holder).map(|session| session.home_seq)
    }

    /// What a session holds, in order of id.
    #[must_use]
    pub fn leases(&self, holder: Holder) -> Vec<LeaseRef> {
        self.sessions.get(&holder).into_iter().flat_map(|s| s.leases.iter()).map(HeldLease::lease).collect()
    }

    /// How to tell a worker something about a lease, if it has the lease and can be told.
    #[must_use]
    pub fn way_to(&self, holder: Holder, lease: LeaseRef) -> Option<Way> {
        let session = self.sessions.get(&holder)?;
        session.leases.get(lease.run_id).filter(|l| l.epoch == lease.epoch)?;
        if session.presence == Presence::Session {
            session.conn.as_ref().filter(|c| c.greeted).map(|c| Way::Connection(c.id))
        } else {
            Some(Way::Orders)
        }
    }

    /// Whether a lease is this worker's and nothing takes it from it. None: it is not known here.
    #[must_use]
    pub fn is_watched(&self, holder: Holder, lease: LeaseRef) -> Option<bool> {
        let held = self.sessions.get(&holder)?.leases.get(lease.run_id).filter(|held| held.epoch == lease.epoch)?;
        Some(!held.judged && held.revoked.is_none())
    }

    /// What a worker without connections is told with every answer, for as long as it holds: an answer may be lost, and only
    /// the end of the lease, or of the drain, shows that it was read.
    #[must_use]
    pub fn standing_orders(&self, holder: Holder) -> Vec<Say> {
        let Some(session) = self.sessions.get(&holder).filter(|s| s.presence != Presence::Session) else {
            return Vec::new();
        };
        let drain = session.draining.then_some(Say::Drain);
        let cancels = session
            .leases
            .iter()
            .filter(|held| held.cancelling)
            .map(|held| Say::Cancel(held.lease(), Reason::Cancelled));
        drain.into_iter().chain(cancels).take(crate::limits::sizes::BATCH).collect()
    }

    /// Whether it is a worker without connections, which is told things when it asks.
    #[must_use]
    pub fn polls(&self, holder: Holder) -> bool {
        self.sessions.get(&holder).is_some_and(|s| s.presence != Presence::Session)
    }

    /// Rises with each session that is let go: what a shell keeps for sessions need not be looked through before.
    #[must_use]
    pub const fn let_go(&self) -> u64 {
        self.let_go
    }

    /// The least liveness policy of a worker's queues: beats follow from it.
    #[must_use]
    pub fn least_liveness<'q>(&self, namespace: &str, queues: impl Iterator<Item = &'q String>) -> Liveness {
        // A queue that is not known yet comes with the default policy at its first run.
        let default = || QueuePolicy::default().liveness();
        let id = |q: &String| self.queue_names.get(&(namespace.to_owned(), q.clone()));
        let policies = queues.map(|q| id(q).and_then(|id| self.queues.get(id)).copied().unwrap_or_else(default));
        policies.min_by_key(|p| p.lease_ttl).unwrap_or_else(default)
    }

    fn say(&mut self, holder: Holder, say: Say) {
        match self.sessions.get(&holder).and_then(|s| s.conn.as_ref()) {
            Some(conn) => self.effects.push(Effect::Say(holder, conn.id, say)),
            None if self.polls(holder) => self.effects.push(Effect::Order(holder, say)),
            None => {} // a session that is away hears it from its first beat
        }
    }

    fn each(&mut self, leases: &[(Holder, LeaseRef)], mut act: impl FnMut(&mut Session, LeaseRef)) {
        for (holder, lease) in leases {
            if let Some(session) = self.sessions.get_mut(holder).filter(|s| s.holds(*lease)) {
                act(session, *lease);
            }
        }
    }

    fn ended(&mut self, leases: &[(Holder, LeaseRef)]) {
        let observed = self.observed.now();
        for (_, lease) in leases {
            self.closed.add(*lease, observed);
        }
        self.each(leases, |session, lease| {
            session.drop_lease(lease.run_id);
        });
        // A worker may have granted credit for a slot before the end of its lease was stored: there is room only now.
        let holders: BTreeSet<_> = leases.iter().map(|(holder, _)| *holder).collect();
        for holder in holders {
            self.match_session(holder);
        }
    }

    /// What is known to have closed since the store was asked is left out.
    fn still_open(&self, mut leases: Vec<LeaseInfo>) -> Vec<LeaseInfo> {
        leases.retain(|info| !self.closed.contains(info.lease));
        leases
    }

    /// The same, with their times on this engine's clock.
    fn local_leases(&self, leases: Vec<LeaseInfo>) -> Vec<LeaseInfo> {
        let leases = self.still_open(leases);
        leases
            .into_iter()
            .map(|info| LeaseInfo { begun: self.local(info.begun), since: self.local(info.since), ..info })
            .collect()
    }

    fn cancel(&mut self, holder: Holder, lease: LeaseRef, reason: Reason) {
        let Some(held) = self.sessions.get_mut(&holder).and_then(|s| s.leases.exact(lease)) else { return };
        held.cancelling = true;
        self.say(holder, Say::Cancel(lease, reason));
    }

    fn queue_changed(&mut self, id: QueueId, liveness: Liveness) {
        self.queues.insert(id, liveness);
        let holders: Vec<_> = self.sessions.values().map(|session| session.holder).collect();
        for holder in holders {
            let Some(session) = self.sessions.get(&holder) else { continue };
            let least = self.least_liveness(&session.profile.namespace, session.profile.queues.iter());
            let Some(session) = self.sessions.get_mut(&holder) else { continue };
            session.least = least;
            let heartbeat = session.needed_beat();
            if heartbeat != session.heartbeat {
                session.heartbeat = heartbeat;
                self.greet(holder);
            }
            self.reschedule(holder);
        }
    }

    fn greet(&mut self, holder: Holder) {
        let Some(session) = self.sessions.get(&holder).filter(|s| s.conn.is_some()) else { return };
        let (home_seq, heartbeat, proxied) = (session.home_seq, session.heartbeat, session.proxied);
        let window = session.window();
        self.say(holder, Say::Hello { home_seq, heartbeat, window, proxied });
    }
}

/// How a worker can be told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// On its connection, at once.
    Connection(ConnId),
    /// With its next report's answer.
    Orders,
}

/// A session as people may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// By the one predicate.
    pub status: Status,
    /// Since the last sign of life, on the process's clock.
    pub heard_ago: Millis,
    /// Whether it has a connection.
    pub connected: bool,
    /// By which an idle session is judged.
    pub least_ttl: Millis,
    /// How many leases it holds.
    pub held: usize,
}
