//! `GET /v1/stuck`: what does not move, worst first.

use crate::app::App;
use crate::extract::Namespace;
use crate::reply::Reply;
use axum::Json;
use axum::extract::State;
use outlive_api::ops::{StuckRun, StuckRuns};
use outlive_api::problem::Problem;
use outlive_store::RunQuery;
use std::sync::Arc;

/// Runs that are looked at: those that wait or are leased, newest first.
const PAGES: usize = 10;

/// Runs that do not move.
#[utoipa::path(get, path = "/v1/stuck", tag = "operations",
    responses((status = 200, body = StuckRuns), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn list(State(app): State<Arc<App>>, Namespace(namespace): Namespace) -> Reply<StuckRuns> {
    // Makes sure that the workers are known, by which "starved" is told.
    app.with_candidates(&namespace, |_| ()).await?;
    let states = outlive_core::State::ALL.iter().copied().filter(|s| !s.is_terminal()).collect();
    let mut query = RunQuery { namespace, states, limit: 1_000, ..RunQuery::default() };
    let mut runs = Vec::new();
    for _ in 0..PAGES {
        let page = app.store.list(query.clone()).await?;
        for row in &page.rows {
            if let Some(stuck) = app.stuck_view(row) {
                runs.push(StuckRun { id: row.run.id, queue: row.class.queue.clone(), state: row.run.state, stuck });
            }
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    let order = ["crash_loop", "unacked_cancel", "silent", "overdue", "stalled", "starved"];
    let place = |kind: &str| order.iter().position(|k| *k == kind).unwrap_or(order.len());
    runs.sort_by_key(|run| (place(&run.stuck.kind), run.stuck.since));
    Ok(Json(StuckRuns { runs }))
}
