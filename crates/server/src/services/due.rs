//! Scheduled runs that are due, held runs that expired: 500 per tick.

use super::{Tick, swept};
use crate::app::App;
use outlive_store::StoreError;
use std::sync::Arc;

/// Rows per tick.
const LIMIT: u32 = 500;

/// One tick.
pub(super) async fn tick(app: Arc<App>) -> Result<Tick, StoreError> {
    let page = app.store.due(LIMIT).await?;
    Ok(swept(&app, page))
}
