//! Waiting for levels, leases, and what `/proc` shows.

use outlive_api::clock::SystemClock;
use outlive_api::session::Lease;
use outlive_core::clock::Clock as _;
use outlive_core::policy::{OnIsolation, Takeover};
use outlive_core::{Epoch, Json, RunId};
use outlive_worker::reach::Mode;
use std::path::PathBuf;
use std::time::Duration;

/// No level takes longer to be reached on a machine that works at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const MODES: [Mode; 2] = [Mode::Auto, Mode::Signals];

/// Waits until `reached` holds.
pub(crate) async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let waiting = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A number that no other test of this process, and no other process, uses; not even in another PID namespace.
pub(crate) fn unique() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// A folder whose path leaves room for a socket's name, wherever temporary files go.
pub(crate) fn short_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/tmp").unwrap()
}

pub(crate) fn lease(input: &serde_json::Value) -> Lease {
    Lease {
        run_id: RunId::from_parts(SystemClock.wall(), u128::from(unique()) << 48),
        epoch: Epoch(1),
        kind: "exec".into(),
        queue: "default".into(),
        input: Json::of(input).unwrap(),
        attempt: 1,
        recovered: false,
        checkpoint: None,
        resume_data: None,
        lease_ttl_ms: 10_000,
        offline_grace_ms: 0,
        run_timeout_ms: 3_600_000,
        progress_timeout_ms: None,
        cancel_grace_ms: 10_000,
        on_isolation: OnIsolation::Freeze,
        takeover: Takeover::Fast,
        traceparent: None,
    }
}

pub(crate) fn shell(script: &str) -> serde_json::Value {
    serde_json::json!({"command": ["sh", "-c", script]})
}

/// The example that is agent and guard.
pub(crate) fn agent_binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let built = own.parent().and_then(|deps| deps.parent()).unwrap().join("examples/agent");
    assert!(built.exists(), "{} is not built; build the examples of this crate", built.display());
    built
}

pub(crate) fn guard_command() -> Vec<String> {
    vec![agent_binary().to_string_lossy().into_owned(), "guard".into()]
}

/// Processes that carry this text in their environment.
pub(crate) fn carrying(mark: &str) -> Vec<i32> {
    let names = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = names.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let carries = |pid: &i32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.windows(mark.len()).any(|w| w == mark.as_bytes())
    };
    pids.filter(carries).collect()
}

/// The child of an agent that runs as its guard.
pub(crate) fn guard_of(agent: &std::process::Child) -> Option<i32> {
    let parent = format!("PPid:\t{}\n", agent.id());
    let names = std::fs::read_dir("/proc").unwrap().flatten();
    names.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()).find(|pid| {
        let of = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        of("status").contains(&parent) && of("cmdline").ends_with("guard\0")
    })
}

/// A line of a process's memory, in bytes: `VmRSS`, or its peak `VmHWM`.
pub(crate) fn resident(pid: i32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')?.trim().strip_suffix(" kB"));
    kib.unwrap().trim().parse::<u64>().unwrap() << 10
}

/// A file that grows while its writer runs.
pub(crate) fn size(path: &std::path::Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

/// A shell script that makes `path` grow.
pub(crate) fn ticking(path: &std::path::Path) -> String {
    format!("while :; do echo >> {}; sleep 0.005; done", path.display())
}

/// Something that ticks beside what is watched: by its ticks one sees that the other does *not* tick.
pub(crate) struct Metronome {
    child: std::process::Child,
    path: PathBuf,
}

impl Metronome {
    pub(crate) fn start(folder: &std::path::Path) -> Self {
        let path = folder.join(format!("metronome-{}", unique()));
        let child = std::process::Command::new("sh").args(["-c", &ticking(&path)]).spawn().unwrap();
        Self { child, path }
    }

    /// Waits for this many ticks.
    pub(crate) async fn ticks(&self, n: u64) {
        let before = size(&self.path);
        until("the metronome ticks", || size(&self.path) >= before + n).await;
    }

    /// Waits until `watched` does not grow any more while this ticks.
    pub(crate) async fn until_still(&self, watched: &std::path::Path) {
        loop {
            let before = size(watched);
            self.ticks(20).await;
            if size(watched) == before {
                return;
            }
        }
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
