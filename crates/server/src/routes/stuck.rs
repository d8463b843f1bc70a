//! `GET /v1/stuck`: what does not move, worst first.

use crate::app::App;
use crate::extract::Namespace;
use crate::reply::Reply;
use axum::Json;
use axum::extract::State;
use outlive_api::ops::{StuckRun, StuckRuns};
use outlive_api::problem::Problem;
use outlive_core::explain::unmatched;
use outlive_core::{ClassId, State as StateOf};
use outlive_store::{RunQuery, RunRow, StoreError};
use std::sync::Arc;

/// Pages of leased runs, and of held ones, that are looked at.
const PAGES: usize = 10;
/// Runs of one class that are named, when nobody takes any of them.
const OF_A_CLASS: u32 = 100;

/// Runs that do not move.
#[utoipa::path(get, path = "/v1/stuck", tag = "operations",
    responses((status = 200, body = StuckRuns), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn list(State(app): State<Arc<App>>, Namespace(namespace): Namespace) -> Reply<StuckRuns> {
    // Makes sure that the workers are known, by which "starved" is told.
    app.with_candidates(&namespace, |_| ()).await?;
    let leased = StateOf::ALL.iter().copied().filter(|s| s.is_leased()).collect();
    let mut rows = app.pages(&namespace, leased).await?;
    rows.extend(app.pages(&namespace, vec![StateOf::Held]).await?);
    for class in app.store.ready_classes().await? {
        if app.is_starved(&namespace, class).await? {
            rows.extend(app.store.first_in_line(class, OF_A_CLASS).await?);
        }
    }
    let mut runs = Vec::new();
    for row in &rows {
        if let Some(stuck) = app.stuck_view(row) {
            runs.push(StuckRun { id: row.run.id, queue: row.class.queue.clone(), state: row.run.state, stuck });
        }
    }
    let order = ["crash_loop", "unacked_cancel", "silent", "overdue", "stalled", "starved"];
    let place = |kind: &str| order.iter().position(|k| *k == kind).unwrap_or(order.len());
    runs.sort_by_key(|run| (place(&run.stuck.kind), run.stuck.since));
    Ok(Json(StuckRuns { runs }))
}

impl App {
    /// Runs in these states, each found by an index of its own: what is stuck may be older than all that has ended since.
    async fn pages(&self, namespace: &str, states: Vec<StateOf>) -> Result<Vec<RunRow>, StoreError> {
        let mut query = RunQuery { namespace: namespace.to_owned(), states, limit: 1_000, ..RunQuery::default() };
        let mut rows = Vec::new();
        for _ in 0..PAGES {
            let page = self.store.list(query.clone()).await?;
            rows.extend(page.rows);
            query.cursor = page.next;
            if query.cursor.is_none() {
                break;
            }
        }
        Ok(rows)
    }

    /// Whether nobody could take a run of this class: whatever keeps the class, keeps all of its runs.
    async fn is_starved(&self, namespace: &str, id: ClassId) -> Result<bool, StoreError> {
        let Some(row) = self.catalog.class(id).filter(|row| row.class.namespace == namespace) else { return Ok(false) };
        let paused = self.catalog.queue(row.queue).is_some_and(|queue| queue.paused);
        Ok(paused || self.with_candidates(namespace, |workers| unmatched(&row.class, workers).is_some()).await?)
    }
}
