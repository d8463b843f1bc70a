//! Probes, metrics, the OpenAPI document.

use crate::app::App;
use crate::reply::Fault;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use outlive_api::problem::{Code, Problem};
use outlive_store::Trouble;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, body = String)))]
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// It takes requests; a planned stop flips this first, and a store that fails.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses((status = 200, body = String), (status = 503, body = Problem)))]
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, Fault> {
    if !app.ready.load(Ordering::Acquire) {
        return Err(Fault::new(Code::Draining, "the server stops or has not started yet"));
    }
    let pulse = app.store.pulse();
    match (pulse.broken, pulse.trouble) {
        (true, _) => Err(unavailable("the disk failed; the store writes nothing more. Look at the disk, then restart")),
        (_, Some(Trouble::Damaged)) => {
            Err(unavailable("a part of the store is damaged and cannot be read. Restore a copy; see the log"))
        }
        (_, Some(Trouble::ReadOnly)) => Err(unavailable("the store takes no writes: its file is read-only")),
        (_, Some(Trouble::Full)) => Err(Fault::new(Code::StoreFull, "the disk of the store is full; make room")),
        (false, None) => Ok("ok\n"),
    }
}

fn unavailable(why: &str) -> Fault {
    Fault::new(Code::StoreUnavailable, why)
}

/// Prometheus text.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, body = String)))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    app.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}

/// This contract.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", responses((status = 200, body = Object)))]
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], crate::openapi::openapi())
}
