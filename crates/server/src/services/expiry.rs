//! Queued runs that nobody took in time: asked why, then ended with the answer. 500 per tick.

use super::{Tick, swept};
use crate::app::App;
use outlive_store::{Expiry, StoreError};
use std::sync::Arc;

/// Rows per tick.
const LIMIT: u32 = 500;

/// One tick.
pub(super) async fn tick(app: Arc<App>) -> Result<Tick, StoreError> {
    let rows = app.store.overdue(LIMIT).await?;
    if rows.is_empty() {
        return Ok(Tick::default());
    }
    let mut runs = Vec::with_capacity(rows.len());
    for row in &rows {
        runs.push(Expiry { id: row.run.id, because: app.because(row).await? });
    }
    let ended = app.store.expire(runs).await?;
    Ok(Tick { more: rows.len() == LIMIT as usize, ..swept(&app, ended) })
}
