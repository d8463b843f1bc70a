//! The writer: batches across clients. A batch starts when the one before it has ended and takes what waits then; so an idle
//! store never waits, and a busy one shares each round trip and each `fsync` among hundreds of commands.

use crate::db::{Command, Db, Told};
use crate::signs::Signs;
use outlive_core::clock::Clock;
use outlive_store::StoreError;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Commands that wait; beyond it, callers wait to be let in.
const WAITING: usize = 4_096;
/// Commands of one transaction: enough to share its costs, few enough to answer in milliseconds.
const BATCH: usize = 512;
/// Runs and items of one transaction, over all its commands.
const BATCH_WEIGHT: usize = 2_048;

struct Queued {
    command: Box<dyn Command>,
    at: u64,
}

/// The writer's handle. When it is dropped, what was queued is still carried out as long as its runtime lives.
pub(crate) struct Writer {
    queue: mpsc::Sender<Queued>,
    signs: Arc<Signs>,
    clock: Arc<dyn Clock>,
}

impl Writer {
    /// Starts it. `tell` gets what each commit means to others.
    pub(crate) fn start(
        runtime: &Handle,
        mut db: Db,
        signs: Arc<Signs>,
        clock: Arc<dyn Clock>,
        tell: impl Fn(Told) + Send + Sync + 'static,
    ) -> Self {
        let (queue, mut waiting) = mpsc::channel(WAITING);
        let seen = signs.clone();
        runtime.spawn(async move {
            while let Some(group) = next_group(&mut waiting, &seen).await {
                let told = db.transact(group).await;
                if !told.is_empty() {
                    tell(told);
                }
            }
        });
        Self { queue, signs, clock }
    }

    pub(crate) async fn send(&self, command: Box<dyn Command>) -> Result<(), StoreError> {
        let at = self.clock.mono().0;
        self.signs.waits(at);
        let gone = |_| StoreError::Unavailable("the writer has stopped; restart the server".to_owned());
        self.queue.send(Queued { command, at }).await.map_err(gone)
    }
}

/// Waits for a command, then takes all that wait, within the limits.
async fn next_group(waiting: &mut mpsc::Receiver<Queued>, signs: &Signs) -> Option<Vec<Box<dyn Command>>> {
    let first = waiting.recv().await?;
    signs.begins(first.at);
    let mut weight = first.command.weight();
    let mut group = vec![first.command];
    while group.len() < BATCH && weight < BATCH_WEIGHT {
        let Ok(next) = waiting.try_recv() else { break };
        weight += next.command.weight();
        group.push(next.command);
    }
    Some(group)
}
