//! An executor without an agent: a job in, events out.

use crate::support::{PATIENCE, lease, short_folder, unique};
use outlive_api::session::Lease;
use outlive_core::report::ExitReport;
use outlive_core::resources::Resources;
use outlive_worker::agent::{ChildEvent, End, Parsed};
use outlive_worker::reach::{Domain, Mode};
use outlive_worker::runtime::{Event, ExecContext, Executor, Handle, Spawner};
use std::path::Path;
use tokio::sync::mpsc;

/// An executor whose events a test takes.
pub(crate) struct Bench {
    executor: Executor,
    events: mpsc::Receiver<Event>,
    pub(crate) domain: Domain,
    _folder: tempfile::TempDir,
}

/// What became of a command.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) frames: Vec<usize>,
    pub(crate) end: End,
}

impl Seen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn exit(&self) -> &ExitReport {
        match &self.end {
            End::Exit { exit, .. } => exit,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn output(&self) -> &Parsed {
        match &self.end {
            End::Exit { output, .. } => output,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn rejection(&self) -> &str {
        match &self.end {
            End::Rejected { message } => message,
            other => panic!("{other:?}"),
        }
    }
}

impl Bench {
    pub(crate) fn new(mode: Mode) -> Self {
        let folder = short_folder();
        let attempts = folder.path().to_owned();
        Self::with(Domain::new(format!("test.{:x}", unique()), mode), &attempts, folder)
    }

    /// With attempts' folders in `attempts`.
    pub(crate) fn with(domain: Domain, attempts: &Path, folder: tempfile::TempDir) -> Self {
        Self::limited(domain, attempts, folder, Resources::default())
    }

    /// With the most that one attempt gets.
    pub(crate) fn limited(domain: Domain, attempts: &Path, folder: tempfile::TempDir, limits: Resources) -> Self {
        let spawner = Spawner::start().unwrap();
        let context = ExecContext::new("w-1".into(), attempts.to_owned(), domain.clone(), limits, spawner);
        let (sender, events) = mpsc::channel(64);
        let executor = Executor::start(context, 16, sender).unwrap();
        Self { executor, events, domain, _folder: folder }
    }

    pub(crate) fn begin(&self, lease: Lease) -> Handle {
        let (handle, job) = Handle::new(Box::new(lease));
        assert!(self.executor.run(job));
        handle
    }

    pub(crate) async fn event(&mut self) -> ChildEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("an event").1
    }

    /// Whether no event waits.
    pub(crate) fn nothing_happened(&self) -> bool {
        self.events.is_empty()
    }

    pub(crate) async fn group(&mut self) -> i32 {
        match self.event().await {
            ChildEvent::Started(Some(group)) => group,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for these bytes on stdout.
    pub(crate) async fn says(&mut self, text: &[u8]) {
        loop {
            match self.event().await {
                ChildEvent::Output { channel, bytes } if channel == "stdout" && bytes == text => return,
                ChildEvent::Ended(end) => panic!("{end:?}"),
                _ => {}
            }
        }
    }

    /// Everything until the end; output is acknowledged as it comes.
    pub(crate) async fn finish(&mut self, handle: &Handle) -> Seen {
        let (mut stdout, mut stderr, mut frames) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            match self.event().await {
                ChildEvent::Output { channel, bytes } => {
                    handle.widen(bytes.len());
                    frames.push(bytes.len());
                    if channel == "stdout" { stdout.extend(bytes) } else { stderr.extend(bytes) }
                }
                ChildEvent::Ended(end) => return Seen { stdout, stderr, frames, end },
                ChildEvent::Started(_) | ChildEvent::Said { .. } => {}
            }
        }
    }

    pub(crate) async fn run(&mut self, input: serde_json::Value) -> Seen {
        let handle = self.begin(lease(&input));
        self.finish(&handle).await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.domain.kill_everything();
    }
}
