//! What tests count: a beat and a tick must not look at more than they have to do with, however much is held. Outside of tests
//! nothing is counted.

/// Something that was looked at, or moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A session.
    Session,
    /// A lease.
    Lease,
    /// An entry of the order in which sessions are looked at.
    Timer,
}

#[cfg(not(test))]
#[inline]
pub(super) const fn done(_: Work) {}

#[cfg(test)]
pub(super) use counted::{counts, done};

#[cfg(test)]
mod counted {
    use super::Work;
    use std::cell::Cell;

    thread_local! {
        static COUNTS: Cell<[u64; 3]> = const { Cell::new([0; 3]) };
    }

    pub(in super::super) fn done(work: Work) {
        COUNTS.with(|counts| {
            let mut all = counts.get();
            all[work as usize] += 1;
            counts.set(all);
        });
    }

    /// Sessions, leases and timers that `work` looked at or moved.
    pub(in super::super) fn counts<T>(work: impl FnOnce() -> T) -> ([u64; 3], T) {
        COUNTS.with(|counts| counts.set([0; 3]));
        let result = work();
        (COUNTS.with(Cell::get), result)
    }
}
