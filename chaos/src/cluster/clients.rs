//! Who asks in a cluster, all through the balancer: clients, polling workers, readers, followers of logs and of the feed.

use super::check::Order;
use super::stage::{CAPPED, Stage};
use super::twin::Twin;
use crate::load::watcher::{WATCHERS, watcher};
use crate::load::{LOOK, Load, poller};
use crate::read::Entry;
use crate::rng::Rng;
use outlive_api::client::events::{EventQuery, FeedItem};
use outlive_api::output::OutputEvent;
use outlive_api::runs::{ExecInput, NewRun, OutputFormat};
use outlive_core::{Json, Millis, RunId, State};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::{JoinHandle, spawn_local};

/// Clients, polling workers, and followers of logs.
const CLIENTS: u64 = 4;
const POLLERS: u64 = 3;
const FOLLOWERS: u64 = 3;
/// Runs that one client has open at most: there is always a free slot, or nobody could say how long a recovery may take.
const OPEN: usize = 8;
/// Runs that were asked for before the first blow: there is something to lose.
pub(super) const WARM: usize = 60;
/// For the end of one of them.
const WAIT: Millis = Millis(200);
/// How often polling workers say that they are heard: their leases are three times as long, and nothing here lasts so long.
const POLLING: Millis = Millis::secs(20);
/// Serial keys.
const KEYS: u64 = 4;
/// Events that are told again at the start of the feed: more than there can be then.
const RECENT: u32 = 1_000;
/// A command stamps so often, in milliseconds.
const STAMP_MS: u64 = 10;

/// Everybody, and what they know.
pub(super) struct Crowd {
    pub(super) load: Arc<Load>,
    binary: PathBuf,
    folder: PathBuf,
    /// Commands are of the kind that takes longer than a lease.
    outlasting: bool,
    /// What was asked for, by the request's number.
    pub(super) orders: RefCell<BTreeMap<u64, Order>>,
    pub(super) followed: RefCell<Vec<(RunId, Vec<Entry>)>>,
    pub(super) feed: RefCell<BTreeMap<RunId, Vec<State>>>,
    /// Times that a stream was opened again where it had broken.
    pub(super) resumed: Cell<u64>,
}

impl Crowd {
    pub(super) fn new(stage: &Stage, twins: &[Twin]) -> Rc<Self> {
        Rc::new(Self {
            outlasting: twins.contains(&Twin::NeverFreezes),
            load: Arc::new(Load::new(stage.client.clone())),
            binary: stage.house.binary.clone(),
            folder: stage.house.folder.clone(),
            orders: RefCell::default(),
            followed: RefCell::default(),
            feed: RefCell::default(),
            resumed: Cell::default(),
        })
    }

    /// The file into which a run stamps.
    pub(super) fn stamps(&self, ask: u64) -> PathBuf {
        self.folder.join("runs").join(ask.to_string())
    }

    pub(super) fn start(self: &Rc<Self>, rng: &mut Rng) -> Vec<JoinHandle<()>> {
        let mut tasks = vec![spawn_local(Self::listen(Rc::clone(self)))];
        for _ in 0..CLIENTS {
            tasks.push(spawn_local(Self::client(Rc::clone(self), rng.fork())));
        }
        for n in 0..POLLERS {
            tasks.push(spawn_local(poller::poller(Arc::clone(&self.load), rng.fork(), n, POLLING)));
        }
        for n in 0..WATCHERS {
            tasks.push(spawn_local(watcher(Arc::clone(&self.load), rng.fork(), n)));
        }
        for n in 0..FOLLOWERS {
            tasks.push(spawn_local(Self::follower(Rc::clone(self), n)));
        }
        tasks
    }

    async fn client(self: Rc<Self>, mut rng: Rng) {
        let load = &self.load;
        let mut mine: Vec<RunId> = Vec::new();
        while !load.is_closed() {
            let ask = load.next_ask();
            let mut run = self.new_run(ask, &mut rng);
            // Half of the callers choose the id, half send a key.
            let key = (rng.below(2) == 0).then(|| format!("ask-{}", rng.next()));
            if key.is_none() {
                run.id = Some(rng.run_id());
            }
            mine.extend(load.create(ask, run, key.as_deref()).await);
            if load.is_over() {
                return;
            }
            if rng.below(15) == 0 && !mine.is_empty() {
                let id = mine[usize::try_from(rng.below(mine.len() as u64)).unwrap_or(0)];
                load.cancel(id).await;
            }
            while mine.len() >= OPEN && !load.is_over() {
                // Any of them, so that a long one is not in the way of all others.
                let one = usize::try_from(rng.below(mine.len() as u64)).unwrap_or(0);
                match load.until_answered(async || load.client.run_wait(mine[one], WAIT).await).await {
                    None => return,
                    Some(Ok(run)) if !run.state.is_terminal() => {}
                    Some(_) => drop(mine.remove(one)),
                }
            }
        }
    }

    /// A command of which every byte is known, or, one in eight, something for the polling workers.
    fn new_run(&self, ask: u64, rng: &mut Rng) -> NewRun {
        let json = |input| Json::of(&input).unwrap_or_else(|_| Json::null());
        if rng.below(8) == 0 {
            return NewRun::of(poller::KIND, json("x".repeat(usize::try_from(rng.below(4_000)).unwrap_or(0))));
        }
        // Those that wait for one another are short. Some take twice a lease: what is not stopped in time is seen by them alone.
        let what = rng.below(8);
        let (lines, every) = match what {
            0..=2 => (8 + rng.below(20), 50 + rng.below(100)),
            3.. if what == 3 || self.outlasting => (80, 200 + rng.below(80)),
            _ => (8 + rng.below(40), 20 + rng.below(180)),
        };
        let order = Order {
            seed: rng.next() >> 16,
            lines,
            failures: u64::from(rng.below(12) == 0),
            capped: what <= 1,
            serial: (what == 2).then(|| format!("key-{}", rng.below(KEYS))),
        };
        let file = self.stamps(ask).display().to_string();
        let numbers = [order.seed, lines, every, STAMP_MS, order.failures].map(|n| n.to_string());
        let command = [self.binary.display().to_string(), "bench".into(), "work".into(), file];
        let input = ExecInput {
            command: command.into_iter().chain(numbers).collect(),
            cwd: None,
            env: BTreeMap::new(),
            stdin: None,
            output_format: OutputFormat::Text,
            strict_output: true,
            limits: None,
        };
        let mut run = NewRun::of("exec", Json::of(&input).unwrap_or_else(|_| Json::null()));
        if order.capped {
            CAPPED.clone_into(&mut run.queue);
        }
        run.serial_key.clone_from(&order.serial);
        self.orders.borrow_mut().insert(ask, order);
        run
    }

    /// Follows one young run after the other, each to its end, over every broken connection.
    async fn follower(self: Rc<Self>, n: u64) {
        let mut last = None;
        while !self.load.is_closed() {
            let young = self.load.note().created.values().next_back().copied();
            let own = young.filter(|id| Some(*id) != last && id.0.as_u128() % u128::from(FOLLOWERS) == u128::from(n));
            if let Some(id) = own {
                last = own;
                if let Some(log) = self.follow(id).await {
                    self.followed.borrow_mut().push((id, log));
                }
            }
            tokio::time::sleep(LOOK * 20).await;
        }
    }

    async fn follow(&self, id: RunId) -> Option<Vec<Entry>> {
        let (mut log, mut after) = (Vec::new(), None::<String>);
        while !self.load.is_over() {
            let opened = self.load.client.output(id, after.as_deref(), true).await;
            if let Ok(mut stream) = opened {
                while let Ok(Some(event)) = stream.next().await {
                    after = stream.last_id().map(str::to_owned).or(after);
                    match event {
                        OutputEvent::Attempt(attempt) => log.push(Entry::Marker(attempt.epoch)),
                        OutputEvent::Chunk(chunk) => log.push(Entry::Bytes(chunk.epoch, chunk.bytes())),
                        OutputEvent::End(_) => {
                            log.push(Entry::End);
                            return Some(log);
                        }
                        OutputEvent::Lost(_) | OutputEvent::Gap(_) => {}
                    }
                }
            }
            self.resumed.set(self.resumed.get() + 1);
            tokio::time::sleep(LOOK * 5).await;
        }
        None
    }

    /// Follows the feed and counts ends, over every broken connection.
    async fn listen(self: Rc<Self>) {
        let mut after = None::<String>;
        while !self.load.is_over() {
            // What was told before the first stream was open is told again.
            let recent = after.is_none().then_some(RECENT);
            let query = EventQuery { types: "run.finished", after: after.as_deref(), recent, stored_only: false };
            if let Ok(mut stream) = self.load.client.events(query).await {
                while let Ok(Some(item)) = stream.next().await {
                    after = stream.last_id().map(str::to_owned).or(after);
                    if let FeedItem::Event(event) = item
                        && let (Some(run), Some(state)) = (event.run_id, event.state)
                    {
                        self.feed.borrow_mut().entry(run).or_default().push(state);
                    }
                }
            }
            self.resumed.set(self.resumed.get() + 1);
            tokio::time::sleep(LOOK * 5).await;
        }
    }
}
