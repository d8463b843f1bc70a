//! The rows of runs with an open lease, as last written: nearly every report is about one of them, and reading its row again
//! takes longer than writing it.
//!
//! There is one writer, and every row of a run goes through [`crate::tx::Tx`], so what is here is what the file has; a
//! rollback empties it with the rest of the cache. Bounded: beyond it, a report reads its row.

use outlive_core::RunId;
use outlive_core::run::Run;
use std::collections::HashMap;

/// Runs of one generation; two are kept, so that what is used stays.
const GENERATION: usize = 8_192;

#[derive(Debug, Default)]
pub(crate) struct LeasedRuns {
    young: HashMap<RunId, Run>,
    old: HashMap<RunId, Run>,
}

impl LeasedRuns {
    /// The run's row was written.
    pub(crate) fn written(&mut self, run: &Run) {
        if !run.state.is_leased() {
            self.young.remove(&run.id);
            self.old.remove(&run.id);
            return;
        }
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(run.id, run.clone());
    }

    /// The run's row, if it has an open lease and was written lately.
    pub(crate) fn get(&self, id: RunId) -> Option<&Run> {
        self.young.get(&id).or_else(|| self.old.get(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlive_core::policy::QueuePolicy;
    use outlive_core::run::begin::NewRun;
    use outlive_core::{ClassId, QueueId, State, Wall};

    fn run(n: u128, state: State) -> Run {
        let new = NewRun {
            id: RunId::from_parts(Wall(1_700_000_000_000), n),
            class: ClassId(1),
            queue: QueueId(1),
            priority: 0,
            run_at: None,
            hold: false,
            serial_key: None,
            key: None,
            queue_ttl: None,
        };
        Run { state, ..Run::create(new, &QueuePolicy::default(), Wall(1_700_000_000_000)) }
    }

    #[test]
    fn a_run_is_known_while_its_lease_is_open() {
        let mut runs = LeasedRuns::default();
        runs.written(&run(1, State::Queued));
        assert_eq!(runs.get(run(1, State::Queued).id), None);
        runs.written(&run(1, State::Running));
        assert_eq!(runs.get(run(1, State::Queued).id), Some(&run(1, State::Running)));
        runs.written(&run(1, State::Succeeded));
        assert_eq!(runs.get(run(1, State::Queued).id), None);
    }

    #[test]
    fn no_more_than_two_generations_are_kept_and_an_old_row_is_never_given_for_a_new_one() {
        let mut runs = LeasedRuns::default();
        runs.written(&run(0, State::Claimed));
        for n in 1..=GENERATION as u128 {
            runs.written(&run(n, State::Claimed));
        }
        assert_eq!(runs.get(run(0, State::Claimed).id), Some(&run(0, State::Claimed)));
        runs.written(&run(0, State::Running));
        assert_eq!(runs.get(run(0, State::Claimed).id), Some(&run(0, State::Running)));
        runs.written(&run(0, State::Failed));
        assert_eq!(runs.get(run(0, State::Claimed).id), None);
        for n in 0..5 * GENERATION as u128 {
            runs.written(&run(n, State::Claimed));
        }
        assert!(runs.young.len() + runs.old.len() <= 2 * GENERATION);
    }
}
