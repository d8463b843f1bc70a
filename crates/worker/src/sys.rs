//! What no safe wrapper covers: what a child does between fork and exec, `wait4`, and waiting for a pidfd.
//!
//! `wait4` is the only call that tells the resources of *one* child. `libc` is a dependency for it alone.

#![expect(
    unsafe_code,
    reason = "pre_exec runs between fork and exec; wait4 fills a struct; AsyncFd trusts its argument"
)]

use crate::reach::limits::Confinement;
use rustix::process::{Pid, Signal};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};
use tokio::io::unix::AsyncFd;

/// The last real-time signal.
const LAST_SIGNAL: i32 = 64;

/// Lets the child join its groups and set its limits, lead a process group of its own, begin with no signal ignored, and
/// die with the thread that starts it.
///
/// If the agent died before the child could ask for that, the child ends itself. Signals: a shell that starts an agent in the
/// background lets it ignore SIGINT and SIGQUIT, `nohup` SIGHUP; what a command does must not depend on that.
pub fn contain(command: &mut Command, confined: Confinement) {
    let parent = rustix::process::getpid();
    let prepare = move || {
        for group in &confined.groups {
            rustix::io::write(group, b"0")?;
        }
        for &(resource, limit) in &confined.rlimits {
            rustix::process::setrlimit(resource, limit)?;
        }
        rustix::process::setpgid(None, None)?;
        for signal in 1..=LAST_SIGNAL {
            // SAFETY: no handler is installed. What cannot be changed (SIGKILL, SIGSTOP, libc's own) is left as it is.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    };
    // SAFETY: the closure only makes system calls through rustix, which neither allocates nor takes locks for them.
    unsafe { command.pre_exec(prepare) };
}

/// Whether a child can join `group`: one tries, and ends.
#[must_use]
pub fn can_join(group: OwnedFd) -> bool {
    const JOINED: i32 = libc::EOWNERDEAD;
    let mut command = Command::new("/");
    let prepare = move || match rustix::io::write(group.as_fd(), b"0") {
        Ok(_) => Err(io::Error::from_raw_os_error(JOINED)),
        Err(e) => Err(e.into()),
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(prepare) };
    command.spawn().is_err_and(|e| e.raw_os_error() == Some(JOINED))
}

/// A descriptor whose readiness can be awaited.
///
/// # Errors
/// If it cannot be polled.
pub fn awaitable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd keeps its one descriptor open for as long as it lives, and always names that one.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

/// What a reaped child used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of it and of the descendants that it waited for.
    pub cpu_ms: u64,
    /// The largest resident set among them.
    pub max_rss_bytes: u64,
}

/// Reaps a child that has ended; none while it lives.
///
/// # Errors
/// If it is not a child of this process, or has been reaped.
pub fn reap(pid: Pid) -> io::Result<Option<(ExitStatus, Usage)>> {
    let mut status = 0;
    // SAFETY: all-zero bytes are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals that outlive the call.
    let reaped = unsafe { libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, libc::WNOHANG, &raw mut usage) };
    match reaped {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => {
            let millis = |t: libc::timeval| t.tv_sec.unsigned_abs() * 1_000 + t.tv_usec.unsigned_abs() / 1_000;
            let cpu_ms = millis(usage.ru_utime) + millis(usage.ru_stime);
            let max_rss_bytes = usage.ru_maxrss.unsigned_abs() * 1_024;
            Ok(Some((ExitStatus::from_raw(status), Usage { cpu_ms, max_rss_bytes })))
        }
    }
}
