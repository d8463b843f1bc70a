//! The environment of a command: an allow-list of the agent's own, what the run names, what Outlive adds.

use std::collections::BTreeMap;
use std::ffi::OsString;

const ALLOWED: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "SHELL"];
const ALLOWED_PREFIX: &str = "LC_";

/// What commands inherit of this process's environment.
#[must_use]
pub(super) fn inherited() -> BTreeMap<OsString, OsString> {
    std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_allowed)).collect()
}

fn is_allowed(name: &str) -> bool {
    ALLOWED.contains(&name) || name.starts_with(ALLOWED_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_the_agent_are_not_inherited() {
        assert!(["PATH", "HOME", "LC_ALL", "TZ"].into_iter().all(is_allowed));
        assert!(!["OUTLIVE_TOKEN", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "PATHS"].into_iter().any(is_allowed));
    }
}
