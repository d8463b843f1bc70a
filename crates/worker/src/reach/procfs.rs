//! Processes, as `/proc` shows them.

use super::LEASE_VARIABLE;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, pidfd_send_signal};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::OwnedFd;

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
    /// The lease variable that it was started with; if it has none, the lease whose group it is in.
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
    Folder::open(pid)?.process()
}

/// A process's folder in `/proc`, open: it stands for that process alone, however often its number is used again.
struct Folder {
    pid: i32,
    fd: OwnedFd,
}

impl Folder {
    fn open(pid: i32) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Some(Self { pid, fd: rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty()).ok()? })
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let fd = rustix::fs::openat(&self.fd, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        File::from(fd).read_to_end(&mut bytes).ok().map(|_| bytes)
    }

    fn process(&self) -> Option<Process> {
        let stat = self.read("stat")?;
        // The name in parentheses may hold anything; the fields follow its last parenthesis.
        let after = stat.iter().rposition(|&b| b == b')')? + 2;
        let fields = std::str::from_utf8(stat.get(after..)?).ok()?;
        let mut fields = fields.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let _parent = fields.next()?;
        let group = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        let lease = self.read("environ").and_then(|environ| lease_in(&environ));
        let lease = lease.or_else(|| self.read("cgroup").and_then(|groups| lease_of_group(&groups)));
        let is_alive = !matches!(state, b'Z' | b'X');
        is_alive.then_some(Process { pid: self.pid, state, group, session, lease })
    }

    /// The folder serves as a pidfd: also where `/proc` shows the numbers of another PID namespace.
    fn signal(&self, signal: Signal) -> bool {
        pidfd_send_signal(&self.fd, signal).is_ok()
    }
}

fn lease_in(environ: &[u8]) -> Option<String> {
    let values =
        environ.split(|&b| b == 0).filter_map(|e| e.strip_prefix(LEASE_VARIABLE.as_bytes())?.strip_prefix(b"="));
    // Where a variable is given twice, programs read the first.
    values.into_iter().next().and_then(|v| String::from_utf8(v.to_vec()).ok())
}

/// The lease of a group, `…/outlive-<domain>/<lease>`: of the last one, if agents run in each other's attempts.
fn lease_of_group(groups: &[u8]) -> Option<String> {
    let groups = std::str::from_utf8(groups).ok()?;
    groups.lines().find_map(|line| {
        let (_, of) = line.rsplit_once(&format!("/{}", super::cgroup::FOLDER))?;
        let mut parts = of.split('/');
        Some(format!("{}.{}", parts.next()?, parts.next()?))
    })
}

/// Processes and threads of this process's user.
#[must_use]
pub fn own_users_threads() -> u64 {
    let user = rustix::process::getuid().as_raw().to_string();
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let threads = |name: std::ffi::OsString| {
        let status = fs::read_to_string(std::path::Path::new("/proc").join(name).join("status")).ok()?;
        let of = |field: &str| status.lines().find_map(|l| l.strip_prefix(field)?.split_ascii_whitespace().next());
        (of("Uid:")? == user).then(|| of("Threads:")?.parse::<u64>().ok()).flatten()
    };
    names.filter_map(|e| threads(e.file_name())).sum()
}

/// Sends `signal` to every process that `wanted` recognises, once. How many.
pub fn signal_all(signal: Signal, wanted: impl Fn(&Process) -> bool) -> usize {
    let own = own();
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = names.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|&pid| pid > 1 && Some(pid) != own)
        .filter_map(Folder::open)
        .filter(|folder| folder.process().is_some_and(|p| wanted(&p)) && folder.signal(signal))
        .count()
}

/// This process's number, as `/proc` shows it.
fn own() -> Option<i32> {
    fs::read_link("/proc/self").ok()?.to_str()?.parse().ok()
}

/// The session of this process, as `/proc` shows it: 0 if its leader is in another PID namespace, as it is for what is
/// started inside a container from outside.
#[must_use]
pub fn own_session() -> i32 {
    own().and_then(read).map_or(0, |p| p.session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let process = read(own().unwrap()).unwrap();
        assert_eq!((process.session, process.is_stopped()), (own_session(), false));
        assert_eq!(read(-5), None);
    }

    #[test]
    fn the_lease_is_a_whole_entry_of_the_environment() {
        assert_eq!(lease_in(b"A=1\0OUTLIVE_LEASE=a.b.c.1\0B=2\0"), Some("a.b.c.1".to_owned()));
        assert_eq!(lease_of_group(b"9:pids:/a/outlive-x.y/r.1\n0::/\n"), Some("x.y.r.1".to_owned()));
        assert_eq!(lease_of_group(b"0::/outlive-a.b/r.1/below/outlive-x.y/r.2/c\n"), Some("x.y.r.2".to_owned()));
        assert_eq!(lease_of_group(b"9:pids:/outlive-agent\n0::/\n"), None);
        assert_eq!(lease_in(b"XOUTLIVE_LEASE=a\0OUTLIVE_LEASE_X=b\0"), None);
    }
}
