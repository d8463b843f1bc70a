//! `POST /v1/workers`: a process announces itself.

use crate::app::App;
use crate::extract::{Body, Namespace, check_name};
use crate::opening::Opening;
use crate::reply::Fault;
use crate::start::session_info;
use crate::view;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use outlive_api::PROTOCOLS;
use outlive_api::problem::{Code, Problem};
use outlive_api::workers::{Register, Registered as Answer, WireLiveness};
use outlive_core::class::WorkerProfile;
use outlive_core::engine::Input;
use outlive_core::limits::sizes;
use outlive_core::policy::derive;
use outlive_core::{Millis, Reason};
use outlive_store::{Errand, Presence, RegisterError, Registered, Registration, WorkerRow};
use std::sync::Arc;

/// What a polling worker is taken to do if it declares nothing.
const DEFAULT_INTERVAL: Millis = Millis::secs(20);
/// A session that was heard within this share of its beat answers.
const ANSWERS_WITHIN_BEATS: u64 = 2;

/// Registers a worker. The same name and instance: a resume (200).
#[utoipa::path(post, path = "/v1/workers", tag = "workers", request_body = Register,
    responses((status = 201, body = Answer), (status = 200, body = Answer), (status = "4XX", body = Problem),
        (status = 503, body = Problem)))]
pub(crate) async fn register(
    State(app): State<Arc<App>>,
    Namespace(namespace): Namespace,
    Body(body): Body<Register>,
) -> Result<(StatusCode, Json<Answer>), Fault> {
    if let Some(detail) = not_spoken(body.protocol) {
        return Err(Fault::new(Code::ProtocolUnsupported, detail));
    }
    if app.is_stopping() {
        return Err(Fault::new(Code::Draining, "the server stops; try again in a moment"));
    }
    validate(&body)?;
    let presence = match body.liveness {
        WireLiveness::Session => Presence::Session,
        WireLiveness::Poll => Presence::Poll(body.heartbeat_interval.unwrap_or(DEFAULT_INTERVAL)),
        WireLiveness::None => Presence::None(body.heartbeat_interval),
    };
    let registration = Registration {
        profile: WorkerProfile {
            namespace,
            name: body.name,
            queues: body.queues.into_iter().collect(),
            kinds: body.kinds.into_iter().collect(),
            labels: body.labels,
            slots: body.slots,
        },
        instance: body.instance,
        outbox_key: body.outbox_key,
        presence,
        version: body.version,
        host: body.host,
        pid: body.pid,
        may_replace: body.takeover,
    };
    let (worker, pending, held) = (Arc::clone(&app), body.outbox_pending, body.held);
    App::detached(async move {
        let registered = worker.register(registration).await?;
        worker.registered(registered, presence, pending, &held).await
    })
    .await
}

/// Why this server does not speak a worker's protocol, and what to do; none: it does.
fn not_spoken(protocol: u32) -> Option<String> {
    let (oldest, newest) = PROTOCOLS.into_inner();
    let ours = if oldest == newest { newest.to_string() } else { format!("{oldest} and {newest}") };
    let upgrade = if protocol > newest { "the servers first, then the workers" } else { "the worker" };
    let told = format!("this worker speaks protocol {protocol}, this server speaks {ours}; upgrade {upgrade}");
    (!PROTOCOLS.contains(&protocol)).then_some(told)
}

fn validate(body: &Register) -> Result<(), Fault> {
    check_name("name", &body.name)?;
    for queue in &body.queues {
        check_name("queues", queue)?;
    }
    if body.queues.is_empty() || body.kinds.is_empty() {
        return Err(Fault::field(if body.kinds.is_empty() { "kinds" } else { "queues" }, "must name at least one"));
    }
    for kind in &body.kinds {
        check_name("kinds", kind)?;
    }
    for (key, value) in &body.labels {
        check_name("labels", key)?;
        check_name("labels", value)?;
    }
    if body.labels.len() > sizes::LABELS {
        return Err(Fault::field("labels", format!("has more than {} entries", sizes::LABELS)));
    }
    if body.slots == 0 || body.slots > sizes::SLOTS {
        return Err(Fault::field("slots", format!("must be between 1 and {}", sizes::SLOTS)));
    }
    let bounds = Millis(100)..=Millis::hours(1);
    if body.heartbeat_interval.is_some_and(|i| !bounds.contains(&i)) {
        return Err(Fault::field("heartbeat_interval", "must be between 100ms and 1h"));
    }
    Ok(())
}

impl App {
    /// Registers; if the name is taken, whoever has it must show that it lives.
    async fn register(&self, registration: Registration) -> Result<Registered, Fault> {
        match self.store.register(registration.clone()).await {
            Err(RegisterError::NameInUse { name }) => {
                if self.name_answers(&registration.profile.namespace, &name).await? {
                    return Err(RegisterError::NameInUse { name }.into());
                }
                Ok(self.store.register(Registration { may_replace: true, ..registration }).await?)
            }
            other => Ok(other?),
        }
    }

    /// The worker of this name, however many there are.
    async fn worker_named(&self, namespace: &str, name: &str) -> Result<Option<WorkerRow>, Fault> {
        let mut after = None;
        loop {
            let rows = self.store.workers(Some(namespace), after, 1_000).await?;
            let Some(last) = rows.last().map(|row| row.id) else { return Ok(None) };
            if let Some(row) = rows.into_iter().find(|row| row.profile.name == name) {
                return Ok(Some(row));
            }
            after = Some(last);
        }
    }

    /// Whether the session that has a name is there: connected and heard within two beats, or polled within one interval.
    async fn name_answers(&self, namespace: &str, name: &str) -> Result<bool, Fault> {
        let Some(row) = self.worker_named(namespace, name).await? else { return Ok(false) };
        let Some(session) = self.driver.session(row.holder()) else {
            // Another replica hears it, and ends its session when it does not.
            return Ok(row.session_open && self.hears_replica(row.replica));
        };
        let limit = match row.presence {
            Presence::Session if !session.connected => return Ok(false),
            Presence::Session => Millis(derive::heartbeat(session.least_ttl).0 * ANSWERS_WITHIN_BEATS),
            Presence::Poll(interval) => interval,
            Presence::None(_) => return Ok(false),
        };
        Ok(session.heard_ago <= limit)
    }

    async fn registered(
        self: &Arc<Self>,
        registered: Registered,
        presence: Presence,
        outbox_pending: u64,
        held: &[outlive_api::session::Held],
    ) -> Result<(StatusCode, Json<Answer>), Fault> {
        let Registered { worker, resumed, replaced, same_state_folder } = registered;
        self.catalog.forget_workers();
        if let Some(old) = replaced {
            let reason = Reason::WorkerReplaced;
            if same_state_folder {
                // Its outbox, if there is one, is replayed first; `outbox_done`, or the audit after a TTL, takes the rest back.
                if outbox_pending == 0 {
                    self.lose_replaced(old, None).await?;
                }
                self.send_home(&worker, Errand::Gone { holder: old, reason }).await?;
            } else {
                // From elsewhere: the old process may be alive; it is told, and what it holds is given time to stop.
                self.send_home(&worker, Errand::Revoke { holder: old, reason }).await?;
            }
        }
        let holder = worker.holder();
        let mut leases = Vec::new();
        if presence != Presence::Session
            && let Some(opened) = self.open_session(holder).await?.and_then(Opening::take)
        {
            let known = opened.leases.iter().filter_map(|row| self.lease_info(row)).collect();
            self.input(Input::Open(session_info(&opened.worker, opened.home_seq, known), None, false));
            let unnamed = opened
                .leases
                .into_iter()
                .filter(|row| !held.iter().any(|h| h.run_id == row.run.id && h.epoch == row.run.epoch));
            leases.extend(unnamed.map(|row| {
                let policy = self.catalog.policy(row.run.queue);
                view::lease(row, &policy)
            }));
        }
        let least = self.driver.look(|e| e.least_liveness(&worker.profile.namespace, worker.profile.queues.iter()));
        let heartbeat = derive::heartbeat(least.lease_ttl);
        let answer = Answer {
            worker_id: worker.id,
            incarnation: worker.incarnation,
            session_token: self.signer.token(holder),
            heartbeat_interval: heartbeat,
            lease_ttl: least.lease_ttl,
            reconnect_window: derive::reconnect_window(heartbeat, false),
            leases,
        };
        tracing::info!(worker = worker.profile.name, %holder, resumed, "worker registered");
        let status = if resumed { StatusCode::OK } else { StatusCode::CREATED };
        Ok((status, Json(answer)))
    }
}
