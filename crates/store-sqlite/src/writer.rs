//! The writer thread: group commit. A batch starts when the one before it has ended and takes what waits then; so an idle
//! store never waits, and a busy one shares each `fsync` among hundreds of commands.

use crate::db::{Command, Db, NOTHING, Signs};
use crate::fault::Fault;
use outlive_core::clock::Clock;
use outlive_store::StoreError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Commands that wait; beyond it, callers wait to be let in.
const WAITING: usize = 4_096;
/// Commands of one transaction: enough to share an `fsync`, few enough to answer in milliseconds.
const BATCH: usize = 512;
/// Runs and items of one transaction, over all its commands.
const BATCH_WEIGHT: usize = 4_096;

struct Queued {
    command: Box<dyn Command>,
    /// Runs, items or leases in it.
    weight: usize,
    at: u64,
}

/// The writer's handle. Dropping it ends the thread, after what was queued.
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Queued>>,
    thread: Option<JoinHandle<()>>,
    signs: Arc<Signs>,
    clock: Arc<dyn Clock>,
}

impl Writer {
    pub(crate) fn start(mut db: Db, clock: Arc<dyn Clock>) -> Result<Self, Fault> {
        let signs = db.signs();
        let (queue, mut waiting) = mpsc::channel(WAITING);
        let seen = signs.clone();
        let run = move || {
            while let Some(group) = next_group(&mut waiting, &seen) {
                db.transact(group);
            }
        };
        let thread = std::thread::Builder::new().name("outlive-writer".to_owned()).spawn(run);
        let thread = thread.map_err(|error| Fault::Other(format!("no thread for the writer: {error}")))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), signs, clock })
    }

    pub(crate) async fn send(&self, command: Box<dyn Command>, weight: usize) -> Result<(), StoreError> {
        let gone = || StoreError::Unavailable("the writer has stopped; restart the server".to_owned());
        let at = self.clock.mono().0;
        let queued = Queued { command, weight, at };
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        let _ = self.signs.pending.compare_exchange(NOTHING, at, Ordering::AcqRel, Ordering::Relaxed);
        queue.send(queued).await.map_err(|_| gone())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for a command, then takes all that wait, within the limits.
fn next_group(waiting: &mut mpsc::Receiver<Queued>, signs: &Signs) -> Option<Vec<Box<dyn Command>>> {
    let first = waiting.blocking_recv()?;
    signs.pending.store(first.at, Ordering::Release);
    let mut weight = first.weight;
    let mut group = vec![first.command];
    while group.len() < BATCH && weight < BATCH_WEIGHT {
        let Ok(next) = waiting.try_recv() else { break };
        weight += next.weight;
        group.push(next.command);
    }
    Some(group)
}
