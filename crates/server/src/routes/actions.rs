//! What people do to one run: cancel, retry, release, delete.

use super::create::{check_input, idempotency, new_id};
use crate::app::App;
use crate::extract::{Body, Namespace, RawBody, RunPath};
use crate::reply::{Fault, Reply};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use outlive_api::problem::{Code, Problem};
use outlive_api::runs::{CancelBody, ReleaseBody, RetryBody, Run};
use outlive_core::options::RunOptions;
use outlive_core::run::begin::NewRun;
use outlive_core::{Reason, RunId};
use outlive_store::{CreateRun, OnConflict};
use std::sync::Arc;

async fn view(app: &Arc<App>, namespace: &str, id: RunId) -> Reply<Run> {
    let row = app.store.get(namespace, id).await?.ok_or_else(|| Fault::run_not_found(id))?;
    Ok(Json(app.run_view(row, false).await?))
}

/// Asks for the end of a run. Repeats answer 200; a terminal run 409.
#[utoipa::path(post, path = "/v1/runs/{id}/cancel", tag = "runs", params(("id" = uuid::Uuid, Path)), request_body = CancelBody,
    responses((status = 200, body = Run), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    RunPath(id): RunPath,
    Body(body): Body<CancelBody>,
) -> Reply<Run> {
    let (worker, tenant) = (Arc::clone(&app), namespace.clone());
    App::detached(async move {
        let cancelled = worker.store.cancel(&tenant, id, Reason::Cancelled, body.reason).await?;
        worker.committed(cancelled.commit);
        Ok::<_, Fault>(())
    })
    .await
    .map_err(|fault| named(fault, id))?;
    view(&app, &namespace, id).await
}

/// A held or scheduled run becomes queued now; `data` reaches the next attempt as `resume_data`. Idempotent by the header
/// `Idempotency-Key`: a repetition never ends a later wait.
#[utoipa::path(post, path = "/v1/runs/{id}/release", tag = "runs", params(("id" = uuid::Uuid, Path)), request_body = ReleaseBody,
    responses((status = 200, body = Run), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn release(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    RunPath(id): RunPath,
    headers: HeaderMap,
    RawBody(body, bytes): RawBody<ReleaseBody>,
) -> Reply<Run> {
    let key = idempotency(&headers, &[id.0.as_bytes().as_slice(), b"/release", &bytes].concat())?;
    body.data.iter().try_for_each(|data| super::create::check_depth("data", data))?;
    if body.data.as_ref().is_some_and(|d| d.text().len() > outlive_core::limits::sizes::CHECKPOINT) {
        let limit = outlive_core::limits::sizes::CHECKPOINT;
        return Err(Fault::new(Code::TooLarge, format!("data: is larger than {limit} bytes")));
    }
    let (worker, tenant) = (Arc::clone(&app), namespace.clone());
    App::detached(async move {
        let commit = worker.store.release(&tenant, id, body.data, key).await?;
        worker.committed(commit);
        Ok::<_, Fault>(())
    })
    .await
    .map_err(|fault| named(fault, id))?;
    view(&app, &namespace, id).await
}

/// Removes a terminal run, its output included.
#[utoipa::path(delete, path = "/v1/runs/{id}", tag = "runs", params(("id" = uuid::Uuid, Path)),
    responses((status = 204), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    RunPath(id): RunPath,
) -> Result<StatusCode, Fault> {
    app.store.delete(&namespace, id).await.map_err(|e| named(e.into(), id))?;
    Ok(StatusCode::NO_CONTENT)
}

/// A new run of a terminal one; idempotent by the header `Idempotency-Key`.
#[utoipa::path(post, path = "/v1/runs/{id}/retry", tag = "runs", params(("id" = uuid::Uuid, Path)), request_body = RetryBody,
    responses((status = 201, body = Run), (status = 200, body = Run, description = "it existed already"), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn retry(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    RunPath(id): RunPath,
    headers: HeaderMap,
    RawBody(body, bytes): RawBody<RetryBody>,
) -> Result<(StatusCode, Json<Run>), Fault> {
    // The run is part of what was asked: the same key and body for another run is another request.
    let key = idempotency(&headers, &[id.0.as_bytes().as_slice(), b"/retry", &bytes].concat())?;
    let old = app.store.get(&namespace, id).await?.ok_or_else(|| Fault::run_not_found(id))?;
    if !old.run.state.is_terminal() {
        let detail = format!("run {id} is {}; only a run that has ended can be tried again", old.run.state);
        return Err(Fault::new(Code::NotTerminal, detail));
    }
    if let Some(input) = &body.input {
        check_input(&old.class.kind, input, &str::to_owned)?;
    }
    let new = NewRun {
        id: new_id(&app),
        class: old.run.class,
        queue: old.run.queue,
        priority: old.run.priority,
        run_at: None,
        hold: false,
        serial_key: old.run.serial_key,
        key: old.run.key,
        queue_ttl: old.options.queue_ttl,
    };
    let run = CreateRun {
        new,
        id_chosen: false,
        on_conflict: OnConflict::Reject,
        input: body.input.unwrap_or(old.input),
        options: RunOptions { retry_of: Some(id), ..old.options },
        checkpoint: old.detail.checkpoint.filter(|_| body.from_checkpoint),
    };
    let (worker, tenant) = (Arc::clone(&app), namespace.clone());
    let ready = [(run.new.class, 1)].into();
    let refusal = app.disk.refusal();
    let created = App::detached(async move { worker.create(tenant, vec![run], key, ready, refusal).await }).await?;
    let new = created.runs.first().ok_or_else(|| Fault::new(Code::Internal, "nothing was created"))?;
    let status = if new.existed { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, view(&app, &namespace, new.run.id).await?))
}

fn named(mut fault: Fault, id: RunId) -> Fault {
    if fault.0.code == Code::RunNotFound.as_str() {
        return Fault::run_not_found(id);
    }
    fault.0.detail = format!("run {id}: {}", fault.0.detail);
    fault
}
