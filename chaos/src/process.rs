//! A server and workers of a built binary, and how long a server needs to come back.

use outlive_api::clock::nanos;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The built binary and the folder in which everything lies.
#[derive(Clone, Debug)]
pub struct House {
    /// The binary `outlive`.
    pub binary: PathBuf,
    /// Database, logs, state folders.
    pub folder: PathBuf,
    /// Where the server listens, as its clients here know it.
    pub address: String,
    /// Listen at every address of the machine.
    pub open: bool,
    /// Variables of the server and of the workers.
    pub env: Vec<(String, OsString)>,
}

/// A worker that is to be started.
#[derive(Clone, Debug)]
pub struct Post<'a> {
    /// Its name, and its state folder's.
    pub name: &'a str,
    /// Runs at once.
    pub slots: usize,
    /// How it reaches the server.
    pub server: &'a str,
    /// What it is started through, such as `nsenter …`.
    pub through: &'a [String],
}

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// SIGKILL, and its end.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn kill(&mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(kill_process(pid, signal)?)
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

impl House {
    /// A folder with a port for its server. The port is below those that the system gives to clients: a client that tries
    /// again and again would in the end be given the very port that it tries, and be connected with itself.
    ///
    /// # Errors
    /// If there is no port.
    pub fn new(binary: &Path, folder: &Path, rng: &mut crate::rng::Rng) -> io::Result<Self> {
        let address = format!("127.0.0.1:{}", free_port(rng)?);
        Ok(Self { binary: binary.to_owned(), folder: folder.to_owned(), address, open: false, env: Vec::new() })
    }

    /// Where the server listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default()
    }

    fn command(&self, log: &str, through: &[String]) -> io::Result<Command> {
        let log = File::options().create(true).append(true).open(self.folder.join(log))?;
        let mut command = match through.split_first() {
            None => Command::new(&self.binary),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.binary);
                command
            }
        };
        let alien = ["OUTLIVE_SERVER", "OUTLIVE_STORE", "OUTLIVE_LISTEN"];
        for name in alien {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(["--config", "-"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// Starts the server; it may not listen yet.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn server(&self) -> io::Result<Process> {
        let store = format!("sqlite:{}", self.store().display());
        let mut command = self.command("server.log", &[])?;
        let (listen, more) = if self.open {
            (format!("0.0.0.0:{}", self.port()), &["--insecure-listen"][..])
        } else {
            (self.address.clone(), &[][..])
        };
        command.args(["server", "--listen", &listen, "--low-disk", "0", "--log", "warn", "--store", &store]).args(more);
        command.spawn().map(Process)
    }

    /// Starts a replica over a database; it may not listen yet.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn replica(&self, name: &str, listen: &str, store: &str, liveness: &str) -> io::Result<Process> {
        let mut command = self.command(&format!("{name}.log"), &[])?;
        command.args(["server", "--listen", listen, "--low-disk", "0", "--log", "warn", "--replica", name]);
        // Not as arguments: they have passwords in them, and everybody may read arguments.
        command.env("OUTLIVE_STORE", store).env("OUTLIVE_LIVENESS", liveness);
        command.spawn().map(Process)
    }

    /// The server's database.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.join("outlive.db")
    }

    /// Starts a worker of commands.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn worker(&self, post: &Post<'_>) -> io::Result<Process> {
        self.agent(post, "default")
    }

    /// The same, for other queues.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn agent(&self, post: &Post<'_>, queues: &str) -> io::Result<Process> {
        let mut command = self.command(&format!("{}.log", post.name), post.through)?;
        let slots = post.slots.to_string();
        command.args(["worker", "--server", post.server, "--name", post.name, "--slots", &slots]);
        command.args(["--allow-exec", "--log", "warn", "--queues", queues]);
        command.arg("--state-dir").arg(self.folder.join(post.name));
        command.spawn().map(Process)
    }
}

/// A port that nobody listens at.
///
/// # Errors
/// If there is none.
pub fn free_port(rng: &mut crate::rng::Rng) -> io::Result<u16> {
    for _ in 0..200 {
        let port = u16::try_from(10_000 + rng.below(20_000)).unwrap_or(10_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no free port"))
}

/// Milliseconds since a reading of the clock.
#[must_use]
pub fn ms_since(start: u64) -> u64 {
    (nanos() - start) / 1_000_000
}
