//! One process: started on the spawner's thread, signalled while it cannot be another, reaped once.

use super::exit::signal_name;
use crate::sys;
use outlive_core::report::ExitReport;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};
use std::sync::mpsc;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// Starts that wait; as many as there can be slots.
const STARTS: usize = outlive_core::limits::sizes::SLOTS as usize;

type Start = (Command, oneshot::Sender<io::Result<Child>>);

/// The one thread that starts processes. They die with it, so it lives as long as the agent: the kernel watches the thread
/// that forked, not its process.
#[derive(Clone, Debug)]
pub struct Spawner(mpsc::SyncSender<Start>);

impl Spawner {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the machine has no thread to give.
    pub fn start() -> io::Result<Self> {
        let (starts, waiting) = mpsc::sync_channel::<Start>(STARTS);
        std::thread::Builder::new().name("spawner".into()).spawn(move || {
            while let Ok((mut command, answer)) = waiting.recv() {
                let _ = answer.send(command.spawn());
            }
        })?;
        Ok(Self(starts))
    }

    pub(super) async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (answer, answered) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts processes is gone");
        self.0.try_send((command, answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// A child that leads a process group of its own and has not been reaped: until then neither its number nor its group's can
/// mean anything else.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Takes a child that nobody else will wait for.
    pub(super) fn of(child: &Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        Ok(Self { pid, fd: sys::awaitable(fd)? })
    }

    pub(super) const fn group(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// To its whole group.
    pub(super) fn signal_group(&self, signal: Signal) {
        let _ = kill_process_group(self.pid, signal);
    }

    /// To it alone, at once.
    pub(super) fn kill(&self) {
        let _ = pidfd_send_signal(self.fd.get_ref(), Signal::KILL);
    }

    /// Waits for its end, and leaves it unreaped.
    pub(super) async fn ended(&self) {
        let _ = self.fd.readable().await;
    }

    /// Reaps it.
    pub(super) async fn reap(self) -> io::Result<ExitReport> {
        loop {
            if let Some((status, usage)) = sys::reap(self.pid)? {
                return Ok(ExitReport {
                    code: status.code(),
                    signal: status.signal().map(signal_name),
                    core_dumped: status.core_dumped(),
                    oom_killed: false,
                    timed_out: false,
                    cpu_ms: usage.cpu_ms,
                    max_rss_bytes: usage.max_rss_bytes,
                });
            }
            tokio::task::yield_now().await;
        }
    }
}
