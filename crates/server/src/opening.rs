//! Sessions as they open: from the store to the engine, whether or not whoever asked still waits.

use crate::app::App;
use crate::start::session_info;
use outlive_core::Holder;
use outlive_core::engine::Input;
use outlive_store::{Opened, StoreError};
use std::sync::Arc;

/// A session that the store has opened here, and of which the engine does not know yet.
///
/// Dropped before it is taken, because who asked went away, it is adopted: the store has the worker at home here, and the replica
/// that it may have gone to since, and whose session is an older one, must be told.
pub(crate) struct Opening {
    app: Arc<App>,
    opened: Option<Opened>,
}

impl Opening {
    /// For the connection, or the presence, that asked for it: from here on the engine learns of it by that. There is always one.
    pub(crate) fn take(mut self) -> Option<Opened> {
        self.opened.take()
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let Some(opened) = self.opened.take() else { return };
        tracing::info!(holder = %opened.worker.holder(), home_seq = %opened.home_seq, "a session opened for nobody");
        let leases = opened.leases.iter().filter_map(|row| self.app.lease_info(row)).collect();
        self.app.input(Input::Adopt(session_info(&opened.worker, opened.home_seq, leases)));
    }
}

impl App {
    /// A connection, or polling presence, of an incarnation opens here. `None`: it is not the current one. It goes on when the
    /// request that asked for it is gone: what the store has committed by then must be known here.
    pub(crate) async fn open_session(self: &Arc<Self>, holder: Holder) -> Result<Option<Opening>, StoreError> {
        let app = Arc::clone(self);
        let opening = tokio::spawn(async move {
            let opened = app.store.open_session(holder, app.replica).await?;
            app.hub.wake_feed();
            Ok(opened.map(|opened| Opening { app, opened: Some(opened) }))
        });
        opening.await.map_err(|error| StoreError::Unknown(error.to_string()))?
    }
}

#[cfg(test)]
mod tests {
    use crate::policies::support::House;
    use futures_util::FutureExt as _;
    use outlive_core::HomeSeq;

    #[tokio::test(start_paused = true)]
    async fn what_opened_in_the_store_is_known_although_whoever_asked_went_away() {
        let house = House::with("[queues.work]\nlease_ttl = \"10s\"\n").await;
        let worker = house.worker("w", &["work"], "session", None).await;
        let holder = house.app.store.worker(worker.id.parse().unwrap()).await.unwrap().unwrap().holder();
        let known = || house.app.driver.look(|engine| engine.home_seq(holder));
        // The request is dropped while the store is at it.
        assert!(house.app.open_session(holder).now_or_never().is_none());
        while known().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(known(), Some(HomeSeq(1)));
        // It is dropped before its connection is there.
        drop(house.app.open_session(holder).await.unwrap());
        assert_eq!(known(), Some(HomeSeq(2)));
    }
}
