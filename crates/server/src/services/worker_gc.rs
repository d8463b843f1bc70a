//! Workers that have been offline for 7 days and to which nothing belongs. Their history stays.

use super::{Tick, swept};
use crate::app::App;
use outlive_core::Millis;
use outlive_store::StoreError;
use std::sync::Arc;

/// How long nothing must have been heard.
const UNHEARD: Millis = Millis::hours(7 * 24);
/// Rows per tick.
const LIMIT: u32 = 500;

/// One tick.
pub(super) async fn tick(app: Arc<App>) -> Result<Tick, StoreError> {
    let page = app.store.worker_gc(UNHEARD, LIMIT).await?;
    Ok(swept(&app, page))
}
