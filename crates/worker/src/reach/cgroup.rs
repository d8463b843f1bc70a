//! Control groups, version 2: a group per lease, in a folder per agent, below the agent's own group.
//!
//! No controller is needed to freeze and kill: that is in the core of version 2, so a group may be made anywhere where files
//! may be written. Limits need controllers, which a group with processes of its own does not hand down (but for the root): an
//! agent that is alone in a group which was delegated to it (`Delegate=yes` of systemd) moves into a group below.

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where version 2 is mounted, alone or beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// The beginning of a domain's folder.
pub(super) const FOLDER: &str = "outlive-";
/// Where an agent moves, in a group of its own.
const AGENT: &str = "outlive-agent";
/// What limits need.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// By what systemd marks a group that it leaves to somebody.
const DELEGATED: [&str; 2] = ["trusted.delegate", "user.delegate"];

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group(PathBuf);

impl Group {
    /// The group with this folder.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it, if it is not there, and opens what a child must write to in order to join it.
    ///
    /// # Errors
    /// If the machine does not allow it.
    pub fn make(&self) -> std::io::Result<OwnedFd> {
        fs::create_dir_all(&self.0)?;
        OpenOptions::new().write(true).open(self.0.join("cgroup.procs")).map(OwnedFd::from)
    }

    /// Freezes or thaws it. Made if it is not there, so that what joins it later stands still too.
    pub fn freeze(&self, frozen: bool) {
        if frozen {
            let _ = fs::create_dir_all(&self.0);
        }
        let _ = fs::write(self.0.join("cgroup.freeze"), if frozen { "1" } else { "0" });
    }

    /// SIGKILL to all that is in it and below. Whether anything was.
    #[must_use]
    pub fn kill(&self) -> bool {
        let populated = self.is_populated();
        if populated {
            let _ = fs::write(self.0.join("cgroup.kill"), "1");
        }
        populated
    }

    /// Whether a process that is not a zombie is in it or below.
    #[must_use]
    pub fn is_populated(&self) -> bool {
        fs::read_to_string(self.0.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"))
    }

    /// Removes it and what is below; nothing may be in it.
    pub fn remove(&self) {
        for below in folders(&self.0) {
            Self(below).remove();
        }
        let _ = fs::remove_dir(&self.0);
    }
}

pub(super) fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// The group in which this process is.
fn own() -> Option<PathBuf> {
    let mount = MOUNTS.iter().map(Path::new).find(|mount| mount.join("cgroup.controllers").exists())?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(mount.join(path))
}

/// Whether groups in a domain's folder can be limited.
pub(super) fn has_controllers(base: &Path) -> bool {
    let given = || {
        let given = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
        CONTROLLERS.iter().all(|c| given.split_ascii_whitespace().any(|g| g == *c))
    };
    if given() {
        return true;
    }
    let Some(own) = base.parent() else { return false };
    if enable_controllers(own).is_err() && may_move(own) {
        let agent = Group(own.join(AGENT));
        let moved = agent.make().and_then(|procs| Ok(rustix::io::write(procs, b"0")?));
        let _ = moved.and_then(|_| enable_controllers(own));
    }
    given()
}

/// Lets a group hand its controllers down.
pub(super) fn enable_controllers(group: &Path) -> std::io::Result<()> {
    let wanted = CONTROLLERS.map(|c| format!("+{c}")).join(" ");
    fs::write(group.join("cgroup.subtree_control"), wanted)
}

/// Whether a group is this process's alone, and was given to it.
fn may_move(group: &Path) -> bool {
    let alone =
        fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|p| p.trim() == std::process::id().to_string());
    let marked = DELEGATED.iter().any(|name| {
        let mut value = [0_u8; 4];
        rustix::fs::getxattr(group, *name, &mut value[..]).is_ok_and(|n| value[..n] == *b"1")
    });
    let user = rustix::process::geteuid();
    let is_owner = !user.is_root() && fs::metadata(group).is_ok_and(|m| m.uid() == user.as_raw());
    alone && (marked || is_owner)
}

/// Makes a domain's folder, if this machine lets its children join, freeze and be killed.
pub(super) fn prepare(prefix: &str) -> Option<PathBuf> {
    let base = own()?.join(format!("{FOLDER}{prefix}"));
    fs::create_dir(&base).ok()?;
    let probe = Group(base.join("probe"));
    let writable = |file: &str| File::options().write(true).open(probe.0.join(file)).is_ok();
    let joins = probe.make().is_ok_and(crate::sys::can_join);
    let usable = joins && writable("cgroup.freeze") && writable("cgroup.kill");
    probe.remove();
    if !usable {
        let _ = fs::remove_dir(&base);
    }
    usable.then_some(base)
}

/// Kills what is in the folders of earlier domains of a state folder, and removes them.
pub fn sweep(state_folder: &str) {
    let stale = format!("{FOLDER}{state_folder}.");
    super::hierarchy::sweep(&stale);
    let Some(own) = own() else { return };
    let is_stale = |p: &PathBuf| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&stale));
    for group in folders(&own).into_iter().filter(is_stale).map(Group) {
        super::until_nothing_is_left(|| group.kill());
        group.remove();
    }
}
