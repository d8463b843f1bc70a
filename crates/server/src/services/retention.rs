//! What is past its retention: 1,000 rows per tick.

use super::{Tick, swept};
use crate::app::App;
use outlive_store::StoreError;
use std::sync::Arc;

/// Rows per tick.
const LIMIT: u32 = 1_000;

/// One tick.
pub(super) async fn tick(app: Arc<App>) -> Result<Tick, StoreError> {
    let page = app.store.retention(LIMIT).await?;
    Ok(swept(&app, page))
}
