//! What the machine is, how long its disk takes, and where processor time goes.

use crate::exit::Failure;
use crate::stats::Spread;
use outlive_api::clock::{SystemClock, nanos};
use outlive_core::clock::Clock as _;
use std::io::Write as _;
use std::path::Path;

/// One line that says where and when a number was measured.
pub(super) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map_or("unknown processor", |m| m.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let build = if cfg!(debug_assertions) { "DEBUG build" } else { "release build" };
    let day = outlive_api::time::text(SystemClock.wall());
    format!(
        "{cores} × {cpu} · Linux {} · {build} {} · {}",
        kernel.trim(),
        crate::VERSION,
        day.get(..16).unwrap_or_default()
    )
}

/// 4 KiB written and synced, as a commit does it, in the folder where the database lies.
pub(crate) fn fsync(folder: &Path) -> Result<Spread, Failure> {
    const SYNCS: usize = 200;
    let mut file = tempfile::tempfile_in(folder)?;
    let page = [7; 4096];
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let before = nanos();
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(nanos() - before);
    }
    Ok(Spread::of_nanos(&times))
}

/// Resident bytes of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Its own: heap and stacks.
    pub(super) anonymous: u64,
    /// Pages of files that it has mapped: the kernel's cache, which is there without it.
    pub(super) file: u64,
    shared: u64,
}

impl Memory {
    pub(super) const fn resident(self) -> u64 {
        self.anonymous + self.file + self.shared
    }
}

/// As the kernel counts them now.
pub(super) fn memory(pid: u32) -> Memory {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kibibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let [anonymous, file, shared] = ["RssAnon:", "RssFile:", "RssShmem:"].map(|name| kibibytes(name) * 1024);
    Memory { anonymous, file, shared }
}

/// Seconds of processor time that a process has used, user and system.
pub(super) fn cpu_seconds(pid: u32) -> f64 {
    cpu(pid, 2)
}

/// The same, with its children: those that are there, and those that it has waited for.
pub(super) fn cpu_seconds_of_all(pid: u32) -> f64 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    cpu(pid, 4) + children.map(cpu_seconds).sum::<f64>()
}

/// The first of: user, system, and both of the children that were waited for.
fn cpu(pid: u32, times: usize) -> f64 {
    const TICKS: f64 = 100.0;
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    let Some((_, rest)) = text.rsplit_once(')') else { return 0.0 };
    let times = rest.split_whitespace().skip(11).take(times).filter_map(|n| n.parse::<u32>().ok());
    times.map(f64::from).sum::<f64>() / TICKS
}
