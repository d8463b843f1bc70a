//! Leased runs as this replica wrote them last.
//!
//! A report about one of them is decided on without a look at its row. The row then changes only if it is still the version that
//! this replica wrote: a version is known by the transaction that made it. If another replica was there meanwhile, nothing is
//! written, all of this is forgotten, and the batch runs again over rows that are locked and read.

use crate::fault::{Done, Fault};
use crate::loaded::Loaded;
use crate::sql;
use crate::tx::Tx;
use crate::value::{query, values_of};
use outlive_core::run::Run;
use outlive_core::{Holder, LeaseRef, RunId};
use std::collections::HashMap;

/// Runs that are remembered; beyond it all are read again.
const RUNS: usize = 16_384;

/// A transaction's number as a row tells it, in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made(i32);

impl Made {
    /// Of the transaction's whole number.
    #[expect(clippy::cast_possible_truncation, reason = "a row keeps the lower half")]
    pub(crate) const fn by(transaction: i64) -> Self {
        Self(transaction as i32)
    }

    /// For `run.xmin = $n::int4`.
    pub(crate) fn number(self) -> i64 {
        self.0.into()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Recent(HashMap<RunId, (Run, Made)>);

impl Recent {
    /// The run, if the lease is the one that it was written with.
    pub(crate) fn get(&self, sender: Holder, lease: LeaseRef) -> Option<&(Run, Made)> {
        self.0.get(&lease.run_id).filter(|(run, _)| run.lease() == Some((sender, lease)))
    }

    /// Takes down what a transaction wrote, once it is committed.
    pub(crate) fn follow(&mut self, loaded: &Loaded, made: Option<Made>) {
        for run in loaded.written.iter().filter_map(|seq| loaded.runs.get(seq)) {
            match made.filter(|_| is_alone(run)) {
                Some(made) => {
                    if self.0.len() >= RUNS && !self.0.contains_key(&run.id) {
                        self.0.clear();
                    }
                    self.0.insert(run.id, (run.clone(), made));
                }
                None => drop(self.0.remove(&run.id)),
            }
        }
    }

    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

/// Runs that were taken to be as this replica wrote them last, and were not written: they are so, and stay so until the end.
pub(crate) async fn verify(tx: &mut Tx<'_>) -> Done<()> {
    let assumed = std::mem::take(&mut tx.loaded.assumed);
    if assumed.is_empty() {
        return Ok(());
    }
    let seqs: Vec<i64> = assumed.keys().copied().collect();
    let made: Vec<i64> = assumed.values().map(|made| made.number()).collect();
    let same = query(tx.conn, sql::RUN_SAME, values_of![seqs, made]).await?.len();
    if same == assumed.len() { Ok(()) } else { Err(changed_elsewhere()) }
}

/// A run is not as this replica wrote it last: the batch is tried again.
pub(crate) fn changed_elsewhere() -> Fault {
    Fault::Race("a run was changed elsewhere".to_owned())
}

/// Whether what becomes of the run depends on its own row and lease, and on no other row that must be locked before it.
fn is_alone(run: &Run) -> bool {
    run.state.is_leased()
        && run.serial_key.is_none()
        && run.key.is_none()
        && !run.has_subjects
        && run.recovery.is_none()
}
