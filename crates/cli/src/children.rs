//! Processes of this binary that another process of it starts and that must not outlive it.
//!
//! Each child gets a pipe on stdin that nobody writes to. When the parent ends, however it ends, the pipe closes, and the
//! child (started with the hidden `--supervised`) ends too; a worker's guard then kills what the worker ran. The death signal
//! is the second line, for a child that is stopped and cannot read. Each child has a process group of its own, so that a
//! Ctrl-C at the terminal reaches the parent alone, which stops them in order.

use crate::config;
use crate::exit::{Exit, Failure};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use std::ffi::OsStr;
use std::io::Read as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child as Process, ChildStdout, Command};

/// A child process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) name: String,
    pub(crate) pid: u32,
    process: Process,
}

impl Child {
    /// Starts this binary with `args`; what it says goes to `log`.
    pub(crate) fn start<A: AsRef<OsStr>>(
        name: &str,
        args: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Result<Self, Failure> {
        Self::start_with(name, args, &[], log)
    }

    /// The same, with variables: what others may not read in a list of processes.
    pub(crate) fn start_with<A: AsRef<OsStr>>(
        name: &str,
        args: impl IntoIterator<Item = A>,
        variables: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self, Failure> {
        let file = std::fs::File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(config::this_binary()?);
        command.args(args).args(["--config", "-", "--supervised"]);
        for name in config::own_variables() {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).process_group(0).kill_on_drop(true);
        let process = command.spawn().map_err(|e| Failure::failed(format!("{name} cannot be started: {e}")))?;
        let pid =
            process.id().ok_or_else(|| Failure::failed(format!("{name} ended at once; see {}", log.display())))?;
        Ok(Self { name: name.to_owned(), pid, process })
    }

    /// The first line that it prints on stdout; none if it ended before.
    pub(crate) async fn first_line(&mut self) -> Option<String> {
        self.lines()?.next_line().await.ok().flatten()
    }

    /// Everything that it prints on stdout; once.
    pub(crate) fn lines(&mut self) -> Option<Lines<BufReader<ChildStdout>>> {
        Some(BufReader::new(self.process.stdout.take()?).lines())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // It may have ended already; then there is nothing to do.
            let _ = kill_process(pid, signal);
        }
    }

    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        // The pipe on stdin must stay open, or the child would take us for dead.
        let stdin = self.process.stdin.take();
        let status = self.process.wait().await;
        self.process.stdin = stdin;
        status
    }

    /// TERM; after `patience` TERM again (a worker then hands its work back); in the end KILL.
    pub(crate) async fn stop(&mut self, patience: Duration) {
        self.signal(Signal::TERM);
        if tokio::time::timeout(patience, self.wait()).await.is_ok() {
            return;
        }
        self.signal(Signal::TERM);
        if tokio::time::timeout(LAST_PATIENCE, self.wait()).await.is_err() {
            self.signal(Signal::KILL);
            drop(self.wait().await);
        }
    }
}

/// A worker ends what it runs by TERM, grace (10 s), KILL.
const LAST_PATIENCE: Duration = Duration::from_secs(12);

/// In a supervised child: end when the parent does.
pub(crate) fn end_with_parent() -> Result<(), Failure> {
    // Best effort; the pipe below is what counts.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    std::thread::Builder::new().name("parent".into()).spawn(|| {
        let mut buffer = [0; 64];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut buffer).is_ok_and(|n| n > 0) {}
        std::process::exit(i32::from(Exit::Interrupted as u8));
    })?;
    Ok(())
}

/// How a process ended, in words.
pub(crate) fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, Some(code)) => format!("ended with code {code}"),
        (None, None) => "ended".to_owned(),
    }
}
