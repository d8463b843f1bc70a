//! What handles a kind: commands in processes of their own, and handlers inside the agent.
//!
//! ```text
//!   session thread ── Job ──► process thread ── fork ──► spawner thread ──► the command
//!         ▲                        │  one task per attempt: pipes, channel, exit
//!         │                        │
//!         ├──── Event (bounded) ◄──┘
//!         ├──── Mailbox ◄───────────── handler thread: any number of attempts, no task each
//!         │
//!         └──── Handle: stop (a level), down (messages), window (bytes in hand)
//! ```
//!
//! The session thread never waits for either of them.

mod capture;
mod env;
mod exec;
pub mod exit;
mod folder;
mod handler;
mod parse;
mod process;

pub use exec::{ExecContext, Executor};
pub use handler::{Attempt, Busy, Handler, Handlers, Mailbox};
pub use process::Spawner;

use crate::agent::{ChildEvent, Stop};
use crate::channel::{ASKED, Down};
use outlive_api::session::Lease;
use outlive_core::LeaseRef;
use outlive_core::limits::sizes;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, watch};

/// The kind that runs commands.
pub const EXEC: &str = "exec";
/// Bytes of output that one attempt may have in hand and unacknowledged; then its pipe is not read.
const WINDOW: usize = sizes::FRAME;
/// Messages to one attempt that wait: answers to all that it may ask, and as many signals.
const DOWN: usize = 2 * ASKED;

/// What a thread of attempts tells the session thread.
pub type Event = (LeaseRef, ChildEvent);

/// An attempt to be run.
#[derive(Debug)]
pub struct Job {
    /// What.
    pub lease: Box<Lease>,
    /// Orders.
    pub stop: watch::Receiver<Option<Stop>>,
    /// Messages.
    pub down: mpsc::Receiver<Down>,
    /// Its window.
    pub window: Arc<Semaphore>,
}

/// The session thread's end of an attempt.
#[derive(Debug)]
pub struct Handle {
    stop: watch::Sender<Option<Stop>>,
    down: mpsc::Sender<Down>,
    window: Arc<Semaphore>,
}

impl Handle {
    /// Both ends.
    #[must_use]
    pub fn new(lease: Box<Lease>) -> (Self, Job) {
        let (stop, stopped) = watch::channel(None);
        let (down, messages) = mpsc::channel(DOWN);
        let window = Arc::new(Semaphore::new(WINDOW));
        let job = Job { lease, stop: stopped, down: messages, window: Arc::clone(&window) };
        (Self { stop, down, window }, job)
    }

    /// Orders its end. A level that only rises.
    pub fn stop(&self, how: Stop) {
        self.stop.send_if_modified(|level| {
            let rises = *level < Some(how);
            *level = (*level).max(Some(how));
            rises
        });
    }

    /// Says something, if the attempt listens: of signals, only as many as leave room for answers.
    pub fn tell(&self, message: Down) {
        let is_signal = matches!(message, Down::Signal { .. });
        if !is_signal || self.down.capacity() > ASKED {
            let _ = self.down.try_send(message);
        }
    }

    /// Output has been acknowledged.
    pub fn widen(&self, bytes: usize) {
        self.window.add_permits(bytes);
    }
}

/// An attempt's way to the session thread.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    events: mpsc::Sender<Event>,
    window: Arc<Semaphore>,
}

impl Sender {
    pub(crate) async fn send(&self, lease: LeaseRef, event: ChildEvent) {
        // If nobody listens the agent is ending, and takes this attempt with it.
        let _ = self.events.send((lease, event)).await;
    }

    /// Waits until the server has acknowledged enough output for `size` bytes more.
    pub(crate) async fn within_window(&self, size: usize) {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        if let Ok(permit) = self.window.acquire_many(size).await {
            permit.forget();
        }
    }
}
