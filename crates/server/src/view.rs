//! Rows as people and workers see them. Nothing is decided here.

use crate::app::App;
use outlive_api::output as wire_output;
use outlive_api::report::encode;
use outlive_api::runs as wire;
use outlive_api::session::Lease;
use outlive_api::workers::{HeldRun, WireLiveness, Worker};
use outlive_core::engine::Status;
use outlive_core::policy::QueuePolicy;
use outlive_core::run::derive::Marker;
use outlive_core::{LeaseRef, Millis, Reason, State};
use outlive_store::{
    AttemptRow, LeaseRow, OutputEntry, OutputFrom, OutputKind, OutputQuery, Presence, RunRow, StoreError, WorkerRow,
};

/// A lease for its worker.
pub(crate) fn lease(row: LeaseRow, policy: &QueuePolicy) -> Lease {
    let options = row.options;
    let limits = options.attempt_limits(policy);
    Lease {
        run_id: row.run.id,
        epoch: row.run.epoch,
        kind: row.class.kind.clone(),
        queue: row.class.queue.clone(),
        input: row.input,
        attempt: row.run.attempt(),
        recovered: row.run.epoch.0 > 1 && row.run.losses > 0,
        checkpoint: row.checkpoint,
        resume_data: row.resume_data,
        lease_ttl_ms: row.run.terms.lease_ttl.0,
        offline_grace_ms: row.run.terms.offline_grace.0,
        run_timeout_ms: limits.run_timeout.0,
        progress_timeout_ms: limits.progress_timeout.map(|t| t.0),
        cancel_grace_ms: policy.cancel_grace.0,
        on_isolation: policy.on_isolation,
        takeover: row.run.terms.takeover,
        traceparent: options.traceparent,
    }
}

/// The end of a stream of a run's log, and whether more came before it.
pub(crate) struct Tail {
    text: String,
    truncated: bool,
}

impl App {
    /// A run for people. `with_output`: also the ends of its streams.
    pub(crate) async fn run_view(&self, row: RunRow, with_output: bool) -> Result<wire::Run, StoreError> {
        let policy = self.catalog.policy(row.run.queue);
        let stuck = self.stuck_view(&row);
        let mut view = run(row, &policy);
        view.stuck = stuck;
        let exec = view.kind == "exec" && view.started_at.is_some();
        if with_output && exec {
            if view.result.is_some() {
                view.stdout = Some(String::new());
            } else {
                let tail = self.tail(view.id, "stdout").await?;
                view.stdout_truncated = tail.truncated;
                view.stdout = Some(tail.text);
            }
            let tail = self.tail(view.id, "stderr").await?;
            view.stderr_truncated = tail.truncated;
            view.stderr = Some(tail.text);
        }
        Ok(view)
    }

    /// The last 64 KiB of one stream of the current (or last) attempt.
    async fn tail(&self, run: outlive_core::RunId, channel: &str) -> Result<Tail, StoreError> {
        let limit = outlive_core::limits::sizes::STREAM_VIEW;
        let (mut bytes, mut truncated) = (std::collections::VecDeque::new(), false);
        let mut from = OutputFrom::CurrentAttempt;
        loop {
            let query = OutputQuery { from, channel: Some(channel.to_owned()), limit: 1_000, max_bytes: 4 << 20 };
            let Some(page) = self.store.output(run, query).await? else { break };
            for entry in page.entries {
                if let OutputKind::Frame { frame, .. } = entry.kind {
                    bytes.extend(frame.bytes);
                }
            }
            if bytes.len() > limit {
                bytes.drain(..bytes.len() - limit);
                truncated = true;
            }
            if page.at_head {
                break;
            }
            from = OutputFrom::After(page.next_after);
        }
        let bytes = Vec::from(bytes);
        Ok(Tail { text: String::from_utf8_lossy(&bytes).into_owned(), truncated })
    }
}

fn run(row: RunRow, policy: &QueuePolicy) -> wire::Run {
    let RunRow { run, class, input, options, detail, worker_name, .. } = row;
    let budgets = options.budgets(policy);
    let leased = run.lease().is_some();
    let lease = run.lease().map(|(holder, _)| wire::RunLease {
        worker_id: holder.worker,
        worker_name: worker_name.unwrap_or_default(),
        incarnation: holder.incarnation,
        claimed_at: run.claimed_at,
        started_at: run.started_at,
    });
    // While an attempt goes on, the reason of the one before it is history.
    let reason = run.reason.filter(|_| !leased || run.state == State::Cancelling);
    wire::Run {
        id: run.id,
        namespace: class.namespace.clone(),
        queue: class.queue.clone(),
        kind: class.kind.clone(),
        state: run.state,
        outcome: run.outcome.filter(|_| run.state.is_terminal()),
        reason,
        reason_detail: detail.reason_detail,
        reason_text: reason_text(reason, detail.note.as_deref(), detail.error.as_ref().map(|e| e.message.as_str())),
        priority: run.priority,
        attempt: run.attempt(),
        key: run.key,
        serial_key: run.serial_key,
        subjects: options.subjects,
        parent: options.parent,
        retry_of: options.retry_of,
        requires: class.requires.clone(),
        pin: class.pin.clone(),
        tags: options.tags,
        epoch: run.epoch,
        failures: run.failures,
        losses: run.losses,
        max_attempts: budgets.max_attempts,
        max_losses: budgets.max_losses,
        lease,
        progress: detail.progress.map(|p| wire::RunProgress { fraction: p.fraction, note: p.note, at: p.at }),
        checkpoint: detail.checkpoint,
        stuck: None,
        warnings: Vec::new(),
        input,
        result: detail.result,
        stdout: None,
        stdout_truncated: false,
        stderr: None,
        stderr_truncated: false,
        exit: detail.exit,
        error: detail.error,
        created_at: run.created_at,
        run_at: run.due_at.filter(|_| run.state == State::Scheduled),
        queued_at: run.queued_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
    }
}

/// The reason in words, with what was said about this one: not about an earlier failure, or an earlier wait.
fn reason_text(reason: Option<Reason>, note: Option<&str>, error: Option<&str>) -> Option<String> {
    let reason = reason?;
    let text = reason.text();
    let error = error.filter(|e| !e.is_empty() && reason.is_of_work());
    let told = [Reason::LeaseReleased, Reason::Cancelled, Reason::Superseded, Reason::QueueTtlExpired];
    let note = note.filter(|_| told.contains(&reason));
    Some(match error.or(note) {
        Some(more) => format!("{text}: {more}"),
        None => text.to_owned(),
    })
}

/// An attempt for people.
pub(crate) fn attempt(row: AttemptRow) -> wire::Attempt {
    let (a, open) = (row.view.attempt, row.view.open);
    wire::Attempt {
        epoch: a.epoch,
        worker_name: row.worker_name,
        incarnation: a.holder.incarnation,
        claimed_at: a.claimed_at,
        started_at: a.started_at,
        last_heard_at: (!open).then_some(a.last_heard_at),
        ended_at: (!open).then_some(a.ended_at),
        reason: (!open && a.outcome != Some(outlive_core::Outcome::Success)).then_some(a.reason),
        outcome: a.outcome,
        exit: a.exit,
        error: a.error,
    }
}

/// The SSE name and data of an entry of a log.
pub(crate) fn output_event(entry: OutputEntry) -> (&'static str, wire_output::OutputEvent) {
    use wire_output::OutputEvent;
    match entry.kind {
        OutputKind::Frame { epoch, frame, at } => {
            let (text, base64) = encode(&frame.bytes);
            let chunk = wire_output::Chunk { epoch, channel: frame.channel, text, base64, at };
            ("chunk", OutputEvent::Chunk(chunk))
        }
        OutputKind::Marker(Marker::Attempt { epoch, recovered_from, checkpoint, at, .. }, worker_name) => {
            let started = wire_output::AttemptStarted {
                epoch,
                worker_name: worker_name.unwrap_or_default(),
                recovered_from: recovered_from.map(|(epoch, _)| epoch),
                reason: recovered_from.map(|(_, reason)| reason),
                checkpoint,
                at,
            };
            ("attempt", OutputEvent::Attempt(started))
        }
        OutputKind::Marker(Marker::Lost { epoch, reason }, _) => {
            ("lost", OutputEvent::Lost(wire_output::AttemptLost { epoch, reason }))
        }
        OutputKind::Gap { from, to, why } => {
            let gap = wire_output::Gap { from: from.to_string(), to: to.to_string(), why };
            ("gap", OutputEvent::Gap(gap))
        }
    }
}

impl App {
    /// The status of a worker: of its session if there is one in memory, else of its row: what a replica that lives has not written
    /// off is online.
    pub(crate) fn status(&self, row: &WorkerRow) -> Status {
        match self.driver.session(row.holder()) {
            Some(session) => session.status,
            None if row.left => Status::Left,
            None if row.session_open && self.hears_replica(row.replica) => {
                if row.draining {
                    Status::Draining
                } else {
                    Status::Online
                }
            }
            None => Status::Offline,
        }
    }

    /// What a worker holds: of its session if there is one in memory, else by the rows.
    async fn held_by(&self, row: &WorkerRow) -> Result<Vec<LeaseRef>, StoreError> {
        if self.driver.session(row.holder()).is_some() || !self.hears_replica(row.replica) {
            return Ok(self.driver.look(|e| e.leases(row.holder())));
        }
        let leases = self.store.leases_of(row.holder()).await?;
        Ok(leases.iter().map(|row| LeaseRef { run_id: row.run.id, epoch: row.run.epoch }).collect())
    }

    /// A worker for people. How long ago another replica heard its worker is not known here.
    pub(crate) async fn worker_view(&self, row: WorkerRow) -> Result<Worker, StoreError> {
        let held = self.held_by(&row).await?;
        let session = self.driver.session(row.holder());
        let status = self.status(&row);
        let least = self.driver.look(|e| e.least_liveness(&row.profile.namespace, row.profile.queues.iter()));
        let age = match &session {
            Some(s) => Some(s.heard_ago),
            None if self.hears_replica(row.replica) => None,
            None => Some(self.clock.wall().since(row.last_heard_at)),
        };
        let home = (session.is_some() || self.hears_replica(row.replica)).then_some(row.replica.0);
        Ok(Worker {
            id: row.id,
            namespace: row.profile.namespace,
            name: row.profile.name,
            status: status.as_str().to_owned(),
            incarnation: row.incarnation,
            liveness: match row.presence {
                Presence::Session => WireLiveness::Session,
                Presence::Poll(_) => WireLiveness::Poll,
                Presence::None(_) => WireLiveness::None,
            },
            last_heard_age_ms: age.map(|a: Millis| a.0),
            lease_ttl_ms: least.lease_ttl.0,
            queues: row.profile.queues.into_iter().collect(),
            kinds: row.profile.kinds.into_iter().collect(),
            labels: row.profile.labels,
            slots: row.profile.slots,
            held: held.iter().map(|l| HeldRun { run_id: l.run_id, epoch: l.epoch }).collect(),
            losses: row.losses,
            version: row.version,
            host: row.host,
            pid: row.pid,
            home,
            first_seen_at: row.first_seen_at,
            registered_at: row.registered_at,
        })
    }
}
