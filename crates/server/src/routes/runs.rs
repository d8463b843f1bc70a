//! Reading runs: one, a page, attempts, events, explanation.

use crate::app::App;
use crate::extract::{Namespace, Query, RunPath};
use crate::reply::{Fault, Reply};
use crate::view;
use axum::Json;
use axum::extract::State;
use outlive_api::problem::Problem;
use outlive_api::runs as wire;
use outlive_core::engine::Status;
use outlive_core::explain::{Candidate, Cause, LeaseFacts, QueueFacts, explain as causes, stuck};
use outlive_core::{Millis, RunId};
use outlive_store::{RunQuery, RunRow, StoreError, WorkerRow};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// The longest wait for a run's end.
const LONGEST_WAIT: Millis = Millis::secs(60);
/// While somebody waits, the row is read this often although no hint came.
const LOOK: Millis = Millis::secs(1);
/// The largest page.
const LARGEST_PAGE: u32 = 1_000;
/// A worker silent for this many beats shows its runs as silent.
const SILENT_BEATS: u64 = 3;

/// Parameters of one run.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ShowQuery {
    /// Answer when it is terminal, or after this long, at most 60 s.
    #[param(value_type = Option<String>)]
    wait: Option<Millis>,
}

/// A run.
#[utoipa::path(get, path = "/v1/runs/{id}", tag = "runs", params(("id" = uuid::Uuid, Path), ShowQuery),
    responses((status = 200, body = wire::Run), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    RunPath(id): RunPath,
    Query(query): Query<ShowQuery>,
) -> Reply<wire::Run> {
    let mut waiter = crate::hub::Waiter::subscribe(&app, id);
    let mut row = app.store.get(&namespace, id).await?.ok_or_else(|| Fault::run_not_found(id))?;
    if let Some(wait) = query.wait {
        let mut over = std::pin::pin!(tokio::time::sleep(wait.min(LONGEST_WAIT).duration()));
        let mut is_over = false;
        while !is_over && !row.run.state.is_terminal() && !app.is_stopping() {
            // The wake is a hint; once a second the row itself is read.
            is_over = tokio::select! {
                _ = tokio::time::timeout(LOOK.duration(), waiter.changed()) => false,
                () = &mut over => true,
            };
            row = app.store.get(&namespace, id).await?.ok_or_else(|| Fault::run_not_found(id))?;
        }
    }
    Ok(Json(app.run_view(row, true).await?))
}

/// Filters of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Comma-separated states.
    state: Option<String>,
    /// Lane.
    queue: Option<String>,
    /// Kind.
    kind: Option<String>,
    /// Name of the worker that holds or last held it.
    worker: Option<String>,
    /// Subject.
    subject: Option<String>,
    /// Serial key.
    serial_key: Option<String>,
    /// Parent.
    #[param(value_type = Option<uuid::Uuid>)]
    parent: Option<RunId>,
    /// `key:value`.
    tag: Option<String>,
    /// `any`: only runs that are stuck.
    stuck: Option<String>,
    /// Reason code.
    reason: Option<String>,
    /// End of the id.
    id_suffix: Option<String>,
    /// Beginning of the id.
    id_prefix: Option<String>,
    /// At most 1,000; default 100.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Runs, newest first. A page may be short and still have a next one.
#[utoipa::path(get, path = "/v1/runs", tag = "runs", params(ListQuery),
    responses((status = 200, body = wire::Runs), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    Query(q): Query<ListQuery>,
) -> Reply<wire::Runs> {
    let states = q.state.as_deref().unwrap_or_default().split(',').filter(|s| !s.is_empty());
    let states: Result<Vec<outlive_core::State>, _> = states.map(str::parse).collect();
    let tag = match q.tag {
        Some(tag) => {
            let (key, value) = tag.split_once(':').ok_or_else(|| Fault::field("tag", "must be key:value"))?;
            Some((key.to_owned(), value.to_owned()))
        }
        None => None,
    };
    if q.stuck.as_deref().is_some_and(|s| s != "any") {
        return Err(Fault::field("stuck", "must be any"));
    }
    let query = RunQuery {
        namespace,
        states: states.map_err(|e| Fault::field("state", e.to_string()))?,
        queue: q.queue,
        kind: q.kind,
        worker: q.worker,
        subject: q.subject,
        serial_key: q.serial_key,
        parent: q.parent,
        tag,
        reason: q.reason.map(|r| r.parse()).transpose().map_err(|e| Fault::field("reason", format!("{e}")))?,
        id_suffix: q.id_suffix.map(|s| s.to_ascii_lowercase()),
        id_prefix: q.id_prefix.map(|s| s.to_ascii_lowercase()),
        limit: page_size(q.limit)?,
        cursor: cursor(q.cursor.as_deref())?,
    };
    let page = app.store.list(query).await?;
    let next_cursor = page.next.map(|n| n.to_string());
    let mut runs = Vec::with_capacity(page.rows.len());
    for row in page.rows {
        let run = app.run_view(row, false).await?;
        if q.stuck.is_none() || run.stuck.is_some() {
            runs.push(run);
        }
    }
    Ok(Json(wire::Runs { runs, next_cursor }))
}

/// A page's size.
pub(super) fn page_size(limit: Option<u32>) -> Result<u32, Fault> {
    match limit {
        Some(0) => Err(Fault::field("limit", "must be at least 1")),
        Some(n) if n > LARGEST_PAGE => Err(Fault::field("limit", format!("must be at most {LARGEST_PAGE}"))),
        other => Ok(other.unwrap_or(100)),
    }
}

/// A cursor that this server gave.
pub(super) fn cursor(text: Option<&str>) -> Result<Option<i64>, Fault> {
    let text = text.filter(|t| !t.is_empty());
    let bad = |_| Fault::field("cursor", "is not the next_cursor of a page of this list");
    text.map(|t| t.parse::<i64>().map_err(bad)).transpose()
}

/// All attempts, oldest first.
#[utoipa::path(get, path = "/v1/runs/{id}/attempts", tag = "runs", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = wire::Attempts), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn attempts(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    RunPath(id): RunPath,
) -> Reply<wire::Attempts> {
    let rows = app.store.attempts(&namespace, id).await?.ok_or_else(|| Fault::run_not_found(id))?;
    Ok(Json(wire::Attempts { attempts: rows.into_iter().map(view::attempt).collect() }))
}

/// The transitions, oldest first.
#[utoipa::path(get, path = "/v1/runs/{id}/events", tag = "runs", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = wire::RunEvents), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    RunPath(id): RunPath,
) -> Reply<wire::RunEvents> {
    let rows = app.store.events(&namespace, id).await?.ok_or_else(|| Fault::run_not_found(id))?;
    let event = |e: outlive_core::run::Event| wire::RunEvent {
        r#type: e.kind.as_str().to_owned(),
        at: e.at,
        epoch: e.epoch,
        state: e.state,
        reason: e.reason,
        note: e.note,
    };
    Ok(Json(wire::RunEvents { events: rows.into_iter().map(event).collect() }))
}

/// Why a run is where it is.
#[utoipa::path(get, path = "/v1/runs/{id}/explain", tag = "runs", params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = wire::Explanation), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    RunPath(id): RunPath,
) -> Reply<wire::Explanation> {
    let row = app.store.get(&namespace, id).await?.ok_or_else(|| Fault::run_not_found(id))?;
    let found = app.because(&row).await?;
    let until = row.run.due_at.filter(|_| row.run.state == outlive_core::State::Scheduled).map(outlive_api::time::text);
    let until = until.map_or_else(String::new, |at| format!(", {at}"));
    let because = |c: Cause| wire::Because { code: c.code.to_owned(), detail: format!("{}{until}", c.detail) };
    let mut because: Vec<_> = found.into_iter().map(because).collect();
    because.extend(app.waits_for_the_breaker(&row));
    Ok(Json(wire::Explanation { state: row.run.state, because }))
}

impl App {
    /// A leased run whose worker is absent, while the breaker is open.
    fn waits_for_the_breaker(&self, row: &RunRow) -> Option<wire::Because> {
        let (holder, _) = row.run.lease()?;
        let session = self.driver.session(holder);
        let why = self.driver.look(outlive_core::engine::Engine::breaker)?.text();
        let absent = session.is_none_or(|s| s.status != Status::Online && s.status != Status::Draining);
        let detail = format!("its worker is absent, and the server doubts itself first: {why}");
        absent.then(|| wire::Because { code: "breaker_open".to_owned(), detail })
    }

    /// What keeps a run where it is, by the predicates of claim and sweep.
    pub(crate) async fn because(&self, row: &RunRow) -> Result<Vec<Cause>, StoreError> {
        let running = self.store.queue_counts(row.run.queue).await?.running;
        self.with_candidates(&row.class.namespace, |workers| self.causes(row, workers, running)).await
    }

    /// Calls `ask` with the workers of a namespace as claims see them.
    pub(crate) async fn with_candidates<T>(
        &self,
        namespace: &str,
        ask: impl FnOnce(&[Candidate<'_>]) -> T,
    ) -> Result<T, StoreError> {
        let rows = self.workers_of(namespace).await?;
        let candidates: Vec<_> = rows.iter().map(|row| self.candidate(row)).collect();
        Ok(ask(&candidates))
    }

    async fn workers_of(&self, namespace: &str) -> Result<Arc<Vec<WorkerRow>>, StoreError> {
        let now = self.clock.boot();
        if let Some(known) = self.catalog.workers(namespace, now) {
            return Ok(known);
        }
        let rows = Arc::new(self.store.workers(Some(namespace), None, LARGEST_PAGE).await?);
        self.catalog.remember_workers(namespace, now, Arc::clone(&rows));
        Ok(rows)
    }

    fn candidate<'r>(&self, row: &'r WorkerRow) -> Candidate<'r> {
        let session = self.driver.session(row.holder());
        let takes_work = self.status(row) == Status::Online && !row.left;
        // What another replica's worker holds is not known here: it may have room.
        let held = session.map_or(0, |s| s.held);
        let free =
            if takes_work { row.profile.slots.saturating_sub(u32::try_from(held).unwrap_or(u32::MAX)) } else { 0 };
        Candidate { profile: &row.profile, takes_work, free }
    }

    /// What keeps a run where it is.
    pub(crate) fn causes(&self, row: &RunRow, workers: &[Candidate<'_>], running: i64) -> Vec<Cause> {
        let queue = self.catalog.queue(row.run.queue);
        let facts = QueueFacts {
            paused: queue.as_ref().is_some_and(|q| q.paused),
            running,
            max_running: queue.as_ref().and_then(|q| q.policy.max_running),
            rated: queue.as_ref().is_some_and(|q| q.policy.rate.is_some())
                && self.driver.look(|engine| engine.waits_for_rate(row.run.class)),
        };
        causes(&row.run, row.detail.note.as_deref(), &row.class, workers, facts)
    }

    /// How long nothing has been said about a leased run: as its judge counts it, or, if that is another replica, by the row, on
    /// the store's clock.
    fn still_for(&self, row: &RunRow) -> Millis {
        self.driver.look(|engine| {
            let judged = row.run.lease().and_then(|(holder, lease)| engine.still_for(holder, lease));
            judged.unwrap_or_else(|| engine.store_observed().since(row.run.lease_observed))
        })
    }

    /// Whether a run is stuck, by what is in memory: cheap enough for every row of a list.
    pub(crate) fn stuck_view(&self, row: &RunRow) -> Option<wire::Stuck> {
        let policy = self.catalog.policy(row.run.queue);
        let holder = row.run.lease().map(|(holder, _)| holder);
        let session = holder.and_then(|h| self.driver.session(h));
        let silent_after = Millis(outlive_core::policy::derive::heartbeat(policy.lease_ttl).0 * SILENT_BEATS);
        let silent_for = session.map(|s| s.heard_ago).filter(|ago| *ago > silent_after);
        let limits = row.options.attempt_limits(&policy);
        let lease = LeaseFacts {
            silent_for,
            start_timeout: Some(policy.start_timeout),
            run_timeout: Some(limits.run_timeout),
            progress_timeout: limits.progress_timeout,
            still_for: self.still_for(row),
            cancel_requested_at: row.cancel_requested_at,
            cancel_grace: policy.cancel_grace,
        };
        let workers = self.catalog.workers(&row.class.namespace, self.clock.boot());
        let causes = match &workers {
            Some(rows) if row.run.is_ready() => {
                let candidates: Vec<_> = rows.iter().map(|row| self.candidate(row)).collect();
                self.causes(row, &candidates, 0)
            }
            _ => Vec::new(),
        };
        let fact = stuck(&row.run, &causes, lease, self.clock.wall())?;
        Some(wire::Stuck { kind: fact.kind.to_owned(), why: fact.why, since: fact.since })
    }
}
