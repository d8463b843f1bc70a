//! The machine: disk, clock, descriptors, control groups, the state folder.

use super::finding::Finding;
use crate::commands::bench::probe;
use crate::stats::{Spread, figure};
use outlive_worker::reach::limits::Enforcement;
use outlive_worker::reach::{Domain, Mode};
use rustix::process::{Resource, getrlimit};
use std::fs::File;
use std::path::Path;

/// Sockets of a thousand sessions, and the pipes and sockets of some hundred attempts.
const FILES: u64 = 4_096;
/// Above this a commit is felt: a claim takes two.
const SLOW_FSYNC_MS: f64 = 10.0;
/// Above this the store is at its limit with a few workers, and the judge often waits for it.
const USELESS_FSYNC_MS: f64 = 250.0;
/// Clock sources that cost a system call, or more, for each look.
const SLOW_CLOCKS: [&str; 3] = ["hpet", "acpi_pm", "refined-jiffies"];

pub(super) fn findings(folder: &Path, state_dir: &Path) -> Vec<Finding> {
    vec![disk(folder), clock(), files(), groups(), limits(), proc(), state_folder(state_dir)]
}

fn disk(folder: &Path) -> Finding {
    match probe::fsync(folder) {
        Ok(spread) => judge_disk(&spread, folder),
        Err(e) => Finding::problem(
            "disk",
            format!("nothing can be written in {}: {e}", folder.display()),
            "make it, or let this user write there, or name another with --store",
        ),
    }
}

fn judge_disk(spread: &Spread, folder: &Path) -> Finding {
    let found = format!("fsync p50 {}, p99 {} in {}", figure(spread.p50_ms), figure(spread.p99_ms), folder.display());
    if spread.p50_ms > USELESS_FSYNC_MS {
        return Finding::problem(
            "disk",
            found,
            "too slow for a store: use a local SSD; each answer waits for one fsync",
        );
    }
    if spread.p50_ms > SLOW_FSYNC_MS {
        return Finding::warning("disk", found, "each answer waits for one fsync: a local SSD would answer sooner");
    }
    Finding::ok("disk", found)
}

fn clock() -> Finding {
    let source = std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    judge_clock(source.unwrap_or_default().trim())
}

fn judge_clock(source: &str) -> Finding {
    let found = format!("source {}", if source.is_empty() { "unknown" } else { source });
    if SLOW_CLOCKS.contains(&source) {
        let advice = "each look at the clock costs microseconds; on a virtual machine ask for kvm-clock or tsc";
        return Finding::warning("clock source", found, advice);
    }
    Finding::ok("clock source", found)
}

fn files() -> Finding {
    let limit = getrlimit(Resource::Nofile);
    judge_files(limit.current, limit.maximum)
}

fn judge_files(soft: Option<u64>, hard: Option<u64>) -> Finding {
    let text = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    let found = format!("{} open files, at most {}", text(soft), text(hard));
    if soft.is_none_or(|n| n >= FILES) {
        return Finding::ok("open files", found);
    }
    let advice =
        format!("each session and each attempt needs some: ulimit -n {FILES}, or LimitNOFILE={FILES} in the unit");
    Finding::warning("open files", found, advice)
}

/// Makes a group, and removes it.
fn groups() -> Finding {
    let domain = Domain::new(format!("doctor.{}", std::process::id()), Mode::Auto);
    let made = domain.cgroup.is_some();
    domain.kill_everything();
    judge_groups(made)
}

fn judge_groups(made: bool) -> Finding {
    if made {
        return Finding::ok("control groups", "version 2: work is frozen and killed as a whole");
    }
    Finding::warning(
        "control groups",
        "none can be made here: work is frozen and killed by signals, found by its group and its OUTLIVE_LEASE variable",
        "let this user have a group: Delegate=yes in the worker's unit, or systemd-run --user --scope -p Delegate=yes",
    )
}

/// By what `--memory` and `--pids` of a run hold here.
fn limits() -> Finding {
    judge_limits(Enforcement::probe())
}

fn judge_limits(by: Enforcement) -> Finding {
    match by {
        Enforcement::CgroupV2 | Enforcement::CgroupV1 => Finding::ok("limits of runs", by.to_string()),
        Enforcement::Rlimits => Finding::warning(
            "limits of runs",
            by.to_string(),
            "give the worker a group with the controllers memory and pids: Delegate=yes in its unit",
        ),
    }
}

fn proc() -> Finding {
    let shown = std::fs::read_link("/proc/self").ok().and_then(|p| p.to_str()?.parse().ok());
    judge_proc(shown, std::process::id())
}

fn judge_proc(shown: Option<u32>, own: u32) -> Finding {
    match shown {
        Some(n) if n == own => Finding::ok("/proc", "shows this PID namespace"),
        Some(_) => Finding::warning(
            "/proc",
            "shows another PID namespace: without control groups, work that leaves its process group and clears its \
             environment is not found",
            "mount the right one: mount -t proc proc /proc",
        ),
        None => Finding::problem(
            "/proc",
            "is not there: a worker finds what its work has started there",
            "mount it: mount -t proc proc /proc",
        ),
    }
}

fn state_folder(path: &Path) -> Finding {
    let shown = path.display();
    let Ok(lock) = File::options().write(true).open(path.join("lock")) else {
        return match path.metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Finding::ok("state folder", format!("{shown} is not there yet; a worker makes it"))
            }
            Ok(found) if found.is_dir() && !path.join("lock").exists() => {
                Finding::ok("state folder", format!("{shown} has not been used yet"))
            }
            _ => Finding::problem(
                "state folder",
                format!("{shown} cannot be used by this user"),
                "let this user write there, or name another with --state-dir",
            ),
        };
    };
    match lock.try_lock() {
        Ok(()) => Finding::ok("state folder", format!("{shown} is free")),
        Err(std::fs::TryLockError::WouldBlock) => {
            Finding::ok("state folder", format!("{shown}: a worker runs with it"))
        }
        Err(std::fs::TryLockError::Error(e)) => Finding::problem(
            "state folder",
            format!("{shown} cannot be locked: {e}"),
            "use a local disk: two workers with one state folder would be one worker twice",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_disk_is_judged_by_its_usual_fsync() {
        let verdict = |p50_ms| judge_disk(&Spread { p50_ms, ..Spread::default() }, Path::new("/x")).verdict;
        assert_eq!([0.1, 12.0, 300.0].map(verdict), [Verdict::Ok, Verdict::Warning, Verdict::Problem]);
        assert_eq!(disk(Path::new("/no/such/folder")).verdict, Verdict::Problem);
        assert_eq!(disk(&std::env::temp_dir()).check, "disk");
    }

    #[test]
    fn few_descriptors_and_slow_clocks_are_warned_of() {
        assert_eq!(judge_files(Some(1_024), Some(4_096)).verdict, Verdict::Warning);
        assert_eq!(judge_files(None, None).verdict, Verdict::Ok);
        assert_eq!(judge_clock("hpet").verdict, Verdict::Warning);
        assert_eq!(judge_clock("kvm-clock").verdict, Verdict::Ok);
        assert_eq!(judge_groups(false).verdict, Verdict::Warning);
        let limits = [Enforcement::CgroupV2, Enforcement::CgroupV1, Enforcement::Rlimits].map(judge_limits);
        assert_eq!(limits.map(|f| f.verdict), [Verdict::Ok, Verdict::Ok, Verdict::Warning]);
        assert_eq!(
            [judge_proc(Some(1), 2), judge_proc(None, 2)].map(|f| f.verdict),
            [Verdict::Warning, Verdict::Problem]
        );
    }

    #[test]
    fn a_state_folder_is_missing_free_in_use_or_not_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &Path| state_folder(path);
        assert!(at(&folder.path().join("none")).found.contains("not there yet"));
        assert!(at(folder.path()).found.contains("not been used"));
        let lock = File::create(folder.path().join("lock")).unwrap();
        assert!(at(folder.path()).found.contains("free"));
        lock.lock().unwrap();
        assert!(at(folder.path()).found.contains("a worker runs with it"));
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(at(&file).verdict, Verdict::Problem);
    }

    #[test]
    fn an_examination_leaves_no_group_behind() {
        assert_ne!(groups().verdict, Verdict::Problem);
        let again = groups();
        assert_eq!(again, groups(), "its group could be made again: it had been removed");
    }
}
