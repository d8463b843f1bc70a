//! `POST /v1/runs` and `POST /v1/runs/batch`.

use crate::app::App;
use crate::extract::{Namespace, RawBody, check_name};
use crate::reply::Fault;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use outlive_api::problem::{Code, Problem};
use outlive_api::runs as wire;
use outlive_core::class::{MatchClass, PRIORITY};
use outlive_core::explain::unmatched;
use outlive_core::limits::sizes;
use outlive_core::options::RunOptions;
use outlive_core::policy::Admission;
use outlive_core::run::begin::NewRun;
use outlive_core::{Json as RawJson, RunId};
use outlive_store::{CreateError, CreateRequest, CreateRun, Created, Idempotency, OnConflict};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// Creates a run; idempotent by `id` or by the header `Idempotency-Key`.
#[utoipa::path(post, path = "/v1/runs", tag = "runs", request_body = wire::NewRun,
    responses((status = 201, body = wire::Run), (status = 200, body = wire::Run, description = "it existed already"),
        (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    headers: HeaderMap,
    RawBody(body, bytes): RawBody<wire::NewRun>,
) -> Result<(StatusCode, Json<wire::Run>), Fault> {
    let key = idempotency(&headers, &bytes)?;
    let (created, warnings) = create(&app, namespace.clone(), vec![body], key, "").await?;
    let first = created.runs.first().ok_or_else(|| Fault::new(Code::Internal, "nothing was created"))?;
    let id = first.run.id;
    let row = app.store.get(&namespace, id).await?.ok_or_else(|| Fault::run_not_found(id))?;
    let mut view = app.run_view(row, false).await?;
    view.warnings = warnings;
    let status = if first.existed { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(view)))
}

/// Creates up to 1,000 runs, all or nothing.
#[utoipa::path(post, path = "/v1/runs/batch", tag = "runs", request_body = wire::NewRuns,
    responses((status = 201, body = wire::CreatedRuns), (status = "4XX", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn batch(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    headers: HeaderMap,
    RawBody(body, bytes): RawBody<wire::NewRuns>,
) -> Result<(StatusCode, Json<wire::CreatedRuns>), Fault> {
    if body.runs.is_empty() {
        return Err(Fault::field("runs", "must have at least one run"));
    }
    if body.runs.len() > sizes::BATCH {
        let detail = format!("a batch has at most {} runs; this one has {}", sizes::BATCH, body.runs.len());
        return Err(Fault::new(Code::TooLarge, detail));
    }
    let key = idempotency(&headers, &bytes)?;
    let (created, _) = create(&app, namespace, body.runs, key, "runs").await?;
    let runs = created.runs.iter().map(|c| wire::CreatedRun { id: c.run.id, state: c.run.state }).collect();
    Ok((StatusCode::CREATED, Json(wire::CreatedRuns { runs })))
}

pub(super) fn idempotency(headers: &HeaderMap, body: &[u8]) -> Result<Option<Idempotency>, Fault> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    check_name("Idempotency-Key", key)?;
    Ok(Some(Idempotency { key: key.to_owned(), body_hash: crate::token::hash(body) }))
}

/// Validates, reserves room on sessions, and creates and claims in one transaction.
pub(super) async fn create(
    app: &Arc<App>,
    namespace: String,
    bodies: Vec<wire::NewRun>,
    idempotency: Option<Idempotency>,
    list: &str,
) -> Result<(Created, Vec<String>), Fault> {
    let mut runs = Vec::with_capacity(bodies.len());
    let mut ready: BTreeMap<_, u32> = BTreeMap::new();
    let mut refusal = app.disk.refusal();
    // What is doubtful about a class is asked once, however many runs of it a batch has.
    let mut doubts: BTreeMap<outlive_core::ClassId, Option<String>> = BTreeMap::new();
    for (index, body) in bodies.into_iter().enumerate() {
        let at = |field: &str| if list.is_empty() { field.to_owned() } else { format!("{list}[{index}].{field}") };
        let run = read(app, &namespace, body, &at, &mut doubts, &mut refusal).await?;
        if !run.new.hold && run.new.run_at.is_none() && run.new.serial_key.is_none() {
            *ready.entry(run.new.class).or_default() += 1;
        }
        runs.push(run);
    }
    let warnings = doubts.into_values().flatten().collect();
    let app = Arc::clone(app);
    let created = App::detached(async move { app.create(namespace, runs, idempotency, ready, refusal).await }).await?;
    Ok((created, warnings))
}

impl App {
    pub(super) async fn create(
        self: &Arc<Self>,
        namespace: String,
        runs: Vec<CreateRun>,
        idempotency: Option<Idempotency>,
        mut ready: BTreeMap<outlive_core::ClassId, u32>,
        refusal: Option<Fault>,
    ) -> Result<Created, Fault> {
        let queues: Vec<_> = runs.iter().map(|r| r.new.queue).collect();
        let only_known = refusal.is_some();
        if only_known {
            ready.clear();
        }
        let (wanted, claims): (Vec<_>, _) = self.offer(ready.into_iter().collect()).into_iter().unzip();
        let result = self.store.create(CreateRequest { namespace, runs, idempotency, claims, only_known }).await;
        let mut created = match result {
            Ok(created) => created,
            Err(error) => {
                for claim in wanted {
                    // If the store failed, nobody knows what is ready now: the engine asks again in a moment.
                    let nothing = match &error {
                        CreateError::Store(error) => Err(error.clone()),
                        _ => Ok(outlive_store::Claimed::default()),
                    };
                    self.claimed(&claim, nothing);
                }
                return Err(match (error, refusal) {
                    (CreateError::WouldBeNew, Some(refusal)) => refusal,
                    (error, _) => error.into(),
                });
            }
        };
        let mut claimed = std::mem::take(&mut created.claimed).into_iter();
        for claim in wanted {
            self.claimed(&claim, Ok(claimed.next().unwrap_or_default()));
        }
        self.committed(std::mem::take(&mut created.commit));
        for queue in queues.iter().take(1) {
            let name = self.catalog.queue(*queue).map(|q| q.name.clone()).unwrap_or_default();
            let count = created.runs.iter().filter(|r| !r.existed).count() as u64;
            metrics::counter!("outlive_runs_created_total", "queue" => name).increment(count);
        }
        Ok(created)
    }
}

/// One body as a row, with what is doubtful about it. A repetition of what was accepted before is never refused for what is
/// true now, so a `refusal` of new runs is kept for the store, which knows what is a repetition.
async fn read(
    app: &Arc<App>,
    namespace: &str,
    body: wire::NewRun,
    at: &impl Fn(&str) -> String,
    doubts: &mut BTreeMap<outlive_core::ClassId, Option<String>>,
    refusal: &mut Option<Fault>,
) -> Result<CreateRun, Fault> {
    validate(&body, at)?;
    let options = RunOptions {
        max_attempts: body.max_attempts,
        max_losses: body.max_losses,
        backoff: body.backoff,
        run_timeout: body.run_timeout,
        progress_timeout: body.progress_timeout,
        queue_ttl: body.queue_ttl,
        parent: body.parent,
        retry_of: None,
        subjects: body.subjects,
        tags: body.tags,
        traceparent: None,
    };
    options.validate().map_err(|bad| Fault::field(at(bad.field), bad.detail))?;
    let class = MatchClass {
        namespace: namespace.to_owned(),
        queue: body.queue,
        kind: body.kind,
        requires: body.requires,
        pin: body.pin,
    };
    // A class that is not known has never had a run; to learn it is a write.
    if !app.knows(&class)
        && let Some(refusal) = refusal.take()
    {
        return Err(refusal);
    }
    let (class_id, queue_id) = app.class(&class).await?;
    if let Entry::Vacant(slot) = doubts.entry(class_id) {
        let doubt = app.doubt(&class).await?;
        let admission = app.catalog.policy(queue_id).admission;
        if let (Admission::Gate, Some(detail)) = (admission, &doubt) {
            let detail = format!("queue {} admits only what a worker can take: {detail}", class.queue);
            refusal.get_or_insert(Fault::new(Code::NotAdmitted, detail));
        }
        slot.insert(doubt);
    }
    if let Err(bad) = options.validate_under(&app.catalog.policy(queue_id)) {
        refusal.get_or_insert_with(|| Fault::field(at(bad.field), bad.detail));
    }
    let id = body.id.unwrap_or_else(|| new_id(app));
    let new = NewRun {
        id,
        class: class_id,
        queue: queue_id,
        priority: body.priority,
        run_at: body.run_at,
        hold: body.hold,
        serial_key: body.serial_key,
        key: body.key,
        queue_ttl: body.queue_ttl,
    };
    let on_conflict = match body.on_conflict {
        wire::OnConflict::Reject => OnConflict::Reject,
        wire::OnConflict::Return => OnConflict::Return,
        wire::OnConflict::Replace => OnConflict::Replace,
    };
    let id_chosen = body.id.is_some();
    let run = CreateRun { new, id_chosen, on_conflict, input: body.input, options, checkpoint: None };
    Ok(run)
}

impl App {
    /// Why no worker that is known now could take a run of this class, slots apart.
    async fn doubt(&self, class: &MatchClass) -> Result<Option<String>, Fault> {
        let found = self.with_candidates(&class.namespace, |workers| unmatched(class, workers)).await?;
        Ok(found.filter(|(code, _)| !matches!(*code, "all_slots_busy" | "pin_busy")).map(|(_, detail)| detail))
    }
}

/// A UUIDv7 of the server's.
pub(super) fn new_id(app: &App) -> RunId {
    // Ten bytes of a version 4 UUID that are random throughout come first after this.
    RunId::from_parts(app.clock.wall(), uuid::Uuid::new_v4().as_u128().rotate_left(80))
}

fn validate(body: &wire::NewRun, at: &impl Fn(&str) -> String) -> Result<(), Fault> {
    check_name(&at("kind"), &body.kind)?;
    check_name(&at("queue"), &body.queue)?;
    for (field, value) in [("key", &body.key), ("serial_key", &body.serial_key), ("pin", &body.pin)] {
        if let Some(value) = value {
            check_name(&at(field), value)?;
        }
    }
    let lists = [("tags", &body.tags), ("requires", &body.requires)];
    for (field, map) in lists {
        if map.len() > sizes::LABELS {
            return Err(Fault::field(at(field), format!("has more than {} entries", sizes::LABELS)));
        }
        for (key, value) in map {
            check_name(&at(field), key)?;
            check_name(&at(field), value)?;
        }
    }
    if body.subjects.len() > sizes::SUBJECTS {
        return Err(Fault::field(at("subjects"), format!("has more than {} entries", sizes::SUBJECTS)));
    }
    for subject in &body.subjects {
        check_name(&at("subjects"), subject)?;
    }
    if !PRIORITY.contains(&body.priority) {
        return Err(Fault::field(at("priority"), "must be between -100 and 100"));
    }
    check_input(&body.kind, &body.input, at)?;
    if body.id.is_some_and(|id| id.0.get_version_num() != 7) {
        return Err(Fault::field(at("id"), "must be a UUID of version 7"));
    }
    Ok(())
}

/// An input's size, and what a command must have.
pub(super) fn check_input(kind: &str, input: &RawJson, at: &impl Fn(&str) -> String) -> Result<(), Fault> {
    if input.text().len() > sizes::INPUT {
        return Err(Fault::new(Code::TooLarge, format!("{}: is larger than {} bytes", at("input"), sizes::INPUT)));
    }
    check_depth(at("input"), input)?;
    if kind == "exec" { exec(input, at) } else { Ok(()) }
}

/// What others will have to read.
pub(super) fn check_depth(field: impl Into<String>, json: &RawJson) -> Result<(), Fault> {
    let fits = json.depth() <= sizes::DEPTH;
    if fits { Ok(()) } else { Err(Fault::field(field, format!("is nested deeper than {} levels", sizes::DEPTH))) }
}

/// A command is checked where it is created, not minutes later on a worker.
fn exec(input: &RawJson, at: &impl Fn(&str) -> String) -> Result<(), Fault> {
    let read: Result<wire::ExecInput, _> = input.read();
    let (command, limits) = match read {
        Ok(exec) => (exec.command, exec.limits.unwrap_or_default()),
        Err(error) => return Err(Fault::field(at("input"), error.to_string())),
    };
    if command.first().is_none_or(String::is_empty) {
        return Err(Fault::field(at("input.command"), "must name a program"));
    }
    if let Err(field) = limits.read() {
        return Err(Fault::field(at(&format!("input.limits.{field}")), "must be at least 1"));
    }
    if command.iter().any(|part| part.contains('\0')) {
        return Err(Fault::field(at("input.command"), "must not contain NUL"));
    }
    Ok(())
}
