//! `POST /v1/workers/{id}/claim`: a long poll for work, for workers without a session.

use crate::app::App;
use crate::driver::PollWaiter;
use crate::extract::{Body, Token, WorkerPath};
use crate::opening::Opening;
use crate::reply::{Fault, Reply};
use crate::view;
use axum::Json;
use axum::extract::State;
use outlive_api::problem::Problem;
use outlive_api::session::Lease;
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
/// How long a poll whose time is over waits for a claim that is under way.
const UNDER_WAY: std::time::Duration = std::time::Duration::from_secs(2);
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
    if let Some(leases) = app.repeated(holder, body.request_id).await? {
        return Ok(Json(Leases { leases }));
    }
    let (deliver, mut delivered) = mpsc::channel(1);
    let number = app.driver.wait_for_leases(holder, PollWaiter::new(body.request_id, deliver));
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
    // What is under way comes with this answer: the worker's next request may go to another replica.
    if app.driver.leaves(holder, number) {
        app.input(Input::PollWants(holder, 0));
        if app.driver.look(|engine| engine.claims(holder))
            && let Ok(Some(leases)) = tokio::time::timeout(UNDER_WAY, delivered.recv()).await
        {
            return Ok(Json(Leases { leases }));
        }
    }
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
    /// What a request was answered before, if it was: those leases that its worker still has. None also while the claim that was
    /// made for it is not known here yet.
    async fn repeated(&self, holder: Holder, request: uuid::Uuid) -> Result<Option<Vec<Lease>>, StoreError> {
        let Some(mut rows) = self.store.claim_request(holder, request).await? else { return Ok(None) };
        let known = rows.is_empty();
        rows.retain(|row| self.driver.may_give(holder, LeaseRef { run_id: row.run.id, epoch: row.run.epoch }));
        let claiming = rows.is_empty() && !known && self.driver.look(|engine| engine.claims(holder));
        let lease = |row: LeaseRow| {
            let policy = self.catalog.policy(row.run.queue);
            view::lease(row, &policy)
        };
        let leases: Vec<Lease> = rows.into_iter().map(lease).collect();
        if !leases.is_empty() {
            self.driver.gives(holder, leases.iter().map(Lease::lease).collect());
        }
        Ok((!claiming).then_some(leases))
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
            let Some(opened) = self.open_session(holder).await?.and_then(Opening::take) else {
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
