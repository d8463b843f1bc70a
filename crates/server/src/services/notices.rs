//! What the server could not say of itself while its store did not answer.

use super::Tick;
use crate::app::App;
use outlive_store::StoreError;
use std::sync::Arc;

/// One tick.
pub(super) async fn tick(app: Arc<App>) -> Result<Tick, StoreError> {
    let written = app.write_notices().await?;
    Ok(Tick { found: written, acted: written, ..Tick::default() })
}
