//! Reader threads: each with a connection of its own, all out of one bounded queue. A read sees committed rows only and
//! never waits for the writer.

use crate::db::Signs;
use crate::fault::{Done, Fault};
use crate::reader::{Classes, Reader, read};
use outlive_store::StoreError;
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Enough that a slow list does not hold up the reads of live pages.
pub(crate) const THREADS: usize = 3;
/// Reads that wait; beyond it, callers wait to be let in.
const WAITING: usize = 1_024;

type Job = Box<dyn FnOnce(&Connection, &Classes) + Send>;

/// The pool's handle. Dropping it ends the threads, after what was queued.
pub(crate) struct Readers {
    queue: Option<mpsc::Sender<Job>>,
    signs: Arc<Signs>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(crate) fn start(connections: Vec<Connection>, signs: &Arc<Signs>) -> Done<Self> {
        let (queue, waiting) = mpsc::channel::<Job>(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        let mut threads = Vec::with_capacity(connections.len());
        for conn in connections {
            let waiting = waiting.clone();
            let run = move || {
                let classes = Classes::default();
                while let Some(job) = next_job(&waiting) {
                    job(&conn, &classes);
                }
            };
            let thread = std::thread::Builder::new().name("outlive-reader".to_owned()).spawn(run);
            threads.push(thread.map_err(|error| Fault::Other(format!("no thread for a reader: {error}")))?);
        }
        Ok(Self { queue: Some(queue), signs: signs.clone(), threads })
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Reader<'_>) -> Done<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Unavailable("the readers have stopped; restart the server".to_owned());
        let (reply, answer) = oneshot::channel();
        let signs = self.signs.clone();
        let job: Job = Box::new(move |conn, classes| {
            let value = catch_unwind(AssertUnwindSafe(|| read(conn, classes, f)));
            let value = value.unwrap_or_else(|_| Err(Fault::Other("the read panicked".to_owned())));
            let _ = reply.send(value.map_err(|fault| {
                signs.met(&fault);
                fault.refused()
            }));
        });
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn next_job(waiting: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}
