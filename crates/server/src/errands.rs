//! What the home of a session is to do, wherever it was asked for.
//!
//! A drain, an eviction, a signal or a newer incarnation may come in at any replica; only the home of the session can tell its
//! worker. At home it is done at once; elsewhere it is written for the home, which reads it within a moment. What matters is
//! in the rows before that: a drain is a mark, a replaced worker's name has a newer incarnation.

use crate::app::App;
use crate::driver::Told;
use outlive_core::engine::Input;
use outlive_store::{Errand, StoreError, WorkerRow};
use std::sync::Arc;

/// Errands that are read at once.
const PAGE: u32 = 256;

impl App {
    /// Has the home of a worker's session do something. Another replica's answer is not waited for: [`Told::Yes`] says that it is
    /// written.
    pub(crate) async fn send_home(self: &Arc<Self>, worker: &WorkerRow, errand: Errand) -> Result<Told, StoreError> {
        match &self.cluster {
            Some(cluster) if worker.replica != self.replica => {
                cluster.exchange.tell(worker.replica, errand).await?;
                Ok(Told::Yes)
            }
            _ => Ok(self.run_errand(errand)),
        }
    }

    /// Reads what others wrote for this replica, and does it.
    pub(crate) async fn run_errands(self: &Arc<Self>) -> Result<(), StoreError> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        loop {
            let errands = cluster.exchange.errands(PAGE).await?;
            let last = errands.len() < PAGE as usize;
            for errand in errands {
                self.run_errand(errand);
            }
            if last {
                return Ok(());
            }
        }
    }

    fn run_errand(self: &Arc<Self>, errand: Errand) -> Told {
        match errand {
            Errand::Drain { holder, draining } => self.input(Input::Drain(holder, draining)),
            Errand::Revoke { holder, reason } => self.input(Input::Revoke(holder, reason)),
            Errand::Gone { holder, reason } => self.input(Input::Gone(holder, reason)),
            Errand::Signal { holder, lease, name, data } => return self.driver.signal(holder, lease, name, data),
        }
        Told::Yes
    }
}
