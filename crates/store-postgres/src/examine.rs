//! A look at a database that is to be opened, or that could not be: changed in nothing.

use crate::open::{found_schema, newest};
use crate::pool::Facts;
use crate::value::single;
use crate::{sql, tls};
use outlive_store::StoreState;

/// What the database is like.
///
/// # Errors
/// Why it cannot be looked at, or cannot hold a store; with what to do.
pub fn examine(url: &str) -> Result<StoreState, String> {
    // With a runtime of its own: the caller may be in one that must not be blocked, or in none.
    let look = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(look(url))
    };
    std::thread::scope(|scope| scope.spawn(look).join()).map_err(|_| "the examination panicked".to_owned())?
}

async fn look(url: &str) -> Result<StoreState, String> {
    let (config, tls) = tls::read(url).map_err(|error| error.to_string())?;
    let (conn, connection) = config.connect(tls).await.map_err(|error| crate::fault::said(&error))?;
    let driver = tokio::spawn(connection);
    let look = async {
        let facts = Facts::read(&conn).await.map_err(|fault| fault.refused().to_string())?;
        if let Some(why) = facts.refusal() {
            return Err(why);
        }
        let (schema, known) = (found_schema(&conn).await.map_err(|fault| fault.refused().to_string())?, newest());
        if schema == 0 {
            return Ok(StoreState::None);
        }
        if schema > known {
            return Ok(StoreState::Newer { schema, known });
        }
        let bytes = single::<i64>(&conn, sql::STORE_BYTES, &[]).await.map_err(|fault| fault.refused().to_string())?;
        Ok(StoreState::Sound { bytes: bytes.and_then(|n| u64::try_from(n).ok()).unwrap_or(0), schema })
    };
    let found = look.await;
    drop(conn);
    let _ = driver.await;
    found
}
