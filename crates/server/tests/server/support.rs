//! A server per test, and a session worker that says exactly what a test tells it.

use futures_util::{SinkExt as _, StreamExt as _};
use outlive_api::client::Client;
use outlive_api::client::socket::{SessionSocket, frames};
use outlive_api::session::{Beat, Held, Lease, ServerMessage, WorkerMessage};
use outlive_api::workers::{Register, Registered, WireLiveness};
use outlive_core::Json;
use outlive_server::{Config, Server, StoreLocation, start};
use std::collections::BTreeMap;
use tokio_tungstenite::tungstenite::Message;

/// Longer than anything that is waited for.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) client: Client,
}

pub(crate) async fn world() -> World {
    world_at(StoreLocation::Memory, 0).await
}

pub(crate) async fn world_at(store: StoreLocation, port: u16) -> World {
    world_with(store, port, 0).await
}

pub(crate) fn config(store: StoreLocation, port: u16, low_disk: u64) -> Config {
    Config {
        listen: std::net::SocketAddr::from(([127, 0, 0, 1], port)),
        store,
        advertise: String::new(),
        insecure_listen: false,
        replica: String::new(),
        low_disk,
        liveness: None,
        settings: Vec::new(),
        version: "test".into(),
    }
}

pub(crate) async fn world_with(store: StoreLocation, port: u16, low_disk: u64) -> World {
    let config = config(store, port, low_disk);
    let server = start(config).await.expect("the server starts");
    let client = Client::new(&server.address().to_string(), "default").expect("an address");
    World { server, client }
}

pub(crate) fn noop() -> outlive_api::runs::NewRun {
    outlive_api::runs::NewRun::of("noop", Json::null())
}

pub(crate) fn registration(name: &str, liveness: WireLiveness) -> Register {
    Register {
        protocol: outlive_api::PROTOCOL,
        name: name.into(),
        instance: uuid::Uuid::new_v4(),
        takeover: false,
        outbox_key: format!("key of {name}"),
        outbox_pending: 0,
        queues: vec!["default".into()],
        kinds: vec!["noop".into()],
        labels: BTreeMap::new(),
        slots: 4,
        liveness,
        heartbeat_interval: None,
        version: "test".into(),
        host: "here".into(),
        pid: 1,
        held: Vec::new(),
    }
}

/// A worker that speaks the session protocol by hand.
pub(crate) struct Worker {
    pub(crate) registered: Registered,
    socket: SessionSocket,
    beat_seq: u64,
    pub(crate) credit: u64,
    report_seq: u64,
}

impl Worker {
    pub(crate) async fn connect(world: &World, name: &str) -> Self {
        let registered = world.client.register(&registration(name, WireLiveness::Session)).await.expect("registered");
        Self::resume(world, registered).await
    }

    pub(crate) async fn resume(world: &World, registered: Registered) -> Self {
        let client = world.client.with_token(&registered.session_token);
        let socket = client.session(registered.worker_id).await.expect("a session");
        Self { registered, socket, beat_seq: 0, credit: 0, report_seq: 0 }
    }

    pub(crate) async fn say(&mut self, message: &WorkerMessage) {
        for frame in frames(message) {
            self.socket.send(frame).await.expect("sent");
        }
    }

    pub(crate) async fn raw(&mut self, text: &str) {
        self.socket.send(Message::text(text.to_owned())).await.expect("sent");
    }

    pub(crate) async fn beat(&mut self, credit: u64, held: &[&Lease]) {
        assert!(self.beats(credit, held).await, "sent");
    }

    /// The same, where the server may have ended the connection; whether it could be sent.
    pub(crate) async fn beats(&mut self, credit: u64, held: &[&Lease]) -> bool {
        self.beat_seq += 1;
        self.credit = credit;
        let held = held.iter().map(|l| Held { run_id: l.run_id, epoch: l.epoch, frozen_ms: 0 }).collect();
        let beat = Beat { beat_seq: self.beat_seq, credit, seen_push_seq: 1_000, timer: true, held };
        let text = serde_json::to_string(&WorkerMessage::Beat(beat)).expect("serialises");
        self.socket.send(Message::text(text)).await.is_ok()
    }

    pub(crate) async fn next(&mut self) -> Option<ServerMessage> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a message in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    if let Some(message) = ServerMessage::parse(&text).expect("understood") {
                        return Some(message);
                    }
                }
                Some(Ok(_)) => {}
                _ => return None,
            }
        }
    }

    /// Reads on until `want` finds what it wants.
    pub(crate) async fn until<T>(&mut self, mut want: impl FnMut(ServerMessage) -> Option<T>) -> T {
        loop {
            let message = self.next().await.expect("the session goes on");
            if let Some(found) = want(message) {
                return found;
            }
        }
    }

    /// The next leases that were pushed, however long they take: it beats meanwhile.
    pub(crate) async fn leases_in_time(&mut self) -> Vec<Lease> {
        for _ in 0..120 {
            match tokio::time::timeout(std::time::Duration::from_secs(1), self.leases()).await {
                Ok(leases) => return leases,
                Err(_) => self.beat(self.credit, &[]).await,
            }
        }
        panic!("no leases");
    }

    /// The next leases that were pushed (not the answer to the first beat).
    pub(crate) async fn leases(&mut self) -> Vec<Lease> {
        self.until(|m| match m {
            ServerMessage::Leases { push_seq: 1.., leases } => Some(leases),
            _ => None,
        })
        .await
    }

    pub(crate) async fn report(
        &mut self,
        items: Vec<outlive_api::report::WireItem>,
    ) -> Vec<outlive_api::report::WireResult> {
        self.report_seq += 1;
        let seq = self.report_seq;
        self.say(&WorkerMessage::Report { report_seq: seq, items, replay: false }).await;
        self.until(|m| match m {
            ServerMessage::Results { report_seq, results } if report_seq == seq => Some(results),
            _ => None,
        })
        .await
    }

    /// The connection ends as with a killed process.
    pub(crate) fn die(self) -> Registered {
        self.registered
    }
}

/// Waits until a run is as wanted.
pub(crate) async fn until_run(
    world: &World,
    id: outlive_core::RunId,
    want: impl Fn(&outlive_api::runs::Run) -> bool,
) -> outlive_api::runs::Run {
    let found = async {
        loop {
            let run = world.client.run(id).await.expect("the run is there");
            if want(&run) {
                return run;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the state in time")
}
