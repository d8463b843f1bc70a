//! Queues and their policies.

use crate::app::App;
use crate::extract::{Body, Namespace, QueuePath, check_name};
use crate::reply::{Fault, Reply};
use axum::Json;
use axum::extract::State;
use outlive_api::problem::Problem;
use outlive_api::queues::{Counts, Queue, Queues};
use outlive_core::given::GivenPolicy;
use outlive_store::{QueueRow, StoreError};
use std::sync::Arc;

async fn view(app: &App, row: &QueueRow) -> Result<Queue, StoreError> {
    let c = app.store.queue_counts(row.id).await?;
    let now = app.clock.wall();
    let counts = Counts {
        queued: c.queued,
        scheduled: c.scheduled,
        held: c.held,
        running: c.running,
        oldest_queued_ms: c.oldest_queued_at.map(|at| now.since(at).0),
    };
    let (name, namespace) = (row.name.clone(), row.namespace.clone());
    Ok(Queue { name, namespace, paused: row.paused, policy: row.policy.clone(), set: row.set.clone(), counts })
}

/// All queues, by name.
#[utoipa::path(get, path = "/v1/queues", tag = "queues",
    responses((status = 200, body = Queues), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn list(State(app): State<Arc<App>>, Namespace(namespace): Namespace) -> Reply<Queues> {
    let mut rows = app.catalog.queues_of(&namespace);
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let mut queues = Vec::with_capacity(rows.len());
    for row in rows {
        queues.push(view(&app, &row).await?);
    }
    Ok(Json(Queues { queues }))
}

/// A queue with its effective policy and counts.
#[utoipa::path(get, path = "/v1/queues/{name}", tag = "queues", params(("name" = String, Path)),
    responses((status = 200, body = Queue), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    QueuePath(name): QueuePath,
) -> Reply<Queue> {
    let row = app.catalog.queue_named(&namespace, &name).ok_or_else(|| Fault::queue_not_found(&name))?;
    Ok(Json(view(&app, &row).await?))
}

/// Creates a queue or replaces its policy; what the body leaves out has its default.
#[utoipa::path(put, path = "/v1/queues/{name}", tag = "queues", params(("name" = String, Path)),
    request_body(content = Object, description = "the policy: see the queue's `policy`"),
    responses((status = 200, body = Queue), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    QueuePath(name): QueuePath,
    Body(given): Body<GivenPolicy>,
) -> Reply<Queue> {
    check_name("name", &name)?;
    given.validate().map_err(|bad| Fault::field(bad.field, bad.detail))?;
    let worker = Arc::clone(&app);
    let row = App::detached(async move {
        let row = worker.store.put_queue(&namespace, &name, given).await?;
        worker.learn_queue(row.clone());
        // A wider cap or rate may let waiting runs go.
        worker.input(outlive_core::engine::Input::Ready(worker.catalog.classes_of(row.id)));
        Ok::<_, Fault>(row)
    })
    .await?;
    Ok(Json(view(&app, &row).await?))
}

async fn set_paused(app: Arc<App>, namespace: String, name: String, paused: bool) -> Reply<Queue> {
    let row = app.catalog.queue_named(&namespace, &name).ok_or_else(|| Fault::queue_not_found(&name))?;
    let commit = app.store.pause_queue(row.id, paused).await?.ok_or_else(|| Fault::queue_not_found(&name))?;
    // The policy may have been replaced meanwhile: what is known now is kept.
    let known = app.catalog.queue(row.id).unwrap_or(row);
    let row = QueueRow { paused, ..(*known).clone() };
    app.learn_queue(row.clone());
    app.committed(commit);
    Ok(Json(view(&app, &row).await?))
}

/// No claims until it is resumed; what runs goes on.
#[utoipa::path(post, path = "/v1/queues/{name}/pause", tag = "queues", params(("name" = String, Path)),
    responses((status = 200, body = Queue), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn pause(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    QueuePath(name): QueuePath,
) -> Reply<Queue> {
    set_paused(app, namespace, name, true).await
}

/// Claims again.
#[utoipa::path(post, path = "/v1/queues/{name}/resume", tag = "queues", params(("name" = String, Path)),
    responses((status = 200, body = Queue), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    QueuePath(name): QueuePath,
) -> Reply<Queue> {
    set_paused(app, namespace, name, false).await
}
