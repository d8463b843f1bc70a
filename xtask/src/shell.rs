//! Commands and stages.

use crate::clock::Since;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Why a task did not succeed, as a lower-case fragment.
pub(crate) type Failure = String;
/// What a task comes to.
pub(crate) type Done<T = ()> = Result<T, Failure>;

/// Variables by which a test could find a service that happens to run, or somebody's settings. No test sees them.
/// (What cargo says of this program to it would be taken for a change by build scripts that ask for it, and a third of the libraries built
/// again whenever commands of xtask and of cargo take turns.)
const FOREIGN: &[&str] =
    &["OUTLIVE_", "PG", "DATABASE_URL", "POSTGRES", "REDIS", "NATS", "CARGO_PKG_", "CARGO_MANIFEST_"];
/// How often to look whether a command with a time limit has ended.
const LOOK: Duration = Duration::from_millis(100);

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The cargo that started this program.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Whether nobody watches.
pub(crate) fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|v| !v.is_empty() && v != "false")
}

/// The first line that a command prints, if it can be run and succeeds.
pub(crate) fn first_line(program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).current_dir(root()).stdin(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

/// A command in the workspace: cargo's, or a program that cargo has built.
pub(crate) struct Cargo(Command);

impl Cargo {
    pub(crate) fn new<'a>(args: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of(Command::new(cargo())).args(args)
    }

    /// A program of the workspace that is built already. (`cargo run --package` would build its libraries again, with
    /// the features that this package alone asks for.)
    pub(crate) fn built(name: &str) -> Self {
        let own = env::current_exe().unwrap_or_default();
        Self::of(Command::new(own.with_file_name(name)))
    }

    fn of(mut command: Command) -> Self {
        command.current_dir(root()).stdin(Stdio::null());
        for (name, _) in env::vars_os() {
            if is_foreign(&name.to_string_lossy()) {
                command.env_remove(name);
            }
        }
        Self(command)
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs it to its end; its output is this program's.
    pub(crate) fn run(mut self) -> Done {
        let status = self.0.status().map_err(|e| format!("{} cannot be run: {e}", self.name()))?;
        if status.success() { Ok(()) } else { Err(format!("{} failed ({status})", self.name())) }
    }

    /// Starts it, with its standard input and output in our hands.
    pub(crate) fn held(mut self) -> Done<Child> {
        let started = self.0.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        started.map_err(|e| format!("{} cannot be run: {e}", self.name()))
    }

    /// The same, but it is ended after `limit`.
    pub(crate) fn run_for(mut self, limit: Duration) -> Done {
        let mut child = self.0.spawn().map_err(|e| format!("{} cannot be run: {e}", self.name()))?;
        let begun = Since::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("{} failed ({status})", self.name())),
                Ok(None) if begun.passed() < limit => thread::sleep(LOOK),
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("{} took more than {} s", self.name(), limit.as_secs()));
                }
                Err(e) => return Err(format!("{} was lost: {e}", self.name())),
            }
        }
    }

    /// What it prints.
    pub(crate) fn text(mut self) -> Done<String> {
        let output = self.0.stderr(Stdio::inherit()).output().map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(format!("{} failed ({})", self.name(), output.status));
        }
        String::from_utf8(output.stdout).map_err(|_| format!("{} printed something that is no text", self.name()))
    }

    /// Runs it, passes its lines on, and shows each to `seen`.
    pub(crate) fn each_line(mut self, mut seen: impl FnMut(&str)) -> Done {
        let mut child =
            self.0.stdout(Stdio::piped()).spawn().map_err(|e| format!("{} cannot be run: {e}", self.name()))?;
        if let Some(out) = child.stdout.take() {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                println!("{line}");
                seen(&line);
            }
        }
        let status = child.wait().map_err(|e| e.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("{} failed ({status})", self.name())) }
    }

    fn name(&self) -> String {
        let args: Vec<_> = self.0.get_args().take(2).map(|a| a.to_string_lossy().into_owned()).collect();
        let program = Path::new(self.0.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("`{program} {}`", args.join(" "))
    }
}

fn is_foreign(name: &str) -> bool {
    FOREIGN.iter().any(|prefix| name.starts_with(prefix))
}

/// Runs one stage and prints how long it took.
pub(crate) fn stage<T>(name: &str, work: impl FnOnce() -> Done<T>) -> Done<T> {
    eprintln!("── {name}");
    let begun = Since::now();
    let done = work();
    let verdict = if done.is_ok() { "" } else { ", failed" };
    eprintln!("── {name}: {:.1} s{verdict}", begun.passed().as_secs_f64());
    let _ = io::stderr().flush();
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_does_not_see_where_services_are() {
        for name in ["PGHOST", "DATABASE_URL", "REDIS_URL", "NATS_URL", "OUTLIVE_SERVER"] {
            assert!(is_foreign(name), "{name}");
        }
        for name in ["PATH", "HOME", "CARGO_TARGET_DIR", "CI"] {
            assert!(!is_foreign(name), "{name}");
        }
    }

    #[test]
    fn a_stage_hands_on_what_its_work_came_to() {
        assert_eq!(stage("good", || Ok(7)), Ok(7));
        assert_eq!(stage("bad", || Err::<(), _>("why".to_owned())), Err("why".to_owned()));
    }
}
