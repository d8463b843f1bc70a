//! Connections: which address, when, and what a connection remembers.
//!
//! A session is changed by opening the new one first: the old connection stays open until the new one is greeted, so that
//! its end is the server's doing and never looks like the worker's.

use super::addresses::Addresses;
use super::types::{Conn, Now};
use outlive_core::{Millis, Mono};
use std::collections::VecDeque;

/// The longest time that opening a session may take before it is tried again, perhaps elsewhere: a slow server is waited for.
const LONGEST_OPENING: Millis = Millis::secs(5);
/// The shortest.
const SHORTEST_OPENING: Millis = Millis(500);
/// An open connection.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub conn: Conn,
    /// Where.
    pub address: String,
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

/// A try to open one.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub conn: Conn,
    address: String,
}

/// All about getting and keeping a connection.
#[derive(Clone, Debug)]
pub(super) struct Link {
    addresses: Addresses,
    last_conn: Conn,
    pub current: Option<Open>,
    pub opening: Option<Opening>,
    /// The connection before the current one, until that is greeted.
    pub retiring: Option<Conn>,
    /// When the last open connection ended: within the window from then on a try must not be waited for long.
    ended_at: Option<Mono>,
    pub retry_at: Option<Mono>,
    pub heartbeat: Millis,
    pub window: Millis,
    pub proxied: bool,
    /// When the last acknowledged beat was sent.
    pub last_heard: Mono,
    /// What a planned close promised.
    pub kept_until: Option<Mono>,
}

impl Link {
    pub(super) fn new(addresses: &[String], seed: u64) -> Self {
        Self {
            addresses: Addresses::new(addresses, seed),
            last_conn: 0,
            current: None,
            opening: None,
            retiring: None,
            ended_at: None,
            retry_at: Some(Mono(0)),
            heartbeat: Millis::secs(2),
            window: outlive_core::policy::derive::RECONNECT_WINDOW,
            proxied: false,
            last_heard: Mono(0),
            kept_until: None,
        }
    }

    /// All addresses, from the one that answers or is tried next.
    pub(super) fn servers(&self) -> impl Iterator<Item = &str> {
        self.addresses.all()
    }

    /// Whether this connection is being opened.
    pub(super) fn is_opening(&self, conn: Conn) -> bool {
        self.opening.as_ref().is_some_and(|opening| opening.conn == conn)
    }

    /// The number and address of the next try, and how long it may take: half of the shortest TTL, because an answer that was lost
    /// on the way must not cost a lease. With the rest before the next try that leaves time for it, however many have failed.
    pub(super) fn open(&mut self) -> (Conn, String, Millis) {
        self.retry_at = None;
        self.last_conn += 1;
        let address = self.addresses.here().to_owned();
        self.opening = Some(Opening { conn: self.last_conn, address: address.clone() });
        let within = self.heartbeat.percent(250).max(SHORTEST_OPENING).min(LONGEST_OPENING);
        (self.last_conn, address, within)
    }

    /// It is open, and becomes the current one.
    pub(super) fn opened(&mut self, conn: Conn, now: Now) {
        let address = self.opening.take().map(|opening| opening.address).unwrap_or_default();
        self.retiring = self.current.take().map(|old| old.conn).or(self.retiring);
        self.current = Some(Open {
            conn,
            address,
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
        self.kept_until = None;
        if let Some(open) = &mut self.current {
            open.greeted = true;
        }
        self.retiring.take()
    }

    /// It could not be opened: another address.
    pub(super) fn not_opened(&mut self, now: Now) {
        if let Some(Opening { address, .. }) = self.opening.take() {
            let at = self.addresses.leave(&address, self.heartbeat, now.boot);
            self.try_at(at, now);
        }
    }

    /// Not beyond a quarter of the window while that lasts: a connection that was opened and cut before it was greeted has shown
    /// the server an end like any other.
    fn try_at(&mut self, at: Mono, now: Now) {
        let urgent = self.ended_at.is_some_and(|ended| now.boot.since(ended) < self.window);
        self.retry_at = Some(if urgent { at.min(now.boot + self.window.percent(25)) } else { at });
    }

    /// It has ended. Where a server spoke, one may speak again; else another address.
    pub(super) fn ended(&mut self, now: Now) {
        let ended = self.current.take();
        self.ended_at = Some(now.boot);
        if let (Some(Open { address, greeted, .. }), None) = (ended, &self.opening) {
            let addresses = &mut self.addresses;
            let rest = self.heartbeat;
            let at =
                if greeted { addresses.stay(&address, now.boot) } else { addresses.leave(&address, rest, now.boot) };
            self.try_at(at, now);
        }
    }

    /// The server closes on purpose and names who is to be tried first; if it names nobody, it comes back itself.
    pub(super) fn closed(&mut self, r#try: &[String], now: Now) {
        self.ended(now);
        self.addresses.prefer(r#try);
    }

    /// It answers (after all): no need to look elsewhere. And when its end comes the window is short: the tries that failed
    /// before belong to another trouble.
    pub(super) fn answers(&mut self, sent: Mono) {
        self.retry_at = None;
        self.last_heard = self.last_heard.max(sent);
        if let Some(open) = &self.current {
            self.addresses.answers(&open.address);
        }
    }

    /// Another address: this one does not answer, or does not know whether it is the home, although the connection stands.
    pub(super) fn leave_address(&mut self, now: Now) {
        if let (Some(open), None, None) = (&self.current, &self.opening, self.retry_at) {
            self.retry_at = Some(self.addresses.leave(&open.address, self.heartbeat, now.boot));
        }
    }

    /// Addresses of all replicas.
    pub(super) fn learn(&mut self, names: &[String]) {
        self.addresses.learn(names);
    }

    /// The moment at which the oldest unanswered beat is two intervals old. Behind a proxy, which may have told the server alone
    /// that the connection ended, it is one: another must be open within the window of two and a half, and the first beat that
    /// is not answered may be sent an interval after the end.
    pub(super) fn unheard_at(&self) -> Option<Mono> {
        let (_, sent, _) = self.current.as_ref()?.unanswered.front()?;
        let intervals = if self.proxied { 1 } else { 2 };
        Some(*sent + Millis(self.heartbeat.0 * intervals))
    }

    /// The server's window, where something stands between that may hide the end of a connection.
    pub(super) fn hides_ends(&self) -> Option<Millis> {
        self.proxied.then_some(self.window)
    }
}
