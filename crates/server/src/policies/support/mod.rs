//! A server on simulated time with the queues of one policy file, and the words that the tests are written in.

mod clock;

use crate::app::{App, Backend};
use crate::start::{Config, StoreLocation};
use crate::{router, services};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, header};
use clock::SimulatedClock;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use outlive_core::clock::Clock;
use outlive_core::engine::TICK;
use outlive_core::given::PolicyFile;
use outlive_core::{Millis, Mono};
use outlive_store::Store;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::task::JoinHandle;
use tokio::time::{advance, interval, sleep};

/// A policy file as it ships.
pub(crate) fn file(text: &str) -> PolicyFile {
    toml::from_str(text).expect("a policy file")
}

/// The server.
pub(crate) struct House {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Arc<SimulatedClock>,
    router: TowerToHyperService<Router>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl House {
    /// Starts, and sets every queue of the file as `outlive queues set --file` does.
    pub(crate) async fn with(policies: &str) -> Self {
        Self::over(policies, |store| store).await
    }

    /// The same, over what is made of its store.
    pub(crate) async fn over(policies: &str, make: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>) -> Self {
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            store: StoreLocation::Memory,
            insecure_listen: false,
            replica: String::new(),
            advertise: String::new(),
            low_disk: 0,
            liveness: None,
            settings: Vec::new(),
            version: "test".into(),
        };
        let clock = Arc::new(SimulatedClock::start());
        let shared: Arc<dyn Clock> = Arc::<SimulatedClock>::clone(&clock);
        let Backend { store, exchange } = Backend::open(&config, &shared).await.expect("a store");
        let backend = Backend { store: make(store), exchange };
        let app = App::open(config, backend, shared).await.expect("a server");
        let mut tasks = services::start(&app);
        tasks.push(tokio::spawn(hears_itself(Arc::clone(&app))));
        let router = TowerToHyperService::new(router::router(Arc::clone(&app)));
        let house = Self { app, clock, router, tasks };
        for (name, policy) in file(policies).queues {
            house.ok(Method::PUT, &format!("/v1/queues/{name}"), None, json!(policy)).await;
        }
        house.pass(Millis::secs(1)).await;
        house
    }

    /// Time passes; the server does what it does meanwhile.
    pub(crate) async fn pass(&self, time: Millis) {
        sleep(time.duration()).await;
    }

    /// Time passes at which nobody looks: the machine sleeps.
    pub(crate) async fn sleeps(&self, time: Millis) {
        advance(time.duration()).await;
    }

    /// Any request.
    pub(crate) async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Value) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request =
            request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body)).expect("a request");
        let answer = self.router.call(request).await.expect("an answer");
        let status = answer.status().as_u16();
        let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// A request that must succeed.
    pub(crate) async fn ok(&self, method: Method, path: &str, token: Option<&str>, body: Value) -> Value {
        let (status, answer) = self.call(method, path, token, body).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ok(Method::GET, path, None, Value::Null).await
    }

    /// What the feed has of these types so far, oldest first: the row of the store that tells it, which is one transaction, and
    /// the event.
    pub(crate) async fn told(&self, types: &str) -> Vec<(String, Value)> {
        let path = format!("/v1/events?types={types}&follow=false");
        let request = Request::builder().uri(path).header(header::HOST, "127.0.0.1").body(Body::empty());
        let answer = self.router.call(request.expect("a request")).await.expect("an answer");
        let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
        let feed = String::from_utf8_lossy(&bytes).into_owned();
        let line = |block: &str, name: &str| {
            block.lines().find_map(|line| line.strip_prefix(name).map(|text| text.trim().to_owned()))
        };
        let event = |block: &str| {
            let (place, data) = (line(block, "id:")?, line(block, "data:")?);
            let (row, _) = place.rsplit_once('-')?;
            Some((row.to_owned(), serde_json::from_str(&data).ok()?))
        };
        feed.split("\n\n").filter_map(event).collect()
    }

    /// A run.
    pub(crate) async fn create(&self, queue: &str) -> String {
        self.create_with(json!({"kind": "work", "queue": queue})).await
    }

    pub(crate) async fn create_with(&self, run: Value) -> String {
        text(&self.ok(Method::POST, "/v1/runs", None, run).await["id"])
    }

    pub(crate) async fn run(&self, id: &str) -> Value {
        self.get(&format!("/v1/runs/{id}")).await
    }

    /// `state`, or `state reason`.
    pub(crate) async fn state(&self, id: &str) -> String {
        let run = self.run(id).await;
        [&run["state"], &run["reason"]].into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    }

    /// The reasons for which its attempts ended, oldest first.
    pub(crate) async fn ends(&self, id: &str) -> Vec<String> {
        let attempts = self.get(&format!("/v1/runs/{id}/attempts")).await;
        let attempts = attempts["attempts"].as_array().expect("attempts");
        attempts.iter().filter(|a| !a["ended_at"].is_null()).map(|a| text(&a["reason"])).collect()
    }

    pub(crate) async fn status(&self, worker: &str) -> Option<String> {
        let workers = self.get("/v1/workers").await;
        let mut all = workers["workers"].as_array().expect("workers").iter();
        all.find(|w| w["name"] == worker).map(|w| text(&w["status"]))
    }

    /// A worker without a session.
    pub(crate) async fn worker(&self, name: &str, queues: &[&str], liveness: &str, interval: Option<Millis>) -> Worker {
        let registration = json!({
            "protocol": 1, "name": name, "instance": uuid::Uuid::new_v4(), "queues": queues, "kinds": ["work"], "slots": 1_000,
            "outbox_key": name, "liveness": liveness, "heartbeat_interval": interval, "takeover": true,
        });
        let answer = self.ok(Method::POST, "/v1/workers", None, registration).await;
        Worker { id: text(&answer["worker_id"]), token: text(&answer["session_token"]) }
    }
}

/// Through a real listener real time would pass: here what was sent is heard at once.
async fn hears_itself(app: Arc<App>) {
    let mut beats = interval(TICK.duration());
    loop {
        beats.tick().await;
        let Mono(now) = app.clock.boot();
        app.self_beat.store(now.max(1), Ordering::Release);
    }
}

/// A lease as a worker knows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    pub(crate) run: String,
    pub(crate) epoch: i64,
}

/// A worker that makes requests.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) id: String,
    token: String,
}

impl Worker {
    async fn call(&self, house: &House, what: &str, body: Value) -> Value {
        house.ok(Method::POST, &format!("/v1/workers/{}/{what}", self.id), Some(&self.token), body).await
    }

    /// Takes what is there, at most so many.
    pub(crate) async fn claims(&self, house: &House, max: u32) -> Vec<Held> {
        let body = json!({"request_id": uuid::Uuid::new_v4(), "max": max, "wait": "0s"});
        let leases = self.call(house, "claim", body).await;
        let held = |l: &Value| Held { run: text(&l["run_id"]), epoch: l["epoch"].as_i64().expect("an epoch") };
        leases["leases"].as_array().expect("leases").iter().map(held).collect()
    }

    pub(crate) async fn claims_one(&self, house: &House) -> Held {
        let mut leases = self.claims(house, 1).await;
        leases.pop().expect("a lease")
    }

    /// One statement; how it was answered.
    pub(crate) async fn says(&self, house: &House, held: &Held, op: &str, more: Value) -> String {
        let mut item = json!({"op": op, "run_id": held.run, "epoch": held.epoch});
        if let (Value::Object(item), Value::Object(more)) = (&mut item, more) {
            item.extend(more);
        }
        let answer = self.call(house, "report", json!({"items": [item]})).await;
        text(&answer["results"][0]["status"])
    }

    /// One beat; the orders that it was answered with.
    pub(crate) async fn beats(&self, house: &House, held: &[&Held]) -> Value {
        let held: Vec<_> = held.iter().map(|h| json!({"run_id": h.run, "epoch": h.epoch})).collect();
        self.call(house, "report", json!({"beat": {"held": held}})).await["orders"].clone()
    }

    /// Beats over so much time, each interval; the orders that came meanwhile.
    pub(crate) async fn beats_for(&self, house: &House, time: Millis, every: Millis, held: &[&Held]) -> Vec<Value> {
        let mut orders = Vec::new();
        for _ in 0..time.0 / every.0 {
            house.pass(every).await;
            orders.extend(self.beats(house, held).await.as_array().into_iter().flatten().cloned());
        }
        orders
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Long enough for what follows at once: a claim, a verdict, a sweep.
pub(crate) const SOON: Millis = Millis(2_500);

/// For tests that let hours pass.
pub(crate) const fn hours(n: u64) -> Millis {
    Millis::hours(n)
}
