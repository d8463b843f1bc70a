//! Handlers inside the agent: no process, no task, no channel per attempt.

use super::{Event, Job};
use crate::agent::{ChildEvent, End, Stop};
use outlive_api::session::Lease;
use outlive_core::limits::sizes;
use outlive_core::report::{Completion, ErrorReport, Failure, Op};
use outlive_core::{Json, LeaseRef, Reason};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, watch};

/// Attempts begun between two looks of the session thread at the mailbox: what they say at once is told together.
const BATCH: usize = 256;
/// Statements that wait for the session thread; beside the ends, of which there is one for each attempt.
const MAILBOX: usize = 16 * sizes::BATCH;

/// What handles a kind inside the agent.
///
/// Such work cannot be frozen or killed. It is protected by the fence alone, and asked to stop by [`Attempt::stop`].
pub trait Handler: Send + Sync {
    /// Begins an attempt. All handlers share one thread: what takes time is begun here and continued elsewhere, with
    /// `attempt` moved along.
    fn start(&self, lease: Lease, attempt: Attempt);
}

/// Why a handler's statement was not taken: too many wait. Say it again later, or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many statements wait to be sent; say it again later")]
pub struct Busy;

/// A running attempt, in its handler's hands. Dropped without an end, it has failed.
#[derive(Debug)]
pub struct Attempt {
    lease: LeaseRef,
    mailbox: Arc<Mailbox>,
    stop: watch::Receiver<Option<Stop>>,
    ended: bool,
}

impl Attempt {
    /// Whose it is.
    #[must_use]
    pub const fn lease(&self) -> LeaseRef {
        self.lease
    }

    /// Rises when the attempt should end: it was cancelled, its lease was lost, or the agent goes.
    #[must_use]
    pub fn stop(&self) -> watch::Receiver<Option<Stop>> {
        self.stop.clone()
    }

    /// How far it is, from 0 to 1.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn progress(&self, fraction: Option<f64>, note: Option<String>) -> Result<(), Busy> {
        self.say(Op::Progress { fraction: fraction.map(|f| f.clamp(0.0, 1.0)), note })
    }

    /// State for the next attempt, at most 64 KiB.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn checkpoint(&self, data: Json) -> Result<(), Busy> {
        self.say(Op::Checkpoint(data))
    }

    /// Output, on a channel of 1 to 64 characters.
    ///
    /// # Errors
    /// [`Busy`]: from the first frame of 256 KiB that was not taken on, none was.
    pub fn output(&self, channel: &str, bytes: &[u8]) -> Result<(), Busy> {
        bytes.chunks(sizes::FRAME).try_for_each(|frame| {
            let event = ChildEvent::Output { channel: channel.to_owned(), bytes: frame.to_vec() };
            self.mailbox.post((self.lease, event))
        })
    }

    /// The work is done.
    pub fn complete(self, result: Option<Json>) {
        self.end(Op::Complete(Completion { result, ..Completion::default() }));
    }

    /// The work failed.
    pub fn fail(self, message: &str) {
        self.end(Op::Fail(Failure {
            reason: Reason::HandlerError,
            error: Some(ErrorReport { message: message.to_owned(), ..ErrorReport::default() }),
            exit: None,
            retry_after: None,
            permanent: false,
            last_output_seq: None,
        }));
    }

    /// Any other end: a release, or a failure with wishes. Whatever does not end an attempt counts as a failure.
    pub fn end(mut self, op: Op) {
        self.ended = true;
        self.mailbox.post_end((self.lease, ChildEvent::Ended(End::Said(op))));
    }

    fn say(&self, op: Op) -> Result<(), Busy> {
        self.mailbox.post((self.lease, ChildEvent::Said { reference: None, op }))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            self.mailbox.post_end((self.lease, ChildEvent::Ended(End::Vanished)));
        }
    }
}

/// What handlers have said and the session thread has not read. Bounded: one end for each attempt, and a fixed number of
/// other statements.
#[derive(Debug, Default)]
pub struct Mailbox {
    letters: Mutex<Letters>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Letters {
    events: Vec<Event>,
    /// A batch is being begun: nobody is woken before it is complete.
    held: bool,
}

impl Mailbox {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, event: Event) -> Result<(), Busy> {
        if self.letters().events.len() >= MAILBOX {
            return Err(Busy);
        }
        self.post_end(event);
        Ok(())
    }

    fn post_end(&self, event: Event) {
        let mut letters = self.letters();
        letters.events.push(event);
        if !letters.held {
            drop(letters);
            self.arrived.notify_one();
        }
    }

    fn hold(&self, held: bool) {
        self.letters().held = held;
        if !held {
            self.arrived.notify_one();
        }
    }

    /// Everything that has arrived; waits for the first.
    pub async fn take(&self) -> Vec<Event> {
        loop {
            let events = {
                let mut letters = self.letters();
                if letters.held { Vec::new() } else { std::mem::take(&mut letters.events) }
            };
            if !events.is_empty() {
                return events;
            }
            self.arrived.notified().await;
        }
    }
}

/// The thread that begins attempts of handlers.
#[derive(Clone, Debug)]
pub struct Handlers {
    jobs: mpsc::Sender<Vec<Job>>,
    /// What they say.
    pub mailbox: Arc<Mailbox>,
}

impl Handlers {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the machine has no thread to give.
    pub fn start(handlers: BTreeMap<String, Arc<dyn Handler>>, slots: u32) -> io::Result<Self> {
        let (jobs, mut waiting) = mpsc::channel::<Vec<Job>>(2 * slots as usize);
        let mailbox = Arc::new(Mailbox::default());
        let theirs = Arc::clone(&mailbox);
        std::thread::Builder::new().name("handlers".into()).spawn(move || {
            while let Some(batch) = waiting.blocking_recv() {
                let mut batch = batch.into_iter().peekable();
                while batch.peek().is_some() {
                    theirs.hold(true);
                    batch.by_ref().take(BATCH).for_each(|job| begin(&handlers, job, &theirs));
                    theirs.hold(false);
                }
            }
        })?;
        Ok(Self { jobs, mailbox })
    }

    /// Takes jobs, unless the thread is gone or drowned.
    #[must_use]
    pub fn run(&self, jobs: Vec<Job>) -> bool {
        self.jobs.try_send(jobs).is_ok()
    }
}

fn begin(handlers: &BTreeMap<String, Arc<dyn Handler>>, job: Job, mailbox: &Arc<Mailbox>) {
    let lease = job.lease.lease();
    let attempt = Attempt { lease, mailbox: Arc::clone(mailbox), stop: job.stop, ended: false };
    mailbox.post_end((lease, ChildEvent::Started(None)));
    // A kind that nobody handles is dropped here, and fails as such; a handler that panics drops its attempt.
    if let Some(handler) = handlers.get(&job.lease.kind).map(Arc::clone) {
        let start = std::panic::AssertUnwindSafe(|| handler.start(*job.lease, attempt));
        let _ = std::panic::catch_unwind(start);
    }
}
