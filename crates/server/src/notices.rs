//! What the server has to say of itself: into the feed as soon as the store takes it. A store that does not answer is often
//! what there is to tell, so it waits here meanwhile.

use crate::app::App;
use outlive_core::Wall;
use outlive_core::feed::Notice;
use outlive_store::StoreError;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Notices that wait; the oldest goes when there are more.
const WAITING: usize = 100;

/// What waits.
#[derive(Default)]
pub(crate) struct Notices {
    waiting: Mutex<VecDeque<(Wall, Notice)>>,
    /// One at a time, so that they keep their order.
    writing: tokio::sync::Mutex<()>,
}

impl Notices {
    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<(Wall, Notice)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Something to tell: now, or as soon as the store takes it.
    pub(crate) fn tell(self: &Arc<Self>, notice: Notice) {
        let mut waiting = self.notices.waiting();
        if waiting.len() == WAITING {
            waiting.pop_front();
        }
        waiting.push_back((self.clock.wall(), notice));
        drop(waiting);
        let app = Arc::clone(self);
        drop(tokio::spawn(async move { app.write_notices().await }));
    }

    /// Writes what waits; how many there were.
    pub(crate) async fn write_notices(&self) -> Result<u64, StoreError> {
        let _in_order = self.notices.writing.lock().await;
        let notices: Vec<_> = self.notices.waiting().iter().cloned().collect();
        if notices.is_empty() {
            return Ok(0);
        }
        self.store.announce(notices.clone()).await?;
        // Some may have given way to newer ones meanwhile.
        self.notices.waiting().retain(|waiting| !notices.contains(waiting));
        self.hub.wake_feed();
        Ok(notices.len() as u64)
    }
}
