//! Connections: which address, when, and what a connection remembers.
//!
//! A session is changed by opening the new one first: the old connection stays open until the new one is greeted, so that
//! its end is the server's doing and never looks like the worker's.

use super::types::{Conn, Now};
use outlive_core::{Millis, Mono};
use std::collections::VecDeque;

/// The first wait before another try, doubled each time: short against the reconnect window.
const FIRST_RETRY: Millis = Millis(20);
/// The longest wait before another try.
const LONGEST_RETRY: Millis = Millis::secs(2);
/// The longest time that opening a session may take before it is tried again, perhaps elsewhere.
const LONGEST_OPENING: Millis = Millis::secs(5);
/// The shortest.
const SHORTEST_OPENING: Millis = Millis(500);
/// Addresses that are remembered at most.
const ADDRESSES: usize = 64;

/// An open connection.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub conn: Conn,
    /// `hello` has come.
    pub greeted: bool,
    pub beat_seq: u64,
    /// Beats without an acknowledgement: number, time of sending, whether it named what is held.
    pub unanswered: VecDeque<(u64, Mono, bool)>,
    pub next_beat: Mono,
    /// When the first beat was sent: whatever the server says here was said later.
    pub first_beat: Mono,
    /// Total of leases that may be pushed.
    pub credit: u64,
    /// The total in the last beat.
    pub credit_told: u64,
    pub credit_told_at: Mono,
    pub seen_push_seq: u64,
}

/// All about getting and keeping a connection.
#[derive(Clone, Debug)]
pub(super) struct Link {
    addresses: Vec<String>,
    at: usize,
    last_conn: Conn,
    pub current: Option<Open>,
    pub opening: Option<Conn>,
    /// The connection before the current one, until that is greeted.
    pub retiring: Option<Conn>,
    attempts: u32,
    pub retry_at: Option<Mono>,
    pub heartbeat: Millis,
    pub window: Millis,
    pub proxied: bool,
    /// When the last acknowledged beat was sent.
    pub last_heard: Mono,
    /// What a planned close promised.
    pub kept_until: Option<Mono>,
    random: u64,
}

impl Link {
    pub(super) fn new(addresses: &[String], seed: u64) -> Self {
        Self {
            addresses: addresses.iter().map(|a| plain(a)).collect(),
            at: 0,
            last_conn: 0,
            current: None,
            opening: None,
            retiring: None,
            attempts: 0,
            retry_at: Some(Mono(0)),
            heartbeat: Millis::secs(2),
            window: outlive_core::policy::derive::RECONNECT_WINDOW,
            proxied: false,
            last_heard: Mono(0),
            kept_until: None,
            random: seed | 1,
        }
    }

    /// The number and address of the next try, and how long it may take: two beats at first, because an answer that was lost on
    /// the way must not cost a lease; longer with each try, because a slow server needs to be waited for.
    pub(super) fn open(&mut self) -> (Conn, String, Millis) {
        self.retry_at = None;
        self.last_conn += 1;
        self.opening = Some(self.last_conn);
        let within = self.heartbeat.0.saturating_mul(2 << self.attempts.min(16));
        let within = Millis(within).max(SHORTEST_OPENING).min(LONGEST_OPENING);
        (self.last_conn, self.addresses[self.at].clone(), within)
    }

    /// It is open, and becomes the current one.
    pub(super) fn opened(&mut self, conn: Conn, now: Now) {
        self.opening = None;
        self.retiring = self.current.take().map(|old| old.conn).or(self.retiring);
        self.current = Some(Open {
            conn,
            greeted: false,
            beat_seq: 0,
            unanswered: VecDeque::new(),
            next_beat: now.boot,
            first_beat: now.boot,
            credit: 0,
            credit_told: 0,
            credit_told_at: Mono(0),
            seen_push_seq: 0,
        });
    }

    /// The server speaks on it. The connection that it replaces, if there is one.
    pub(super) fn greeted(&mut self) -> Option<Conn> {
        self.attempts = 0;
        self.kept_until = None;
        if let Some(open) = &mut self.current {
            open.greeted = true;
        }
        self.retiring.take()
    }

    /// Tries another address after a wait that grows with each try.
    pub(super) fn fail_over(&mut self, now: Now) {
        if self.attempts > 0 {
            self.at = (self.at + 1) % self.addresses.len();
        }
        let longest = FIRST_RETRY.0.saturating_mul(1 << self.attempts.min(16)).min(LONGEST_RETRY.0);
        self.attempts += 1;
        self.retry_at = Some(now.boot + Millis(longest / 2 + self.random() % (longest / 2 + 1)));
    }

    /// It answers (after all): no need to look elsewhere. And when its end comes the window is short: the tries that failed
    /// before belong to another trouble.
    pub(super) fn answers(&mut self, sent: Mono) {
        self.retry_at = None;
        self.attempts = 0;
        self.last_heard = self.last_heard.max(sent);
    }

    /// Another address at once: this one does not answer, although the connection stands.
    pub(super) fn leave_address(&mut self, now: Now) {
        self.attempts = self.attempts.max(1);
        self.fail_over(now);
    }

    /// Addresses that a server named; `first`: to be tried before all others.
    pub(super) fn learn(&mut self, names: &[String], first: bool) {
        let names: Vec<String> = names.iter().map(|n| plain(n)).collect();
        if first && !names.is_empty() {
            self.addresses.retain(|a| !names.contains(a));
            self.addresses.splice(0..0, names.iter().cloned());
            self.at = 0;
            self.attempts = 0;
        } else {
            let new: Vec<_> = names.iter().filter(|n| !self.addresses.contains(n)).cloned().collect();
            self.addresses.extend(new);
        }
        self.addresses.truncate(ADDRESSES);
    }

    /// The moment at which the oldest unanswered beat is two intervals old.
    pub(super) fn unheard_at(&self) -> Option<Mono> {
        let (_, sent, _) = self.current.as_ref()?.unanswered.front()?;
        Some(*sent + Millis(self.heartbeat.0 * 2))
    }

    /// xorshift64: spreads reconnects, nothing more.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// `host:port`, however it was written.
fn plain(address: &str) -> String {
    address.trim_start_matches("http://").trim_end_matches('/').to_owned()
}
