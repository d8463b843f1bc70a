//! The only place that reads a real clock.

use outlive_core::clock::Clock;
use outlive_core::{Mono, Wall};
use rustix::time::{ClockId, clock_gettime};

/// The clocks of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

fn read(id: ClockId) -> i64 {
    let t = clock_gettime(id);
    t.tv_sec * 1_000 + t.tv_nsec / 1_000_000
}

impl Clock for SystemClock {
    fn wall(&self) -> Wall {
        Wall(read(ClockId::Realtime))
    }
    fn mono(&self) -> Mono {
        Mono(read(ClockId::Monotonic).unsigned_abs())
    }
    fn boot(&self) -> Mono {
        Mono(read(ClockId::Boottime).unsigned_abs())
    }
}

/// Nanoseconds on the monotonic clock, for measurements alone.
#[must_use]
pub fn nanos() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs()
}
