//! Carries out effects and gathers inputs: the session thread's loop.
//!
//! Nothing here waits for user code, for a disk, or for the server: all of them are other threads or tasks behind bounded
//! channels, so that a beat is late only if this thread does not get the processor.

use super::guarding::{self, Guarding};
use super::types::{Call, Conn, Effect, GuardEvent, Input, Now, Stop};
use super::wire::{self, Opened, Opening, Wire};
use super::{Agent, ChildEvent, End};
use crate::config::{AgentError, AgentExit, AgentStatus, Shutdown};
use crate::guard::{Command, Guard, Started};
use crate::outbox::Change;
use crate::runtime::{EXEC, Event, Executor, Handle, Handlers, Job};
use outlive_api::client::Client;
use outlive_api::session::{Lease, ServerMessage};
use outlive_api::workers::{Register, Registered};
use outlive_core::clock::Clock;
use outlive_core::limits::sizes;
use outlive_core::{LeaseRef, Millis, Mono};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long a goodbye may take.
const GOODBYE_WITHIN: Duration = Duration::from_secs(2);
/// What is waited for if nothing is ever due.
const IDLE: Duration = Duration::from_hours(1);

/// What comes to the session thread beside the events of attempts.
pub(super) enum Happening {
    Opened(Conn, Opened),
    Message(Conn, Box<ServerMessage>),
    Ended(Conn),
    Stored(Vec<LeaseRef>),
    Guard(LeaseRef, GuardEvent, Mono),
    GuardGone,
    GuardStarted(Result<Started, AgentError>),
}

/// Everything that the loop works with.
pub(super) struct Shell {
    pub agent: Agent,
    pub clock: Arc<dyn Clock>,
    pub namespace: String,
    pub register: Register,
    pub status: watch::Sender<AgentStatus>,
    pub shutdown: watch::Receiver<Shutdown>,
    pub executor: Option<Executor>,
    pub handlers: Handlers,
    pub outbox: mpsc::Sender<Vec<Change>>,
    pub outbox_writer: std::thread::JoinHandle<()>,
    pub guard: Guard,
    pub events: mpsc::Receiver<Event>,
    pub happened: mpsc::Receiver<Happening>,
    pub happenings: mpsc::Sender<Happening>,
    pub guarding: Option<Guarding>,
    pub wires: BTreeMap<Conn, Wire>,
    pub addresses: BTreeMap<Conn, String>,
    pub handles: BTreeMap<LeaseRef, Handle>,
    pub registered: Option<Registered>,
    pub known: bool,
    /// Until then, whoever has its name may be its own predecessor.
    pub succeeds_until: Option<Mono>,
    pub inputs: Vec<Input>,
    pub changes: Vec<Change>,
    pub commands: Vec<Command>,
    pub jobs: Vec<Job>,
    pub current: Conn,
}

impl Shell {
    /// Until the agent is done.
    pub(super) async fn run(&mut self) -> Result<AgentExit, AgentError> {
        let mut asked = Shutdown::No;
        loop {
            let now = Now { boot: self.clock.boot(), mono: self.clock.mono() };
            for effect in self.agent.turn(std::mem::take(&mut self.inputs), now) {
                if let Some(exit) = self.carry_out(effect) {
                    return Ok(exit);
                }
            }
            self.pass_on();
            let due = match self.agent.next_deadline(now) {
                // What carrying out has itself brought about is the next turn's.
                _ if !self.inputs.is_empty() => Duration::ZERO,
                // What finds its thread's channel full waits for the next turn, which must then come by itself.
                _ if !self.changes.is_empty() => Duration::from_millis(1),
                wait => wait.map_or(IDLE, outlive_core::Millis::duration),
            };
            let mut happened = Vec::new();
            let mut events = Vec::new();
            tokio::select! {
                _ = self.happened.recv_many(&mut happened, sizes::BATCH) => {}
                _ = self.events.recv_many(&mut events, sizes::BATCH), if self.executor.is_some() => {}
                letters = self.handlers.mailbox.take() => events = letters,
                wanted = self.shutdown.wait_for(|&wanted| wanted > asked), if asked < Shutdown::HandBack => {
                    // Whoever could ask is gone: that is a wish to stop as well.
                    asked = wanted.map_or(Shutdown::HandBack, |wanted| *wanted);
                    self.inputs.push(Input::Shutdown(asked));
                }
                () = tokio::time::sleep(due) => {}
            }
            events.into_iter().for_each(|event| self.event(event));
            for happening in happened {
                self.happen(happening)?;
            }
        }
    }

    fn event(&mut self, (lease, event): Event) {
        if matches!(event, ChildEvent::Ended(_)) {
            self.handles.remove(&lease);
        }
        if let ChildEvent::Ended(End::HostFailed { message }) = &event {
            tracing::warn!(run = %lease.run_id, "{message}");
        }
        self.inputs.push(Input::Child { lease, event });
    }

    fn happen(&mut self, happening: Happening) -> Result<(), AgentError> {
        match happening {
            Happening::Opened(conn, opened) => self.opened(conn, opened)?,
            Happening::Message(conn, message) => self.inputs.push(Input::Server { conn, message: *message }),
            Happening::Ended(conn) => self.disconnected(conn),
            Happening::Stored(leases) => self.inputs.extend(leases.into_iter().map(Input::Stored)),
            Happening::Guard(lease, event, at) => self.inputs.push(Input::Guard { lease, event, at }),
            Happening::GuardGone => self.replace_guard(),
            Happening::GuardStarted(started) => {
                self.guarding = Some(self.attach(started?)?);
                self.inputs.push(Input::GuardReplaced);
            }
        }
        Ok(())
    }

    pub(super) fn attach(&self, started: Started) -> Result<Guarding, AgentError> {
        Guarding::new(started, self.happenings.clone()).map_err(|e| AgentError::Internal(e.to_string()))
    }

    fn opened(&mut self, conn: Conn, opened: Opened) -> Result<(), AgentError> {
        match opened {
            Opened::Session(socket, registered) => {
                let (heartbeat, window) = (registered.heartbeat_interval, registered.reconnect_window);
                self.registered = Some(registered);
                self.known = true;
                self.register.takeover = false;
                self.wires.insert(conn, Wire::new(conn, *socket, self.happenings.clone()));
                self.inputs.push(Input::Connected { conn, heartbeat, window });
            }
            Opened::NotNow { problem, register_again } => {
                if register_again {
                    self.registered = None;
                }
                tracing::debug!(%problem, "no session yet");
                self.status.send_if_modified(|status| {
                    let is_connected = matches!(status, AgentStatus::Connected { .. });
                    if !is_connected {
                        *status = AgentStatus::Connecting { problem: Some(problem) };
                    }
                    !is_connected
                });
                self.disconnected(conn);
            }
            Opened::Replaced => self.inputs.push(Input::Replaced),
            Opened::Never(e) => return Err(e),
        }
        Ok(())
    }

    fn disconnected(&mut self, conn: Conn) {
        self.wires.remove(&conn);
        self.addresses.remove(&conn);
        self.inputs.push(Input::Disconnected { conn });
    }

    fn replace_guard(&mut self) {
        if let Some(old) = self.guarding.take() {
            tracing::warn!("the guard is gone; starting another");
            old.discard();
            guarding::start(self.guard.clone(), self.happenings.clone());
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<AgentExit> {
        match effect {
            Effect::Connect { conn, address, within } => self.connect(conn, address, within),
            Effect::Close(conn) => {
                self.wires.remove(&conn);
                self.addresses.remove(&conn);
            }
            Effect::Send { conn, message } => {
                self.current = conn;
                if self.wires.get(&conn).is_some_and(|wire| !wire.send(message)) {
                    self.disconnected(conn);
                }
            }
            Effect::Spawn(lease) => self.spawn(lease),
            Effect::Stop(lease, how) => self.with(lease, |handle| handle.stop(how)),
            Effect::Tell(lease, message) => self.with(lease, |handle| handle.tell(message)),
            Effect::Window(lease, bytes) => self.with(lease, |handle| handle.widen(bytes)),
            Effect::Guard(command) => self.commands.push(command),
            Effect::Store(record) => self.changes.push(Change::Store(record)),
            Effect::Forget(lease) => self.changes.push(Change::Forget(lease)),
            Effect::Call(Call::Drain) => {
                if let Some((client, worker)) = self.client() {
                    tokio::spawn(async move { client.worker_action(worker, "drain").await.map(drop) });
                }
            }
            Effect::Online(true) => self.online(),
            Effect::Online(false) => {
                self.status.send_replace(AgentStatus::Connecting { problem: None });
            }
            Effect::Exit(exit) => return Some(exit),
        }
        None
    }

    fn with(&self, lease: LeaseRef, act: impl FnOnce(&Handle)) {
        if let Some(handle) = self.handles.get(&lease) {
            act(handle);
        }
    }

    fn connect(&mut self, conn: Conn, address: String, within: Millis) {
        let mut register = self.register.clone();
        register.outbox_pending = self.agent.outbox_pending();
        register.held = self.agent.held(Now { boot: self.clock.boot(), mono: self.clock.mono() });
        self.addresses.insert(conn, address.clone());
        let (namespace, registered, known) = (self.namespace.clone(), self.registered.clone(), self.known);
        let succeeds = self.succeeds_until.is_some_and(|until| self.clock.mono() < until);
        let opening = Opening { address, within, namespace, register, registered, known, succeeds };
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            let opened = wire::open(opening).await;
            let _ = happenings.send(Happening::Opened(conn, opened)).await;
        });
    }

    fn spawn(&mut self, lease: Box<Lease>) {
        let (name, is_exec) = (lease.lease(), lease.kind == EXEC);
        let (handle, job) = Handle::new(lease);
        self.handles.insert(name, handle);
        match &self.executor {
            Some(executor) if is_exec => {
                if !executor.run(job) {
                    self.not_started(name);
                }
            }
            _ => self.jobs.push(job),
        }
    }

    fn not_started(&mut self, lease: LeaseRef) {
        let message = "the thread that runs attempts is gone or drowned".to_owned();
        self.event((lease, ChildEvent::Ended(End::HostFailed { message })));
    }

    /// What a turn has gathered goes to its threads, together.
    fn pass_on(&mut self) {
        let commands = std::mem::take(&mut self.commands);
        if self.guarding.as_ref().is_some_and(|guarding| !guarding.tell(&commands)) {
            self.replace_guard();
        }
        if !self.jobs.is_empty() {
            let jobs = std::mem::take(&mut self.jobs);
            let leases: Vec<_> = jobs.iter().map(|job| job.lease.lease()).collect();
            if !self.handlers.run(jobs) {
                leases.into_iter().for_each(|lease| self.not_started(lease));
            }
        }
        if !self.changes.is_empty() {
            match self.outbox.try_send(std::mem::take(&mut self.changes)) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(changes) | mpsc::error::TrySendError::Closed(changes)) => {
                    self.changes = changes;
                }
            }
        }
    }

    fn online(&mut self) {
        if let Some(registered) = &self.registered {
            self.status.send_replace(AgentStatus::Connected {
                worker: registered.worker_id,
                name: self.register.name.clone(),
                incarnation: registered.incarnation,
                server: self.addresses.get(&self.current).cloned().unwrap_or_default(),
            });
        }
    }

    /// Any replica will do, the home first.
    fn client(&self) -> Option<(Client, outlive_core::WorkerId)> {
        let registered = self.registered.as_ref()?;
        let client = Client::of(self.agent.servers(), &self.namespace).ok()?;
        Some((client.with_token(&registered.session_token), registered.worker_id))
    }

    /// The last things, however the loop ended.
    pub(super) async fn end(mut self, said_goodbye: bool) {
        if said_goodbye && let Some((client, worker)) = self.client() {
            let _ = tokio::time::timeout(GOODBYE_WITHIN, client.worker_action(worker, "leave")).await;
        }
        for handle in self.handles.values() {
            handle.stop(Stop::Kill);
        }
        let domain = self.guard.domain.clone();
        let _ = tokio::task::spawn_blocking(move || domain.kill_everything()).await;
        self.wires.clear();
        let _ = self.outbox.send(std::mem::take(&mut self.changes)).await;
        drop(self.outbox);
        drop(self.happened);
        let writer = self.outbox_writer;
        let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        if let Some(guarding) = self.guarding.take() {
            guarding.end().await;
        }
    }
}
