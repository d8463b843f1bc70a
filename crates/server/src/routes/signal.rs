//! `POST /v1/runs/{id}/signal`: a message for the running attempt, over its worker's session.
//!
//! It is told once, to the attempt that runs now, and nothing of it is stored: a connection that breaks at that moment takes
//! it along, and a repeated request is told again. What must reach the work whatever happens is the `data` of a release.

use crate::app::App;
use crate::driver::Told;
use crate::extract::{Body, Namespace, RunPath};
use crate::reply::{Fault, Reply};
use axum::Json;
use axum::extract::State;
use outlive_api::problem::{Code, Problem};
use outlive_api::runs::{Run, SignalBody};
use outlive_core::limits::sizes;
use outlive_core::{LeaseRef, RunId, State as RunState};
use outlive_store::Errand;
use std::sync::Arc;

/// Told to the running attempt; 409 if none runs, or if its worker has no connection at the moment.
#[utoipa::path(post, path = "/v1/runs/{id}/signal", tag = "runs", params(("id" = uuid::Uuid, Path)), request_body = SignalBody,
    responses((status = 200, body = Run), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn signal(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    RunPath(id): RunPath,
    Body(body): Body<SignalBody>,
) -> Reply<Run> {
    check(&body)?;
    let row = app.store.get(&namespace, id).await?.ok_or_else(|| Fault::run_not_found(id))?;
    let state = row.run.state;
    let (RunState::Running, Some(holder)) = (state, row.run.holder) else { return Err(not_running(id, state)) };
    let lease = LeaseRef { run_id: id, epoch: row.run.epoch };
    let data = body.data.unwrap_or_else(outlive_core::Json::null);
    let signal = Errand::Signal { holder, lease, name: body.name, data };
    let told = match app.store.worker(holder.worker).await? {
        Some(worker) => app.send_home(&worker, signal).await?,
        None => Told::NotReachable,
    };
    match told {
        Told::Yes => Ok(Json(app.run_view(row, false).await?)),
        Told::NotReachable => {
            let detail = format!("the worker of run {id} has no connection at the moment; try again in a second");
            Err(Fault::new(Code::WrongState, detail))
        }
        Told::TooMany => {
            let detail = format!("too many messages wait for the worker of run {id}; try again when it has read them");
            Err(Fault::new(Code::RateLimited, detail))
        }
    }
}

fn check(body: &SignalBody) -> Result<(), Fault> {
    if body.name.is_empty() || body.name.len() > sizes::NAME || body.name.contains(char::is_control) {
        return Err(Fault::field("name", format!("must have 1 to {} bytes, without control characters", sizes::NAME)));
    }
    body.data.iter().try_for_each(|data| super::create::check_depth("data", data))?;
    if body.data.as_ref().is_some_and(|d| d.text().len() > sizes::CHECKPOINT) {
        return Err(Fault::new(Code::TooLarge, format!("data: is larger than {} bytes", sizes::CHECKPOINT)));
    }
    Ok(())
}

fn not_running(id: RunId, state: RunState) -> Fault {
    if state.is_terminal() {
        return Fault::new(
            Code::AlreadyTerminal,
            format!("run {id} has ended: it is {state}; nobody would read a signal"),
        );
    }
    let advice = match state {
        RunState::Held | RunState::Scheduled => "release it with data instead: the next attempt gets that",
        RunState::Cancelling => "it is told to stop",
        _ => "try again when it runs",
    };
    Fault::new(Code::WrongState, format!("run {id} is {state}; only a running attempt can be told something: {advice}"))
}
