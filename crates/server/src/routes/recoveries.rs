//! Recoveries: measured objects.

use crate::app::App;
use crate::extract::{Namespace, Query};
use crate::reply::Reply;
use axum::Json;
use axum::extract::State;
use outlive_api::ops::{Recoveries, Recovery, RecoverySide};
use outlive_api::problem::Problem;
use outlive_core::{RunId, Wall};
use outlive_store::{RecoveryQuery, RecoveryRow};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// A page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Of this run alone.
    #[param(value_type = Option<uuid::Uuid>)]
    run: Option<RunId>,
    /// At most 1,000; default 100.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Recoveries, newest first.
#[utoipa::path(get, path = "/v1/recoveries", tag = "operations", params(ListQuery),
    responses((status = 200, body = Recoveries), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    Query(q): Query<ListQuery>,
) -> Reply<Recoveries> {
    let limit = super::runs::page_size(q.limit)?;
    let cursor = super::runs::cursor(q.cursor.as_deref())?;
    let page = app.store.recoveries(RecoveryQuery { namespace, run: q.run, limit, cursor }).await?;
    let recoveries = page.rows.into_iter().map(view).collect();
    Ok(Json(Recoveries { recoveries, next_cursor: page.next.map(|n| n.to_string()) }))
}

fn view(row: RecoveryRow) -> Recovery {
    let between = |from: Option<Wall>, to: Option<Wall>| from.zip(to).map(|(from, to)| to.since(from).0);
    let side = |s: outlive_store::RecoverySide| RecoverySide {
        epoch: s.epoch,
        worker_name: s.worker_name,
        incarnation: s.incarnation,
    };
    Recovery {
        id: row.id.to_string(),
        run_id: row.run_id,
        queue: row.queue,
        evidence: row.evidence.as_str().to_owned(),
        reason: row.reason,
        outcome: row.outcome.as_str().to_owned(),
        from: side(row.from),
        to: row.to.map(side),
        had_checkpoint: row.had_checkpoint,
        detect_ms: row.lost_at.since(row.last_heard_at).0,
        requeue_ms: between(Some(row.lost_at), row.queued_at),
        claim_ms: between(row.queued_at, row.claimed_at),
        resume_ms: between(row.claimed_at, row.started_at),
        redo_ms: between(row.started_at, row.caught_up_at),
        last_heard_at: row.last_heard_at,
        lost_at: row.lost_at,
        queued_at: row.queued_at,
        claimed_at: row.claimed_at,
        started_at: row.started_at,
        caught_up_at: row.caught_up_at,
    }
}
