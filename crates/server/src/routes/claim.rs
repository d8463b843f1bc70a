//! `POST /v1/workers/{id}/claim`: a long poll for work, for workers without a session.

use crate::app::App;
use crate::driver::PollWaiter;
use crate::extract::{Body, Token, WorkerPath};
use crate::reply::{Fault, Reply};
use crate::view;
use axum::Json;
use axum::extract::State;
use outlive_api::problem::Problem;
use outlive_api::workers::{ClaimBody, Leases};
use outlive_core::engine::Input;
use outlive_core::limits::sizes;
use outlive_core::{Holder, LeaseRef, Millis};
use outlive_store::{LeaseRow, StoreError};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The longest poll.
const LONGEST: Millis = Millis::secs(60);
/// A claim that is under way is waited for a moment even without `wait`.
const LEAST: Millis = Millis(250);
/// While it is open, a poll counts as presence this often.
const PRESENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Takes leases; waits for work if there is none. The same `request_id` gives the same leases.
#[utoipa::path(post, path = "/v1/workers/{id}/claim", tag = "workers", params(("id" = String, Path)), request_body = ClaimBody,
    responses((status = 200, body = Leases), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn claim(
    State(app): State<Arc<App>>,
    WorkerPath(worker): WorkerPath,
    token: Token,
    Body(body): Body<ClaimBody>,
) -> Reply<Leases> {
    let holder = token.of(worker)?;
    app.polls_here(holder).await?;
    let max = body.max.clamp(1, u32::try_from(sizes::BATCH).unwrap_or(u32::MAX));
    let repeated = match app.driver.answered(holder, body.request_id) {
        Some(leases) => Some(app.still_held(holder, &leases).await?),
        None => app.store.claim_request(holder, body.request_id).await?,
    };
    if let Some(rows) = repeated {
        let refs: Vec<_> = rows.iter().map(|row| LeaseRef { run_id: row.run.id, epoch: row.run.epoch }).collect();
        app.driver.delivered(holder, &refs);
        let leases = rows.into_iter().map(|row| {
            let policy = app.catalog.policy(row.run.queue);
            view::lease(row, &policy)
        });
        return Ok(Json(Leases { leases: leases.collect() }));
    }
    let (deliver, mut delivered) = mpsc::channel(1);
    let waiter = PollWaiter { request: body.request_id, deliver, number: 0 };
    let number = match app.driver.wait_for_leases(holder, waiter) {
        Ok(number) => number,
        Err(leases) => return Ok(Json(Leases { leases })),
    };
    // Whatever ends this request, a caller that hangs up included, the worker waits no more.
    let waiting = Waiting { app: Arc::clone(&app), holder, number };
    app.input(Input::PollWants(holder, max));
    let wait = body.wait.unwrap_or(Millis::ZERO).clamp(LEAST, LONGEST);
    let mut over = std::pin::pin!(tokio::time::sleep(wait.duration()));
    let mut presence = tokio::time::interval(PRESENCE);
    loop {
        tokio::select! {
            biased;
            Some(leases) = delivered.recv() => return Ok(Json(Leases { leases })),
            _ = presence.tick() => app.input(Input::Heard(holder, None)),
            () = &mut over => break,
        }
        if app.is_stopping() {
            break;
        }
    }
    // Nothing comes any more once it waits no more; what came at the last moment goes with this answer.
    drop(waiting);
    Ok(Json(Leases { leases: delivered.try_recv().unwrap_or_default() }))
}

struct Waiting {
    app: Arc<App>,
    holder: Holder,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.app.driver.stop_waiting(self.holder, self.number) {
            self.app.input(Input::PollWants(self.holder, 0));
        }
    }
}

impl App {
    /// Of these leases those that the worker still has.
    async fn still_held(&self, holder: Holder, leases: &[LeaseRef]) -> Result<Vec<LeaseRow>, StoreError> {
        let mut rows = self.store.leases_of(holder).await?;
        let place = |row: &LeaseRow| leases.iter().position(|l| (l.run_id, l.epoch) == (row.run.id, row.run.epoch));
        rows.retain(|row| place(row).is_some());
        rows.sort_by_key(place);
        Ok(rows)
    }

    /// A call of a worker without a session that takes nothing: a sign of life, wherever its home is. A home that lives is told; if
    /// there is none, it is here from now on. Whether it is elsewhere.
    pub(crate) async fn polling(self: &Arc<Self>, holder: Holder) -> Result<bool, Fault> {
        if self.driver.session(holder).is_none() && self.is_elsewhere(holder).await? {
            self.input(Input::Heard(holder, None));
            return Ok(true);
        }
        self.polls_here(holder).await.map(|()| false)
    }

    /// A call of a worker without a session, whose home is here from now on: after a loss, a restart or a move it opens its
    /// presence again.
    async fn polls_here(self: &Arc<Self>, holder: Holder) -> Result<(), Fault> {
        if self.driver.session(holder).is_none() {
            let Some(opened) = self.open_session(holder).await? else {
                return Err(self.not_current(holder).await);
            };
            let leases = opened.leases.iter().filter_map(|row| self.lease_info(row)).collect();
            let info = crate::start::session_info(&opened.worker, opened.home_seq, leases);
            self.input(Input::Open(info, None, false));
        }
        self.input(Input::Heard(holder, None));
        Ok(())
    }
}
