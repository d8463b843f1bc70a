//! What one attempt may use: memory and processes.
//!
//! | enforced by | memory | processes | known of a kill |
//! |---|---|---|---|
//! | cgroup v2, in the lease's group | `memory.max`, no swap, all of it is killed | `pids.max` | `memory.events`: `oom`, `oom_kill` |
//! | cgroup v1, a group per lease and hierarchy | `memory.limit_in_bytes`, one process is killed | `pids.max` | `memory.failcnt`, `oom_kill` |
//! | rlimits, set between fork and exec | `RLIMIT_AS`, for each process by itself: allocations fail | `RLIMIT_NPROC`, counted over the user, not for root | nothing |
//!
//! The first that works is taken, once, at the start of an agent. A lease without limits has no group of this kind. The kernel
//! counts a kill in the group of whoever it killed, also if the memory of the host, or of a group above, was at its end; only
//! a group that has reached *its* limit counts that too.

use super::cgroup::Group;
use super::hierarchy;
use outlive_core::resources::{Bytes, Resources};
use rustix::process::{Resource, Rlimit, getrlimit};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Swap of an attempt in version 1. Nearly none; but if memory and swap together were at their limit first, the kernel would
/// not count that the limit was reached.
const SWAP: u64 = 1 << 20;

/// By what limits of an attempt are enforced on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// Controllers of version 2.
    CgroupV2,
    /// Hierarchies of version 1.
    CgroupV1,
    /// Limits of each process.
    Rlimits,
}

impl Enforcement {
    /// By what an agent that is started like this process would enforce them. Makes a group and removes it.
    #[must_use]
    pub fn probe() -> Self {
        let domain = super::Domain::new(format!("probe.{:x}", std::process::id()), super::Mode::from_env());
        domain.remove_groups();
        domain.limiter.enforcement()
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CgroupV2 => "cgroup v2: memory and processes of an attempt are counted together",
            Self::CgroupV1 => "cgroup v1: memory and processes of an attempt are counted together",
            Self::Rlimits => {
                "rlimits, which are weaker: memory counts for each process by itself, processes over the whole user, and \
                 for root not at all"
            }
        })
    }
}

/// How limits are enforced, and where the groups for it are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limiter {
    /// In the groups of the domain.
    V2,
    /// In folders of its own; made with the first lease that needs one.
    V1 {
        /// In the hierarchy `memory`.
        memory: PathBuf,
        /// In the hierarchy `pids`.
        pids: PathBuf,
    },
    /// Without groups.
    Rlimits,
}

/// What a child does between fork and exec.
#[derive(Debug, Default)]
pub struct Confinement {
    /// The `cgroup.procs` files that it writes itself into.
    pub groups: Vec<OwnedFd>,
    /// Limits that it sets for itself.
    pub rlimits: Vec<(Resource, Rlimit)>,
}

/// Whether memory was at its end, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfMemory {
    /// Nobody's.
    No,
    /// The attempt had reached its own limit.
    Own,
    /// The kernel killed something of the attempt, which was within its limit: the host, or a group above, had no more.
    Above,
}

impl OutOfMemory {
    /// From the counts of a group: kills of anything in it, and how often its own limit was reached.
    #[must_use]
    pub const fn of(kills: u64, reached: u64) -> Self {
        match (kills, reached) {
            (0, _) => Self::No,
            (_, 0) => Self::Above,
            _ => Self::Own,
        }
    }
}

impl Limiter {
    /// The first that works. `v2`: the folder of the domain's groups.
    pub(super) fn find(prefix: &str, v2: Option<&Path>) -> Self {
        if v2.is_some_and(super::cgroup::has_controllers) {
            return Self::V2;
        }
        hierarchy::prepare(prefix).map_or(Self::Rlimits, |(memory, pids)| Self::V1 { memory, pids })
    }

    /// Its kind.
    #[must_use]
    pub const fn enforcement(&self) -> Enforcement {
        match self {
            Self::V2 => Enforcement::CgroupV2,
            Self::V1 { .. } => Enforcement::CgroupV1,
            Self::Rlimits => Enforcement::Rlimits,
        }
    }

    /// Prepares what a child of this lease joins. `own`: its group, in cgroup mode, in which it will be anyway.
    pub(super) fn confine(&self, lease: &str, own: Option<&Path>, wanted: Resources) -> io::Result<Confinement> {
        let mut confined = Confinement::default();
        match (self, own) {
            (Self::V2, Some(own)) => v2(own, wanted)?,
            (Self::V1 { memory, pids }, _) => {
                if let Some(limit) = wanted.memory {
                    confined.groups.push(v1_memory(&memory.join(lease), limit)?);
                }
                if let Some(limit) = wanted.pids {
                    let group = pids.join(lease);
                    confined.groups.push(Group::at(group.clone()).make()?);
                    fs::write(group.join("pids.max"), limit.to_string())?;
                }
            }
            (Self::V2, None) | (Self::Rlimits, _) => confined.rlimits = rlimits(wanted),
        }
        Ok(confined)
    }

    /// Whether the kernel killed something of this lease for memory.
    pub(super) fn out_of_memory(&self, lease: &str, own: Option<&Path>) -> OutOfMemory {
        match (self, own) {
            (Self::V2, Some(own)) => {
                let events = fs::read_to_string(own.join("memory.events")).unwrap_or_default();
                OutOfMemory::of(field(&events, "oom_kill"), field(&events, "oom"))
            }
            (Self::V1 { memory, .. }, _) => {
                let read = |file: &str| fs::read_to_string(memory.join(lease).join(file)).unwrap_or_default();
                let count = |file: &str| read(file).trim().parse().unwrap_or(0_u64);
                OutOfMemory::of(field(&read("memory.oom_control"), "oom_kill"), count("memory.failcnt"))
            }
            _ => OutOfMemory::No,
        }
    }

    /// Removes the groups of one lease, or, without one, of all; nothing may be in them.
    pub(super) fn remove(&self, lease: Option<&str>) {
        if let Self::V1 { memory, pids } = self {
            for base in [memory, pids] {
                let group = lease.map_or_else(|| base.clone(), |lease| base.join(lease));
                Group::at(group).remove();
            }
        }
    }
}

fn v2(group: &Path, wanted: Resources) -> io::Result<()> {
    super::cgroup::enable_controllers(group.parent().unwrap_or(group))?;
    if let Some(Bytes(memory)) = wanted.memory {
        fs::write(group.join("memory.max"), memory.to_string())?;
        fs::write(group.join("memory.oom.group"), "1")?;
        // Not there where the kernel does not count swap.
        let _ = fs::write(group.join("memory.swap.max"), "0");
    }
    wanted.pids.map_or(Ok(()), |pids| fs::write(group.join("pids.max"), pids.to_string()))
}

fn v1_memory(group: &Path, Bytes(limit): Bytes) -> io::Result<OwnedFd> {
    let procs = Group::at(group.to_owned()).make()?;
    fs::write(group.join("memory.limit_in_bytes"), limit.to_string())?;
    // Memory and swap together. Not there where the kernel does not count swap.
    let _ = fs::write(group.join("memory.memsw.limit_in_bytes"), limit.saturating_add(SWAP).to_string());
    Ok(procs)
}

fn rlimits(wanted: Resources) -> Vec<(Resource, Rlimit)> {
    // Nobody but root may ask for more than there is already.
    let both = |resource: Resource, n: u64| {
        let n = getrlimit(resource).maximum.map_or(n, |most| n.min(most));
        (resource, Rlimit { current: Some(n), maximum: Some(n) })
    };
    let memory = wanted.memory.map(|Bytes(n)| both(Resource::As, n));
    // The kernel counts the whole user: as many more as there are now.
    let pids = wanted.pids.map(|n| both(Resource::Nproc, n.saturating_add(super::procfs::own_users_threads())));
    memory.into_iter().chain(pids).collect()
}

/// `name value`, on a line of its own.
fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|v| v.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Resources = Resources { memory: Some(Bytes(1 << 20)), pids: Some(7) };

    /// A folder of files stands for a group: it shows what is written and how counts are read, where no controller is.
    #[test]
    fn version_2_limits_the_leases_own_group_and_counts_its_own_limit_apart() {
        let base = tempfile::tempdir().unwrap();
        let group = base.path().join("lease");
        fs::create_dir(&group).unwrap();
        let confined = Limiter::V2.confine("lease", Some(&group), WANTED).unwrap();
        assert!(confined.groups.is_empty() && confined.rlimits.is_empty(), "it is in its group anyway");
        let read = |file: &str| fs::read_to_string(group.join(file)).unwrap();
        let files = ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max"];
        assert_eq!(files.map(read), ["1048576", "0", "1", "7"]);
        assert_eq!(fs::read_to_string(base.path().join("cgroup.subtree_control")).unwrap(), "+memory +pids");
        let counts = |oom, kills| {
            let events = format!("low 0\nhigh 0\nmax 9\noom {oom}\noom_kill {kills}\noom_group_kill 0\n");
            fs::write(group.join("memory.events"), events).unwrap();
            Limiter::V2.out_of_memory("lease", Some(&group))
        };
        assert_eq!([counts(0, 0), counts(1, 0)], [OutOfMemory::No; 2]);
        assert_eq!([counts(1, 3), counts(0, 3)], [OutOfMemory::Own, OutOfMemory::Above]);
    }

    #[test]
    fn rlimits_are_weaker_and_the_sentence_says_so() {
        let confined = Limiter::Rlimits.confine("lease", None, WANTED).unwrap();
        let [(Resource::As, memory), (Resource::Nproc, pids)] = &confined.rlimits[..] else { panic!("two limits") };
        assert_eq!(memory.current, Some(1 << 20));
        assert!(pids.current.is_some_and(|n| n > 7), "this process counts as well");
        assert_eq!(Limiter::Rlimits.out_of_memory("lease", None), OutOfMemory::No);
        assert!(Enforcement::Rlimits.to_string().contains("weaker"));
    }
}
