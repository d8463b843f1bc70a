//! The engine's shell: one lock, inputs in, effects out.
//!
//! Messages leave in the order in which the engine made them, because they are put into the connections' queues before the
//! lock is released. Store work that an effect asks for is started afterwards, on a task of its own, and comes back as an
//! input.

mod polls;
mod verdicts;

pub(crate) use polls::PollWaiter;

use crate::app::App;
use crate::view;
use outlive_api::session::{CloseReason, Hello, Lease, ServerMessage};
use outlive_api::workers::WireOrder;
use outlive_core::clock::Clock;
use outlive_core::engine::{
    ClaimResult, ClaimWanted, CloseWhy, ConnId, Effect, Engine, Input, LeaseInfo, OwnRow, Say, SessionView,
    VerdictWanted, Way,
};
use outlive_core::feed::Notice;
use outlive_core::home::Has;
use outlive_core::{Holder, LeaseRef, Mono, ReplicaId, RunId};
use outlive_store::{ClaimOrder, Claimed, LeaseRow, StoreError};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Messages that may wait for one slow reader; more, and it is cut off.
pub(crate) const OUTBOX_MESSAGES: usize = 4_096;

/// Messages that may wait for one worker before a signal is refused: each may be as large as 64 KiB.
const UNREAD_SIGNALS: usize = 64;

/// A message of leases, in bytes, unless one lease is larger. What a connection writes through grows to its largest message and stays so.
const PUSH_BYTES: usize = 16 << 10;
/// The same of what a worker holds and did not name, which nothing numbers: parts are for what an agent reads at most (16 MiB).
const HELD_BYTES: usize = 4 << 20;
/// A lease without its input and checkpoint.
const LEASE_BYTES: usize = 512;

/// What waits to be written to a connection.
pub(crate) enum Out {
    /// A message.
    Message(ServerMessage),
    /// The last one: close after it.
    Last(ServerMessage),
}

struct ConnHandle {
    out: mpsc::Sender<Out>,
    /// Leases that were held when the connection opened, for the first answer.
    held: HashMap<RunId, Lease>,
}

struct Inner {
    engine: Engine,
    conns: HashMap<ConnId, ConnHandle>,
    polls: HashMap<Holder, PollWaiter>,
    /// Leases in the hands of workers that poll.
    given: HashMap<Holder, HashSet<LeaseRef>>,
    orders: HashMap<Holder, Vec<WireOrder>>,
    last_conn: u64,
    last_waiter: u64,
    /// As the engine had it when what is kept for sessions was last looked through.
    let_go: u64,
    /// No other server can have the store open.
    sole: bool,
    /// Addresses of the others.
    replicas: Vec<String>,
}

/// What became of a message for an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is on its way.
    Yes,
    /// Its worker has no connection, or does not have the lease.
    NotReachable,
    /// Its worker does not read what it was told before.
    TooMany,
}

/// The engine with its connections.
pub(crate) struct Driver {
    inner: Mutex<Inner>,
    clock: Arc<dyn Clock>,
}

/// A claim under way.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    wanted: ClaimWanted,
    /// The poll for which it is made.
    request: Option<uuid::Uuid>,
}

/// Store work that effects asked for.
enum Work {
    Claim(Claim),
    Verdict(VerdictWanted),
    WriteRow(OwnRow),
    AdoptFrom { replica: ReplicaId, beat: i64 },
    ReadHomes,
    Breaker(Option<outlive_core::engine::Opened>),
}

impl Driver {
    pub(crate) fn new(engine: Engine, sole: bool, clock: Arc<dyn Clock>) -> Self {
        let inner = Inner {
            engine,
            sole,
            replicas: Vec::new(),
            conns: HashMap::new(),
            polls: HashMap::new(),
            given: HashMap::new(),
            orders: HashMap::new(),
            last_conn: 0,
            last_waiter: 0,
            let_go: 0,
        };
        Self { inner: Mutex::new(inner), clock }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the engine.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Engine) -> T) -> T {
        look(&self.lock().engine)
    }

    /// A session as people may see it.
    pub(crate) fn session(&self, holder: Holder) -> Option<SessionView> {
        let now = self.clock.boot();
        self.look(|engine| engine.session(holder, now))
    }

    /// Whether all of these are leases of this worker, as far as is known here.
    pub(crate) fn knows(&self, holder: Holder, leases: &[LeaseRef]) -> bool {
        let inner = self.lock();
        leases.iter().all(|lease| inner.engine.way_to(holder, *lease).is_some())
    }

    /// A new connection with its queue; it is not the session's yet.
    pub(crate) fn connect(&self, held: Vec<Lease>) -> (ConnId, mpsc::Receiver<Out>) {
        let (out, queue) = mpsc::channel(OUTBOX_MESSAGES);
        let held = held.into_iter().map(|l| (l.run_id, l)).collect();
        let mut inner = self.lock();
        inner.last_conn += 1;
        let id = ConnId(inner.last_conn);
        inner.conns.insert(id, ConnHandle { out, held });
        (id, queue)
    }

    /// The connection is no more.
    pub(crate) fn disconnect(&self, conn: ConnId) {
        self.lock().conns.remove(&conn);
    }

    /// Says the same on every connection (a planned stop).
    pub(crate) fn broadcast(&self, message: &ServerMessage) {
        for conn in self.lock().conns.values() {
            let _ = conn.out.try_send(Out::Last(message.clone()));
        }
    }

    /// Where else workers may go.
    pub(crate) fn replicas_are(&self, addresses: Vec<String>) {
        self.lock().replicas = addresses;
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.lock().conns.len()
    }

    /// What a worker without a connection should be told: what is told once, then what is told until it is over.
    pub(crate) fn take_orders(&self, holder: Holder) -> Vec<WireOrder> {
        let mut inner = self.lock();
        let mut orders = inner.orders.remove(&holder).unwrap_or_default();
        orders.extend(inner.engine.standing_orders(holder).iter().filter_map(wire_order));
        orders
    }

    /// A message for an attempt, behind everything that its worker was told before.
    pub(crate) fn signal(&self, holder: Holder, lease: LeaseRef, name: String, data: outlive_core::Json) -> Told {
        let mut inner = self.lock();
        let LeaseRef { run_id, epoch } = lease;
        match inner.engine.way_to(holder, lease) {
            None => Told::NotReachable,
            Some(Way::Orders) => inner.put_order(holder, WireOrder::Signal { run_id, epoch, name, data }),
            Some(Way::Connection(conn)) => {
                let Some(handle) = inner.conns.get(&conn) else { return Told::NotReachable };
                // Messages of the engine itself must always find room.
                if handle.out.capacity() < OUTBOX_MESSAGES - UNREAD_SIGNALS {
                    return Told::TooMany;
                }
                inner.put(holder, conn, Out::Message(ServerMessage::Signal { run_id, epoch, name, data }));
                Told::Yes
            }
        }
    }

    /// Claims that a creation should make in its own transaction; the rest of the effects is carried out.
    fn offer(&self, counts: Vec<(outlive_core::ClassId, u32)>) -> Vec<Claim> {
        let mut inner = self.lock();
        let effects = inner.engine.handle(Input::Offer(counts), self.clock.boot());
        let claims = effects.into_iter().filter_map(|e| if let Effect::Claim(c) = e { Some(c) } else { None });
        claims.map(|wanted| Claim { request: inner.polls.get(&wanted.holder).map(|w| w.request), wanted }).collect()
    }

    fn handle(&self, inputs: Vec<Input>, staged: &mut HashMap<RunId, Lease>) -> Vec<Work> {
        let now = self.clock.boot();
        let mut work = Vec::new();
        let mut inner = self.lock();
        let ticks = matches!(inputs[..], [Input::Tick(_)]).then(outlive_api::clock::nanos);
        for input in inputs {
            inner.feed(input, now, staged, &mut work);
        }
        drop(inner);
        if let Some(began) = ticks {
            crate::metrics::judge_tick(outlive_api::clock::nanos() - began);
        }
        work
    }
}

impl Inner {
    fn feed(&mut self, input: Input, now: Mono, staged: &mut HashMap<RunId, Lease>, work: &mut Vec<Work>) {
        if matches!(input, Input::Tick(_)) && self.let_go != self.engine.let_go() {
            self.let_go = self.engine.let_go();
            // What is kept for workers that poll goes with their sessions.
            self.orders.retain(|holder, _| self.engine.polls(*holder));
            self.given.retain(|holder, _| self.engine.polls(*holder));
        }
        for effect in self.engine.handle(input, now) {
            match effect {
                Effect::Say(holder, conn, say) => self.say(holder, conn, say, staged),
                Effect::Order(holder, say) => self.order(holder, &say),
                Effect::Claim(wanted) => {
                    let request = self.polls.get(&wanted.holder).map(|w| w.request);
                    work.push(Work::Claim(Claim { wanted, request }));
                }
                Effect::Verdict(wanted) => work.push(Work::Verdict(wanted)),
                Effect::Breaker(why) => work.push(Work::Breaker(why)),
                // Who has to be told is told by the transactions that make it true.
                Effect::Announce(_, status) => crate::metrics::worker_edge(status),
                Effect::WriteRow(row) => work.push(Work::WriteRow(row)),
                Effect::AdoptFrom { replica, beat } => work.push(Work::AdoptFrom { replica, beat }),
                Effect::ReadHomes => work.push(Work::ReadHomes),
            }
        }
    }

    fn say(&mut self, holder: Holder, conn: ConnId, say: Say, staged: &mut HashMap<RunId, Lease>) {
        let Some(handle) = self.conns.get_mut(&conn) else { return };
        let out = match say {
            Say::Hello { home_seq, heartbeat, window, proxied } => Out::Message(ServerMessage::Hello(Hello {
                home_seq,
                heartbeat_ms: heartbeat.0,
                reconnect_window_ms: window.0,
                proxied,
                sole: self.sole,
                replicas: self.replicas.clone(),
            })),
            Say::Held(leases) => {
                let leases = leases.iter().filter_map(|l| handle.held.remove(&l.run_id)).collect();
                handle.held = HashMap::new();
                return self.push(holder, conn, 0, leases);
            }
            Say::Push(push_seq, leases) => {
                let leases = leases.iter().filter_map(|l| staged.remove(&l.run_id)).collect();
                return self.push(holder, conn, push_seq, leases);
            }
            Say::Lost(l, reason) => Out::Message(ServerMessage::Lost { run_id: l.run_id, epoch: l.epoch, reason }),
            Say::Cancel(l, reason) => Out::Message(ServerMessage::Cancel { run_id: l.run_id, epoch: l.epoch, reason }),
            Say::Drain => Out::Message(ServerMessage::Drain),
            Say::BeatAck(beat_seq) => Out::Message(ServerMessage::BeatAck { beat_seq, home_unsure: false }),
            Say::Unsure(beat_seq) => Out::Message(ServerMessage::BeatAck { beat_seq, home_unsure: true }),
            Say::Close(why) => {
                let why = match why {
                    CloseWhy::Superseded => CloseReason::Superseded,
                    CloseWhy::Replaced => CloseReason::SessionReplaced,
                    CloseWhy::WrittenOff => CloseReason::WrittenOff,
                };
                Out::Last(ServerMessage::Close { why, keep_trust_ms: 0, r#try: Vec::new() })
            }
        };
        self.put(holder, conn, out);
    }

    /// Leases, in as many messages as their inputs need: one may be as large as 1 MiB. A push is seen with its last message, so
    /// those before it bear the number before (the engine's numbers leave room for that): a beat that comes between two of them
    /// would otherwise say of leases that are still on their way that the worker has read of them and does not hold them.
    fn push(&mut self, holder: Holder, conn: ConnId, push_seq: u64, leases: Vec<Lease>) {
        let size = |lease: &Lease| {
            let extra = lease.checkpoint.iter().chain(&lease.resume_data).map(|json| json.text().len()).sum::<usize>();
            lease.input.text().len() + extra + LEASE_BYTES
        };
        let most = if push_seq == 0 { HELD_BYTES } else { PUSH_BYTES };
        let before = push_seq.saturating_sub(1);
        let (mut part, mut bytes) = (Vec::new(), 0);
        for lease in leases {
            let more = size(&lease);
            if bytes + more > most && !part.is_empty() {
                let leases = std::mem::take(&mut part);
                self.put(holder, conn, Out::Message(ServerMessage::Leases { push_seq: before, leases }));
                bytes = 0;
            }
            bytes += more;
            part.push(lease);
        }
        self.put(holder, conn, Out::Message(ServerMessage::Leases { push_seq, leases: part }));
    }

    fn put(&mut self, holder: Holder, conn: ConnId, out: Out) {
        let Some(handle) = self.conns.get(&conn) else { return };
        if handle.out.try_send(out).is_err() {
            tracing::warn!(%holder, "connection reads too slowly; it is cut off");
            self.conns.remove(&conn);
        }
    }

    fn order(&mut self, holder: Holder, say: &Say) {
        // Cancels and drains are standing orders.
        if let Some(lost @ WireOrder::Lost { .. }) = wire_order(say) {
            self.put_order(holder, lost);
        }
    }

    fn put_order(&mut self, holder: Holder, order: WireOrder) -> Told {
        let orders = self.orders.entry(holder).or_default();
        let is_new = matches!(order, WireOrder::Signal { .. }) || !orders.contains(&order);
        let is_signal = |order: &&WireOrder| matches!(order, WireOrder::Signal { .. });
        let unread = orders.iter().filter(is_signal).count();
        let has_room =
            orders.len() < outlive_core::limits::sizes::BATCH && (unread < UNREAD_SIGNALS || !is_signal(&&order));
        if is_new && has_room {
            orders.push(order);
        }
        if has_room { Told::Yes } else { Told::TooMany }
    }
}

fn wire_order(say: &Say) -> Option<WireOrder> {
    match say {
        Say::Lost(l, reason) => Some(WireOrder::Lost { run_id: l.run_id, epoch: l.epoch, reason: *reason }),
        Say::Cancel(l, _) => Some(WireOrder::Cancel { run_id: l.run_id, epoch: l.epoch }),
        Say::Drain => Some(WireOrder::Drain),
        _ => None,
    }
}

impl App {
    /// Tells the engine one thing.
    pub(crate) fn input(self: &Arc<Self>, input: Input) {
        self.inputs(vec![input]);
    }

    /// Tells the engine several things at once.
    pub(crate) fn inputs(self: &Arc<Self>, inputs: Vec<Input>) {
        let work = self.driver.handle(inputs, &mut HashMap::new());
        self.start_work(work);
    }

    fn start_work(self: &Arc<Self>, work: Vec<Work>) {
        for piece in work {
            let app = Arc::clone(self);
            match piece {
                Work::Claim(claim) => drop(tokio::spawn(async move {
                    let result = app.store.claim(app.claim_order(&claim)).await;
                    app.claimed(&claim, result);
                })),
                Work::Breaker(why) => {
                    crate::metrics::breaker(why);
                    app.tell(why.map_or(Notice::BreakerClosed, |why| Notice::BreakerOpened(why.text())));
                }
                Work::Verdict(wanted) => drop(tokio::spawn(async move { app.write_verdict(wanted).await })),
                Work::WriteRow(row) => drop(tokio::spawn(async move { app.write_row(row).await })),
                Work::AdoptFrom { replica, beat } => {
                    drop(tokio::spawn(async move { app.adopt_from(replica, beat).await }));
                }
                Work::ReadHomes => drop(tokio::spawn(async move { app.read_homes().await })),
            }
        }
    }

    fn claim_order(&self, claim: &Claim) -> ClaimOrder {
        let wanted = &claim.wanted;
        ClaimOrder {
            holder: wanted.holder,
            replica: self.replica,
            home_seq: wanted.home_seq,
            max: wanted.max,
            classes: wanted.classes.clone(),
            request: claim.request,
        }
    }

    /// Room for runs that are about to be created.
    pub(crate) fn offer(&self, counts: Vec<(outlive_core::ClassId, u32)>) -> Vec<(Claim, ClaimOrder)> {
        self.driver.offer(counts).into_iter().map(|claim| (claim.clone(), self.claim_order(&claim))).collect()
    }

    /// A claim was answered: leases go to their worker, hints to whom they concern.
    pub(crate) fn claimed(self: &Arc<Self>, claim: &Claim, result: Result<Claimed, StoreError>) {
        let holder = claim.wanted.holder;
        let (result, rows, commit) = match result {
            Ok(claimed) => {
                let leases = claimed.leases.iter().filter_map(|row| self.lease_info(row)).collect();
                let result = ClaimResult {
                    leases,
                    exhausted: claimed.exhausted,
                    lost_race: claimed.lost_race,
                    retry_after: claimed.retry_after,
                    failed: false,
                };
                (result, claimed.leases, claimed.commit)
            }
            Err(error) => {
                tracing::warn!(%holder, %error, "claim failed");
                (ClaimResult { failed: true, ..ClaimResult::default() }, Vec::new(), outlive_store::Commit::default())
            }
        };
        let lost_race = result.lost_race;
        let order: Vec<_> = rows.iter().map(|row| row.run.id).collect();
        let mut staged: HashMap<_, _> = rows.into_iter().map(|row| self.staged(row)).collect();
        let work = self.driver.claimed(claim, result, &order, &mut staged);
        self.start_work(work);
        self.committed(commit);
        if lost_race {
            crate::metrics::lost_race("claim");
            let (app, tried) = (Arc::clone(self), claim.wanted.home_seq);
            drop(tokio::spawn(async move { app.follow_home(holder, Has::Refused(tried)).await }));
        }
    }

    fn staged(&self, row: LeaseRow) -> (RunId, Lease) {
        let policy = self.catalog.policy(row.run.queue);
        let lease = view::lease(row, &policy);
        (lease.run_id, lease)
    }

    /// A lease as the engine knows it: judged by the values that its worker is given.
    pub(crate) fn lease_info(&self, row: &LeaseRow) -> Option<LeaseInfo> {
        LeaseInfo::of(&row.run, &row.options, &self.catalog.policy(row.run.queue))
    }
}
