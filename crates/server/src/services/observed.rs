//! The store's observed clock follows the engine's. It also proves each second that the store commits.

use super::Tick;
use crate::app::App;
use outlive_store::StoreError;
use std::sync::Arc;

/// One tick.
pub(super) async fn tick(app: Arc<App>) -> Result<Tick, StoreError> {
    let observed = app.driver.look(|engine| engine.observed().now());
    app.store.advance_observed(app.driver.look(outlive_core::engine::Engine::store_observed)).await?;
    let (sessions, leases) = app.driver.look(outlive_core::engine::Engine::counts);
    let lag = app.clock.boot().since(app.started).0.saturating_sub(observed.since(app.observed_at_start).0);
    #[expect(clippy::cast_precision_loss, reason = "counts and milliseconds fit")]
    {
        metrics::gauge!("outlive_sessions").set(sessions as f64);
        metrics::gauge!("outlive_leases_active").set(leases as f64);
        metrics::gauge!("outlive_observed_time_lag_seconds").set(lag as f64 / 1e3);
        metrics::gauge!("outlive_output_readers").set(app.hub.readers() as f64);
    }
    Ok(Tick::default())
}
