//! Several replicas over one store: who judges whom, and what the others heard.
//!
//! ```text
//!   replica A ── row: beat 17, counts, notes ──►┌───────┐◄── row: beat 90, counts, notes ── replica B
//!             ◄────────── all rows ─────────────│ store │
//!                                               └───────┘   each second: one statement, one row
//! ```
//!
//! A session's **home** judges it, alone. Homes are rows of the store (replica, `home_seq`), and every claim and every verdict by
//! absence repeats them in its own transaction. All that is here makes that fast or keeps it from being wrong for long:
//!
//! - *Notes* tell a home what another replica heard of its worker: a request that a balancer brought there, or a session
//!   that opened there. In a cluster silence is judged a second later, so that every note has had its time to come.
//! - *Counts* make the breaker one of the whole cluster: a third of all workers silent is nobody's death, however few of them
//!   are at home here.
//! - *Unsure*: a replica whose own row could not be written for 3 s may have lost its sessions to others. It answers beats and
//!   says so, which extends no trust.
//! - *Adoption*: a row that has not changed for 5 s of the **reader's observed time** is the row of a replica that is gone, or
//!   cut off. Its sessions are taken over, by compare-and-set on that very row, and armed with a full TTL. Nothing is reaped.
//!
//! Why nobody trusts a lease that another replica judges: the last row of a replica was sent at `s`, was read by the adopter at
//! `r` >= `s`, and the adoption, which finds that row unchanged, comes at `r` + 5 s at the earliest. From `s` + 3 s on the replica
//! confirms nothing. When it can write again, its own row tells it that sessions were taken (`taken`): all of them are
//! *doubted*, that is unsure, until their homes have been read again.

use super::Engine;
use super::breaker::{Census, Tally};
use super::effect::{CloseWhy, Effect, Say};
use super::input::HeldInfo;
use super::session::{Session, Shared};
use crate::time::{Millis, Mono, Observed};
use crate::{Holder, HomeSeq, Reason, ReplicaId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How often a replica writes its row.
pub const ROW_EVERY: Millis = Millis::secs(1);
/// A replica that has not written its row for so long confirms nothing.
pub const UNSURE_AFTER: Millis = Millis::secs(3);
/// A replica whose row has not changed for so long, in the reader's observed time, loses its sessions to others.
pub const ADOPT_AFTER: Millis = Millis::secs(5);
/// How much later silence is judged in a cluster: by then what others heard has come.
pub const EXCHANGE: Millis = Millis::secs(1);
/// How long a note stays in its row: a reader may miss a version of it, or two.
const NOTED: Millis = Millis::secs(3);
/// Leases in one note: a worker that names more of them to another replica than its home names the others in a later beat, or there.
const NAMED: usize = 1_000;
/// Notes in one row. More is a mass of moves, which homes find out at their next verdict or claim.
const NOTES: usize = 4_096;

/// What a replica tells the others, each second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnRow {
    /// Rises with each row.
    pub beat: i64,
    /// Its sessions.
    pub tally: Tally,
    /// What it heard of workers whose home is elsewhere, and which sessions opened here.
    pub notes: Vec<Note>,
}

/// One thing that a replica heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Of whom.
    pub holder: Holder,
    /// Its session opened there and has this number; none: it was heard, no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<HomeSeq>,
    /// How long ago that was when the row was sent.
    pub age: Millis,
    /// What it named in a beat there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<HeldInfo>,
    /// All that it holds was being taken from it there when it moved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub evicted: bool,
}

/// Another replica's row, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRow {
    /// Whose.
    pub replica: ReplicaId,
    /// Changes with each row that it writes.
    pub beat: i64,
    /// Its sessions.
    pub tally: Tally,
    /// What it heard.
    pub notes: Vec<Note>,
}

/// What came of writing a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// When the row was sent to the store.
    pub sent: Mono,
    /// The store's observed clock.
    pub observed: Observed,
    /// How often others have taken sessions from this replica.
    pub taken: i64,
    /// The rows of the others.
    pub peers: Vec<PeerRow>,
}

/// The homes that the store has for this replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Homes {
    /// As in [`Rows::taken`], of the same snapshot.
    pub taken: i64,
    /// All sessions whose home this is.
    pub sessions: Vec<(Holder, HomeSeq)>,
}

/// What is known of another replica.
#[derive(Clone, Debug)]
struct Peer {
    beat: i64,
    changed: Observed,
    tally: Tally,
    asked: Option<Observed>,
}

/// What was heard here of a worker whose home is elsewhere.
#[derive(Clone, Debug)]
struct Noted {
    opened: Option<HomeSeq>,
    at: Mono,
    named: Vec<HeldInfo>,
    evicted: bool,
}

/// This replica among others.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    beat: i64,
    taken: i64,
    /// When the last row that is known to be written was sent.
    written: Mono,
    /// When the next row is due.
    next: Mono,
    /// A row is on its way since then.
    under_way: Option<Mono>,
    peers: BTreeMap<ReplicaId, Peer>,
    notes: BTreeMap<Holder, Noted>,
    /// The store's observed clock and this engine's at the same moment.
    clocks: (Observed, Observed),
}

/// The seat that a process took in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Who it is.
    pub replica: ReplicaId,
    /// The number of its last row.
    pub beat: i64,
    /// As in [`Rows::taken`].
    pub taken: i64,
}

impl Cluster {
    pub(super) fn new(seat: Seat, observed: Observed, now: Mono) -> Self {
        Self {
            beat: seat.beat,
            taken: seat.taken,
            written: now,
            next: now,
            under_way: None,
            peers: BTreeMap::new(),
            notes: BTreeMap::new(),
            clocks: (observed, observed),
        }
    }

    fn note(&mut self, holder: Holder, opened: Option<HomeSeq>, now: Mono) {
        if self.notes.len() < NOTES || self.notes.contains_key(&holder) {
            let new = Noted { opened, at: now, named: Vec::new(), evicted: false };
            let noted = self.notes.entry(holder).or_insert(new);
            (noted.opened, noted.at) = (opened.max(noted.opened), now.max(noted.at));
        }
    }

    /// Workers at home elsewhere that were heard here since then.
    pub(super) fn heard_since(&self, since: Mono) -> Vec<Holder> {
        self.notes.iter().filter(|(_, noted)| noted.at >= since).map(|(holder, _)| *holder).collect()
    }

    /// What is different for a session of one replica among others.
    pub(super) const fn of_session(_: &Self) -> Shared {
        Shared { doubted: false, exchange: EXCHANGE }
    }

    /// What the others count together: only whoever writes its row counts.
    pub(super) fn others(&self, observed: Observed) -> Tally {
        let fresh = self.peers.values().filter(|peer| observed.since(peer.changed) < ADOPT_AFTER);
        fresh.fold(Tally::default(), |sum, peer| sum + peer.tally)
    }
}

impl Engine {
    /// An engine of one replica among others: it writes rows, and judges only its own sessions.
    #[must_use]
    pub fn in_cluster(self, seat: Seat, now: Mono) -> Self {
        let observed = self.observed.now();
        Self { cluster: Some(Cluster::new(seat, observed, now)), ..self }
    }

    /// Whether this replica may have lost its sessions to others: it could not write its row.
    #[must_use]
    pub fn is_unsure(&self, now: Mono) -> bool {
        self.cluster.as_ref().is_some_and(|c| now.since(c.written) >= UNSURE_AFTER)
    }

    /// Whether another replica's row changes, as far as is known here.
    #[must_use]
    pub fn hears_replica(&self, replica: ReplicaId) -> bool {
        let observed = self.observed.now();
        let peer = self.cluster.as_ref().and_then(|c| c.peers.get(&replica));
        peer.is_some_and(|peer| observed.since(peer.changed) < ADOPT_AFTER)
    }

    /// What the store's observed clock may be set to: it runs as this engine's does since it was last read.
    #[must_use]
    pub fn store_observed(&self) -> Observed {
        let own = self.observed.now();
        self.cluster.as_ref().map_or(own, |c| c.clocks.0 + own.since(c.clocks.1))
    }

    /// A moment of the store's observed clock on this engine's, which may be behind: it is then later, never earlier.
    pub(super) fn local(&self, at: Observed) -> Observed {
        if self.cluster.is_none() {
            return at;
        }
        Observed(self.observed.now().0.saturating_sub(self.store_observed().since(at).0))
    }

    /// Rows are due; replicas that are gone lose their sessions.
    pub(super) fn replicas_tick(&mut self, now: Mono) {
        let observed = self.observed.now();
        let unsure = self.is_unsure(now) || self.observed.held_back().is_some();
        let Some(cluster) = &mut self.cluster else { return };
        if !unsure {
            for (&replica, peer) in &mut cluster.peers {
                let gone = observed.since(peer.changed) >= ADOPT_AFTER;
                let again = peer.asked.is_none_or(|at| observed.since(at) >= ADOPT_AFTER);
                if gone && again {
                    peer.asked = Some(observed);
                    self.effects.push(Effect::AdoptFrom { replica, beat: peer.beat });
                }
            }
        }
        let waits = cluster.under_way.is_some_and(|sent| now.since(sent) < UNSURE_AFTER);
        if now < cluster.next || waits {
            return;
        }
        cluster.notes.retain(|_, noted| now.since(noted.at) < NOTED);
        cluster.beat += 1;
        cluster.next = now + ROW_EVERY;
        cluster.under_way = Some(now);
        let note = |(&holder, noted): (&Holder, &Noted)| {
            let Noted { opened, at, named, evicted } = noted;
            Note { holder, opened: *opened, age: now.since(*at), named: named.clone(), evicted: *evicted }
        };
        let (beat, notes) = (cluster.beat, cluster.notes.iter().map(note).collect());
        let tally = Census::of(self.sessions.values(), observed).tally();
        self.effects.push(Effect::WriteRow(OwnRow { beat, tally, notes }));
    }

    /// The row is written, and those of the others are read.
    pub(super) fn rows(&mut self, rows: Rows, now: Mono) {
        let observed = self.observed.now();
        let Some(cluster) = &mut self.cluster else { return };
        cluster.under_way = None;
        cluster.written = cluster.written.max(rows.sent);
        if rows.observed > cluster.clocks.0 + observed.since(cluster.clocks.1) {
            cluster.clocks = (rows.observed, observed);
        }
        let lost_some = rows.taken != cluster.taken;
        cluster.taken = rows.taken;
        cluster.peers.retain(|replica, _| rows.peers.iter().any(|row| row.replica == *replica));
        let mut notes = Vec::new();
        for row in rows.peers {
            // A row that was read before says nothing new: its ages are of when it was written, and its writer may be gone.
            if cluster.peers.get(&row.replica).is_some_and(|peer| peer.beat == row.beat) {
                continue;
            }
            let peer = Peer { beat: row.beat, changed: observed, tally: row.tally, asked: None };
            cluster.peers.insert(row.replica, peer);
            notes.extend(row.notes);
        }
        if lost_some {
            self.sessions.values_mut().for_each(|s| s.shared.doubted = true);
            self.effects.push(Effect::ReadHomes);
        }
        for note in notes {
            self.noted(&note, now);
        }
    }

    pub(super) fn noted(&mut self, note: &Note, now: Mono) {
        if let Some(home_seq) = note.opened {
            self.moved(note.holder, home_seq);
        }
        let at = Observed(self.observed.stamp(now).0.saturating_sub(note.age.0));
        let Some(session) = self.sessions.get_mut(&note.holder) else { return };
        // It lives. That its connection ended is another matter: what was heard may have been heard before.
        if at > session.heard {
            session.lives(at, Mono(now.0.saturating_sub(note.age.0)));
            self.is_back(note.holder);
        } else {
            session.lived(at);
        }
        if let Some(session) = self.sessions.get_mut(&note.holder) {
            for info in &note.named {
                if session.holds(info.lease) {
                    session.named(info, at);
                }
            }
        }
        if note.evicted {
            self.revoke_all(note.holder, Reason::Evicted, now);
        }
    }

    /// Its home is elsewhere: nothing of it is judged here any more.
    pub(super) fn moved(&mut self, holder: Holder, home_seq: HomeSeq) {
        let Some(session) = self.sessions.get(&holder).filter(|s| s.home_seq < home_seq) else { return };
        // What it named here since it moved, and what was being taken from it, its home does not know.
        let (named, evicted) = (session.last_named(), session.is_evicted());
        if named.is_some() || evicted {
            let (at, named) = named.unwrap_or((session.heard_at, Vec::new()));
            self.pass_on(holder, at, &named, evicted);
        }
        if self.sessions.get(&holder).is_some_and(|s| s.conn.is_some()) {
            self.say(holder, Say::Close(CloseWhy::Superseded));
        }
        self.is_back(holder);
        self.forget(holder);
    }

    /// The homes of doubted sessions have been read.
    pub(super) fn homes(&mut self, homes: &Homes) {
        if self.cluster.as_ref().is_none_or(|c| c.taken != homes.taken) {
            return; // asked again meanwhile
        }
        let here: BTreeMap<Holder, HomeSeq> = homes.sessions.iter().copied().collect();
        let doubted: Vec<_> =
            self.sessions.values().filter(|s| s.shared.doubted).map(|s| (s.holder, s.home_seq)).collect();
        for (holder, home_seq) in doubted {
            if here.get(&holder) == Some(&home_seq) {
                if let Some(session) = self.sessions.get_mut(&holder) {
                    session.shared.doubted = false;
                }
            } else {
                self.moved(holder, HomeSeq(home_seq.0 + 1));
            }
        }
    }

    /// The row was not written, or nobody knows: the next one tells.
    pub(super) fn row_unwritten(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.under_way = None;
        }
    }

    /// The homes could not be read: they are asked for again at the next row.
    pub(super) fn homes_unread(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.taken = -1;
        }
    }

    /// Somebody whose home is not here was heard: its home is told.
    pub(super) fn heard_of(&mut self, holder: Holder, now: Mono) {
        if let Some(cluster) = &mut self.cluster {
            cluster.note(holder, None, now);
        }
    }

    /// It named what it holds, which its home must know.
    pub(super) fn named_here(&mut self, holder: Holder, held: &[HeldInfo]) {
        if let Some(noted) = self.cluster.as_mut().and_then(|c| c.notes.get_mut(&holder)) {
            noted.named = held.iter().take(NAMED).copied().collect();
        }
    }

    fn pass_on(&mut self, holder: Holder, at: Mono, named: &[HeldInfo], evicted: bool) {
        if let Some(cluster) = &mut self.cluster {
            cluster.note(holder, None, at);
            if let Some(noted) = cluster.notes.get_mut(&holder) {
                noted.evicted |= evicted;
            }
        }
        self.named_here(holder, named);
    }

    /// A session opened here: whoever had it before is told.
    pub(super) fn opened_here(&mut self, holder: Holder, home_seq: HomeSeq, now: Mono) {
        if let Some(cluster) = &mut self.cluster {
            cluster.note(holder, Some(home_seq), now);
        }
    }

    /// Whether beats of this session extend no trust.
    pub(super) fn doubts_home(&self, holder: Holder, now: Mono) -> bool {
        self.is_unsure(now) || self.sessions.get(&holder).is_some_and(|s: &Session| s.shared.doubted)
    }
}
