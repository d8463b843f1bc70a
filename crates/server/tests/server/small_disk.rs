//! A disk that is really full, really read-only: a tmpfs of a given size in a mount namespace of the test's own. The test runs
//! itself again inside; nothing of it is left when it ends.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How a mount namespace can be had: as root, with a user namespace, or by asking root.
const WAYS: [&[&str]; 3] = [
    &["unshare", "--mount"],
    &["unshare", "--user", "--map-root-user", "--mount"],
    &["sudo", "-n", "--preserve-env", "unshare", "--mount"],
];
const INSIDE: &str = "OUTLIVE_TEST_DISK";

fn way() -> &'static [&'static str] {
    let works = |way: &&&[&str]| {
        let mut command = Command::new(way[0]);
        let mounted = command.args(&way[1..]).args(["sh", "-c", "mount -t tmpfs none /mnt"]).stderr(Stdio::null());
        mounted.status().is_ok_and(|s| s.success())
    };
    WAYS.iter().find(works).expect("unshare and mount, as root, with user namespaces, or with passwordless sudo")
}

/// Inside: the disk. Outside: runs `test` (its full name) inside and checks that it passed; then there is nothing to do.
pub(crate) fn of(test: &str, size: &str) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(INSIDE) {
        return Some(disk.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let way = way();
    let script = format!("mount -t tmpfs -o size={size},mode=0777 none \"$1\" && shift && exec \"$@\"");
    let output = Command::new(way[0])
        .args(&way[1..])
        .args(["sh", "-c", &script, "sh"])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let also = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{also}");
    None
}

/// Mounts a path over itself, for reading only.
pub(crate) fn read_only(path: &std::path::Path) {
    for arguments in [&["--bind"][..], &["-o", "remount,bind,ro"]] {
        let mut command = Command::new("mount");
        command.args(arguments);
        if arguments[0] == "--bind" {
            command.arg(path);
        }
        assert!(command.arg(path).status().unwrap().success(), "{arguments:?}");
    }
}

/// Makes the disk larger.
pub(crate) fn resize(disk: &std::path::Path, size: &str) {
    let options = format!("remount,size={size}");
    assert!(Command::new("mount").args(["-o", &options]).arg(disk).status().unwrap().success());
}
