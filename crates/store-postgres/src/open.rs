//! Opening a database: what it must be, and what its schema is brought to.

use crate::cache::schema_version;
use crate::fault::{Done, Fault};
use crate::pool::Facts;
use crate::renew::renew;
use crate::sql;
use crate::store::{Time, shard_of};
use crate::value::{execute, get, query, single, values_of};
use outlive_core::{ReplicaId, Wall};
use outlive_store::StoreError;
use tokio_postgres::Client;
use uuid::Uuid;

mod embedded {
    refinery::embed_migrations!("migrations");

    /// Numbers, names and texts, oldest first.
    pub(super) fn all() -> Vec<(i64, String, String)> {
        let mut all: Vec<_> = migrations::runner()
            .get_migrations()
            .iter()
            .map(|m| (i64::from(m.version()), m.name().to_owned(), m.sql().unwrap_or_default().to_owned()))
            .collect();
        all.sort_by_key(|(version, ..)| *version);
        #[cfg(feature = "next")]
        all.extend(super::next(all.last().map_or(0, |(version, ..)| *version)));
        all
    }
}

/// What the version after this one adds, for the test of an upgrade by two builds.
#[cfg(feature = "next")]
fn next(newest: i64) -> Option<(i64, String, String)> {
    Some((newest + 1, "next".to_owned(), include_str!("../next/next.sql").to_owned()))
}

/// The newest schema of the release before this one, whose servers may go on, and start again, on the schema of this one: what
/// this release adds only widens it. There is none before this one.
const RELEASE_BEFORE: i64 = 6;

/// The same, also for the version after this one: what is before that is this.
fn release_before() -> i64 {
    if cfg!(feature = "next") { newest() - 1 } else { RELEASE_BEFORE }
}

/// The newest schema that this version knows.
pub(crate) fn newest() -> i64 {
    embedded::all().last().map_or(0, |(version, ..)| *version)
}

pub(crate) fn refused(why: impl Into<String>) -> StoreError {
    StoreError::Refused(why.into())
}

/// The version of the schema; 0: none yet.
pub(crate) async fn found_schema(conn: &Client) -> Done<i64> {
    match single::<bool>(conn, sql::SCHEMA_EXISTS, &[]).await? {
        Some(true) => schema_version(conn).await,
        _ => Ok(0),
    }
}

/// Brings the schema to what this version needs, and the rows that every store has; one replica after the other, in one
/// transaction: what fails leaves nothing. The replica's number and the timeline.
pub(crate) async fn prepare(
    conn: &Client,
    replica: &str,
    time: Time,
    now: Wall,
) -> Result<(ReplicaId, i64), StoreError> {
    execute(conn, sql::BEGIN, &[]).await.map_err(|fault| fault.refused())?;
    let prepared = prepare_inside(conn, replica, time, now).await;
    let end = if prepared.is_ok() { sql::COMMIT } else { sql::ROLLBACK };
    let ended = execute(conn, end, &[]).await;
    let prepared = prepared?;
    ended.map_err(|fault| fault.refused())?;
    Ok(prepared)
}

async fn prepare_inside(conn: &Client, replica: &str, time: Time, now: Wall) -> Result<(ReplicaId, i64), StoreError> {
    let failed = |fault: Fault| match fault {
        Fault::Other(why) => refused(why),
        other => other.refused(),
    };
    execute(conn, sql::SCHEMA_LOCK, &[]).await.map_err(failed)?;
    migrate(conn).await?;
    let facts = Facts::read(conn).await.map_err(failed)?;
    let timeline = facts.timeline(conn).await.map_err(failed)?;
    let rows = query(conn, sql::REPLICA_START, values_of![replica, now.0]).await.map_err(failed)?;
    let id = ReplicaId(rows.first().map_or(Ok(0), |row| get(row, 0)).map_err(failed)?);
    identify(conn, timeline, id, time, now).await.map_err(failed)?;
    Ok((id, timeline))
}

async fn migrate(conn: &Client) -> Result<(), StoreError> {
    let failed = |fault: Fault| refused(format!("the migration failed: {}", fault.refused()));
    let make = async |text: &str| conn.batch_execute(text).await.map_err(|error| failed(error.into()));
    let (found, newest) = (found_schema(conn).await.map_err(failed)?, newest());
    // For everything that follows in this transaction, whatever the role's own path is.
    make("SET LOCAL search_path = outlive").await?;
    if found > newest {
        let least: Option<i64> = single(conn, sql::SCHEMA_LEAST, values_of![found]).await.map_err(failed)?.flatten();
        if least.is_some_and(|least| least <= newest) {
            tracing::info!(found, newest, "the next version has widened the schema; this one works beside it");
            return Ok(());
        }
        return Err(refused(format!(
            "the schema was written by a newer version (schema {found}; this one knows {newest}) and was left alone; start \
             the newer version, or name another database"
        )));
    }
    if found == 0 {
        make("CREATE SCHEMA IF NOT EXISTS outlive").await?;
        make(
            "CREATE TABLE IF NOT EXISTS outlive.schema_history (
                version bigint PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
            )",
        )
        .await?;
    }
    for (version, name, text) in embedded::all().into_iter().filter(|(version, ..)| *version > found) {
        make(&text).await?;
        execute(conn, sql::SCHEMA_ADD, values_of![version, name]).await.map_err(failed)?;
    }
    if found < newest {
        execute(conn, sql::SCHEMA_LET, values_of![newest, release_before()]).await.map_err(failed)?;
    }
    Ok(())
}

/// Who the store is; with another history of the database, another one than before.
async fn identify(conn: &Client, timeline: i64, replica: ReplicaId, time: Time, now: Wall) -> Done<()> {
    let random = || *Uuid::new_v4().as_bytes();
    let secret = [random(), random()].concat();
    execute(conn, sql::META_INSERT, values_of![Uuid::new_v4(), secret.as_slice(), timeline]).await?;
    let known = single::<i64>(conn, sql::META_LOCK, &[]).await?;
    if known == Some(timeline) {
        return Ok(());
    }
    tracing::warn!(
        ?known,
        timeline,
        "the database has another history: its generation changes, all leases are closed, and all epochs jump"
    );
    renew(conn, shard_of(replica), time, now, timeline).await
}
