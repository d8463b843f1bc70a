//! Workers as people see and order them.

use crate::app::App;
use crate::extract::{Namespace, Query, Token, WorkerPath};
use crate::reply::{Fault, Reply};
use axum::Json;
use axum::extract::State;
use outlive_api::problem::Problem;
use outlive_api::workers::{Worker, Workers};
use outlive_core::run::{Evidence, LossBudget};
use outlive_core::{Reason, WorkerId};
use outlive_store::{Errand, Verdict, WorkerMark, WorkerRow};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// A page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// At most 1,000; default 100.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Workers, in order of first registration.
#[utoipa::path(get, path = "/v1/workers", tag = "workers", params(ListQuery),
    responses((status = 200, body = Workers), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    Query(q): Query<ListQuery>,
) -> Reply<Workers> {
    let limit = super::runs::page_size(q.limit)?;
    let after = super::runs::cursor(q.cursor.as_deref())?.map(WorkerId);
    let rows = app.store.workers(Some(&namespace), after, limit).await?;
    let full = rows.len() as u64 >= u64::from(limit);
    let next_cursor = rows.last().filter(|_| full).map(|row| row.id.0.to_string());
    let mut workers = Vec::with_capacity(rows.len());
    for row in rows {
        workers.push(app.worker_view(row).await?);
    }
    Ok(Json(Workers { workers, next_cursor }))
}

impl App {
    async fn worker_of(&self, namespace: &str, id: WorkerId) -> Result<WorkerRow, Fault> {
        let row = self.store.worker(id).await?;
        row.filter(|row| row.profile.namespace == namespace).ok_or_else(|| Fault::worker_not_found(id))
    }

    async fn worker_answer(&self, namespace: &str, id: WorkerId) -> Reply<Worker> {
        self.catalog.forget_workers();
        let row = self.worker_of(namespace, id).await?;
        Ok(Json(self.worker_view(row).await?))
    }
}

/// A worker.
#[utoipa::path(get, path = "/v1/workers/{id}", tag = "workers", params(("id" = String, Path)),
    responses((status = 200, body = Worker), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    WorkerPath(id): WorkerPath,
) -> Reply<Worker> {
    let row = app.worker_of(&namespace, id).await?;
    Ok(Json(app.worker_view(row).await?))
}

async fn set_draining(app: Arc<App>, namespace: String, id: WorkerId, draining: bool) -> Reply<Worker> {
    let row = app.worker_of(&namespace, id).await?;
    app.store.mark_worker(id, WorkerMark::Draining(draining)).await?;
    app.send_home(&row, Errand::Drain { holder: row.holder(), draining }).await?;
    app.worker_answer(&namespace, id).await
}

/// Takes nothing new; finishes what it has.
#[utoipa::path(post, path = "/v1/workers/{id}/drain", tag = "workers", params(("id" = String, Path)),
    responses((status = 200, body = Worker), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn drain(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    WorkerPath(id): WorkerPath,
) -> Reply<Worker> {
    set_draining(app, namespace, id, true).await
}

/// Takes again.
#[utoipa::path(post, path = "/v1/workers/{id}/undrain", tag = "workers", params(("id" = String, Path)),
    responses((status = 200, body = Worker), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn undrain(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    WorkerPath(id): WorkerPath,
) -> Reply<Worker> {
    set_draining(app, namespace, id, false).await
}

/// The worker says goodbye: its leases are handed back without cost.
#[utoipa::path(post, path = "/v1/workers/{id}/leave", tag = "workers", params(("id" = String, Path)),
    responses((status = 200, body = Worker), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn leave(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    WorkerPath(id): WorkerPath,
    token: Token,
) -> Reply<Worker> {
    let holder = token.of(id)?;
    let row = app.worker_of(&namespace, id).await?;
    if row.holder() != holder {
        return Err(app.not_current(holder).await);
    }
    let worker = Arc::clone(&app);
    App::detached(async move {
        worker.store.mark_worker(id, WorkerMark::Left).await?;
        let now = worker.clock.wall();
        worker
            .lose(Verdict {
                holder,
                guard: None,
                leases: None,
                reason: Reason::WorkerLeft,
                evidence: Evidence::Goodbye,
                last_heard_at: now,
                budget: LossBudget::Free,
                end_session: true,
            })
            .await?;
        worker.send_home(&row, Errand::Gone { holder, reason: Reason::WorkerLeft }).await?;
        Ok::<_, Fault>(())
    })
    .await?;
    app.worker_answer(&namespace, id).await
}

/// A person declares it lost: what it holds is revoked.
#[utoipa::path(post, path = "/v1/workers/{id}/evict", tag = "workers", params(("id" = String, Path)),
    responses((status = 200, body = Worker), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn evict(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    WorkerPath(id): WorkerPath,
) -> Reply<Worker> {
    let row = app.worker_of(&namespace, id).await?;
    app.store.mark_worker(id, WorkerMark::Draining(true)).await?;
    app.send_home(&row, Errand::Revoke { holder: row.holder(), reason: Reason::Evicted }).await?;
    app.worker_answer(&namespace, id).await
}
