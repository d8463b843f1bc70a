//! `GET /v1/subjects/{subject}`: what the runs about something add up to.

use crate::app::App;
use crate::extract::{Namespace, SubjectPath};
use crate::reply::Reply;
use axum::Json;
use axum::extract::State;
use outlive_api::events::{ActiveRun, Subject};
use outlive_api::problem::Problem;
use std::sync::Arc;

/// Active runs that are shown.
const SHOWN: u32 = 100;

/// A subject. One that no run was ever about is idle.
#[utoipa::path(get, path = "/v1/subjects/{subject}", tag = "runs", params(("subject" = String, Path)),
    responses((status = 200, body = Subject), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    SubjectPath(name): SubjectPath,
) -> Reply<Subject> {
    let row = app.store.subject(&namespace, &name, SHOWN).await?;
    let active = row.active.into_iter().map(|row| ActiveRun {
        id: row.run.id,
        queue: row.class.queue.clone(),
        kind: row.class.kind.clone(),
        state: row.run.state,
        worker_name: row.worker_name.filter(|_| row.run.state.is_leased()),
        created_at: row.run.created_at,
    });
    Ok(Json(Subject {
        subject: name,
        status: row.subject.status().as_str().to_owned(),
        active_count: row.subject.active,
        active: active.collect(),
        last: row.subject.last.map(Into::into),
    }))
}
