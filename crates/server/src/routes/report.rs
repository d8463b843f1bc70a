//! Reports over HTTP: a batch, or one item.

use crate::app::App;
use crate::extract::{Body, RunPath, Token, WorkerPath};
use crate::reply::{Fault, Reply};
use axum::Json;
use axum::extract::State;
use outlive_api::problem::{Code, Problem};
use outlive_api::report::{WireItem, WireResult};
use outlive_api::session::Held;
use outlive_api::workers::{ReportAnswer, ReportBody};
use outlive_core::engine::Input;
use outlive_core::limits::sizes;
use std::sync::Arc;

/// A batch of items in order; also a beat. One item never blocks another.
#[utoipa::path(post, path = "/v1/workers/{id}/report", tag = "workers", params(("id" = String, Path)), request_body = ReportBody,
    responses((status = 200, body = ReportAnswer), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn batch(
    State(app): State<Arc<App>>,
    WorkerPath(worker): WorkerPath,
    token: Token,
    Body(body): Body<ReportBody>,
) -> Reply<ReportAnswer> {
    let holder = token.of(worker)?;
    if body.items.len() > sizes::BATCH {
        let detail = format!("a report has at most {} items; this one has {}", sizes::BATCH, body.items.len());
        return Err(Fault::new(Code::TooLarge, detail));
    }
    let elsewhere = app.polling(holder).await?;
    let reporter = Arc::clone(&app);
    let results = App::detached(async move { reporter.report(holder, body.items, body.replay).await }).await?;
    let held: Vec<_> = body.beat.iter().flat_map(|beat| beat.held.iter().map(Held::lease)).collect();
    if let Some(beat) = body.beat {
        app.input(Input::PollHeld(holder, beat.held.iter().map(Held::info).collect()));
    }
    let mut orders = if elsewhere { Vec::new() } else { app.driver.take_orders(holder) };
    // What is not known here may have been given by a replica that is its home by now: only rows can say that it is lost.
    if elsewhere || !app.driver.knows(holder, &held) {
        let more = app.orders_from_rows(holder, &held).await?;
        orders.extend(more.into_iter().filter(|order| !orders.contains(order)).collect::<Vec<_>>());
    }
    Ok(Json(ReportAnswer { results, orders }))
}

/// One item about this run; 409 `lease_lost` when fenced.
#[utoipa::path(post, path = "/v1/runs/{id}/report", tag = "workers", params(("id" = uuid::Uuid, Path)), request_body = WireItem,
    responses((status = 200, body = WireResult), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn single(
    State(app): State<Arc<App>>,
    RunPath(id): RunPath,
    token: Token,
    Body(item): Body<WireItem>,
) -> Reply<WireResult> {
    let Some(holder) = token.0 else {
        let detail = "this call needs the session token of the worker: Authorization: Bearer <session_token>";
        return Err(Fault::new(Code::Unauthenticated, detail));
    };
    app.polling(holder).await?;
    let epoch = item.epoch.ok_or_else(|| Fault::field("epoch", "is missing"))?;
    let item = WireItem { run_id: Some(id), ..item };
    let reporter = Arc::clone(&app);
    let results = App::detached(async move { reporter.report(holder, vec![item], false).await }).await?;
    match results.into_iter().next() {
        Some(WireResult::Fenced { epoch: now, .. }) => {
            let detail = format!(
                "run {id} is at epoch {now}; this report carries epoch {epoch}. Stop this attempt and report nothing more."
            );
            Err(Fault::new(Code::LeaseLost, detail))
        }
        Some(WireResult::Terminal { state }) => {
            let detail = format!("run {id} has ended ({state}). Stop this attempt and report nothing more.");
            Err(Fault::new(Code::LeaseLost, detail))
        }
        Some(WireResult::Invalid { detail }) => Err(Fault::field("item", detail)),
        Some(result) => Ok(Json(result)),
        None => Err(Fault::new(Code::Internal, "the item was not answered")),
    }
}
