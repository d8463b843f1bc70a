//! A Redis of its own: for the liveness exchange, which must not care what becomes of it.

use crate::Failure;
use crate::keeper::Keeper;
use crate::programs::{command_that_gets, give};
use crate::server::{free_port, write};
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;

const LOOKS: u32 = 1_200;
const LOOK: Duration = Duration::from_millis(50);

/// A running Redis, in memory alone.
#[derive(Debug)]
pub struct Redis {
    // First: it ends before its folder goes.
    keeper: Keeper,
    folder: TempDir,
    password: String,
    port: u16,
    tls_port: Option<u16>,
}

impl Redis {
    /// Starts one.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn start() -> Result<Self, Failure> {
        Self::start_with(None)
    }

    /// Starts one that speaks TLS, too, with this certificate and key, as PEM.
    ///
    /// # Errors
    /// It is not installed, knows no TLS, or does not start.
    pub fn start_with_tls(certificate: &str, key: &str) -> Result<Self, Failure> {
        Self::start_with(Some((certificate, key)))
    }

    fn start_with(tls: Option<(&str, &str)>) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("outlive-redis-").tempdir();
        let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?;
        give(folder.path())?;
        let (port, password) = (free_port()?, uuid::Uuid::new_v4().simple().to_string());
        let mut settings = format!(
            "bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave \"\"\nappendonly no\ndaemonize no\ndir {}\n",
            folder.path().display()
        );
        let mut tls_port = None;
        if let Some((certificate, key)) = tls {
            let (certificate_file, key_file) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
            write(&certificate_file, certificate)?;
            write(&key_file, key)?;
            let port = *tls_port.insert(free_port()?);
            let _ = writeln!(
                settings,
                "tls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-auth-clients no",
                certificate_file.display(),
                key_file.display()
            );
        }
        write(&folder.path().join("redis.conf"), &settings)?;
        let started = Self { keeper: launch(folder.path())?, folder, password, port, tls_port };
        started.wait_until_it_answers()?;
        Ok(started)
    }

    /// For `--liveness`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/", self.password, self.port)
    }

    /// For `--liveness` over TLS, if it speaks that; the certificate is checked for `localhost`.
    #[must_use]
    pub fn tls_url(&self) -> Option<String> {
        Some(format!("rediss://:{}@localhost:{}/", self.password, self.tls_port?))
    }

    /// One command; the first line of its answer.
    ///
    /// # Errors
    /// No answer, or an error as the answer.
    pub fn ask(&self, words: &[&str]) -> Result<String, Failure> {
        let failed = |error: std::io::Error| format!("Redis does not answer: {error}");
        let stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(failed)?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(failed)?;
        let mut answers = BufReader::new(stream.try_clone().map_err(failed)?);
        let mut last = String::new();
        for words in [&["AUTH", self.password.as_str()], words] {
            let mut text = format!("*{}\r\n", words.len());
            for word in words {
                let _ = write!(text, "${}\r\n{word}\r\n", word.len());
            }
            (&stream).write_all(text.as_bytes()).map_err(failed)?;
            last.clear();
            answers.read_line(&mut last).map_err(failed)?;
            if last.is_empty() || last.starts_with('-') {
                return Err(format!("Redis said: {}", last.trim()));
            }
        }
        Ok(last.trim().to_owned())
    }

    /// Forgets everything: `FLUSHALL`.
    ///
    /// # Errors
    /// See [`Self::ask`].
    pub fn flush(&self) -> Result<(), Failure> {
        self.ask(&["FLUSHALL"]).map(drop)
    }

    /// Ends it at once; it can be started again.
    pub fn kill(&mut self) {
        self.keeper.end(Signal::KILL);
    }

    /// Starts it again on its port, with nothing in it.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&mut self) -> Result<(), Failure> {
        self.keeper = launch(self.folder.path())?;
        self.wait_until_it_answers()
    }

    /// Stops it where it is (its connections stay), or lets it go on.
    ///
    /// # Errors
    /// It is not there.
    pub fn stall(&self, stalled: bool) -> Result<(), Failure> {
        let pid = i32::try_from(self.keeper.pid()).ok().and_then(Pid::from_raw).ok_or("Redis has no process")?;
        let signal = if stalled { Signal::STOP } else { Signal::CONT };
        kill_process(pid, signal).map_err(|error| format!("Redis cannot be signalled: {error}"))
    }

    fn wait_until_it_answers(&self) -> Result<(), Failure> {
        for _ in 0..LOOKS {
            if self.ask(&["PING"]).is_ok() {
                return Ok(());
            }
            if self.keeper.has_ended() {
                break;
            }
            std::thread::sleep(LOOK);
        }
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        Err(format!("Redis does not start (Debian: `apt-get install redis-server`): {log}"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may be stopped, and would take nothing else.
        self.keeper.end(Signal::KILL);
    }
}

fn launch(folder: &Path) -> Result<Keeper, Failure> {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log"));
    let log = log.map_err(|error| format!("no log: {error}"))?;
    let mut redis = command_that_gets(Path::new("redis-server"), "KILL")?;
    redis.arg(folder.join("redis.conf")).stdout(log).stderr(Stdio::null());
    Keeper::start(redis)
}
