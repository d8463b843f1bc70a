//! The engine's shell: one lock, inputs in, effects out.
//!
//! Messages leave in the order in which the engine made them, because they are put into the connections' queues before the
//! lock is released. Store work that an effect asks for is started afterwards, on a task of its own, and comes back as an
//! input.

use crate::app::App;
use crate::view;
use outlive_api::session::{CloseReason, Hello, Lease, ServerMessage};
use outlive_api::workers::WireOrder;
use outlive_core::clock::Clock;
use outlive_core::engine::OwnRow;
use outlive_core::engine::{
    ClaimResult, ClaimToken, ClaimWanted, CloseWhy, ConnId, Effect, Engine, Input, LeaseInfo, Say, SessionView,
    VerdictResult, VerdictWanted, Way,
};
use outlive_core::feed::Notice;
use outlive_core::run::LossBudget;
use outlive_core::{Holder, LeaseRef, ReplicaId, RunId};
use outlive_store::{ClaimOrder, Claimed, LeaseRow, LoseOutcome, StoreError, Verdict};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Messages that may wait for one slow reader; more, and it is cut off.
pub(crate) const OUTBOX_MESSAGES: usize = 4_096;

/// Messages that may wait for one worker before a signal is refused: each may be as large as 64 KiB.
const UNREAD_SIGNALS: usize = 64;

/// Inputs and checkpoints in one message of leases, in bytes; an agent reads at most 16 MiB.
const PUSH_BYTES: usize = 4 << 20;

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

/// A polling worker that waits for leases.
pub(crate) struct PollWaiter {
    pub(crate) request: uuid::Uuid,
    pub(crate) deliver: mpsc::Sender<Vec<Lease>>,
    /// Given by the driver: the newest one speaks for its worker, and only its end is the end of the waiting.
    pub(crate) number: u64,
}

/// What an answer to a claim carried, in case it is asked for again: the store knows only the request for which it was made,
/// and that may have been an earlier one.
struct Answered {
    request: uuid::Uuid,
    leases: Vec<LeaseRef>,
}

struct Inner {
    engine: Engine,
    conns: HashMap<ConnId, ConnHandle>,
    polls: HashMap<Holder, PollWaiter>,
    orders: HashMap<Holder, Vec<WireOrder>>,
    undelivered: HashMap<Holder, Vec<Lease>>,
    answered: HashMap<Holder, Answered>,
    last_conn: u64,
    last_waiter: u64,
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

/// Store work that effects asked for.
enum Work {
    Claim(ClaimWanted, Option<uuid::Uuid>),
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
            orders: HashMap::new(),
            undelivered: HashMap::new(),
            answered: HashMap::new(),
            last_conn: 0,
            last_waiter: 0,
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

    /// A polling worker waits: its number, or what it gets at once.
    pub(crate) fn wait_for_leases(&self, holder: Holder, waiter: PollWaiter) -> Result<u64, Vec<Lease>> {
        let mut inner = self.lock();
        let mut leases = inner.undelivered.remove(&holder).unwrap_or_default();
        // What it has lost meanwhile is not its to do.
        leases.retain(|lease| inner.engine.way_to(holder, lease.lease()).is_some());
        if !leases.is_empty() {
            inner.answer(holder, waiter.request, &leases);
            return Err(leases);
        }
        inner.last_waiter += 1;
        let number = inner.last_waiter;
        inner.polls.insert(holder, PollWaiter { number, ..waiter });
        Ok(number)
    }

    /// It waits no more. Whether that leaves nobody waiting for this worker: an older call that ends late says nothing about
    /// the newer one.
    pub(crate) fn stop_waiting(&self, holder: Holder, number: u64) -> bool {
        let mut inner = self.lock();
        let is_newest = inner.polls.get(&holder).is_some_and(|w| w.number == number);
        if is_newest {
            inner.polls.remove(&holder);
        }
        is_newest
    }

    /// These leases reach their worker in another answer: they do not wait for a poll any more.
    pub(crate) fn delivered(&self, holder: Holder, leases: &[LeaseRef]) {
        if let Some(waiting) = self.lock().undelivered.get_mut(&holder) {
            waiting.retain(|lease| !leases.contains(&lease.lease()));
        }
    }

    /// What this request was answered, by this process.
    pub(crate) fn answered(&self, holder: Holder, request: uuid::Uuid) -> Option<Vec<LeaseRef>> {
        let inner = self.lock();
        inner.answered.get(&holder).filter(|a| a.request == request).map(|a| a.leases.clone())
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
    fn offer(&self, counts: Vec<(outlive_core::ClassId, u32)>) -> Vec<(ClaimWanted, Option<uuid::Uuid>)> {
        let mut inner = self.lock();
        let effects = inner.engine.handle(Input::Offer(counts), self.clock.boot());
        let claims = effects.into_iter().filter_map(|e| if let Effect::Claim(c) = e { Some(c) } else { None });
        let requested = |c: ClaimWanted| (inner.polls.get(&c.holder).map(|w| w.request), c);
        claims.map(requested).map(|(request, c)| (c, request)).collect()
    }

    fn handle(&self, inputs: Vec<Input>, staged: &mut HashMap<RunId, Lease>) -> Vec<Work> {
        let now = self.clock.boot();
        let mut work = Vec::new();
        let mut inner = self.lock();
        for input in inputs {
            if matches!(input, Input::Tick(_)) {
                inner.forget_the_gone();
            }
            for effect in inner.engine.handle(input, now) {
                match effect {
                    Effect::Say(holder, conn, say) => inner.say(holder, conn, say, staged),
                    Effect::Order(holder, say) => inner.order(holder, &say),
                    Effect::Claim(wanted) => {
                        let request = inner.polls.get(&wanted.holder).map(|w| w.request);
                        work.push(Work::Claim(wanted, request));
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
        work
    }
}

impl Inner {
    /// What is kept for workers that poll goes with their sessions.
    fn forget_the_gone(&mut self) {
        let Self { engine, orders, undelivered, answered, .. } = self;
        orders.retain(|holder, _| engine.polls(*holder));
        undelivered.retain(|holder, _| engine.polls(*holder));
        answered.retain(|holder, _| engine.polls(*holder));
    }

    fn answer(&mut self, holder: Holder, request: uuid::Uuid, leases: &[Lease]) {
        let leases = leases.iter().map(Lease::lease).collect();
        self.answered.insert(holder, Answered { request, leases });
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

    /// Leases, in as many messages of the same number as their inputs need: one may be as large as 1 MiB.
    fn push(&mut self, holder: Holder, conn: ConnId, push_seq: u64, leases: Vec<Lease>) {
        let size = |lease: &Lease| {
            let extra = lease.checkpoint.iter().chain(&lease.resume_data).map(|json| json.text().len()).sum::<usize>();
            lease.input.text().len() + extra
        };
        let (mut part, mut bytes) = (Vec::new(), 0);
        for lease in leases {
            let more = size(&lease);
            if bytes + more > PUSH_BYTES && !part.is_empty() {
                let leases = std::mem::take(&mut part);
                self.put(holder, conn, Out::Message(ServerMessage::Leases { push_seq, leases }));
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

/// What the engine is told of a verdict that was given.
fn written(holder: Holder, result: Result<LoseOutcome, StoreError>) -> VerdictResult {
    match result {
        Ok(outcome) => VerdictResult::Committed(outcome.lost),
        Err(StoreError::Unknown(_)) => VerdictResult::Unknown,
        Err(error) => {
            tracing::warn!(%holder, %error, "verdict could not be written");
            VerdictResult::Failed
        }
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
                Work::Claim(wanted, request) => drop(tokio::spawn(async move {
                    let order = app.claim_order(&wanted, request);
                    let result = app.store.claim(order).await;
                    app.claimed(wanted.token, wanted.holder, result);
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

    fn claim_order(&self, wanted: &ClaimWanted, request: Option<uuid::Uuid>) -> ClaimOrder {
        ClaimOrder {
            holder: wanted.holder,
            replica: self.replica,
            home_seq: wanted.home_seq,
            max: wanted.max,
            classes: wanted.classes.clone(),
            request,
        }
    }

    /// Room for runs that are about to be created.
    pub(crate) fn offer(&self, counts: Vec<(outlive_core::ClassId, u32)>) -> Vec<(ClaimWanted, ClaimOrder)> {
        let wanted = self.driver.offer(counts).into_iter();
        wanted
            .map(|(wanted, request)| (self.claim_order(&wanted, request), wanted))
            .map(|(order, w)| (w, order))
            .collect()
    }

    /// A claim was answered: leases go to their worker, hints to whom they concern.
    pub(crate) fn claimed(self: &Arc<Self>, token: ClaimToken, holder: Holder, result: Result<Claimed, StoreError>) {
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
        let work = self.driver.handle(vec![Input::ClaimDone(token, result)], &mut staged);
        // What no connection took belongs to a worker that polls.
        if !staged.is_empty() && self.driver.look(|engine| engine.polls(holder)) {
            let leases: Vec<_> = order.iter().filter_map(|id| staged.remove(id)).collect();
            let mut inner = self.driver.lock();
            let refused = match inner.polls.remove(&holder) {
                Some(waiter) => {
                    inner.answer(holder, waiter.request, &leases);
                    waiter.deliver.try_send(leases).err().map(mpsc::error::TrySendError::into_inner)
                }
                None => Some(leases),
            };
            if let Some(leases) = refused {
                inner.undelivered.entry(holder).or_default().extend(leases);
            }
        }
        self.start_work(work);
        self.committed(commit);
        if lost_race {
            crate::metrics::lost_race("claim");
            let app = Arc::clone(self);
            drop(tokio::spawn(async move { app.follow_home(holder).await }));
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

    async fn write_verdict(self: &Arc<Self>, wanted: VerdictWanted) {
        let guard = wanted.evidence.by_absence().then_some((self.replica, wanted.home_seq));
        let verdict = Verdict {
            holder: wanted.holder,
            guard,
            leases: Some(wanted.leases.clone()),
            reason: wanted.reason,
            evidence: wanted.evidence,
            last_heard_at: self.clock.wall() - wanted.silent_for,
            budget: LossBudget::Losses,
            end_session: wanted.end_session,
        };
        let budget =
            if wanted.reason == outlive_core::Reason::LeaseReleased { LossBudget::Free } else { verdict.budget };
        let verdict = Verdict { budget, ..verdict };
        let result = match self.lose(verdict.clone()).await {
            Ok(outcome) if outcome.lost_race => {
                crate::metrics::lost_race("verdict");
                self.replaced_meanwhile(verdict).await
            }
            result => written(wanted.holder, result),
        };
        self.input(Input::VerdictDone(wanted, result));
    }

    /// The guard did not hold: what does the store say? A newer incarnation of the name is evidence 3 and needs no home.
    /// Nor does the loss of a worker whose row is gone: nobody can say anything for it any more.
    async fn replaced_meanwhile(self: &Arc<Self>, verdict: Verdict) -> VerdictResult {
        let holder = verdict.holder;
        match self.store.worker(holder.worker).await {
            Ok(Some(row)) if row.incarnation > holder.incarnation => {
                written(holder, self.lose_replaced(holder, verdict.leases).await)
            }
            Ok(None) => written(holder, self.lose(Verdict { guard: None, ..verdict }).await),
            Ok(Some(_)) | Err(_) => {
                self.follow_home(holder).await;
                VerdictResult::LostRace
            }
        }
    }

    /// The store has another home for a session than the engine. A newer home of the same incarnation is a connection that
    /// opened meanwhile, or that never came about: it is adopted, with a full TTL, unless its connection is here by now. Of a
    /// newer incarnation or after a goodbye, the old session is told to go; what it holds is revoked.
    async fn follow_home(self: &Arc<Self>, holder: Holder) {
        let Ok(Some(row)) = self.store.worker(holder.worker).await else { return };
        if row.incarnation == holder.incarnation && !row.left && row.replica != self.replica {
            self.input(Input::Moved(holder, row.home_seq));
        } else if row.incarnation == holder.incarnation && !row.left {
            if let Ok(leases) = self.store.leases_of(holder).await {
                let leases = leases.iter().filter_map(|row| self.lease_info(row)).collect();
                self.input(Input::Adopt(crate::start::session_info(&row, row.home_seq, leases)));
            }
        } else {
            self.input(Input::Revoke(holder, outlive_core::Reason::WorkerReplaced));
        }
    }
}
