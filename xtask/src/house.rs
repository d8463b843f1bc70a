//! The workspace as the rules see it: its sources, and who depends on whom.

use crate::shell::{Done, root};
use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Where things are promised.
const PROMISES: &[&str] = &["docs/guarantees.md", "docs/liveness.md"];

/// What the rules read.
#[derive(Clone, Debug, Default)]
pub(crate) struct House {
    /// Every `.rs` file of the workspace, in order of path.
    pub(crate) sources: Vec<Source>,
    /// From `Cargo.lock`: every package with what it names directly, for tests too.
    pub(crate) packages: BTreeMap<String, BTreeSet<String>>,
    /// `ARCHITECTURE.md`.
    pub(crate) architecture: String,
    /// Files in which something is promised, with their texts.
    pub(crate) promises: Vec<(&'static str, String)>,
}

impl House {
    /// This one.
    pub(crate) fn read() -> Done<Self> {
        let root = root();
        let mut sources = Vec::new();
        for folder in ["acceptance", "chaos", "crates", "sim", "xtask"] {
            walk(&root, &root.join(folder), &mut sources)?;
        }
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        let lock = read(&root.join("Cargo.lock"))?;
        let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap_or_default();
        let promises = PROMISES.iter().map(|file| Ok((*file, read(&root.join(file))?))).collect::<Done<_>>()?;
        Ok(Self { sources, packages: packages(&lock), architecture, promises })
    }

    /// Everything that a package needs, directly or through others.
    pub(crate) fn reach<'a>(&'a self, package: &'a str) -> BTreeSet<&'a str> {
        let mut seen = BTreeSet::new();
        let mut open = vec![package];
        while let Some(name) = open.pop() {
            let next = self.packages.get(name).into_iter().flatten();
            open.extend(next.map(String::as_str).filter(|n| seen.insert(*n)));
        }
        seen
    }
}

fn read(path: &Path) -> Done<String> {
    fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
}

fn walk(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> Done {
    let entries = fs::read_dir(folder).map_err(|e| format!("{} cannot be read: {e}", folder.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                walk(root, &path, sources)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            sources.push(Source::new(name, &read(&path)?));
        }
    }
    Ok(())
}

/// Packages of a lock file. Two versions of one name are one package here: a rule that forbids one forbids both.
pub(crate) fn packages(lock: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for block in lock.split("[[package]]").skip(1) {
        let Some(name) = block.lines().find_map(|l| l.strip_prefix("name = ")).map(|n| n.trim_matches('"')) else {
            continue;
        };
        let needs = packages.entry(name.to_owned()).or_default();
        let listed = block.split_once("dependencies = [").and_then(|(_, rest)| rest.split_once(']'));
        for line in listed.map(|(list, _)| list).unwrap_or_default().lines() {
            let entry = line.trim().trim_matches([',', '"']);
            needs.extend(entry.split(' ').next().filter(|n| !n.is_empty()).map(str::to_owned));
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4

[[package]]
name = "outlive-core"
version = "0.1.0"
dependencies = [
 "serde",
 "middle 1.0.0",
]

[[package]]
name = "middle"
version = "1.0.0"
dependencies = [
 "tokio",
]

[[package]]
name = "tokio"
version = "1.0.0"
"#;

    #[test]
    fn a_lock_file_tells_who_needs_whom() {
        let house = House { packages: packages(LOCK), ..House::default() };
        assert_eq!(house.packages["outlive-core"], ["middle".to_owned(), "serde".to_owned()].into());
        assert_eq!(house.reach("outlive-core"), ["middle", "serde", "tokio"].into());
        assert_eq!(house.reach("tokio"), [].into());
    }
}
