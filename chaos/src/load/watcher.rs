//! A reader of runs, over and over.

use super::{LOOK, Load};
use crate::history::Sight;
use crate::rng::Rng;
use std::sync::Arc;

/// Readers of one load.
pub(crate) const WATCHERS: u64 = 2;

/// Reads runs that are known, over and over. Each watcher has runs of its own, so that what it notes is in order.
pub(crate) async fn watcher(load: Arc<Load>, mut rng: Rng, n: u64) {
    while !load.is_over() {
        let pick = {
            let history = load.note();
            // Rather a young one: those change.
            history.created.values().nth_back(usize::try_from(rng.below(64)).unwrap_or(0)).copied()
        };
        let own = pick.filter(|id| id.0.as_u128() % u128::from(WATCHERS) == u128::from(n));
        if let Some(id) = own
            && let Some(answer) = load.until_answered(async || load.client.run(id).await).await
        {
            match answer {
                Ok(run) => load.note().sights.push(Sight { run: id, epoch: run.epoch, state: run.state }),
                Err(code) => load.wrong(format!("an acknowledged run cannot be read: {code}")),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
