//! Where PostgreSQL's programs are, and as whom they run.

use crate::Failure;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Debian, Fedora and Homebrew keep the servers of each version.
const FOLDERS: &[&str] = &["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt/postgresql"];
/// Users that may run a server when we are root.
const USERS: &[&str] = &["postgres", "nobody"];

/// The folder of `initdb`, `postgres` and `psql`: the newest version of the system, else what `PATH` has.
pub(crate) fn folder() -> Result<PathBuf, Failure> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for parent in FOLDERS {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let bin = entry.path().join("bin");
            let version = entry.file_name().to_string_lossy().parse();
            if let (Ok(version), true) = (version, bin.join("initdb").is_file()) {
                found.push((version, bin));
            }
        }
    }
    if let Some((_, bin)) = found.into_iter().max() {
        return Ok(bin);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file());
    in_path.ok_or_else(|| "PostgreSQL's server is not installed (Debian: `apt-get install postgresql`)".to_owned())
}

/// A user whom PostgreSQL accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// As whom servers run: none, ourselves.
pub(crate) fn user() -> Result<Option<User>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = USERS.iter().find_map(|name| users.lines().find_map(|line| read_user(line, name)));
    found
        .map(Some)
        .ok_or_else(|| format!("PostgreSQL does not run as root, and there is no user {}", USERS.join(" or ")))
}

/// `name:x:uid:gid:…`
fn read_user(line: &str, name: &str) -> Option<User> {
    let mut fields = line.split(':');
    let is_it = fields.next()? == name;
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    is_it.then_some(User { uid, gid })
}

/// A program that runs as such a user and gets SIGINT when the thread that started it is gone.
pub(crate) fn command(program: &Path) -> Result<Command, Failure> {
    command_that_gets(program, "INT")
}

/// The same with another signal, for what may be stopped and would not take SIGINT then.
pub(crate) fn command_that_gets(program: &Path, signal: &str) -> Result<Command, Failure> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal]);
    if let Some(User { uid, gid }) = user()? {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
    }
    // Not ours: another user may not read it.
    command.arg("--").arg(program).stdin(Stdio::null()).env("HOME", "/nonexistent");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    Ok(command)
}

/// Gives a file or folder to the user of servers.
pub(crate) fn give(path: &Path) -> Result<(), Failure> {
    match user()? {
        None => Ok(()),
        Some(User { uid, gid }) => std::os::unix::fs::chown(path, Some(uid), Some(gid))
            .map_err(|error| format!("{} cannot be given to PostgreSQL's user: {error}", path.display())),
    }
}

/// Runs a program to its end; what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String, Failure> {
    run_with(command, "")
}

/// The same, with a text to read.
pub(crate) fn run_with(command: &mut Command, input: &str) -> Result<String, Failure> {
    let name = command.get_args().find(|arg| arg.to_string_lossy().contains('/')).unwrap_or(command.get_program());
    let name = name.to_string_lossy().into_owned();
    let lost = |error: std::io::Error| format!("{name} cannot be run: {error}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(lost)?;
    let (stdin, input) = (child.stdin.take(), input.to_owned());
    // Beside the reading of what it prints: neither waits for the other. What it does not read it does not need.
    let writer = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().map_err(lost)?;
    drop(writer.join());
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_users_is_read() {
        let line = "postgres:x:107:113:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash";
        assert_eq!(read_user(line, "postgres"), Some(User { uid: 107, gid: 113 }));
        assert_eq!(read_user(line, "nobody"), None);
        assert_eq!(read_user("", "nobody"), None);
    }
}
