//! What other threads may see of the writer.

use crate::fault::Fault;
use outlive_core::Mono;
use outlive_store::{Pulse, Trouble};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// No command waits.
const NOTHING: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Signs {
    /// When the last transaction was committed.
    committed: AtomicU64,
    /// When the oldest command that is not answered was given; [`NOTHING`]: none.
    pending: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
    /// Why nothing more is written.
    broken: Mutex<Option<String>>,
}

impl Signs {
    pub(crate) fn new(now: Mono) -> Self {
        Self {
            committed: AtomicU64::new(now.0),
            pending: AtomicU64::new(NOTHING),
            trouble: Mutex::new(None),
            broken: Mutex::new(None),
        }
    }

    pub(crate) fn pulse(&self, now: Mono) -> Pulse {
        let pending = self.pending.load(Ordering::Acquire);
        Pulse {
            since_commit: now.since(Mono(self.committed.load(Ordering::Relaxed))),
            pending: (pending != NOTHING).then(|| now.since(Mono(pending))),
            broken: !self.is_whole(),
            trouble: *self.trouble.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// A command waits since `at`.
    pub(crate) fn waits(&self, at: u64) {
        let _ = self.pending.compare_exchange(NOTHING, at, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// A group begins, whose oldest command waits since `at`.
    pub(crate) fn begins(&self, at: u64) {
        self.pending.store(at, Ordering::Release);
    }

    pub(crate) fn nothing_pending(&self) {
        self.pending.store(NOTHING, Ordering::Release);
    }

    /// A fault was met, by a write or a read.
    pub(crate) fn met(&self, fault: &Fault) {
        if let Some(new) = fault.trouble() {
            let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            if *trouble != Some(Trouble::Damaged) {
                *trouble = Some(new);
            }
        }
    }

    /// A transaction was committed: there is room, and the server takes writes.
    pub(crate) fn committed_now(&self, at: u64) {
        self.committed.store(at, Ordering::Relaxed);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *trouble != Some(Trouble::Damaged) {
            *trouble = None;
        }
    }

    /// Nothing more may be written until the store is opened again.
    pub(crate) fn break_off(&self, why: String) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.is_none() {
            tracing::error!(why, "the store writes nothing more");
            *broken = Some(why);
        }
    }

    pub(crate) fn why_broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.why_broken().is_none()
    }
}
