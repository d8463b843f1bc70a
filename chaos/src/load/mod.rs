//! Who asks, and writes down what was answered.
//!
//! Everybody asks until there is an answer, as callers do: the same request, again and again, over every fault.
//!
//! | file | who |
//! |---|---|
//! | [`poller`] | workers that poll |
//! | [`watcher`] | readers |

pub(crate) mod poller;
pub(crate) mod watcher;

use crate::history::History;
use outlive_api::client::{Client, ClientError};
use outlive_api::runs::{CancelBody, NewRun};
use outlive_core::RunId;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between looks at a level, and before a request is repeated.
pub(crate) const LOOK: Duration = Duration::from_millis(2);

/// What all parts share.
pub(crate) struct Load {
    pub(crate) client: Client,
    history: Mutex<History>,
    asks: AtomicU64,
    repeated: AtomicU64,
    closed: AtomicBool,
    over: AtomicBool,
}

impl Load {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            history: Mutex::default(),
            asks: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    pub(crate) fn note(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn history(&self) -> History {
        self.note().clone()
    }

    /// Creations that were acknowledged.
    pub(crate) fn created(&self) -> usize {
        self.note().created.len()
    }

    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    /// The number of the next request.
    pub(crate) fn next_ask(&self) -> u64 {
        self.asks.fetch_add(1, Ordering::Relaxed)
    }

    /// No new runs; what was asked for goes on.
    pub(crate) fn ask_no_more(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.ask_no_more();
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Asks until there is an answer; none when the load is over.
    pub(crate) async fn until_answered<T>(
        &self,
        ask: impl AsyncFn() -> Result<T, ClientError>,
    ) -> Option<Result<T, String>> {
        while !self.is_over() {
            match ask().await {
                Ok(answer) => return Some(Ok(answer)),
                Err(ClientError::Problem(problem)) if problem.status < 500 => return Some(Err(problem.code)),
                Err(_) => {
                    self.repeated.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
        None
    }

    pub(crate) fn wrong(&self, what: String) {
        self.note().wrong.push(what);
    }

    /// Asks for a run, under its own id or under a key; none when the load is over, or when it was refused, which is noted.
    pub(crate) async fn create(&self, ask: u64, mut run: NewRun, key: Option<&str>) -> Option<RunId> {
        run.tags.insert("ask".to_owned(), ask.to_string());
        match self.until_answered(async || self.client.create_run(&run, key).await).await? {
            Ok(made) => {
                self.note().created.insert(ask, made.id);
                Some(made.id)
            }
            Err(code) => {
                self.wrong(format!("a creation was refused: {code}"));
                None
            }
        }
    }

    pub(crate) async fn cancel(&self, id: RunId) {
        let body = CancelBody::default();
        match self.until_answered(async || self.client.cancel_run(id, &body).await).await {
            Some(Ok(_)) => drop(self.note().cancels.insert(id)),
            Some(Err(code)) if code != "already_terminal" => self.wrong(format!("a cancel was refused: {code}")),
            _ => {}
        }
    }
}
