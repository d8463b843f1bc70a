//! Numbers for Prometheus: base units, no run or worker ids as labels.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;

const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0,
    7_200.0,
];

/// A tick of the judge takes microseconds, and what it takes under a million leases is promised.
const TICK_SECONDS: &[f64] = &[
    0.000_001, 0.000_002, 0.000_003, 0.000_005, 0.000_007, 0.000_01, 0.000_015, 0.000_02, 0.000_03, 0.000_05, 0.000_07,
    0.000_1, 0.000_15, 0.000_2, 0.000_3, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0,
];

/// The recorder of this process; installed once, however many servers it runs.
pub(crate) fn handle() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        let builder = PrometheusBuilder::new();
        let builder = builder
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Full(JUDGE_TICK.to_owned()), TICK_SECONDS))
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Another recorder may be there already in a process that embeds the server; then its owner shows the numbers.
        drop(metrics::set_global_recorder(recorder));
        metrics::gauge!("outlive_breaker_open").set(0.0);
        handle
    };
    HANDLE.get_or_init(install).clone()
}

/// The breaker opened, or closed.
pub(crate) fn breaker(why: Option<outlive_core::engine::Opened>) {
    metrics::gauge!("outlive_breaker_open").set(if why.is_some() { 1.0 } else { 0.0 });
    if let Some(why) = why {
        let why = why.text();
        tracing::warn!("{why}: nobody is taken for dead by absence until it is known that this server hears");
    } else {
        tracing::info!("the breaker closed: whoever is still absent has half a lease more");
    }
}

/// How long a tick of the judge held the engine.
const JUDGE_TICK: &str = "outlive_judge_tick_seconds";

/// The judge ticked.
pub(crate) fn judge_tick(nanos: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a tick takes less than 2^53 ns")]
    metrics::histogram!(JUDGE_TICK).record(nanos as f64 / 1e9);
}

/// Somebody else was there first: an outcome, not an error.
pub(crate) fn lost_race(op: &'static str) {
    metrics::counter!("outlive_lost_races_total", "op" => op).increment(1);
}

/// The engine sees a worker in another status.
pub(crate) fn worker_edge(status: outlive_core::engine::Status) {
    metrics::counter!("outlive_worker_edges_total", "status" => status.as_str()).increment(1);
}

/// Requests by route, method and status.
pub(crate) async fn measure(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let route = if route.starts_with("/internal/") { "self".to_owned() } else { route };
    let method = request.method().as_str().to_owned();
    let start = outlive_api::clock::nanos();
    let response = next.run(request).await;
    #[expect(clippy::cast_precision_loss, reason = "a request takes less than 2^53 ns")]
    let seconds = (outlive_api::clock::nanos() - start) as f64 / 1e9;
    let status = response.status().as_u16().to_string();
    metrics::histogram!("outlive_http_request_duration_seconds", "route" => route, "method" => method, "status" => status)
        .record(seconds);
    response
}
