//! The only way to ask for the time. Decisions take `now` as an argument; the shells around them hold a [`Clock`].

use crate::time::{Mono, Wall};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A source of time.
pub trait Clock: Send + Sync {
    /// The wall clock. Only for what people read and for limits in store time.
    fn wall(&self) -> Wall;
    /// A clock that never goes back and stops during suspend (`CLOCK_MONOTONIC`): how long an attempt has run, how long a write
    /// waits.
    fn mono(&self) -> Mono;
    /// A clock that never goes back and counts suspend (`CLOCK_BOOTTIME`): of trust deadlines, and of the server's engine. While
    /// a server sleeps, others do not: its sessions are taken over, and ends of connections come in whose time nobody knows. On
    /// a clock that stopped with it, a server that wakes would think that it has been listening all along.
    fn boot(&self) -> Mono;
}

/// A clock that moves only when it is told to.
#[derive(Debug, Default)]
pub struct SimClock {
    wall: AtomicI64,
    mono: AtomicU64,
}

impl SimClock {
    /// Starts at `wall`, with the monotonic clocks at zero.
    #[must_use]
    pub fn starting_at(wall: Wall) -> Self {
        Self { wall: AtomicI64::new(wall.0), mono: AtomicU64::new(0) }
    }

    /// Sets the monotonic clocks to `now`; the wall clock moves by the same amount.
    pub fn advance_to(&self, now: Mono) {
        let before = self.mono.swap(now.0, Ordering::SeqCst);
        let moved = i64::try_from(now.0.saturating_sub(before)).unwrap_or(i64::MAX);
        self.wall.fetch_add(moved, Ordering::SeqCst);
    }

    /// A jump of the wall clock alone, as an operator or NTP step makes it.
    pub fn jump_wall(&self, by_ms: i64) {
        self.wall.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn wall(&self) -> Wall {
        Wall(self.wall.load(Ordering::SeqCst))
    }
    fn mono(&self) -> Mono {
        Mono(self.mono.load(Ordering::SeqCst))
    }
    fn boot(&self) -> Mono {
        self.mono()
    }
}
