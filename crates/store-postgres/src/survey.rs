//! What somebody who runs a server on this database should know: measured, and judged elsewhere. Nothing is changed.

use crate::fault::{Done, Fault};
use crate::open::found_schema;
use crate::pool::{CONNECTIONS, Facts};
use crate::value::{get, query};
use crate::{fault, sql, tls};
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use outlive_core::Wall;
use outlive_core::clock::Clock;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{AsyncMessage, Client, Config};

/// Commits that are measured.
const COMMITS: usize = 9;
/// Where notices are heard, they are heard in milliseconds.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// A database that does not let anybody in for so long is not there.
const REACHED_WITHIN: Duration = Duration::from_secs(10);
/// Beside those of the pool: the one that listens.
const LISTENER: u64 = 1;

/// What was found.
#[derive(Clone, Debug)]
pub struct Survey {
    /// As `server_version_num`.
    pub version: i64,
    /// As the server has it for this role and database.
    pub synchronous_commit: String,
    /// Whether the server syncs at all.
    pub fsync: bool,
    /// Why it cannot hold a store, and what to do.
    pub refusal: Option<String>,
    /// The history that it writes, and the generation and history of the store; none: there is no store yet.
    pub history: Option<History>,
    /// Whether a server may make its schema here, or bring it up to date.
    pub may_migrate: bool,
    /// Connections that ordinary roles may have.
    pub connections: u64,
    /// Connections that there are now, this one too.
    pub connections_used: u64,
    /// What one replica takes.
    pub connections_of_a_replica: u64,
    /// The database's clock, between this machine's before and after.
    pub clock: (Wall, Wall, Wall),
    /// The port that answers is not the one that was asked: a pooler or proxy stands between.
    pub other_port: bool,
    /// Whether a notice reached another connection.
    pub hears_notices: bool,
    /// How long commits took, in microseconds, shortest first.
    pub commits: Vec<u64>,
}

/// Whose store it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Of the store.
    pub generation: uuid::Uuid,
    /// The timeline that the store knows.
    pub known: i64,
    /// The timeline that is written.
    pub written: i64,
}

/// Looks.
///
/// # Errors
/// Why the database cannot be reached or read.
pub async fn survey(url: &str, clock: &dyn Clock, nanos: fn() -> u64) -> Result<Survey, String> {
    let (config, tls) = tls::read(url).map_err(|error| error.to_string())?;
    let connected = timeout(REACHED_WITHIN, config.connect(tls.clone())).await;
    let connected = connected.map_err(|_| format!("no answer in {} s", REACHED_WITHIN.as_secs()))?;
    let (conn, connection) = connected.map_err(|error| fault::said(&error))?;
    let driver = tokio::spawn(connection);
    let found = look(&conn, &config, tls, clock, nanos).await;
    drop(conn);
    drop(driver.await);
    found.map_err(|fault| fault.refused().to_string())
}

async fn look(conn: &Client, config: &Config, tls: tls::Tls, clock: &dyn Clock, nanos: fn() -> u64) -> Done<Survey> {
    let facts = Facts::read(conn).await?;
    let refusal = facts.refusal();
    let before = clock.wall();
    let rows = query(conn, sql::SURVEY, &[]).await?;
    let after = clock.wall();
    let row = rows.first().ok_or_else(|| Fault::Other("the server tells nothing of itself".to_owned()))?;
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    let port = u16::try_from(get::<i64>(row, 5)?).unwrap_or(0);
    let over_tcp = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
    let asked = config.get_ports().first().copied().unwrap_or(5_432);
    let mut commits = Vec::new();
    let mut history = None;
    if refusal.is_none() {
        for _ in 0..COMMITS {
            let begun = nanos();
            query(conn, sql::SURVEY_COMMIT, &[]).await?;
            commits.push((nanos() - begun) / 1_000);
        }
        commits.sort_unstable();
        if found_schema(conn).await? > 0 {
            let rows = query(conn, sql::SURVEY_HISTORY, &[]).await?;
            let row = rows.first().ok_or_else(|| Fault::damaged("outlive.meta has no row"))?;
            let written = facts.timeline(conn).await?;
            history = Some(History { generation: get(row, 0)?, known: get(row, 1)?, written });
        }
    }
    Ok(Survey {
        version: facts.version,
        synchronous_commit: facts.synchronous_commit.clone(),
        fsync: facts.fsync,
        refusal,
        history,
        may_migrate: get::<Option<bool>>(row, 3)?.unwrap_or(get(row, 2)?),
        connections: count(get(row, 0)?),
        connections_used: count(get(row, 1)?),
        connections_of_a_replica: CONNECTIONS as u64 + LISTENER,
        clock: (before, Wall(get(row, 4)?), after),
        other_port: over_tcp && port != 0 && port != asked,
        hears_notices: hears(conn, config, tls).await,
        commits,
    })
}

/// Whether what is told on one connection is heard on another one that listens.
async fn hears(conn: &Client, config: &Config, tls: tls::Tls) -> bool {
    let heard = async {
        let (listener, mut connection) = config.connect(tls).await.ok()?;
        let mut messages = poll_fn(move |context| connection.poll_message(context));
        let mut listening = std::pin::pin!(listener.batch_execute(sql::LISTEN));
        let mut told = false;
        loop {
            tokio::select! {
                // Any will do: replicas tell each other things on it, too.
                message = messages.next() => if let AsyncMessage::Notification(_) = message?.ok()? {
                    return Some(());
                },
                done = &mut listening, if !told => {
                    done.ok()?;
                    told = true;
                    // Of a replica that there is not: nobody takes it for a hint.
                    query(conn, sql::NOTIFY, crate::value::values_of!["-1?0".to_owned()]).await.ok()?;
                }
            }
        }
    };
    matches!(timeout(HEARD_WITHIN, heard).await, Ok(Some(())))
}
