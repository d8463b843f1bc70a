//! The running guard: its pipes as tasks, and a new one when it is gone.

use super::shell::Happening;
use crate::config::AgentError;
use crate::guard::{Command, Guard, Reply, Started};
use std::io;
use std::process::Child;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Batches of lines that wait for the guard. One that reads so slowly does not guard.
const UNREAD: usize = 256;

/// A guard that watches.
pub(super) struct Guarding {
    child: Child,
    lines: mpsc::Sender<String>,
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
}

impl Guarding {
    pub(super) fn new(started: Started, happenings: mpsc::Sender<Happening>) -> io::Result<Self> {
        let stdin = pipe::Sender::from_owned_fd(started.stdin.into())?;
        let stdout = pipe::Receiver::from_owned_fd(started.stdout.into())?;
        let (lines, unread) = mpsc::channel(UNREAD);
        let writer = tokio::spawn(write(stdin, unread));
        let reader = tokio::spawn(read(stdout, happenings));
        Ok(Self { child: started.child, lines, writer, reader })
    }

    /// Lines, written together. False: it does not read any more.
    pub(super) fn tell(&self, commands: &[Command]) -> bool {
        let lines: String = commands.iter().map(ToString::to_string).collect();
        lines.is_empty() || self.lines.try_send(lines).is_ok()
    }

    /// Ends it: its stdin closes. Nothing of the agent may be left by then, or it is killed.
    pub(super) async fn end(mut self) {
        drop(self.lines);
        self.reader.abort();
        let _ = self.writer.await;
        let _ = tokio::task::spawn_blocking(move || self.child.wait()).await;
    }

    /// It is of no use: another one takes its place.
    pub(super) fn discard(mut self) {
        self.writer.abort();
        self.reader.abort();
        let _ = self.child.kill();
        tokio::task::spawn_blocking(move || self.child.wait());
    }
}

/// Starts a guard beside the session's thread.
pub(super) fn start(guard: Guard, happenings: mpsc::Sender<Happening>) {
    tokio::spawn(async move {
        let started = tokio::task::spawn_blocking(move || guard.start()).await;
        let started = started.unwrap_or_else(|e| Err(AgentError::Internal(e.to_string())));
        let _ = happenings.send(Happening::GuardStarted(started)).await;
    });
}

async fn write(mut stdin: pipe::Sender, mut unread: mpsc::Receiver<String>) {
    while let Some(lines) = unread.recv().await {
        if stdin.write_all(lines.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stdout: pipe::Receiver, happenings: mpsc::Sender<Happening>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(Reply::Did(lease, event, at)) = Reply::parse(&line)
            && happenings.send(Happening::Guard(lease, event, at)).await.is_err()
        {
            return;
        }
    }
    let _ = happenings.send(Happening::GuardGone).await;
}
