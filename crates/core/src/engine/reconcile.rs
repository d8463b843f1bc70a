//! Beats: what a worker says that it holds, against what the store says.
//!
//! The worker speaks first on every connection, with all that it holds. It is answered `hello`, a `lost` for each lease that
//! is not its own, one `leases` message with what it holds and did not name, and only then the acknowledgement, which
//! confirms every lease named for which no `lost` came before it.

use super::Engine;
use super::effect::Say;
use super::input::{BeatInfo, ConnId};
use super::leases::Maybe;
use crate::run::Evidence;
use crate::time::Mono;
use crate::{Holder, Reason};

/// Timer beats that must have seen a push without naming its lease before the lease is taken back.
const ABSENT_BEATS: u8 = 2;

impl Engine {
    pub(super) fn beat(&mut self, holder: Holder, conn: ConnId, beat: &BeatInfo, now: Mono) {
        self.heard(holder, Some(conn), now);
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        let Some(connection) = session.conn.as_mut().filter(|c| c.id == conn) else { return };
        let first = !connection.greeted;
        if first {
            connection.greeted = true;
            self.greet(holder);
        }
        let judged = if first || beat.timer { self.compare(holder, beat, first, now) } else { self.is_judged(holder) };
        // While a verdict over one of its leases is being written, or its outcome is unknown, nothing is confirmed.
        if !judged {
            let unsure = self.doubts_home(holder, now);
            self.say(holder, if unsure { Say::Unsure(beat.beat_seq) } else { Say::BeatAck(beat.beat_seq) });
        }
        if let Some(connection) = self.sessions.get_mut(&holder).and_then(|s| s.conn.as_mut()) {
            connection.granted = connection.granted.max(beat.credit);
        }
        self.match_session(holder);
    }

    fn is_judged(&self, holder: Holder) -> bool {
        self.sessions.get(&holder).is_none_or(|s| s.ending || s.judged > 0)
    }

    /// Compares; whether a verdict over this session is under way.
    fn compare(&mut self, holder: Holder, beat: &BeatInfo, first: bool, now: Mono) -> bool {
        let observed = self.observed.stamp(now);
        let Some(session) = self.sessions.get_mut(&holder) else { return true };
        let mut not_its_own = Vec::new();
        let mut named = Vec::with_capacity(beat.held.len());
        for info in &beat.held {
            let lease = &info.lease;
            match session.leases.exact(*lease) {
                None => not_its_own.push((*lease, Reason::LeaseReleased)),
                Some(held) => {
                    named.push(lease.run_id);
                    held.absent_beats = 0;
                    match held.revoked {
                        Some((reason, _)) => not_its_own.push((*lease, reason)),
                        None => held.named = Maybe::at(observed),
                    }
                    session.named(info, observed);
                }
            }
        }
        if first {
            session.heard_again(observed);
        }
        let (mut missing, mut take_back, mut gone, mut cancelling) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // Credit, and pushes, follow the answer to the first beat. A worker that shows neither may not have read it yet (a way
        // that is silent towards the worker alone): it would start what it had been given and what has been taken from it since.
        let has_read_held = beat.credit > 0 || beat.seen_push_seq > 0;
        let judged = session.ending || session.judged > 0;
        named.sort_unstable();
        named.dedup();
        // Nearly always it names all that it holds, and there is nothing else to look at.
        let are_others = first || named.len() < session.leases.len();
        for held in are_others.then(|| session.leases.iter_mut()).into_iter().flatten() {
            let lease = held.lease();
            if first && held.cancelling {
                cancelling.push(lease);
            }
            if named.binary_search(&held.run).is_ok() {
                continue;
            }
            // What the beat cannot know yet may still be started, also by a worker from which it has been taken.
            let known = !first && held.push_seq <= beat.seen_push_seq && (held.push_seq > 0 || has_read_held);
            if let Some((reason, evidence)) = held.revoked {
                if known {
                    gone.push((lease, reason, evidence));
                }
            } else if first {
                // A lease over which a verdict is being written, or was perhaps, is given to nobody: its run may be elsewhere.
                if !held.judged {
                    missing.push(lease);
                }
            } else if known {
                held.absent_beats += 1;
                if held.absent_beats >= ABSENT_BEATS {
                    take_back.push(lease);
                }
            }
        }
        for (lease, reason) in not_its_own {
            self.say(holder, Say::Lost(lease, reason));
        }
        if first {
            self.say(holder, Say::Held(missing));
        }
        for lease in cancelling {
            self.say(holder, Say::Cancel(lease, Reason::Cancelled));
        }
        // As with a cancel: the connection may have taken the first one along.
        if first && self.sessions.get(&holder).is_some_and(|s| s.draining) {
            self.say(holder, Say::Drain);
        }
        for (lease, reason, evidence) in gone {
            self.take(holder, lease, reason, evidence, now);
        }
        for lease in take_back {
            self.take(holder, lease, Reason::LeaseReleased, Evidence::Goodbye, now);
        }
        judged
    }
}
