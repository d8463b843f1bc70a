//! Control groups, version 1: the hierarchies `memory` and `pids`, wherever they are mounted.

use super::cgroup::{FOLDER, Group, folders};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// The folders of a domain in both hierarchies, if groups in them can be limited and joined. They are not made yet.
pub(super) fn prepare(prefix: &str) -> Option<(PathBuf, PathBuf)> {
    let [memory, pids] = CONTROLLERS.map(|c| own(c).map(|own| own.join(format!("{FOLDER}{prefix}"))));
    let (memory, pids) = (memory?, pids?);
    let usable = works(&memory, "memory.limit_in_bytes") && works(&pids, "pids.max");
    usable.then_some((memory, pids))
}

fn works(base: &Path, limit: &str) -> bool {
    let group = base.join("probe");
    let joins = Group::at(group.clone()).make().is_ok_and(crate::sys::can_join);
    let works = joins && File::options().write(true).open(group.join(limit)).is_ok();
    Group::at(base.to_owned()).remove();
    works
}

/// Removes what earlier domains whose name begins with `stale` have left; nothing may be in it.
pub(super) fn sweep(stale: &str) {
    for own in CONTROLLERS.iter().filter_map(|c| own(c)) {
        let is_stale = |p: &PathBuf| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(stale));
        folders(&own).into_iter().filter(is_stale).for_each(|folder| Group::at(folder).remove());
    }
}

/// The folder of the group in which this process is.
fn own(controller: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    find(controller, &mounts, &groups)
}

fn find(controller: &str, mounts: &str, groups: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|name| name == controller);
    let path = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        has(controllers).then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let is_it = system.starts_with("cgroup ") && system.rsplit(' ').next().is_some_and(has);
        let mut fields = mount.split(' ').skip(3).filter(|_| is_it);
        // A mount may show a part of the hierarchy alone: what is above is not there.
        let (root, point) = (fields.next()?, fields.next()?);
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        Some(Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_below_its_mount() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup/unified rw shared:3 - cgroup2 cgroup2 rw\n\
                      31 24 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:4 - cgroup cgroup rw,memory\n\
                      32 24 0:28 /docker/abc /sys/fs/cgroup/cpu,pids ro - cgroup cgroup rw,cpu,pids\n";
        let groups = "4:memory:/a/b\n3:cpu,pids:/docker/abc/d\n0::/\n";
        assert_eq!(find("memory", mounts, groups), Some("/sys/fs/cgroup/memory/a/b".into()));
        assert_eq!(find("pids", mounts, groups), Some("/sys/fs/cgroup/cpu,pids/d".into()));
        assert_eq!(find("freezer", mounts, groups), None);
        assert_eq!(find("memory", mounts, "0::/\n"), None, "all controllers are in version 2");
    }
}
