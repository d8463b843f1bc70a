//! The only place that reads a real clock.

use outlive_core::clock::Clock;
use outlive_core::{Mono, Wall};
use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// The clocks of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

fn read(id: ClockId) -> i64 {
    let t = clock_gettime(id);
    t.tv_sec * 1_000 + t.tv_nsec / 1_000_000
}

impl Clock for SystemClock {
    /// By the system's library and not by a call of the kernel: there an operator's `faketime` can be seen, as in any program.
    #[expect(clippy::disallowed_methods, reason = "this is clock.rs")]
    fn wall(&self) -> Wall {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Err(before) => Wall(i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms)),
        }
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
