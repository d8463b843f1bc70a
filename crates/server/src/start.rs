//! Starting and stopping.

use crate::app::{App, Backend};
use crate::{listen, router, services, session};
use outlive_api::clock::SystemClock;
use outlive_api::ops::Setting;
use outlive_api::session::{CloseReason, ServerMessage};
use outlive_core::Millis;
use outlive_core::clock::Clock;
use outlive_core::engine::{Input, LeaseInfo, Presence, SessionInfo};
use outlive_core::replica_name::{ReplicaName, ReplicaNameError};
use outlive_store::StoreError;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long agents may trust their leases while a server that stops on purpose comes back.
const KEEP_TRUST: Millis = Millis::secs(5);
/// How long what is under way may take at a stop.
const CLOSE: Millis = Millis::secs(2);
/// How long connections may take to read the last message.
const FLUSH: Millis = Millis(500);

/// Where runs are kept.
#[derive(Clone, Debug)]
pub enum StoreLocation {
    /// One file.
    Sqlite(PathBuf),
    /// A database, by its URL, that replicas share.
    Postgres(String),
    /// Nowhere: for tests and benchmarks.
    Memory,
}

impl StoreLocation {
    /// Whether other replicas may use it at the same time.
    const fn is_shared(&self) -> bool {
        match self {
            Self::Sqlite(_) | Self::Memory => false,
            Self::Postgres(_) => true,
        }
    }
}

/// What a server needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Where runs are kept.
    pub store: StoreLocation,
    /// The stable name of this replica; empty: none, which only a store that cannot be shared allows.
    pub replica: String,
    /// Where workers reach this replica, `host:port`; empty: where it listens, if that is one address.
    pub advertise: String,
    /// Listen on an address that is not loopback, without login.
    pub insecure_listen: bool,
    /// Bytes that must be free on the store's disk for new runs to be admitted; 0: admitted always.
    pub low_disk: u64,
    /// The exchange of signs of life beside the rows of replicas: `redis://…`; none: the rows alone.
    pub liveness: Option<String>,
    /// Effective settings with their origin, to be shown.
    pub settings: Vec<Setting>,
    /// The build.
    pub version: String,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken.
    #[error("{address} is taken{}", .free.map(|f| format!("; {f} is free: start with --listen {f}")).unwrap_or_default())]
    AddressTaken {
        /// The address.
        address: SocketAddr,
        /// The next free one.
        free: Option<SocketAddr>,
    },
    /// The address cannot be used.
    #[error("cannot listen on {address}: {detail}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        detail: String,
    },
    /// Not loopback, and not asked for.
    #[error(
        "{0} is not a loopback address, and this server has no login: whoever reaches it can run commands. \
         Listen on 127.0.0.1, or, on a private network, add --insecure-listen"
    )]
    NotLoopback(SocketAddr),
    /// The replica's name.
    #[error(transparent)]
    Replica(#[from] ReplicaNameError),
    /// The exchange of signs of life cannot be what was asked for.
    #[error("{0}")]
    Liveness(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A server that runs.
pub struct Server {
    app: Arc<App>,
    address: SocketAddr,
    http: JoinHandle<()>,
    loops: Vec<JoinHandle<()>>,
    stop_http: watch::Sender<bool>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Starts a server. It is bound and ready when this returns.
///
/// # Errors
/// See [`StartError`].
pub async fn start(config: Config) -> Result<Server, StartError> {
    if !config.listen.ip().is_loopback() && !config.insecure_listen {
        return Err(StartError::NotLoopback(config.listen));
    }
    ReplicaName::of(&config.replica, config.store.is_shared())?;
    let listener = bind(config.listen)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let backend = Backend::open(&config, &clock).await?;
    serve(config, backend, listener, clock).await
}

/// Starts a server on a backend that is open already: how tests put several replicas over one store.
///
/// # Errors
/// See [`StartError`].
pub async fn start_on(config: Config, backend: Backend) -> Result<Server, StartError> {
    let listener = bind(config.listen)?;
    serve(config, backend, listener, Arc::new(SystemClock)).await
}

async fn serve(
    config: Config,
    backend: Backend,
    listener: TcpListener,
    clock: Arc<dyn Clock>,
) -> Result<Server, StartError> {
    let address = listener.local_addr().map_err(|e| listen_error(config.listen, &e))?;
    let told = if config.advertise.is_empty() && !address.ip().is_unspecified() {
        address.to_string()
    } else {
        config.advertise.clone()
    };
    let app = App::open(Config { advertise: told, ..config }, backend, clock).await?;
    let (stop_http, stopped) = watch::channel(false);
    let router = router::router(Arc::clone(&app));
    let served = Arc::clone(&app);
    let http = tokio::spawn(async move {
        listen::serve(listener, router, listen::HEAD_TIME, stopped).await;
        served.broken.send_replace(true);
    });
    let mut loops = services::start(&app);
    loops.push(tokio::spawn(session::selfbeat::keep(Arc::clone(&app), address)));
    app.ready.store(true, Ordering::Release);
    Ok(Server { app, address, http, loops, stop_http })
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    match listen::bind(address) {
        Ok(listener) => Ok(listener),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            let mut free = None;
            for port in address.port()..address.port().saturating_add(50) {
                let candidate = SocketAddr::new(address.ip(), port);
                if listen::bind(candidate).is_ok() {
                    free = Some(candidate);
                    break;
                }
            }
            Err(StartError::AddressTaken { address, free })
        }
        Err(e) => Err(listen_error(address, &e)),
    }
}

fn listen_error(address: SocketAddr, error: &std::io::Error) -> StartError {
    StartError::Listen { address, detail: error.to_string() }
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Until the server cannot go on by itself: its listener ended, or its store writes nothing more.
    pub async fn stopped(&self) {
        let _ = self.app.broken.subscribe().wait_for(|broken| *broken).await;
    }

    /// A planned stop: nothing is taken from anybody. Sessions are told to come back and may keep their trust meanwhile.
    pub async fn stop(self) {
        self.app.ready.store(false, Ordering::Release);
        self.app.stopping.send_replace(true);
        self.app.say_goodbye();
        let flushed = async {
            while self.app.driver.connections() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(FLUSH.duration(), flushed).await;
        self.stop_http.send_replace(true);
        let abort = self.http.abort_handle();
        if tokio::time::timeout(FLUSH.duration(), self.http).await.is_err() {
            abort.abort();
        }
        for task in &self.loops {
            task.abort();
        }
        for task in self.loops {
            let _ = task.await;
        }
        let observed = self.app.driver.look(outlive_core::engine::Engine::store_observed);
        if let Err(error) = self.app.store.advance_observed(observed).await {
            tracing::warn!(%error, "the observed clock could not be saved");
        }
        // Work of its own that a request or the engine began ends first: when this returns, the file is free.
        let alone = async {
            while Arc::strong_count(&self.app) > 1 {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(CLOSE.duration(), alone).await.is_err() {
            tracing::warn!("something still uses the store; it is closed when that ends");
        }
    }
}

impl App {
    /// Tells every session that this server stops, that its worker may keep its trust meanwhile, and where else it may go. Said
    /// again by a session that was opening when it was said first.
    pub(crate) fn say_goodbye(&self) {
        self.driver.broadcast(&ServerMessage::Close {
            why: CloseReason::Shutdown,
            keep_trust_ms: KEEP_TRUST.0,
            r#try: self.other_addresses(),
        });
    }

    /// At the start: every session that was open may come back, and every open lease is watched, with a full TTL.
    pub(crate) async fn adopt_all(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut leases: BTreeMap<_, Vec<LeaseInfo>> = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = self.store.leases_after(cursor, 1_000).await?;
            for row in &page.rows {
                if let (Some((holder, _)), Some(info)) = (row.run.lease(), self.lease_info(row)) {
                    leases.entry(holder).or_default().push(info);
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let mut after = None;
        loop {
            let workers = self.store.workers(None, after, 1_000).await?;
            let Some(last) = workers.last() else { break };
            after = Some(last.id);
            for worker in workers {
                let held = leases.remove(&worker.holder()).unwrap_or_default();
                if !worker.session_open && held.is_empty() {
                    continue;
                }
                self.input(Input::Adopt(session_info(&worker, worker.home_seq, held)));
            }
        }
        for (holder, held) in leases {
            self.input(Input::Audit(ghost(holder, held)));
        }
        Ok(())
    }
}

/// A session as the engine takes it.
pub(crate) fn session_info(
    worker: &outlive_store::WorkerRow,
    home_seq: outlive_core::HomeSeq,
    leases: Vec<LeaseInfo>,
) -> SessionInfo {
    let presence = match worker.presence {
        outlive_store::Presence::Session => Presence::Session,
        outlive_store::Presence::Poll(interval) => Presence::Poll(interval),
        outlive_store::Presence::None(interval) => Presence::None(interval),
    };
    SessionInfo {
        holder: worker.holder(),
        profile: worker.profile.clone(),
        presence,
        home_seq,
        draining: worker.draining,
        leases,
        rearmed: worker.rearmed,
        armed: worker.armed,
    }
}

/// The holder of leases whose session is not open: an earlier incarnation, or one that was lost half-way.
pub(crate) fn ghost(holder: outlive_core::Holder, leases: Vec<LeaseInfo>) -> SessionInfo {
    SessionInfo {
        holder,
        profile: outlive_core::class::WorkerProfile::default(),
        presence: Presence::Session,
        home_seq: outlive_core::HomeSeq(0),
        draining: true,
        leases,
        rearmed: 0,
        armed: outlive_core::Observed(0),
    }
}
