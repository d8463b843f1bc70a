//! A store's file, while no server has it open.

use super::file;
use super::finding::Finding;
use outlive_server::{StoreLocation, StoreState, examine};
use std::path::{Path, PathBuf};

/// Less than this, and the disk is full soon.
const FEW_BYTES: u64 = 2 << 30;

/// Where the file lies, or would.
pub(super) fn folder(location: &StoreLocation) -> PathBuf {
    let parent = file(location).and_then(|path| path.parent()).filter(|p| !p.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

pub(super) fn findings(location: &StoreLocation, open_by_server: bool) -> Vec<Finding> {
    let Some(path) = file(location) else { return Vec::new() };
    let mut findings = vec![space(&folder(location))];
    if !open_by_server {
        findings.push(judge(path, &examine(location)));
    }
    findings
}

fn space(folder: &Path) -> Finding {
    match rustix::fs::statvfs(folder) {
        Ok(stat) => judge_space(stat.f_bavail.saturating_mul(stat.f_frsize), folder),
        Err(e) => Finding::problem(
            "disk space",
            format!("{} cannot be read: {e}", folder.display()),
            "make the folder, or name another with --store",
        ),
    }
}

fn judge_space(free: u64, folder: &Path) -> Finding {
    let found = format!("{} MiB free in {}", free >> 20, folder.display());
    if free < FEW_BYTES {
        let advice =
            "make room: when the disk is nearly full new runs are refused, so that the work that there is can end";
        return Finding::warning("disk space", found, advice);
    }
    Finding::ok("disk space", found)
}

fn judge(path: &Path, state: &Result<StoreState, String>) -> Finding {
    let shown = path.display();
    match state {
        Ok(StoreState::None) => Finding::ok("store", format!("{shown} is not there yet; a server makes it")),
        Ok(StoreState::InUse) => Finding::ok("store", format!("{shown}: another process has it open")),
        Ok(StoreState::Sound { bytes, schema }) => {
            Finding::ok("store", format!("{shown}: sound, {} MiB, schema {schema}", bytes >> 20))
        }
        Ok(StoreState::Newer { schema, known }) => Finding::problem(
            "store",
            format!("{shown} has schema {schema}; this version knows {known}"),
            "start the newer version of outlive on it, or restore a copy",
        ),
        Ok(StoreState::Damaged(how)) => Finding::problem(
            "store",
            format!("{shown} is damaged: {how}"),
            "stop the server, keep the file and its -wal, and restore the last copy",
        ),
        Err(e) => Finding::problem(
            "store",
            e.clone(),
            "see that the file is a store of outlive and that this user may read it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_store_is_judged_by_its_file() {
        let verdict = |state| judge(Path::new("a.db"), &state).verdict;
        assert_eq!(verdict(Ok(StoreState::None)), Verdict::Ok);
        assert_eq!(verdict(Ok(StoreState::Sound { bytes: 1, schema: 1 })), Verdict::Ok);
        assert_eq!(verdict(Ok(StoreState::Newer { schema: 9, known: 1 })), Verdict::Problem);
        assert_eq!(verdict(Ok(StoreState::Damaged("x".into()))), Verdict::Problem);
        assert_eq!(verdict(Err("x".into())), Verdict::Problem);
    }

    #[test]
    fn little_room_is_warned_of() {
        assert_eq!(judge_space(1 << 30, Path::new("/")).verdict, Verdict::Warning);
        assert_eq!(judge_space(1 << 40, Path::new("/")).verdict, Verdict::Ok);
        assert_eq!(space(Path::new("/no/such")).verdict, Verdict::Problem);
    }
}
