//! Sessions without processes: they beat, take leases, say that they have started them, and hold them. Thousands of them in one
//! process load a server as thousands of workers would.

use crate::exit::Failure;
use futures_util::{SinkExt as _, StreamExt as _};
use outlive_api::client::Client;
use outlive_api::client::socket::{SessionSocket, frames};
use outlive_api::clock::nanos;
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::session::{Beat, Held, Lease, ServerMessage, WorkerMessage};
use outlive_api::workers::{Register, WireLiveness};
use outlive_core::{Epoch, LeaseRef, RunId, WorkerId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

/// Runs that such sessions take.
pub(super) const KIND: &str = "bench.held";
/// Items of one report.
const ITEMS: usize = 1_000;

/// What a session is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The total of leases that it takes.
    Credit(u64),
    /// Say nothing more and read nothing more; the connection stays.
    Silence,
    /// End the connection.
    End,
}

/// The server has heard that an attempt started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    pub(super) run: RunId,
    pub(super) epoch: Epoch,
    pub(super) at: u64,
}

/// Whom a session tells.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) started: mpsc::Sender<Started>,
    /// Beats that were acknowledged, over all sessions.
    pub(super) acknowledged: Arc<AtomicU64>,
    /// Where a session goes whose connection ends by itself, and who is told when each has been heard there.
    pub(super) elsewhere: Option<Elsewhere>,
}

/// Servers over the same store.
#[derive(Clone, Debug)]
pub(super) struct Elsewhere {
    /// In the order in which they are tried.
    pub(super) addresses: Arc<[String]>,
    pub(super) heard: mpsc::Sender<u64>,
}

/// One session's other end.
#[derive(Debug)]
pub(super) struct Handle(mpsc::Sender<Order>);

impl Handle {
    pub(super) async fn tell(&self, order: Order) -> Result<(), Failure> {
        self.0.send(order).await.map_err(|_| Failure::failed("a session ended by itself"))
    }
}

/// Registers a worker of that name and opens its session.
pub(super) async fn open(
    client: &Client,
    name: String,
    slots: u32,
    credit: u64,
    told: Told,
) -> Result<Handle, Failure> {
    /// Orders that wait.
    const ORDERS: usize = 4;
    let registration = Register {
        protocol: outlive_api::PROTOCOL,
        name,
        instance: Uuid::new_v4(),
        takeover: false,
        outbox_key: String::new(),
        outbox_pending: 0,
        queues: vec!["default".to_owned()],
        kinds: vec![KIND.to_owned()],
        labels: BTreeMap::new(),
        slots,
        liveness: WireLiveness::Session,
        heartbeat_interval: None,
        version: crate::VERSION.to_owned(),
        host: String::new(),
        pid: std::process::id().into(),
        held: Vec::new(),
    };
    let registered = client.register(&registration).await?;
    let socket = client.with_token(&registered.session_token).session(registered.worker_id).await?;
    let again = |other: &Elsewhere| {
        let at = |address: &String| {
            Client::new(address, outlive_api::DEFAULT_NAMESPACE).map(|it| it.with_token(&registered.session_token))
        };
        let clients = other.addresses.iter().map(at).collect::<Result<_, _>>()?;
        Ok::<_, Failure>(Again { clients, worker: registered.worker_id })
    };
    let elsewhere = told.elsewhere.as_ref().map(again).transpose()?;
    let (tell, orders) = mpsc::channel(ORDERS);
    let session = Session {
        socket,
        credit,
        every: registered.heartbeat_interval.duration(),
        beat_seq: 0,
        seen: 0,
        report_seq: 0,
        held: BTreeMap::new(),
        reported: BTreeMap::new(),
        told,
        elsewhere,
        moved: false,
    };
    tokio::spawn(session.serve(orders));
    Ok(Handle(tell))
}

struct Session {
    socket: SessionSocket,
    credit: u64,
    every: Duration,
    beat_seq: u64,
    seen: u64,
    report_seq: u64,
    held: BTreeMap<RunId, Epoch>,
    /// Starts that were reported and are not answered.
    reported: BTreeMap<u64, Vec<LeaseRef>>,
    told: Told,
    elsewhere: Option<Again>,
    /// It has another home, and has not been acknowledged there.
    moved: bool,
}

/// How a session is opened again.
struct Again {
    /// One for each address, in the order in which they are tried.
    clients: Vec<Client>,
    worker: WorkerId,
}

impl Session {
    /// Until it is told to end, or the server ends it.
    async fn serve(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut timer = tokio::time::interval(self.every);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Credit(credit)) => {
                        self.credit = credit;
                        self.beat(false).await
                    }
                    Some(Order::Silence) => {
                        while !matches!(orders.recv().await, None | Some(Order::End)) {}
                        return;
                    }
                    Some(Order::End) | None => return,
                },
                _ = timer.tick() => self.beat(true).await,
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.hear(&text).await,
                    Some(Ok(_)) => Some(()),
                    Some(Err(_)) | None => None,
                },
            };
            if done.is_none() && self.open_elsewhere().await.is_none() {
                return;
            }
        }
    }

    /// As an agent does: at once, its home and then the others, again and again; on every connection it speaks first.
    async fn open_elsewhere(&mut self) -> Option<()> {
        /// Between two tries, and how many: longer than any fail-over should take.
        const AGAIN: Duration = Duration::from_millis(20);
        const TRIES: usize = 500;
        for _ in 0..TRIES {
            let again = self.elsewhere.as_ref()?;
            for client in &again.clients {
                if let Ok(socket) = client.session(again.worker).await {
                    (self.socket, self.moved) = (socket, true);
                    // Push numbers and credit start anew.
                    (self.seen, self.credit) = (0, 0);
                    return self.beat(true).await;
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
        None
    }

    async fn say(&mut self, message: &WorkerMessage) -> Option<()> {
        for frame in frames(message) {
            self.socket.feed(frame).await.ok()?;
        }
        self.socket.flush().await.ok()
    }

    async fn beat(&mut self, timer: bool) -> Option<()> {
        self.beat_seq += 1;
        let held = self.held.iter().map(|(&run_id, &epoch)| Held { run_id, epoch, frozen_ms: 0 }).collect();
        let beat = Beat { beat_seq: self.beat_seq, credit: self.credit, seen_push_seq: self.seen, timer, held };
        self.say(&WorkerMessage::Beat(beat)).await
    }

    async fn hear(&mut self, text: &str) -> Option<()> {
        match ServerMessage::parse(text).ok()? {
            Some(ServerMessage::BeatAck { .. }) => {
                self.told.acknowledged.fetch_add(1, Ordering::Relaxed);
                if std::mem::take(&mut self.moved)
                    && let Some(elsewhere) = &self.told.elsewhere
                {
                    elsewhere.heard.send(nanos()).await.ok()?;
                }
            }
            Some(ServerMessage::Leases { push_seq, leases }) => {
                self.seen = self.seen.max(push_seq);
                for leases in leases.chunks(ITEMS) {
                    self.start(leases).await?;
                }
            }
            Some(ServerMessage::Lost { run_id, epoch, .. }) if self.held.get(&run_id) == Some(&epoch) => {
                self.held.remove(&run_id);
            }
            Some(ServerMessage::Results { report_seq, results }) => {
                let started = self.reported.remove(&report_seq).unwrap_or_default();
                let at = nanos();
                for (lease, _) in started.into_iter().zip(results).filter(|(_, result)| *result == WireResult::Ok) {
                    self.told.started.send(Started { run: lease.run_id, epoch: lease.epoch, at }).await.ok()?;
                }
            }
            Some(ServerMessage::Close { .. }) => return None,
            _ => {}
        }
        Some(())
    }

    async fn start(&mut self, leases: &[Lease]) -> Option<()> {
        self.report_seq += 1;
        let leases: Vec<_> = leases.iter().map(Lease::lease).collect();
        self.held.extend(leases.iter().map(|lease| (lease.run_id, lease.epoch)));
        let items = leases.iter().map(|&lease| WireItem::bare(OpName::Start, Some(lease))).collect();
        self.reported.insert(self.report_seq, leases);
        self.say(&WorkerMessage::Report { report_seq: self.report_seq, items, replay: false }).await
    }
}
