//! The runtime's own clock, which a test has stopped: it moves when everybody waits, and then to where the first one is woken.

use outlive_core::clock::Clock;
use outlive_core::{Millis, Mono, Wall};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

/// Started with the server.
pub(crate) struct SimulatedClock {
    started: Instant,
    /// Milliseconds for which the machine was suspended: the runtime's timers stood still with it.
    suspended: AtomicU64,
}

impl SimulatedClock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), suspended: AtomicU64::new(0) }
    }

    /// The machine was suspended for so long, and wakes now.
    pub(crate) fn suspend(&self, time: Millis) {
        self.suspended.fetch_add(time.0, Ordering::SeqCst);
    }
}

impl Clock for SimulatedClock {
    fn wall(&self) -> Wall {
        Wall(1_700_000_000_000 + i64::try_from(self.boot().0).unwrap_or(i64::MAX))
    }
    fn mono(&self) -> Mono {
        Mono(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
    fn boot(&self) -> Mono {
        self.mono() + Millis(self.suspended.load(Ordering::SeqCst))
    }
}
