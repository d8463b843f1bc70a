//! One line per route.

use crate::app::App;
use crate::reply::Fault;
use crate::{metrics, routes, safety};
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};
use outlive_api::problem::Code;
use std::sync::Arc;

pub(crate) fn router(app: Arc<App>) -> Router {
    let self_path = app.signer.self_path.clone();
    Router::new()
        .route("/v1/runs", post(routes::create::one).get(routes::runs::list))
        .route("/v1/runs/batch", post(routes::create::batch))
        .route("/v1/runs/{id}", get(routes::runs::show).merge(delete(routes::actions::delete)))
        .route("/v1/runs/{id}/cancel", post(routes::actions::cancel))
        .route("/v1/runs/{id}/retry", post(routes::actions::retry))
        .route("/v1/runs/{id}/release", post(routes::actions::release))
        .route("/v1/runs/{id}/signal", post(routes::signal::signal))
        .route("/v1/runs/{id}/attempts", get(routes::runs::attempts))
        .route("/v1/runs/{id}/events", get(routes::runs::events))
        .route("/v1/runs/{id}/explain", get(routes::runs::explain))
        .route("/v1/runs/{id}/output", get(routes::output::output))
        .route("/v1/runs/{id}/report", post(routes::report::single))
        .route("/v1/workers", post(routes::register::register).get(routes::workers::list))
        .route("/v1/workers/{id}", get(routes::workers::show))
        .route("/v1/workers/{id}/session", get(crate::session::open))
        .route("/v1/workers/{id}/claim", post(routes::claim::claim))
        .route("/v1/workers/{id}/report", post(routes::report::batch))
        .route("/v1/workers/{id}/drain", post(routes::workers::drain))
        .route("/v1/workers/{id}/undrain", post(routes::workers::undrain))
        .route("/v1/workers/{id}/leave", post(routes::workers::leave))
        .route("/v1/workers/{id}/evict", post(routes::workers::evict))
        .route("/v1/queues", get(routes::queues::list))
        .route("/v1/queues/{name}", get(routes::queues::show).put(routes::queues::put))
        .route("/v1/queues/{name}/pause", post(routes::queues::pause))
        .route("/v1/queues/{name}/resume", post(routes::queues::resume))
        .route("/v1/recoveries", get(routes::recoveries::list))
        .route("/v1/stuck", get(routes::stuck::list))
        .route("/v1/subjects/{subject}", get(routes::subjects::show))
        .route("/v1/events", get(routes::events::events))
        .route("/v1/server", get(routes::server::show))
        .route("/v1/server/echo", get(routes::echo::open))
        .route("/livez", get(routes::health::livez))
        .route("/readyz", get(routes::health::readyz))
        .route("/metrics", get(routes::health::metrics))
        .route("/openapi.json", get(routes::health::openapi))
        .route(&self_path, get(crate::session::selfbeat::receive))
        .fallback(|| async { Fault::new(Code::NotFound, "no such path; the paths are listed in /openapi.json") })
        .method_not_allowed_fallback(|| async {
            Fault::new(Code::MethodNotAllowed, "this path knows other methods; see /openapi.json")
        })
        .layer(from_fn_with_state(Arc::clone(&app), safety::check))
        .layer(from_fn(metrics::measure))
        .with_state(app)
}
