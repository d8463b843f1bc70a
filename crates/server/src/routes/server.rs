//! `GET /v1/server`.

use crate::app::App;
use crate::reply::Reply;
use axum::Json;
use axum::extract::State;
use outlive_api::ops::{Judge, Server, ServerStore};
use outlive_api::problem::Problem;
use outlive_core::engine::{Engine, Opened};
use std::sync::Arc;

/// Version, store, judge, phases, effective settings.
#[utoipa::path(get, path = "/v1/server", tag = "operations",
    responses((status = 200, body = Server), (status = 503, body = Problem)))]
pub(crate) async fn show(State(app): State<Arc<App>>) -> Reply<Server> {
    let health = app.store.health().await?;
    let uptime = app.clock.mono().since(app.started);
    let (observed, held_back) = app.driver.look(|e| (e.observed().now(), e.observed().held_back()));
    let breaker = app.driver.look(Engine::breaker).map(Opened::text);
    let (sessions, leases) = app.driver.look(Engine::counts);
    Ok(Json(Server {
        version: app.config.version.clone(),
        protocols: vec![outlive_api::PROTOCOL],
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
        settings: app.config.settings.clone(),
    }))
}
