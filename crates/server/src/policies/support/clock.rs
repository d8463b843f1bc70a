//! The runtime's own clock, which a test has stopped: it moves when everybody waits, and then to where the first one is woken.

use outlive_core::clock::Clock;
use outlive_core::{Mono, Wall};
use tokio::time::Instant;

/// Started with the server.
pub(crate) struct SimulatedClock(Instant);

impl SimulatedClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SimulatedClock {
    fn wall(&self) -> Wall {
        Wall(1_700_000_000_000 + i64::try_from(self.mono().0).unwrap_or(i64::MAX))
    }
    fn mono(&self) -> Mono {
        Mono(u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
    fn boot(&self) -> Mono {
        self.mono()
    }
}
