//! A process that gets a twentieth of a core: a quota of its control group where one can be made, else stopped 95 ms of 100.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Of each 100 ms.
const RUNS: Duration = Duration::from_millis(5);
const STANDS: Duration = Duration::from_millis(95);

/// Ends when it is dropped; the process then gets what it wants again.
#[derive(Debug)]
pub(in super::super) enum Share {
    /// By its group.
    Quota { pid: u32, group: PathBuf, home: PathBuf },
    /// By signals.
    Signals { over: Arc<AtomicBool>, thread: Option<JoinHandle<()>> },
}

impl Share {
    /// A twentieth of a core for this process, from now on.
    pub(in super::super) fn of(pid: u32) -> Result<Self, String> {
        match quota(pid) {
            Some(share) => Ok(share),
            None => signals(pid),
        }
    }

    /// How it is done.
    pub(in super::super) const fn means(&self) -> &'static str {
        match self {
            Self::Quota { .. } => "a quota of its control group",
            Self::Signals { .. } => "SIGSTOP 95 ms, SIGCONT 5 ms",
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        match self {
            Self::Quota { pid, group, home } => {
                let _ = fs::write(home.join("cgroup.procs"), pid.to_string());
                let _ = fs::remove_dir(group);
            }
            Self::Signals { over, thread } => {
                over.store(true, Ordering::Relaxed);
                let _ = thread.take().map(JoinHandle::join);
            }
        }
    }
}

/// A group below the process's own: version 1 of the controller, or version 2.
fn quota(pid: u32) -> Option<Share> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let (root, file, value) = match controllers {
            "" => ("/sys/fs/cgroup", "cpu.max", "5000 100000"),
            _ if controllers.split(',').any(|c| c == "cpu") => ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "5000"),
            _ => return None,
        };
        let home = Path::new(root).join(path);
        let group = home.join(format!("chaos-{pid}"));
        fs::create_dir(&group).ok()?;
        let set =
            fs::write(group.join(file), value).and_then(|()| fs::write(group.join("cgroup.procs"), pid.to_string()));
        if set.is_err() {
            let _ = fs::remove_dir(&group);
            return None;
        }
        Some(Share::Quota { pid, group, home })
    })
}

fn signals(pid: u32) -> Result<Share, String> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("no such process")?;
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    let thread = std::thread::Builder::new().name("share".to_owned()).spawn(move || {
        while !seen.load(Ordering::Relaxed) && kill_process(process, Signal::STOP).is_ok() {
            std::thread::sleep(STANDS);
            let _ = kill_process(process, Signal::CONT);
            std::thread::sleep(RUNS);
        }
    });
    let thread = thread.map_err(|e| format!("no thread: {e}"))?;
    Ok(Share::Signals { over, thread: Some(thread) })
}
