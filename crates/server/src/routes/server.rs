//! `GET /v1/server`.

use crate::app::App;
use crate::extract::Namespace;
use crate::reply::Reply;
use axum::Json;
use axum::extract::State;
use outlive_api::ops::{Judge, Server, ServerStore, Setting};
use outlive_api::problem::Problem;
use outlive_core::effective::{self, Origin};
use outlive_core::engine::{Engine, Opened};
use outlive_core::given::GivenPolicy;
use std::sync::Arc;

/// Queues of which the values that were set are shown: a page for people. Each queue shows its own.
const QUEUES: usize = 100;

/// Version, store, judge, phases, effective settings.
#[utoipa::path(get, path = "/v1/server", tag = "operations",
    responses((status = 200, body = Server), (status = 503, body = Problem)))]
pub(crate) async fn show(State(app): State<Arc<App>>, Namespace(namespace): Namespace) -> Reply<Server> {
    let health = app.store.health().await?;
    let uptime = app.clock.boot().since(app.started);
    let (observed, held_back) = app.driver.look(|e| (e.observed().now(), e.observed().held_back()));
    let breaker = app.driver.look(Engine::breaker).map(Opened::text);
    let (sessions, leases) = app.driver.look(Engine::counts);
    Ok(Json(Server {
        version: app.config.version.clone(),
        protocols: outlive_api::PROTOCOLS.collect(),
        replica: app.replica.0,
        replicas: app.replica_views(),
        now: app.clock.wall(),
        uptime_ms: uptime.0,
        store: ServerStore {
            backend: health.backend.to_owned(),
            location: health.location,
            generation: app.generation,
            bytes: health.bytes,
            schema_version: health.schema_version,
            disk: app.disk.view(),
        },
        judge: Judge {
            observed_ms: observed.0,
            lag_ms: uptime.0.saturating_sub(observed.since(app.observed_at_start).0),
            punctual: held_back.is_none(),
            held_back_by: held_back.map(|h| h.text().to_owned()),
            breaker,
        },
        sessions: sessions as u64,
        leases: leases as u64,
        phases: app.phases.all(),
        settings: settings(&app, &namespace),
    }))
}

/// What this process was started with, the defaults of every queue with what follows from them, what the tenant's queues set
/// instead, and what is the same for everybody.
fn settings(app: &App, namespace: &str) -> Vec<Setting> {
    let defaults = GivenPolicy::default();
    let mut queues = app.catalog.queues_of(namespace);
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    let set = queues.iter().filter(|queue| !queue.set.is_empty()).take(QUEUES).flat_map(|queue| {
        let given = GivenPolicy::of(&queue.policy, &queue.set);
        let said = effective::policy(&given).into_iter().filter(|row| row.origin == Origin::Policy);
        let named = |row: effective::Effective| Setting {
            name: row.name.replacen("queue.", &format!("queue[{}].", queue.name), 1),
            ..row.into()
        };
        said.map(named).collect::<Vec<_>>()
    });
    let all = |rows: Vec<effective::Effective>| rows.into_iter().map(Setting::from);
    let mut settings = app.config.settings.clone();
    settings.extend(all(effective::policy(&defaults)));
    settings.extend(all(effective::derived(defaults.policy())));
    settings.extend(set);
    settings.extend(all(effective::fixed()));
    settings
}
