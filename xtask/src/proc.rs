//! `/proc` for the tests. Where a runner made a PID namespace without mounting its `/proc`, the numbers there are other
//! processes', and tests that watch processes by number would watch those.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Set in what this starts, so that it starts only once.
const MOUNTED: &str = "OUTLIVE_XTASK_PROC";

/// Goes on with the `/proc` of this PID namespace: at once if it is there, else in a mount namespace that has it. Where
/// that is not allowed, nothing changes.
pub(crate) fn mount() {
    let shown = std::fs::read_link("/proc/self").ok().and_then(|p| p.to_str()?.parse().ok());
    if shown == Some(std::process::id()) || std::env::var_os(MOUNTED).is_some() {
        return;
    }
    let Ok(this) = std::env::current_exe() else { return };
    let allowed = Command::new("unshare").args(["--mount-proc", "true"]).status().is_ok_and(|s| s.success());
    if allowed {
        eprintln!("── /proc shows another PID namespace; going on with one that shows this one");
        let mut again = Command::new("unshare");
        again.arg("--mount-proc").arg(this).args(std::env::args_os().skip(1)).env(MOUNTED, "1");
        eprintln!("xtask: {}", again.exec());
    }
}
