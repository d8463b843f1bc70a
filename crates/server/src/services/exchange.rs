//! What other replicas committed: the engine learns of it, readers wake, errands are run. All of it is a hint that something
//! else also finds: the audit, a reader's own poll, the next look at the errands.

use crate::app::App;
use outlive_core::engine::Input;
use outlive_store::{Exchange, Hints, StoreError};
use std::sync::Arc;

/// For as long as the server runs.
pub(super) async fn keep(app: Arc<App>, exchange: Arc<dyn Exchange>) {
    loop {
        let hints = exchange.hints().await;
        if let Err(error) = heard(&app, hints).await {
            tracing::warn!(%error, "what another replica told could not be followed");
        }
    }
}

async fn heard(app: &Arc<App>, hints: Hints) -> Result<(), StoreError> {
    if hints.catalog || hints.ready.iter().any(|class| !app.catalog.has_class(*class)) {
        app.learn_catalog().await?;
    }
    let mut inputs = Vec::new();
    if !hints.ended.is_empty() {
        inputs.push(Input::Ended(hints.ended));
    }
    inputs.extend(hints.cancels.iter().map(|c| Input::Cancel(c.holder, c.lease, c.reason)));
    if !hints.ready.is_empty() {
        inputs.push(Input::Ready(hints.ready));
    }
    if !inputs.is_empty() {
        app.inputs(inputs);
    }
    app.hub.wake(hints.changed.into_iter());
    if hints.errands {
        app.run_errands().await?;
    }
    Ok(())
}
