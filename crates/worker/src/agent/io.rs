//! An agent against a real server: state folder, threads, guard, and the session thread.

use super::shell::{Happening, Shell};
use super::{Agent, Settings};
use crate::config::{AgentConfig, AgentError, AgentExit, AgentStatus, Shutdown};
use crate::guard::{Guard, Started};
use crate::outbox::{Change, Outbox, Record};
use crate::reach::{Domain, Mode};
use crate::runtime::{Event, ExecContext, Executor, Handlers, Spawner};
use crate::state::{StateDir, host_name};
use outlive_api::workers::{Register, WireLiveness};
use outlive_core::Millis;
use outlive_core::clock::Clock;
use outlive_core::limits::sizes;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot, watch};

/// Events of attempts that wait for the session thread.
const EVENTS: usize = 4 * sizes::BATCH;
/// Batches that wait for the outbox.
const BATCHES: usize = 16;
/// For so long a name may be held by the process that had this state folder before: a replica that is not its home knows of its
/// end when the home says so, or when the home has been silent for 5 s and another has adopted the session, which then answers.
const SUCCESSION: Millis = Millis::secs(30);

/// Runs an agent until `shutdown` asks for its end, or it cannot go on. `status` tells where it is.
///
/// The future may be polled by any runtime; the agent's own threads do not depend on it. It must be polled to its end: dropping
/// it does not stop the agent.
///
/// # Errors
/// See [`AgentError`]. Whatever the agent had started is killed by then.
pub async fn run(
    config: AgentConfig,
    clock: Arc<dyn Clock>,
    shutdown: watch::Receiver<Shutdown>,
    status: watch::Sender<AgentStatus>,
) -> Result<AgentExit, AgentError> {
    if config.servers.is_empty() {
        return Err(AgentError::Config("no server is named; name one with --server".to_owned()));
    }
    if config.kinds().is_empty() {
        let nothing = "this worker handles no kind of run; allow commands with --allow-exec";
        return Err(AgentError::Config(nothing.to_owned()));
    }
    let (answer, answered) = oneshot::channel();
    let thread = move || {
        let _ = answer.send(session_thread(config, clock, shutdown, status));
    };
    std::thread::Builder::new().name("session".into()).spawn(thread).map_err(|e| internal(&e))?;
    answered.await.unwrap_or_else(|_| Err(AgentError::Internal("the session thread ended without a word".to_owned())))
}

fn internal(e: &io::Error) -> AgentError {
    AgentError::Internal(e.to_string())
}

fn session_thread(
    config: AgentConfig,
    clock: Arc<dyn Clock>,
    shutdown: watch::Receiver<Shutdown>,
    status: watch::Sender<AgentStatus>,
) -> Result<AgentExit, AgentError> {
    let state = StateDir::open(&config.state_dir)?;
    state.sweep()?;
    let failed = |source| AgentError::State { path: state.outbox(), source };
    let (outbox, records) = Outbox::open(&state.outbox()).map_err(failed)?;
    let domain = Domain::new(state.domain_prefix(), Mode::from_env());
    if !config.limits.is_unlimited() {
        let enforcement = domain.limiter.enforcement();
        tracing::info!("each attempt gets at most {}, by {enforcement}", config.limits);
    }
    let guard = Guard { command: config.guard.clone(), domain };
    // Handlers inside the agent have no processes: without commands there is nothing to guard.
    let started = config.allow_exec.then(|| guard.start()).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| internal(&e))?;
    let result = runtime.block_on(async {
        let parts = Parts { config, clock, shutdown, status, outbox, records, guard, started };
        let mut shell = parts.shell(&state)?;
        let result = shell.run().await;
        shell.end(matches!(result, Ok(AgentExit::Left))).await;
        result
    });
    drop(state);
    result
}

/// What a shell is made of.
struct Parts {
    config: AgentConfig,
    clock: Arc<dyn Clock>,
    shutdown: watch::Receiver<Shutdown>,
    status: watch::Sender<AgentStatus>,
    outbox: Outbox,
    records: Vec<Record>,
    guard: Guard,
    started: Option<Started>,
}

impl Parts {
    fn shell(self, state: &StateDir) -> Result<Shell, AgentError> {
        let Self { config, clock, shutdown, status, outbox, records, guard, started } = self;
        let name = config.name.clone().unwrap_or_else(|| state.identity.name.clone());
        let succeeds_until = state.used.then(|| clock.mono() + SUCCESSION);
        let (happenings, happened) = mpsc::channel(sizes::BATCH);
        let (sender, events) = mpsc::channel::<Event>(EVENTS);
        let register = register(&config, state, name.clone());
        let settings = Settings {
            servers: config.servers,
            slots: config.slots,
            in_process: config.handlers.keys().cloned().collect(),
            seed: state.seed(),
        };
        let (outbox, outbox_writer) = outbox_thread(outbox, happenings.clone()).map_err(|e| internal(&e))?;
        let executor = if config.allow_exec {
            let spawner = Spawner::start().map_err(|e| internal(&e))?;
            let context = ExecContext::new(name, state.attempts()?, guard.domain.clone(), config.limits, spawner);
            Some(Executor::start(context, config.slots, sender).map_err(|e| internal(&e))?)
        } else {
            None
        };
        let mut shell = Shell {
            agent: Agent::new(settings, records),
            clock,
            namespace: config.namespace,
            register,
            status,
            shutdown,
            executor,
            handlers: Handlers::start(config.handlers, config.slots).map_err(|e| internal(&e))?,
            outbox,
            outbox_writer,
            guard,
            events,
            happened,
            happenings,
            guarding: None,
            wires: BTreeMap::new(),
            addresses: BTreeMap::new(),
            handles: BTreeMap::new(),
            registered: None,
            known: false,
            succeeds_until,
            inputs: Vec::new(),
            changes: Vec::new(),
            commands: Vec::new(),
            jobs: Vec::new(),
            current: 0,
        };
        shell.guarding = started.map(|started| shell.attach(started)).transpose()?;
        Ok(shell)
    }
}

fn register(config: &AgentConfig, state: &StateDir, name: String) -> Register {
    Register {
        protocol: outlive_api::PROTOCOL,
        name,
        instance: uuid::Builder::from_random_bytes(state.instance).into_uuid(),
        takeover: config.takeover,
        outbox_key: state.identity.outbox_key.clone(),
        outbox_pending: 0,
        queues: config.queues.clone(),
        kinds: config.kinds(),
        labels: config.labels.clone(),
        slots: config.slots,
        liveness: WireLiveness::Session,
        heartbeat_interval: None,
        version: config.version.clone(),
        host: host_name(),
        pid: i64::from(std::process::id()),
        held: Vec::new(),
    }
}

/// A thread of its own: a disk that stalls must not stall the beats.
fn outbox_thread(
    mut outbox: Outbox,
    happenings: mpsc::Sender<Happening>,
) -> io::Result<(mpsc::Sender<Vec<Change>>, JoinHandle<()>)> {
    let (batches, mut waiting) = mpsc::channel::<Vec<Change>>(BATCHES);
    let writer = std::thread::Builder::new().name("outbox".into()).spawn(move || {
        while let Some(mut batch) = waiting.blocking_recv() {
            while let Ok(more) = waiting.try_recv() {
                batch.extend(more);
            }
            let (stored, written) = outbox.write(batch);
            if let Err(e) = written {
                tracing::error!("the outbox cannot keep reports, they are sent without a copy: {e}");
            }
            if !stored.is_empty() && happenings.blocking_send(Happening::Stored(stored)).is_err() {
                return;
            }
        }
    })?;
    Ok((batches, writer))
}
