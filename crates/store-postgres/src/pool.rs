//! Connections: a few for reads and the notices, one that the writer keeps. Each is looked at before its first use.

use crate::fault::{Done, Fault};
use crate::signs::Signs;
use crate::sql;
use crate::tls::Tls;
use crate::value::{query, single};
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, RecyclingMethod, Runtime, Timeouts};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio_postgres::{Client, Config};

/// Connections of one replica, if nothing else is said.
pub(crate) const CONNECTIONS: usize = 8;
/// Making a connection, and waiting for a free one, may take this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pool's handle.
#[derive(Clone)]
pub(crate) struct Pool(deadpool_postgres::Pool);

/// The history that the generation belongs to, once it is known: a connection to a server with another one breaks the store.
#[derive(Debug, Default)]
pub(crate) struct Timeline(AtomicI64);

impl Timeline {
    pub(crate) fn set(&self, timeline: i64) {
        self.0.store(timeline, Ordering::Release);
    }

    fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Acquire)).filter(|timeline| *timeline != 0)
    }
}

impl Pool {
    pub(crate) fn new(
        config: Config,
        tls: Tls,
        connections: usize,
        timeline: Arc<Timeline>,
        signs: Arc<Signs>,
    ) -> Done<Self> {
        let manager = Manager::from_config(config, tls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let look = Hook::async_fn(move |client, _| {
            let (timeline, signs) = (timeline.clone(), signs.clone());
            Box::pin(async move {
                look_at(client, &timeline, &signs)
                    .await
                    .map_err(|fault| HookError::message(fault.refused().to_string()))
            })
        });
        let timeouts = Timeouts { wait: Some(PATIENCE), create: Some(PATIENCE), recycle: Some(PATIENCE) };
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(connections.max(2))
            .runtime(Runtime::Tokio1)
            .timeouts(timeouts)
            .post_create(look)
            .build();
        pool.map(Self).map_err(|error| Fault::Other(error.to_string()))
    }

    pub(crate) async fn get(&self) -> Done<Object> {
        Ok(self.0.get().await?)
    }
}

/// What a server must be, each time that a connection is made.
async fn look_at(conn: &Client, timeline: &Timeline, signs: &Signs) -> Done<()> {
    let facts = Facts::read(conn).await?;
    if let Some(why) = facts.refusal() {
        return Err(Fault::Other(why));
    }
    if let Some(known) = timeline.get()
        && facts.timeline(conn).await? != known
    {
        let why = "the database has another history now (a standby took over, or a copy was restored)";
        signs.break_off(why.to_owned());
        return Err(Fault::Other(why.to_owned()));
    }
    Ok(())
}

/// What a server says of itself.
pub(crate) struct Facts {
    pub(crate) version: i64,
    encoding: String,
    pub(crate) synchronous_commit: String,
    pub(crate) fsync: bool,
    standby: bool,
}

/// The oldest version that this store works with.
const OLDEST: i64 = 140_000;

impl Facts {
    pub(crate) async fn read(conn: &Client) -> Done<Self> {
        let rows = query(conn, sql::SERVER_FACTS, &[]).await?;
        let row = rows.first().ok_or_else(|| Fault::Other("the server tells nothing of itself".to_owned()))?;
        Ok(Self {
            version: crate::value::get(row, 0)?,
            encoding: crate::value::get(row, 1)?,
            synchronous_commit: crate::value::get(row, 2)?,
            fsync: crate::value::get::<String>(row, 3)? == "on",
            standby: crate::value::get(row, 4)?,
        })
    }

    /// Why a server cannot hold a store, and what to do.
    pub(crate) fn refusal(&self) -> Option<String> {
        if self.version < OLDEST {
            let (major, oldest) = (self.version / 10_000, OLDEST / 10_000);
            return Some(format!("this is PostgreSQL {major}; version {oldest} or newer is needed"));
        }
        if self.standby {
            return Some("this server is a standby and takes no writes; name the primary".to_owned());
        }
        if self.encoding != "UTF8" {
            return Some(format!("the database has the encoding {}; create one with UTF8", self.encoding));
        }
        (self.synchronous_commit == "off").then(|| {
            "synchronous_commit is off: what is answered would not survive a crash of the server. Set it to on: \
             ALTER DATABASE … SET synchronous_commit = on (or ALTER ROLE …, or in postgresql.conf), then start again"
                .to_owned()
        })
    }

    /// The history that the server writes.
    pub(crate) async fn timeline(&self, conn: &Client) -> Done<i64> {
        let found = single::<i64>(conn, sql::TIMELINE, &[]).await?;
        found.ok_or_else(|| Fault::Other("the server does not tell its timeline".to_owned()))
    }
}
