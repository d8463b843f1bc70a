//! Processes, as `/proc` shows them.

use super::LEASE_VARIABLE;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;

/// What is known of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    state: u8,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The lease variable that it was started with.
    pub lease: Option<String>,
}

impl Process {
    /// Whether a signal stopped it.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// Reads one; none if it is gone, a zombie, or not to be touched.
#[must_use]
pub fn read(pid: i32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields follow its last parenthesis.
    let after = stat.iter().rposition(|&b| b == b')')? + 2;
    let fields = std::str::from_utf8(stat.get(after..)?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let _parent = fields.next()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let lease = fs::read(format!("/proc/{pid}/environ")).ok().and_then(|environ| lease_in(&environ));
    let is_alive = !matches!(state, b'Z' | b'X');
    is_alive.then_some(Process { pid, state, group, session, lease })
}

fn lease_in(environ: &[u8]) -> Option<String> {
    let values =
        environ.split(|&b| b == 0).filter_map(|e| e.strip_prefix(LEASE_VARIABLE.as_bytes())?.strip_prefix(b"="));
    // Where a variable is given twice, programs read the first.
    values.into_iter().next().and_then(|v| String::from_utf8(v.to_vec()).ok())
}

/// Sends `signal` to every process that `wanted` recognises, once. How many.
pub fn signal_all(signal: Signal, wanted: impl Fn(&Process) -> bool) -> usize {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = names.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|&pid| pid > 1 && pid != own && read(pid).is_some_and(|p| wanted(&p)))
        .filter(|&pid| signal_one(pid, signal, &wanted))
        .count()
}

/// Recognised again behind a pidfd, the process that is signalled is the one that was recognised.
fn signal_one(pid: i32, signal: Signal, wanted: impl Fn(&Process) -> bool) -> bool {
    let Some(process) = Pid::from_raw(pid) else { return false };
    let Ok(fd) = pidfd_open(process, PidfdFlags::empty()) else { return false };
    read(pid).is_some_and(|p| wanted(&p)) && pidfd_send_signal(&fd, signal).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let process = read(own).unwrap();
        assert_eq!(process.group, rustix::process::getpgrp().as_raw_nonzero().get());
        assert!(!process.is_stopped());
        assert_eq!(read(-5), None);
    }

    #[test]
    fn the_lease_is_a_whole_entry_of_the_environment() {
        assert_eq!(lease_in(b"A=1\0OUTLIVE_LEASE=a.b.c.1\0B=2\0"), Some("a.b.c.1".to_owned()));
        assert_eq!(lease_in(b"XOUTLIVE_LEASE=a\0OUTLIVE_LEASE_X=b\0"), None);
    }
}
