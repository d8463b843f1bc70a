//! A real server and real workers from the built binary, on a free port, in a folder that goes with the test.

use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything may take on a busy machine.
const PATIENCE: usize = 6_000;
const GLANCE: Duration = Duration::from_millis(10);

/// The binary with no settings but those that the test gives.
pub(crate) fn outlive() -> Command {
    build(Path::new(env!("CARGO_BIN_EXE_outlive")))
}

/// The same of some build.
pub(crate) fn build(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("OUTLIVE_SERVER").env("OUTLIVE_CONFIG", "-").stdin(Stdio::null());
    command
}

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

pub(crate) struct House {
    pub(crate) folder: TempDir,
    pub(crate) url: String,
    pub(crate) server: Running,
    pub(crate) workers: Vec<(String, Running)>,
}

impl House {
    /// A server and this many workers, online.
    pub(crate) fn open(workers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (server, url) = serve(folder.path(), "127.0.0.1:0");
        let mut house = Self { folder, url, server, workers: Vec::new() };
        for number in 1..=workers {
            house.hire(&format!("w-{number}"));
        }
        house.until("the workers are online", |h| {
            let online =
                h.json(&["workers", "list"]).as_array().unwrap().iter().filter(|w| w["status"] == "online").count();
            online >= workers
        });
        house
    }

    pub(crate) fn hire(&mut self, name: &str) {
        self.hire_in(name, name);
    }

    /// A worker of this name in a state folder of another.
    pub(crate) fn hire_in(&mut self, name: &str, folder: &str) {
        let url = self.url.clone();
        self.hire_at(&url, name, folder);
    }

    /// A worker that knows the server by another address.
    pub(crate) fn hire_at(&mut self, url: &str, name: &str, folder: &str) {
        let log = std::fs::File::create(self.folder.path().join(format!("{folder}.log"))).unwrap();
        let state = self.folder.path().join(folder);
        let child = outlive()
            .args(["worker", "--server", url, "--name", name, "--allow-exec", "--state-dir"])
            .arg(state)
            .stderr(log)
            .spawn()
            .unwrap();
        self.workers.push((name.to_owned(), Running(child)));
    }

    pub(crate) fn worker(&self, name: &str) -> &Running {
        &self.workers.iter().find(|(n, _)| n == name).unwrap().1
    }

    /// A command line against this server.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = outlive();
        command.args(args).env("OUTLIVE_SERVER", &self.url).current_dir(self.folder.path());
        command
    }

    pub(crate) fn call(&self, args: &[&str]) -> Answer {
        Answer::of(&self.command(args).output().unwrap())
    }

    /// The answer as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let answer = self.call(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{args:?}: {e}: {answer:?}"))
    }

    pub(crate) fn show(&self, run: &str) -> Value {
        self.json(&["runs", "show", run])
    }

    /// Waits for a state, never for a moment.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..PATIENCE {
            if holds(self) {
                return;
            }
            std::thread::sleep(GLANCE);
        }
        panic!("did not come true: {what}");
    }

    /// For how many milliseconds the server could not have heard since it started.
    pub(crate) fn stood_still(&self) -> u64 {
        server(&self.url).judge.lag_ms
    }

    /// Starts a run; its id.
    pub(crate) fn start(&self, script: &str) -> String {
        let answer = self.call(&["run", "--detach", "--", "sh", "-c", script]);
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out.trim().to_owned()
    }
}

/// Looks until it holds; fails after half a minute.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        std::thread::sleep(GLANCE);
    }
    panic!("did not come true: {what}");
}

/// A server on this folder; its address.
pub(crate) fn serve(folder: &Path, listen: &str) -> (Running, String) {
    let store = format!("sqlite:{}", folder.join("outlive.db").display());
    let log = std::fs::File::options().create(true).append(true).open(folder.join("server.log")).unwrap();
    let mut child = outlive()
        .args(["server", "--store", &store, "--listen", listen, "--low-disk", "0"])
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    assert!(url.starts_with("http://"), "the server did not start");
    (Running(child), url.trim().to_owned())
}

/// What a server says of itself.
pub(crate) fn server(url: &str) -> outlive_api::ops::Server {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = outlive_api::client::Client::new(url, outlive_api::DEFAULT_NAMESPACE).unwrap();
    runtime.block_on(client.server()).unwrap()
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }
}
