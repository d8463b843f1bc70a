//! The store's handle: threads of its own that talk to the database, whatever runtime its callers have.

use crate::cache::{Cache, Known};
use crate::db::{Db, Op, Write};
use crate::fault::{Done, Fault};
use crate::notice::Notices;
use crate::open;
use crate::pool::{CONNECTIONS, Facts, Pool, Timeline};
use crate::reader::Reader;
use crate::signs::Signs;
use crate::value::{execute, query};
use crate::writer::Writer;
use crate::{sql, tls};
use futures_util::future::{BoxFuture, join};
use outlive_core::clock::Clock;
use outlive_core::{ReplicaId, Wall};
use outlive_store::{Pulse, StoreError};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;
use tokio_postgres::Client;

/// Threads that talk to the database: one for the writer, one for the rest, as the work falls.
const THREADS: usize = 2;
/// Replicas add to one of so many parts of each sum.
const SHARDS: i64 = 32;

/// The part of sums that a replica adds to.
pub(crate) const fn shard_of(replica: ReplicaId) -> i64 {
    replica.0 % SHARDS
}

/// Whose wall clock the store's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// The database's: the same one for all replicas.
    Database,
    /// The given clock: for tests that move it.
    Process,
}

/// How a database is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The replica's stable name.
    pub replica: String,
    /// Connections to the database, at most. At least 2.
    pub connections: usize,
    /// Whose wall clock counts.
    pub time: Time,
}

impl Default for Options {
    fn default() -> Self {
        Self { replica: "replica".to_owned(), connections: CONNECTIONS, time: Time::Database }
    }
}

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    runtime: Threads,
    writer: Writer,
    pool: Pool,
    known: Arc<Known>,
    signs: Arc<Signs>,
    clock: Arc<dyn Clock>,
    time: Time,
    pub(crate) notices: Notices,
    /// The state of queues and classes that was told last.
    pub(crate) catalog: AtomicI64,
    pub(crate) replica: ReplicaId,
    pub(crate) location: String,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").field("location", &self.location).finish_non_exhaustive()
    }
}

/// A runtime that ends without being waited for: who drops it may be in another one.
struct Threads(Option<Runtime>);

impl Threads {
    fn start() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name("outlive-postgres").enable_all().build().map(|it| Self(Some(it)))
    }

    fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl PostgresStore {
    /// Connects, brings the schema to what this version needs, and starts to work. Waits for other replicas that do the same.
    ///
    /// # Errors
    /// [`StoreError::Refused`]: the database cannot hold a store, or is of a newer version; with what to do.
    /// [`StoreError::Unavailable`]: it cannot be reached.
    pub async fn open(url: &str, options: Options, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let (config, tls) = tls::read(url)?;
        let location = place(&config);
        let no_threads = || open::refused("no threads for the store");
        let threads = Threads::start().map_err(|_| no_threads())?;
        let runtime = threads.handle().ok_or_else(no_threads)?.clone();
        let signs = Arc::new(Signs::new(clock.mono()));
        let timeline = Arc::new(Timeline::default());
        let unusable = |fault: Fault| match fault {
            Fault::Gone(why) | Fault::Other(why) => {
                StoreError::Unavailable(format!("{location} cannot be used: {why}"))
            }
            other => other.refused(),
        };
        let pool = Pool::new(config.clone(), tls.clone(), options.connections, timeline.clone(), signs.clone());
        let pool = pool.map_err(&unusable)?;
        let now = clock.wall();
        let (replica, first, time) = (options.replica.clone(), pool.clone(), options.time);
        let (to, by) = (config.clone(), tls.clone());
        let opened = runtime.spawn(async move { begin(&to, by, &first, &replica, time, now).await });
        let (replica, found) = match opened.await {
            Ok(opened) => opened.map_err(|failed| failed.told(&location))?,
            Err(_) => return Err(StoreError::Unavailable("opening the database panicked".to_owned())),
        };
        timeline.set(found);
        let known = Arc::new(Known::default());
        let cache = Cache::new(known.clone(), shard_of(replica));
        let db = Db::new(pool.clone(), cache, options.time, clock.clone(), signs.clone());
        let notices = Notices::start(&runtime, config, tls, pool.clone(), replica);
        let tell = notices.teller();
        let writer = Writer::start(&runtime, db, signs.clone(), clock.clone(), tell);
        Ok(Self {
            runtime: threads,
            writer,
            pool,
            known,
            signs,
            clock,
            time: options.time,
            notices,
            catalog: AtomicI64::new(0),
            replica,
            location,
        })
    }

    /// The store's time, if it is not the database's.
    pub(crate) fn process_now(&self) -> Option<Wall> {
        (self.time == Time::Process).then(|| self.clock.wall())
    }

    pub(crate) fn pulse_now(&self) -> Pulse {
        self.signs.pulse(self.clock.mono())
    }

    /// Runs a command in a transaction.
    pub(crate) async fn write<O: Op>(&self, op: O) -> Result<O::Answer, O::Refusal> {
        let (reply, answer) = oneshot::channel();
        self.writer.send(Box::new(Write::new(op, reply))).await?;
        let gone = |_| Err(StoreError::Unknown("the writer stopped while it worked".to_owned()).into());
        answer.await.unwrap_or_else(gone)
    }

    /// Runs something on the threads of the store, whatever runtime the caller has; given up with the caller.
    pub(crate) async fn here<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let mut work = GivenUp(self.runtime.handle()?.spawn(work));
        (&mut work.0).await.ok()
    }

    pub(crate) async fn pause(&self, time: std::time::Duration) {
        self.here(async move { tokio::time::sleep(time).await }).await;
    }

    /// Reads one snapshot of committed rows.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        f: impl for<'r> FnOnce(&'r Reader<'r>) -> BoxFuture<'r, Done<T>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let stopped = || StoreError::Unavailable("the store has stopped; restart the server".to_owned());
        let (pool, known, signs) = (self.pool.clone(), self.known.clone(), self.signs.clone());
        let runtime = self.runtime.handle().ok_or_else(stopped)?;
        let work = runtime.spawn(async move {
            let done = read(&pool, &known, f).await;
            done.map_err(|fault| {
                signs.met(&fault);
                fault.refused()
            })
        });
        work.await.map_err(|_| StoreError::Unavailable("the read panicked".to_owned()))?
    }
}

/// Work that nobody waits for any more is not gone on with.
struct GivenUp<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for GivenUp<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A host and a database, without secrets.
fn place(config: &tokio_postgres::Config) -> String {
    let host = match config.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
        Some(tokio_postgres::config::Host::Unix(folder)) => folder.display().to_string(),
        None => "localhost".to_owned(),
    };
    format!("postgres://{host}/{}", config.get_dbname().unwrap_or_default())
}

/// Why a database could not be opened.
enum Unopened {
    Connect(String),
    Store(StoreError),
}

impl Unopened {
    fn told(self, location: &str) -> StoreError {
        match self {
            Self::Connect(why) => StoreError::Unavailable(format!("{location} cannot be reached: {why}")),
            Self::Store(error) => error,
        }
    }
}

/// The first connection is not the pool's: what a server must be is told in its own words.
async fn begin(
    config: &tokio_postgres::Config,
    tls: tls::Tls,
    pool: &Pool,
    replica: &str,
    time: Time,
    now: Wall,
) -> Result<(ReplicaId, i64), Unopened> {
    let (conn, connection) =
        config.connect(tls).await.map_err(|error| Unopened::Connect(crate::fault::said(&error)))?;
    let driver = tokio::spawn(connection);
    let facts = Facts::read(&conn).await.map_err(|fault| Unopened::Store(fault.refused()))?;
    if let Some(why) = facts.refusal() {
        return Err(Unopened::Store(open::refused(why)));
    }
    if !facts.fsync {
        tracing::warn!("fsync is off in this server: a power loss may damage the database");
    }
    let prepared = open::prepare(&conn, replica, time, now).await.map_err(Unopened::Store)?;
    drop(conn);
    let _ = driver.await;
    drop(pool.get().await.map_err(|fault| Unopened::Store(fault.refused()))?);
    Ok(prepared)
}

async fn read<T>(
    pool: &Pool,
    known: &Known,
    f: impl for<'r> FnOnce(&'r Reader<'r>) -> BoxFuture<'r, Done<T>>,
) -> Done<T> {
    // A connection may be a remainder of a server that has been started again; nothing has been read over it yet.
    let mut conn = pool.get().await?;
    while let Err(fault) = snapshot(&conn).await {
        drop(deadpool_postgres::Object::take(conn));
        if !matches!(fault, Fault::Gone(_)) {
            return Err(fault);
        }
        conn = pool.get().await?;
    }
    let value = f(&Reader::new(&conn, known)).await;
    if value.is_err() || execute(&conn, sql::COMMIT, &[]).await.is_err() {
        drop(deadpool_postgres::Object::take(conn));
    }
    value
}

async fn snapshot(conn: &Client) -> Done<()> {
    let begun = execute(conn, sql::BEGIN_READ, &[]);
    let (begun, head) = join(begun, query(conn, sql::HEAD, &[])).await;
    begun?;
    head.map(drop)
}
