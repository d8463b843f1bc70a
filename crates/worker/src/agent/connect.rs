//! The life of connections.

use super::state_machine::Agent;
use super::types::{Call, Conn, Effect, Now};
use outlive_api::session::Hello;
use outlive_core::engine::trust;
use outlive_core::{LeaseRef, Millis, Mono};

impl Agent {
    /// A session is open. What was said on the connection before, and not answered, is said again on this one.
    pub(super) fn connected(&mut self, conn: Conn, heartbeat: Millis, window: Millis, now: Now) {
        if !self.link.is_opening(conn) {
            self.out.push(Effect::Close(conn));
            return;
        }
        if self.link.last_heard == Mono(0) {
            (self.link.heartbeat, self.link.window) = (heartbeat, window);
        }
        self.link.opened(conn, now);
        self.in_flight = super::reports::InFlight::default();
        self.replay.rewind();
        let leases: Vec<LeaseRef> = self.runs.keys().copied().collect();
        for lease in leases {
            if let Some(run) = self.runs.get_mut(&lease) {
                run.named_from = None;
                run.slot = true;
                run.outbound.rewind();
                self.speaks(lease);
            }
        }
        self.first_beat(now);
    }

    /// The server speaks: this is the session now.
    pub(super) fn greeted(&mut self, hello: &Hello, now: Now) {
        self.link.heartbeat = Millis(hello.heartbeat_ms.max(1));
        self.link.window = Millis(hello.reconnect_window_ms);
        self.link.proxied = hello.proxied;
        self.link.learn(&hello.replicas);
        let news = self.link.current.as_ref().is_some_and(|open| !open.greeted);
        if let Some(old) = self.link.greeted() {
            self.out.push(Effect::Close(old));
        }
        let next = now.boot + self.link.heartbeat;
        if let Some(open) = &mut self.link.current {
            open.next_beat = if news { next } else { open.next_beat.min(next) };
        }
        if news {
            self.out.push(Effect::Online(true));
            if self.is_leaving() {
                self.out.push(Effect::Call(Call::Drain));
            }
        }
    }

    /// It ended, by EOF or RST, or could not be opened.
    pub(super) fn disconnected(&mut self, conn: Conn, now: Now) {
        if self.link.is_opening(conn) {
            self.link.not_opened(now);
        } else if self.link.current.as_ref().is_some_and(|open| open.conn == conn) {
            self.link.ended(now);
            self.ended(now);
        } else if self.link.retiring == Some(conn) {
            // The new connection has not been greeted: for all we know the server saw our end.
            self.link.retiring = None;
            self.shorten(now);
        }
    }

    /// The server closes on purpose, and says until when nothing will be taken because of it.
    pub(super) fn closed(&mut self, conn: Conn, keep: Millis, r#try: &[String], now: Now) {
        self.link.kept_until = Some(now.boot + keep);
        self.link.closed(r#try, now);
        self.out.push(Effect::Close(conn));
        self.ended(now);
    }

    fn ended(&mut self, now: Now) {
        if let Some(old) = self.link.retiring.take() {
            self.out.push(Effect::Close(old));
        }
        self.out.push(Effect::Online(false));
        self.shorten(now);
    }

    fn shorten(&mut self, now: Now) {
        let link = &self.link;
        let ended = trust::Ended {
            noticed: now.boot,
            last_heard: link.last_heard,
            window: link.window,
            proxied: link.proxied,
            kept_until: link.kept_until,
        };
        self.set_trust(now, |run| Some(trust::after_end(run.terms, run.deadline, ended)));
    }

    /// Opens what is due, and looks elsewhere when nobody answers.
    pub(super) fn check_link(&mut self, now: Now) {
        let unheard = self.link.unheard_at().is_some_and(|at| now.boot >= at);
        if unheard {
            self.link.leave_address(now);
        }
        if self.link.opening.is_none() && self.link.retry_at.is_some_and(|at| now.boot >= at) {
            let (conn, address, within) = self.link.open();
            self.out.push(Effect::Connect { conn, address, within });
        }
    }

    pub(super) fn link_deadline(&self) -> Option<Mono> {
        let link = &self.link;
        let try_again = link.retry_at.filter(|_| link.opening.is_none());
        let give_up = link.unheard_at().filter(|_| link.opening.is_none() && link.retry_at.is_none());
        let beat = link.current.as_ref().map(|open| open.next_beat);
        [try_again, give_up, beat, self.credit_due()].into_iter().flatten().min()
    }
}
