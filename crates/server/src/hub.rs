//! Waking whoever waits for a run: long polls and output readers.
//!
//! A wake is a hint. A reader subscribes, then reads, then waits; and it polls anyway.

use outlive_core::RunId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Readers by run, and of the feed.
#[derive(Default)]
pub(crate) struct Hub {
    runs: Mutex<HashMap<RunId, watch::Sender<u64>>>,
    feed: watch::Sender<u64>,
}

/// A subscription; ends when it is dropped.
pub(crate) struct Waiter {
    hub: Arc<crate::app::App>,
    run: RunId,
    seen: watch::Receiver<u64>,
}

impl Hub {
    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, watch::Sender<u64>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the readers of these runs.
    pub(crate) fn wake(&self, runs: impl Iterator<Item = RunId>) {
        let map = self.map();
        if map.is_empty() {
            return;
        }
        for run in runs {
            if let Some(sender) = map.get(&run) {
                sender.send_modify(|n| *n += 1);
            }
        }
    }

    /// Wakes the readers of the feed.
    pub(crate) fn wake_feed(&self) {
        self.feed.send_modify(|n| *n += 1);
    }

    /// Subscribes to the feed, before the first read.
    pub(crate) fn feed(&self) -> watch::Receiver<u64> {
        self.feed.subscribe()
    }

    /// Readers of output attached now.
    pub(crate) fn readers(&self) -> usize {
        self.map().values().map(watch::Sender::receiver_count).sum()
    }
}

impl Waiter {
    /// Subscribes before the first read.
    pub(crate) fn subscribe(app: &Arc<crate::app::App>, run: RunId) -> Self {
        let seen = app.hub.map().entry(run).or_insert_with(|| watch::channel(0).0).subscribe();
        Self { hub: Arc::clone(app), run, seen }
    }

    /// Until the run changed since the last call.
    pub(crate) async fn changed(&mut self) {
        if self.seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut map = self.hub.hub.map();
        if map.get(&self.run).is_some_and(|sender| sender.receiver_count() <= 1) {
            map.remove(&self.run);
        }
    }
}
