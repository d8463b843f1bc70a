//! Everything that a lease has started, and how to freeze, thaw and kill it.
//!
//! ```text
//!   <folder>.<instance>              one start of one agent: its domain
//!   <folder>.<instance>.<run>.<epoch>    one lease: the value of OUTLIVE_LEASE in every process that it starts
//! ```
//!
//! | mode | finds | freezes by | kills by |
//! |---|---|---|---|
//! | cgroup v2, a group per lease | all descendants, whatever they do | `cgroup.freeze` | `cgroup.kill` |
//! | signals | the process group, and every process that carries the variable | SIGSTOP, again until a pass finds nothing new | SIGKILL, likewise |
//!
//! Limits of what a lease may use: see [`limits`]. Its groups for that, if it has some, name it too: in the mode of signals
//! they find a process that has left its group, its session and its environment behind.
//!
//! A process is only ever signalled through a descriptor that was opened before it was recognised, so that a number that has
//! been reused cannot be hit. A process group is signalled by its number only while its leader is not reaped.

pub mod cgroup;
mod hierarchy;
pub mod limits;
pub mod procfs;

use cgroup::Group;
use limits::{Confinement, Limiter, OutOfMemory};
use outlive_core::resources::Resources;
use outlive_core::{Epoch, LeaseRef, RunId};
use procfs::Process;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The variable that every process of a lease carries.
pub const LEASE_VARIABLE: &str = "OUTLIVE_LEASE";
/// The first pause between two passes of a kill, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
/// The longest one: a process that waits for a disk cannot be hurried.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// How work is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By control groups where they can be made.
    #[default]
    Auto,
    /// By signals; limits by control groups of version 1 where they can be made.
    Signals,
    /// By signals, without any control group.
    NoGroups,
}

impl Mode {
    /// `OUTLIVE_ISOLATION` is `signals`, `no-groups`, or nothing.
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var("OUTLIVE_ISOLATION").as_deref() {
            Ok("signals") => Self::Signals,
            Ok("no-groups") => Self::NoGroups,
            _ => Self::Auto,
        }
    }
}

/// All leases of one start of one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// `<folder>.<instance>`.
    pub prefix: String,
    /// The session of the agent: its attempts' groups are in it.
    pub session: i32,
    /// The folder of its groups, in cgroup mode.
    pub cgroup: Option<PathBuf>,
    /// How its leases are limited.
    pub limiter: Limiter,
}

impl Domain {
    /// A domain of this process; its folder of groups is made if the machine allows.
    #[must_use]
    pub fn new(prefix: String, mode: Mode) -> Self {
        let session = procfs::own_session();
        let cgroup = (mode == Mode::Auto).then(|| cgroup::prepare(&prefix)).flatten();
        let limiter = if mode == Mode::NoGroups { Limiter::Rlimits } else { Limiter::find(&prefix, cgroup.as_deref()) };
        Self { prefix, session, cgroup, limiter }
    }

    /// The value of the variable for a lease.
    #[must_use]
    pub fn id(&self, lease: LeaseRef) -> String {
        format!("{}.{}", self.prefix, name(lease))
    }

    /// The lease's group, in cgroup mode.
    #[must_use]
    pub fn group(&self, lease: LeaseRef) -> Option<Group> {
        self.cgroup.as_ref().map(|base| Group::at(base.join(name(lease))))
    }

    /// Prepares what a child of this lease joins and sets for itself, before it runs anything.
    ///
    /// # Errors
    /// If a group cannot be made or limited.
    pub fn confine(&self, lease: LeaseRef, wanted: Resources) -> std::io::Result<Confinement> {
        let own = self.group(lease);
        let procs = own.as_ref().map(Group::make).transpose()?;
        let mut confined = if wanted.is_unlimited() {
            Confinement::default()
        } else {
            self.limiter.confine(&name(lease), own.as_ref().map(Group::path), wanted)?
        };
        // The last one: in a group that stands still the child stands still too.
        confined.groups.extend(procs);
        Ok(confined)
    }

    /// Whether the kernel killed something of this lease for memory.
    #[must_use]
    pub fn out_of_memory(&self, lease: LeaseRef) -> OutOfMemory {
        self.limiter.out_of_memory(&name(lease), self.group(lease).as_ref().map(Group::path))
    }

    /// Removes the groups of a lease of which nothing is left.
    pub fn remove(&self, lease: LeaseRef, limits: Resources) {
        if let Some(group) = self.group(lease) {
            group.remove();
        }
        if !limits.is_unlimited() {
            self.limiter.remove(Some(&name(lease)));
        }
    }

    /// Freezes or thaws leases, each with its process group. Whether a process was found that was not in that state yet.
    #[must_use]
    pub fn set_frozen(&self, leases: &BTreeMap<LeaseRef, Option<i32>>, frozen: bool) -> bool {
        if self.cgroup.is_some() {
            for group in leases.keys().filter_map(|&lease| self.group(lease)) {
                group.freeze(frozen);
            }
            return false;
        }
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        // A stop may be on its way to a process that does not show it yet: all are told to go on.
        let is_due = |p: &Process| !(frozen && p.is_stopped());
        self.signal(leases, signal, is_due) > 0
    }

    /// SIGKILL to everything of these leases, again until nothing is left.
    pub fn kill(&self, leases: &BTreeMap<LeaseRef, Option<i32>>) {
        until_nothing_is_left(|| self.kill_once(leases));
    }

    /// One pass: SIGKILL to what is there of these leases. Whether anything was.
    #[must_use]
    pub fn kill_once(&self, leases: &BTreeMap<LeaseRef, Option<i32>>) -> bool {
        if self.cgroup.is_none() {
            return self.signal(leases, Signal::KILL, |_| true) > 0;
        }
        leases.keys().filter_map(|&lease| self.group(lease)).filter(Group::kill).count() > 0
    }

    /// Kills everything that this domain has started, tracked or not, and removes its groups.
    pub fn kill_everything(&self) {
        kill_prefix(&format!("{}.", self.prefix));
        if let Some(base) = &self.cgroup {
            let group = Group::at(base.clone());
            until_nothing_is_left(|| group.kill());
        }
        self.remove_groups();
    }

    /// Removes all groups; nothing may be in them.
    pub(crate) fn remove_groups(&self) {
        if let Some(base) = &self.cgroup {
            Group::at(base.clone()).remove();
        }
        self.limiter.remove(None);
    }

    fn signal(
        &self,
        leases: &BTreeMap<LeaseRef, Option<i32>>,
        signal: Signal,
        is_due: impl Fn(&Process) -> bool,
    ) -> usize {
        let is_ours = |p: &Process| {
            let named = p.lease.as_deref().and_then(|id| self.lease_of(id)).is_some_and(|l| leases.contains_key(&l));
            let grouped = p.session == self.session && leases.values().any(|g| *g == Some(p.group));
            (named || grouped) && is_due(p)
        };
        procfs::signal_all(signal, is_ours)
    }

    fn lease_of(&self, id: &str) -> Option<LeaseRef> {
        parse_name(id.strip_prefix(&self.prefix)?.strip_prefix('.')?)
    }
}

/// Kills every process whose lease begins with `prefix`.
pub fn kill_prefix(prefix: &str) {
    let is_ours = |p: &Process| p.lease.as_ref().is_some_and(|id| id.starts_with(prefix));
    until_nothing_is_left(|| procfs::signal_all(Signal::KILL, is_ours) > 0);
}

fn until_nothing_is_left(mut pass: impl FnMut() -> bool) {
    let mut pause = FIRST_PAUSE;
    while pass() {
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// `<run>.<epoch>`.
#[must_use]
pub fn name(lease: LeaseRef) -> String {
    format!("{}.{}", lease.run_id, lease.epoch)
}

/// Reads what [`name`] wrote.
#[must_use]
pub fn parse_name(text: &str) -> Option<LeaseRef> {
    let (run, epoch) = text.split_once('.')?;
    Some(LeaseRef { run_id: run.parse::<RunId>().ok()?, epoch: Epoch(epoch.parse().ok()?) })
}
