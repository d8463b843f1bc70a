//! Everything that handlers and loops share. The one module that names a backend.

use crate::catalog::CatalogCache;
use crate::cluster::Cluster;
use crate::driver::Driver;
use crate::hub::Hub;
use crate::notices::Notices;
use crate::services::Phases;
use crate::start::{Config, StartError, StoreLocation};
use crate::token::Signer;
use outlive_api::clock::SystemClock;
use outlive_core::clock::Clock;
use outlive_core::engine::Engine;
use outlive_core::{Millis, Mono, ReplicaId};
use outlive_liveness_redis::Redis;
use outlive_store::{Backup, Exchange, Liveness, Restored, Store, StoreError, StoreState};
use outlive_store_postgres::PostgresStore;
use outlive_store_sqlite::SqliteStore;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use tokio::sync::watch;

/// Shared by all.
pub(crate) struct App {
    pub(crate) store: Arc<dyn Store>,
    /// Signs of life beside the rows of replicas.
    pub(crate) liveness: Option<Arc<dyn Liveness>>,
    /// Other replicas, if there may be any.
    pub(crate) cluster: Option<Cluster>,
    pub(crate) driver: Driver,
    pub(crate) catalog: CatalogCache,
    pub(crate) hub: Hub,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) signer: Signer,
    pub(crate) phases: Phases,
    pub(crate) notices: Notices,
    pub(crate) config: Config,
    /// Whether there is room for new runs.
    pub(crate) disk: crate::disk::Disk,
    pub(crate) generation: uuid::Uuid,
    pub(crate) replica: ReplicaId,
    pub(crate) started: Mono,
    pub(crate) observed_at_start: outlive_core::Observed,
    /// Set when the server stops: sessions are told, nothing new is taken.
    pub(crate) stopping: watch::Sender<bool>,
    /// Set when the store writes nothing more: only a new start helps.
    pub(crate) broken: watch::Sender<bool>,
    /// The send time of the last self-beat that came in through the listener; 0: none yet.
    pub(crate) self_beat: AtomicU64,
    /// The start of the newest recovery that has been counted, on the store's clock.
    pub(crate) recoveries_counted: AtomicI64,
    /// Answers `/readyz`.
    pub(crate) ready: AtomicBool,
    pub(crate) metrics: metrics_exporter_prometheus::PrometheusHandle,
}

/// Looks at a store that no server has open, and changes nothing. Reads all of it: seconds for gigabytes.
///
/// # Errors
/// Why it cannot be looked at.
pub fn examine(location: &StoreLocation) -> Result<StoreState, String> {
    match location {
        StoreLocation::Sqlite(path) => outlive_store_sqlite::examine(path),
        StoreLocation::Postgres(url) => outlive_store_postgres::examine(url),
        StoreLocation::Memory => Ok(StoreState::None),
    }
}

pub use outlive_store_postgres::{History, Survey};

/// What somebody who runs a server on this database should know. Changes nothing; takes a few seconds at most.
///
/// # Errors
/// Why the database cannot be reached or read.
pub async fn survey(url: &str) -> Result<Survey, String> {
    outlive_store_postgres::survey(url, &SystemClock, outlive_api::clock::nanos).await
}

/// Saves a store in a file, whether a server writes it meanwhile or not: all that was acknowledged before this began.
///
/// # Errors
/// Why it cannot be, and what to do.
pub fn backup(location: &StoreLocation, to: &Path, overwrite: bool) -> Result<Backup, StoreError> {
    match location {
        StoreLocation::Sqlite(path) => outlive_store_sqlite::backup(path, to, overwrite),
        StoreLocation::Postgres(_) => Err(not_a_file()),
        StoreLocation::Memory => Err(StoreError::Refused("a store in memory ends with its server".to_owned())),
    }
}

/// A store that is being made from a copy. Until [`Self::finish`], what is there stays as it is.
#[derive(Debug)]
pub struct Restoring(outlive_store_sqlite::Restoring);

impl Restoring {
    /// Reads the copy through, and takes the store's name: no server may have it.
    ///
    /// # Errors
    /// Why it cannot be, and what to do.
    pub fn begin(from: &Path, location: &StoreLocation, overwrite: bool) -> Result<Self, StoreError> {
        match location {
            StoreLocation::Sqlite(path) => {
                outlive_store_sqlite::Restoring::begin(from, path, overwrite, Arc::new(SystemClock)).map(Self)
            }
            StoreLocation::Postgres(_) => Err(not_a_file()),
            StoreLocation::Memory => Err(StoreError::Refused("a store in memory cannot be restored".to_owned())),
        }
    }

    /// What the copy holds.
    #[must_use]
    pub const fn copy(&self) -> &Backup {
        self.0.copy()
    }

    /// How long workers may still believe in leases of the store that was lost: who waits so long starts nothing twice at once.
    #[must_use]
    pub const fn trusted(&self) -> Millis {
        self.0.trusted()
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn finish(self) -> Result<Restored, StoreError> {
        self.0.finish()
    }
}

/// What a server stands on.
pub struct Backend {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The way to other replicas over the same store; none if this is the only process that can have it open.
    pub exchange: Option<Arc<dyn Exchange>>,
}

impl Backend {
    /// Opens the store that is named.
    pub(crate) async fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, StoreError> {
        let clock = Arc::clone(clock);
        Ok(match &config.store {
            StoreLocation::Sqlite(path) => Self { store: Arc::new(SqliteStore::open(path, clock)?), exchange: None },
            StoreLocation::Memory => Self { store: Arc::new(SqliteStore::in_memory(clock)?), exchange: None },
            StoreLocation::Postgres(url) => {
                let options = outlive_store_postgres::Options { replica: config.replica.clone(), ..Default::default() };
                let store = Arc::new(PostgresStore::open(url, options, clock).await?);
                Self { store: store.clone(), exchange: Some(store) }
            }
        })
    }
}

/// Copies are a file's; a database has its own.
fn not_a_file() -> StoreError {
    let how = "a database is copied by its own means: pg_basebackup, its archive of logs, or pg_dump";
    StoreError::Refused(how.to_owned())
}

impl App {
    /// Reads what a server keeps in memory.
    pub(crate) async fn open(config: Config, backend: Backend, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StartError> {
        let Backend { store, exchange } = backend;
        let snapshot = store.load().await?;
        let now = clock.boot();
        let (mut engine, mut replica, mut cluster) = (Engine::new(snapshot.observed, now), snapshot.replica, None);
        if let Some(exchange) = exchange {
            let joined = store.join(&config.replica, &config.advertise).await?;
            engine = engine.in_cluster(joined.seat, now);
            replica = joined.seat.replica;
            cluster = Some(Cluster::new(exchange, joined));
        }
        let liveness: Option<Arc<dyn Liveness>> = match &config.liveness {
            None => None,
            Some(_) if cluster.is_none() => {
                let why = "--liveness is for replicas that share a store; this store has one server alone";
                return Err(StartError::Liveness(why.to_owned()));
            }
            Some(url) => Some(Arc::new(Redis::new(url, snapshot.generation).map_err(StartError::Liveness)?)),
        };
        let app = Self {
            liveness,
            driver: Driver::new(engine, cluster.is_none(), Arc::clone(&clock)),
            catalog: CatalogCache::default(),
            hub: Hub::default(),
            signer: Signer::new(&snapshot.secret, snapshot.generation),
            phases: Phases::default(),
            notices: Notices::default(),
            generation: snapshot.generation,
            replica,
            started: now,
            observed_at_start: snapshot.observed,
            stopping: watch::channel(false).0,
            broken: watch::channel(false).0,
            self_beat: AtomicU64::new(0),
            recoveries_counted: AtomicI64::new(clock.wall().0),
            ready: AtomicBool::new(false),
            metrics: crate::metrics::handle(),
            disk: crate::disk::Disk::of(&config),
            store,
            cluster,
            clock,
            config,
        };
        let app = Arc::new(app);
        for queue in snapshot.queues {
            app.learn_queue(queue);
        }
        for class in snapshot.classes {
            app.learn_class(class);
        }
        app.look_at_disk()?;
        if app.cluster.is_some() {
            app.adopt_own().await?;
        } else {
            app.adopt_all().await?;
        }
        app.input(outlive_core::engine::Input::Ready(snapshot.ready));
        Ok(app)
    }

    /// Runs work to its end although the request that asked for it may be given up: a write and its hints belong together.
    pub(crate) async fn detached<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
        match tokio::spawn(work).await {
            Ok(value) => value,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}
