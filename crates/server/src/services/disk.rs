//! How much of the disk is free: below the mark no new run is admitted.

use super::Tick;
use crate::app::App;
use outlive_store::StoreError;
use std::sync::Arc;

/// One tick.
#[expect(clippy::unused_async, reason = "a duty is a future; statvfs on a local disk does not wait")]
pub(super) async fn tick(app: Arc<App>) -> Result<Tick, StoreError> {
    app.look_at_disk()?;
    Ok(Tick::default())
}
