//! A server of one worker, of one page: it registers whoever comes, answers beats and reports, and says what it is told to.

use crate::support::{PATIENCE, lease};
use futures_util::{SinkExt as _, StreamExt as _};
use outlive_api::report::{WireItem, WireResult};
use outlive_api::session::{Beat, Held, Hello, Lease, ServerMessage, WorkerMessage};
use outlive_api::workers::{Register, Registered};
use outlive_core::{HomeSeq, Incarnation, LeaseRef, Millis, Reason, WorkerId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio_tungstenite::tungstenite::Message;

/// What the server has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) registered: Vec<Register>,
    pub(crate) beats: Vec<Beat>,
    pub(crate) items: Vec<(WireItem, bool)>,
    pub(crate) sessions: u64,
    pub(crate) calls: Vec<String>,
    /// The answer to a registration, if not the usual one: status and body.
    pub(crate) refusal: Option<(u16, String)>,
    /// Beats are not answered.
    pub(crate) mute: bool,
    /// Beats are answered without confirming anything: the server does not know whether it still is the home.
    pub(crate) unsure: bool,
    /// Reports are not answered.
    pub(crate) deaf: bool,
    /// Leases of kind `noop` that are pushed as fast as credit allows.
    pub(crate) stock: u64,
    /// How many ends have been reported.
    pub(crate) ends: u64,
    /// Leases pushed out of the stock on the current connection.
    drawn: u64,
    /// Leases pushed on the current connection.
    pushed: u64,
    /// What is held, for `leases` 0.
    held: BTreeMap<LeaseRef, Lease>,
}

#[derive(Clone)]
pub(crate) struct FakeServer {
    pub(crate) address: String,
    seen: Arc<Mutex<Seen>>,
    changed: watch::Sender<u64>,
    say: broadcast::Sender<Order>,
    heartbeat: Millis,
}

#[derive(Clone)]
enum Order {
    Say(String),
    Cut,
}

impl FakeServer {
    pub(crate) async fn start(heartbeat: Millis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (say, _) = broadcast::channel(1_024);
        let server = Self { address, seen: Arc::default(), changed: watch::channel(0).0, say, heartbeat };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        server
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Waits until what has been seen is as wanted, and takes something from it.
    pub(crate) async fn until<T>(&self, what: &str, mut wanted: impl FnMut(&Seen) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        let waiting = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = wanted(&self.seen()) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    /// Waits for an item about this lease.
    pub(crate) async fn item(&self, lease: LeaseRef, wanted: impl Fn(&WireItem) -> bool) -> WireItem {
        let of = |i: &WireItem| i.run_id == Some(lease.run_id) && i.epoch == Some(lease.epoch);
        self.until("the item", |seen| seen.items.iter().map(|(i, _)| i).find(|i| of(i) && wanted(i)).cloned()).await
    }

    pub(crate) async fn connected(&self, sessions: u64) {
        self.until("a session", |seen| (seen.sessions >= sessions).then_some(())).await;
    }

    pub(crate) fn push(&self, lease: Lease) -> LeaseRef {
        let name = lease.lease();
        let push_seq = {
            let mut seen = self.seen();
            seen.held.insert(name, lease.clone());
            seen.pushed += 1;
            seen.pushed
        };
        self.say(&ServerMessage::Leases { push_seq, leases: vec![lease] });
        name
    }

    /// Knows, as every replica does, that the worker holds this.
    pub(crate) fn knows(&self, lease: &Lease) {
        self.seen().held.insert(lease.lease(), lease.clone());
    }

    pub(crate) fn say(&self, message: &ServerMessage) {
        let _ = self.say.send(Order::Say(serde_json::to_string(message).unwrap()));
    }

    pub(crate) fn lost(&self, LeaseRef { run_id, epoch }: LeaseRef) {
        self.seen().held.remove(&LeaseRef { run_id, epoch });
        self.say(&ServerMessage::Lost { run_id, epoch, reason: Reason::LeaseReleased });
    }

    pub(crate) fn cancel(&self, LeaseRef { run_id, epoch }: LeaseRef) {
        self.say(&ServerMessage::Cancel { run_id, epoch, reason: Reason::Cancelled });
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        let _ = self.say.send(Order::Cut);
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.send_modify(|n| *n += 1);
    }

    async fn serve(&self, stream: TcpStream) {
        let mut head = [0; 4];
        while stream.peek(&mut head).await.is_ok_and(|n| (1..4).contains(&n)) {
            tokio::task::yield_now().await;
        }
        if &head == b"POST" { self.call(stream).await } else { self.session(stream).await }
    }

    async fn call(&self, mut stream: TcpStream) {
        let mut request = Vec::new();
        let body = loop {
            let mut piece = [0; 4_096];
            let n = stream.read(&mut piece).await.unwrap_or(0);
            request.extend_from_slice(&piece[..n]);
            let text = String::from_utf8_lossy(&request).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if n == 0 || body.len() >= length.unwrap_or(0) {
                break body.to_owned();
            }
        };
        let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (status, answer) = if path == "/v1/workers" { self.register(&body) } else { (200, "{}".to_owned()) };
        self.set(|seen| seen.calls.push(path));
        let kind = if status < 300 { "application/json" } else { "application/problem+json" };
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n");
        let _ = stream.write_all(format!("{head}content-length: {}\r\n\r\n{answer}", answer.len()).as_bytes()).await;
    }

    fn register(&self, body: &str) -> (u16, String) {
        let register: Register = serde_json::from_str(body).unwrap();
        let (count, refusal) = {
            let mut seen = self.seen();
            seen.registered.push(register);
            (seen.registered.len(), seen.refusal.clone())
        };
        refusal.unwrap_or_else(|| {
            let registered = Registered {
                worker_id: WorkerId(1),
                incarnation: Incarnation(i64::try_from(count).unwrap()),
                session_token: "token".into(),
                heartbeat_interval: self.heartbeat,
                lease_ttl: Millis(self.heartbeat.0 * 5),
                reconnect_window: Millis(1_000),
                leases: vec![],
            };
            (201, serde_json::to_string(&registered).unwrap())
        })
    }

    async fn session(&self, stream: TcpStream) {
        let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
        let mut orders = self.say.subscribe();
        let (mut sink, mut stream) = socket.split();
        let mut first = true;
        loop {
            tokio::select! {
                frame = stream.next() => {
                    let Some(Ok(frame)) = frame else { return };
                    let Message::Text(text) = frame else { continue };
                    let answers = self.answer(WorkerMessage::parse(&text).unwrap(), &mut first);
                    for answer in answers {
                        let _ = sink.send(Message::text(serde_json::to_string(&answer).unwrap())).await;
                    }
                }
                order = orders.recv() => match order {
                    Ok(Order::Say(text)) => {
                        let _ = sink.send(Message::text(text)).await;
                    }
                    _ => return,
                },
            }
        }
    }

    fn answer(&self, message: WorkerMessage, first: &mut bool) -> Vec<ServerMessage> {
        let mut answers = Vec::new();
        let mut seen = self.seen();
        match message {
            WorkerMessage::Beat(beat) => {
                if std::mem::take(first) {
                    seen.sessions += 1;
                    seen.pushed = 0;
                    answers.push(ServerMessage::Hello(Hello {
                        home_seq: HomeSeq(1),
                        heartbeat_ms: self.heartbeat.0,
                        reconnect_window_ms: 1_000,
                        proxied: false,
                        sole: true,
                        replicas: vec![],
                    }));
                    let named: Vec<_> = beat.held.iter().map(Held::lease).collect();
                    for lease in named.iter().filter(|l| !seen.held.contains_key(l)) {
                        let (run_id, epoch) = (lease.run_id, lease.epoch);
                        answers.push(ServerMessage::Lost { run_id, epoch, reason: Reason::WorkerDisconnected });
                    }
                    let leases = seen.held.iter().filter(|(l, _)| !named.contains(l)).map(|(_, l)| l.clone()).collect();
                    answers.push(ServerMessage::Leases { push_seq: 0, leases });
                }
                if !seen.mute {
                    answers.push(ServerMessage::BeatAck { beat_seq: beat.beat_seq, home_unsure: seen.unsure });
                }
                let draw = seen.stock.min(beat.credit.saturating_sub(seen.drawn));
                if draw > 0 {
                    (seen.stock, seen.drawn, seen.pushed) = (seen.stock - draw, seen.drawn + draw, seen.pushed + 1);
                    let leases = (0..draw).map(|_| Lease { kind: "noop".into(), ..lease(&serde_json::Value::Null) });
                    answers.push(ServerMessage::Leases { push_seq: seen.pushed, leases: leases.collect() });
                }
                seen.beats.push(beat);
            }
            WorkerMessage::Report { report_seq, items, replay } => {
                let results = vec![WireResult::Ok; items.len()];
                if !seen.deaf {
                    for item in &items {
                        seen.ends += u64::from(ends(item));
                        if let (true, Some(run_id), Some(epoch)) = (ends(item), item.run_id, item.epoch) {
                            seen.held.remove(&LeaseRef { run_id, epoch });
                        }
                    }
                    answers.push(ServerMessage::Results { report_seq, results });
                }
                seen.items.extend(items.into_iter().map(|item| (item, replay)));
            }
        }
        drop(seen);
        self.changed.send_modify(|n| *n += 1);
        answers
    }
}

fn ends(item: &WireItem) -> bool {
    item.clone().into_item().is_ok_and(|item| item.op.ends_attempt())
}
