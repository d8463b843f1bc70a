//! The load: who asks, and writes down what was answered.

use super::LOOK;
use crate::history::{History, Sight};
use crate::rng::Rng;
use outlive_api::client::{Client, ClientError};
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::runs::{CancelBody, NewRun};
use outlive_api::session::Lease;
use outlive_api::workers::{ClaimBody, Register, Registered, ReportAnswer, ReportBody, WireLiveness, WireOrder};
use outlive_core::{Json, LeaseRef, Millis, RunId, State};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::{JoinHandle, spawn_local};
use uuid::Uuid;

/// Clients that ask for runs, polling workers, and readers.
const CLIENTS: u64 = 3;
const POLLERS: u64 = 3;
const WATCHERS: u64 = 2;
/// Runs that one client has open at most: the load follows what the server can do.
const OPEN: usize = 24;
/// Runs that one client asks for per kill, at most.
const RUNS_PER_KILL: u64 = 40;
/// Lines of a command.
pub(super) const LINES: u64 = 4;

/// What all parts share.
pub(super) struct Load {
    pub(super) client: Client,
    history: Mutex<History>,
    /// Runs that a client asks for at most.
    most: u64,
    asks: AtomicU64,
    repeated: AtomicU64,
    closed: AtomicBool,
    over: AtomicBool,
}

impl Load {
    pub(super) fn new(client: Client, kills: u32) -> Self {
        Self {
            client,
            history: Mutex::default(),
            most: RUNS_PER_KILL * u64::from(kills.max(1)),
            asks: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    fn note(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn history(&self) -> History {
        self.note().clone()
    }

    /// Creations that were acknowledged.
    pub(super) fn created(&self) -> usize {
        self.note().created.len()
    }

    pub(super) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    /// No new runs; what was asked for goes on.
    pub(super) fn ask_no_more(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn stop(&self) {
        self.ask_no_more();
        self.over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Asks until there is an answer; none when the load is over.
    async fn until_answered<T>(&self, ask: impl AsyncFn() -> Result<T, ClientError>) -> Option<Result<T, String>> {
        while !self.is_over() {
            match ask().await {
                Ok(answer) => return Some(Ok(answer)),
                Err(ClientError::Problem(problem)) if problem.status < 500 => return Some(Err(problem.code)),
                Err(_) => {
                    self.repeated.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
        None
    }

    fn wrong(&self, what: String) {
        self.note().wrong.push(what);
    }
}

pub(super) fn start(load: &Arc<Load>, rng: &mut Rng) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for _ in 0..CLIENTS {
        tasks.push(spawn_local(client(Arc::clone(load), rng.fork())));
    }
    for n in 0..POLLERS {
        tasks.push(spawn_local(poller(Arc::clone(load), rng.fork(), n)));
    }
    for n in 0..WATCHERS {
        tasks.push(spawn_local(watcher(Arc::clone(load), rng.fork(), n)));
    }
    tasks
}

async fn client(load: Arc<Load>, mut rng: Rng) {
    let mut mine: Vec<RunId> = Vec::new();
    let mut asked = 0;
    while !load.closed.load(Ordering::Relaxed) && asked < load.most {
        asked += 1;
        let ask = load.asks.fetch_add(1, Ordering::Relaxed);
        let input = if rng.below(8) == 0 {
            let script = format!("for i in $(seq {LINES}); do echo \"$OUTLIVE_EPOCH.$i\"; done");
            Json::of(&serde_json::json!({"command": ["sh", "-c", script]}))
        } else {
            Json::of(&"x".repeat(usize::try_from(rng.below(4_000)).unwrap_or(0)))
        };
        let kind = if input.as_ref().is_ok_and(|i| i.text().starts_with('{')) { "exec" } else { "chaos" };
        let mut run = NewRun::of(kind, input.unwrap_or_else(|_| Json::null()));
        run.tags = BTreeMap::from([("ask".to_owned(), ask.to_string())]);
        // Half of the callers choose the id, half send a key.
        let key = (rng.below(2) == 0).then(|| format!("ask-{}", rng.next()));
        if key.is_none() {
            run.id = Some(rng.run_id());
        }
        match load.until_answered(async || load.client.create_run(&run, key.as_deref()).await).await {
            None => return,
            Some(Err(code)) => load.wrong(format!("a creation was refused: {code}")),
            Some(Ok(made)) => {
                load.note().created.insert(ask, made.id);
                mine.push(made.id);
            }
        }
        if rng.below(12) == 0 {
            let id = mine[usize::try_from(rng.below(mine.len() as u64)).unwrap_or(0)];
            cancel(&load, id).await;
        }
        while mine.len() >= OPEN && !load.is_over() {
            let oldest = mine[0];
            match load.until_answered(async || load.client.run_wait(oldest, Millis::secs(1)).await).await {
                None => return,
                Some(Ok(run)) if !run.state.is_terminal() => {}
                Some(_) => drop(mine.remove(0)),
            }
        }
    }
}

async fn cancel(load: &Load, id: RunId) {
    let body = CancelBody::default();
    match load.until_answered(async || load.client.cancel_run(id, &body).await).await {
        Some(Ok(_)) => drop(load.note().cancels.insert(id)),
        Some(Err(code)) if code != "already_terminal" => load.wrong(format!("a cancel was refused: {code}")),
        _ => {}
    }
}

/// Reads runs that are known, over and over. Each watcher has runs of its own, so that what it notes is in order.
async fn watcher(load: Arc<Load>, mut rng: Rng, n: u64) {
    while !load.is_over() {
        let pick = {
            let history = load.note();
            let known = history.created.len();
            // Rather a young one: those change.
            let young = known.saturating_sub(1 + usize::try_from(rng.below(64)).unwrap_or(0));
            history.created.values().nth(young).copied()
        };
        let own = pick.filter(|id| id.0.as_u128() % u128::from(WATCHERS) == u128::from(n));
        if let Some(id) = own
            && let Some(answer) = load.until_answered(async || load.client.run(id).await).await
        {
            match answer {
                Ok(run) => load.note().sights.push(Sight { run: id, epoch: run.epoch, state: run.state }),
                Err(code) => load.wrong(format!("an acknowledged run cannot be read: {code}")),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn poller(load: Arc<Load>, mut rng: Rng, n: u64) {
    let registration = Register {
        protocol: outlive_api::PROTOCOL,
        name: format!("poll-{n}"),
        instance: Uuid::from_u128(u128::from(rng.next())),
        takeover: false,
        outbox_key: String::new(),
        outbox_pending: 0,
        queues: vec!["default".to_owned()],
        kinds: vec!["chaos".to_owned()],
        labels: BTreeMap::new(),
        slots: 4,
        liveness: WireLiveness::Poll,
        heartbeat_interval: Some(Millis::secs(5)),
        version: "chaos".to_owned(),
        host: String::new(),
        pid: 0,
        held: Vec::new(),
    };
    let me = match load.until_answered(async || load.client.register(&registration).await).await {
        Some(Ok(me)) => me,
        Some(Err(code)) => return load.wrong(format!("a registration was refused: {code}")),
        None => return,
    };
    let worker = Worker { client: load.client.with_token(&me.session_token), me, load: Arc::clone(&load) };
    while !load.is_over() {
        let request_id = Uuid::from_u128(u128::from(rng.next()) << 64 | u128::from(rng.next()));
        let body = ClaimBody { request_id, max: 4, wait: Some(Millis(500)) };
        let claimed = load.until_answered(async || worker.client.claim(worker.me.worker_id, &body).await).await;
        match claimed {
            Some(Ok(leases)) => {
                for lease in leases.leases {
                    worker.work(lease, &mut rng).await;
                }
            }
            Some(Err(code)) => load.wrong(format!("a claim was refused: {code}")),
            None => return,
        }
    }
}

struct Worker {
    client: Client,
    me: Registered,
    load: Arc<Load>,
}

impl Worker {
    async fn report(&self, items: Vec<WireItem>) -> Option<ReportAnswer> {
        let body = ReportBody { items, ..ReportBody::default() };
        let answer = self.load.until_answered(async || self.client.report(self.me.worker_id, &body).await).await?;
        answer.map_err(|code| self.load.wrong(format!("a report was refused: {code}"))).ok()
    }

    /// Frames, checkpoints, an end.
    async fn work(&self, lease: Lease, rng: &mut Rng) {
        let name = lease.lease();
        let bare = |op| WireItem::bare(op, Some(name));
        let before: u64 = lease.checkpoint.as_ref().and_then(|c| c.read().ok()).unwrap_or(0);
        let frames = 1 + rng.below(6);
        for seq in 1..=frames {
            let frame = WireItem {
                seq: i64::try_from(seq).ok(),
                channel: Some("stdout".to_owned()),
                text: Some(format!("{}.{seq}\n", name.epoch.0)),
                ..bare(OpName::Output)
            };
            let checkpoint = WireItem { data: Json::of(&(before + seq)).ok(), ..bare(OpName::Checkpoint) };
            let Some(answer) = self.report(vec![frame, checkpoint]).await else { return };
            match answer.results[..] {
                [WireResult::Ok, WireResult::Ok] => {
                    let mut history = self.load.note();
                    history.frames.insert((name.run_id, name.epoch, seq));
                    history.checkpoints.insert(name.run_id, before + seq);
                }
                [WireResult::Fenced { .. } | WireResult::Terminal { .. }, _] => return,
                ref other => self.load.wrong(format!("a frame was answered {other:?}")),
            }
            let cancels =
                |order: &WireOrder| matches!(order, WireOrder::Cancel { run_id, .. } if *run_id == name.run_id);
            if answer.orders.iter().any(cancels) {
                return self.end(name, bare(OpName::Cancelled), State::Cancelled).await;
            }
        }
        let end = WireItem { last_output_seq: i64::try_from(frames).ok(), ..bare(OpName::Complete) };
        self.end(name, end, State::Succeeded).await;
    }

    async fn end(&self, lease: LeaseRef, item: WireItem, state: State) {
        let Some(answer) = self.report(vec![item]).await else { return };
        match answer.results[..] {
            [WireResult::Ok] => drop(self.load.note().finishes.insert(lease.run_id, (lease.epoch, state))),
            [WireResult::Fenced { .. } | WireResult::Terminal { .. }] => {}
            ref other => self.load.wrong(format!("an end was answered {other:?}")),
        }
    }
}
