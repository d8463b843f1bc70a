//! A server and workers of a built binary, and how long a server needs to come back.

use outlive_api::clock::nanos;
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
    /// Where the server listens.
    pub address: String,
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
        for _ in 0..200 {
            let port = u16::try_from(10_000 + rng.below(20_000)).unwrap_or(10_000);
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                let address = format!("127.0.0.1:{port}");
                return Ok(Self { binary: binary.to_owned(), folder: folder.to_owned(), address });
            }
        }
        Err(io::Error::other("no free port"))
    }

    fn command(&self, log: &str) -> io::Result<Command> {
        let log = File::options().create(true).append(true).open(self.folder.join(log))?;
        let mut command = Command::new(&self.binary);
        let alien = ["OUTLIVE_SERVER", "OUTLIVE_STORE", "OUTLIVE_LISTEN"];
        for name in alien {
            command.env_remove(name);
        }
        command.args(["--config", "-"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// Starts the server; it may not listen yet.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn server(&self) -> io::Result<Process> {
        let store = format!("sqlite:{}", self.folder.join("outlive.db").display());
        let mut command = self.command("server.log")?;
        command.args(["server", "--listen", &self.address, "--low-disk", "0", "--log", "warn", "--store", &store]);
        command.spawn().map(Process)
    }

    /// Starts a worker of commands.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn worker(&self, name: &str) -> io::Result<Process> {
        let mut command = self.command(&format!("{name}.log"))?;
        command.args([
            "worker",
            "--server",
            &self.address,
            "--name",
            name,
            "--slots",
            "4",
            "--allow-exec",
            "--log",
            "warn",
        ]);
        command.arg("--state-dir").arg(self.folder.join(name));
        command.spawn().map(Process)
    }
}

/// Milliseconds since a reading of the clock.
#[must_use]
pub fn ms_since(start: u64) -> u64 {
    (nanos() - start) / 1_000_000
}
