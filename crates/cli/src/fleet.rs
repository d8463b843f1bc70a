//! Servers and workers as child processes, for the demo and the benchmarks.

use crate::backing::{Backing, Kept};
use crate::children::Child;
use crate::exit::Failure;
use crate::render::say;
use outlive_api::client::Client;
use outlive_api::workers::Worker;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// How long a child may take to be ready.
const READY: Duration = Duration::from_secs(10);
/// The name of the first server, and of its log.
const SERVER: &str = "server";
/// Between two looks at a state that is waited for.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// The processes, in a folder that goes with them.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) server: Child,
    /// Other servers over the same store, and where each is.
    pub(crate) replicas: Vec<(Child, String)>,
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) workers: Vec<Child>,
    pub(crate) kept: Kept,
    folder: TempDir,
}

impl Fleet {
    /// A server on a free port over a store of its own.
    pub(crate) async fn start(backing: &Backing) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("outlive-").tempdir()?;
        let kept = Kept::make(backing, folder.path())?;
        let (server, url) = serve(folder.path(), &kept, SERVER, &free_address()?).await?;
        let client = Client::new(&url, outlive_api::DEFAULT_NAMESPACE)?;
        Ok(Self { server, replicas: Vec::new(), url, client, workers: Vec::new(), kept, folder })
    }

    /// Another server over the same store. The fleet's client then asks whichever answers.
    pub(crate) async fn add_replica(&mut self, name: &str) -> Result<(), Failure> {
        self.replicas.push(serve(self.folder.path(), &self.kept, name, &free_address()?).await?);
        self.client = Client::of(self.urls(), outlive_api::DEFAULT_NAMESPACE)?;
        Ok(())
    }

    fn urls(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.url).chain(self.replicas.iter().map(|(_, url)| url)).map(String::as_str)
    }

    /// All servers, for `--server`, beginning with this one of them.
    pub(crate) fn addresses(&self, first: usize) -> String {
        let mut urls: Vec<_> = self.urls().collect();
        let first = first % urls.len();
        urls.rotate_left(first);
        urls.join(",")
    }

    /// Another server in the place of one that has ended: same address, same database.
    pub(crate) async fn start_server(&mut self) -> Result<(), Failure> {
        (self.server, self.url) =
            serve(self.folder.path(), &self.kept, SERVER, self.url.trim_start_matches("http://")).await?;
        Ok(())
    }

    /// Where everything lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A worker that takes commands.
    pub(crate) fn add_worker(&mut self, name: &str, slots: usize) -> Result<(), Failure> {
        let slots = slots.to_string();
        let state = self.path(name).display().to_string();
        let servers = self.addresses(self.workers.len());
        let args =
            ["worker", "--server", &servers, "--name", name, "--slots", &slots, "--state-dir", &state, "--allow-exec"];
        self.workers.push(Child::start(name, args, &self.path(&format!("{name}.log")))?);
        Ok(())
    }

    /// A worker that does nothing, fast, in a process of its own.
    pub(crate) fn add_idle_worker(&mut self, name: &str, slots: usize) -> Result<(), Failure> {
        let slots = slots.to_string();
        let state = self.path(name).display().to_string();
        let args = ["bench", "agent", "--server", &self.url, "--name", name, "--slots", &slots, "--state-dir", &state];
        self.workers.push(Child::start(name, args, &self.path(&format!("{name}.log")))?);
        Ok(())
    }

    /// Waits until that many workers are online.
    pub(crate) async fn online(&self, count: usize) -> Result<Vec<Worker>, Failure> {
        let ready = async {
            loop {
                let workers = self.client.workers().await?.workers;
                if workers.iter().filter(|w| w.status == "online").count() >= count {
                    return Ok(workers);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(READY, ready).await {
            Ok(workers) => workers,
            Err(_) => Err(Failure::failed(format!(
                "the workers did not come online; their logs are in {}",
                self.folder.path().display()
            ))),
        }
    }

    /// The worker process of that name, taken out of the fleet.
    pub(crate) fn take(&mut self, name: &str) -> Option<Child> {
        let index = self.workers.iter().position(|w| w.name == name)?;
        Some(self.workers.remove(index))
    }

    /// Workers first, so that they can say goodbye.
    pub(crate) async fn stop(mut self) {
        for worker in &self.workers {
            worker.signal(rustix::process::Signal::TERM);
        }
        for worker in &mut self.workers {
            worker.stop(Duration::from_millis(500)).await;
        }
        for (replica, _) in &mut self.replicas {
            replica.stop(Duration::from_secs(5)).await;
        }
        self.server.stop(Duration::from_secs(5)).await;
        drop(self.kept);
        let path = self.folder.path().to_owned();
        if self.folder.close().is_err() {
            say(&format!("{} could not be removed", path.display()));
        }
    }
}

async fn serve(folder: &Path, kept: &Kept, name: &str, listen: &str) -> Result<(Child, String), Failure> {
    let log = folder.join(format!("{name}.log"));
    let args = ["server", "--replica", name, "--listen", listen];
    let mut server = Child::start_with(name, args, &[("OUTLIVE_STORE", &kept.location)], &log)?;
    if let Some(url) = tokio::time::timeout(READY, server.first_line()).await.ok().flatten() {
        return Ok((server, url));
    }
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    Err(Failure::failed(format!("the server did not start: {}", said.trim())))
}

/// An address of this machine that nobody listens at. Its port is below those that the system gives to clients: a client that
/// tries again and again while no server is there would in the end be given the very port that it tries, and be connected
/// with itself.
fn free_address() -> Result<String, Failure> {
    const TRIES: usize = 200;
    let port = || 10_000 + u16::try_from(uuid::Uuid::new_v4().as_u128() % 20_000).unwrap_or(0);
    let mut ports = std::iter::repeat_with(port).take(TRIES);
    let free = ports.find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    free.map(|port| format!("127.0.0.1:{port}")).ok_or_else(|| Failure::failed("there is no free port"))
}
