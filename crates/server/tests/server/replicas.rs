//! Two replicas over one store: what comes in at one reaches what is at home at the other.

use crate::support::{PATIENCE, Worker, World, noop, registration, until_run};
use async_trait::async_trait;
use outlive_api::client::Client;
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::runs::{CancelBody, SignalBody};
use outlive_api::session::{Held, ServerMessage};
use outlive_api::workers::{ClaimBody, PollBeat, Register, ReportBody, WireLiveness, WireOrder};
use outlive_core::policy::QueuePolicy;
use outlive_core::{Holder, Json, Millis, Reason, ReplicaId, State};
use outlive_server::{Backend, Config, StoreLocation, start_on};
use outlive_store::{Errand, Exchange, Hints, Store, StoreError, Sweeps as _, Workers as _};
use outlive_store_sqlite::SqliteStore;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// What waits for each replica.
type Letters = Arc<Mutex<Vec<(ReplicaId, Errand)>>>;

/// An exchange that tells by level alone, as where every hint is lost.
struct Way {
    store: Arc<SqliteStore>,
    letters: Letters,
    own: Arc<OnceLock<ReplicaId>>,
}

#[async_trait]
impl Exchange for Way {
    async fn hints(&self) -> Hints {
        let nothing = std::future::pending::<()>();
        assert!(tokio::time::timeout(Duration::from_millis(20), nothing).await.is_err(), "each 20 ms");
        let ready = self.store.ready_classes().await.unwrap_or_default();
        Hints { ready, errands: true, catalog: true, ..Hints::default() }
    }

    async fn tell(&self, to: ReplicaId, errand: Errand) -> Result<(), StoreError> {
        self.letters.lock().unwrap().push((to, errand));
        Ok(())
    }

    async fn errands(&self, _: u32) -> Result<Vec<Errand>, StoreError> {
        let mut mine = Vec::new();
        self.letters.lock().unwrap().retain(|(to, errand)| {
            let is_mine = self.own.get() == Some(to);
            if is_mine {
                mine.push(errand.clone());
            }
            !is_mine
        });
        Ok(mine)
    }
}

async fn replica(store: &Arc<SqliteStore>, letters: &Letters, name: &str, liveness: Option<String>) -> World {
    let own = Arc::new(OnceLock::new());
    let way = Way { store: Arc::clone(store), letters: Arc::clone(letters), own: Arc::clone(&own) };
    let backend =
        Backend { store: Arc::clone(store) as Arc<dyn Store>, exchange: Some(Arc::new(way) as Arc<dyn Exchange>) };
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        store: StoreLocation::Memory,
        replica: name.to_owned(),
        advertise: format!("{name}.test:7070"),
        insecure_listen: false,
        low_disk: 0,
        liveness,
        settings: Vec::new(),
        version: "test".into(),
    };
    let server = start_on(config, backend).await.expect("the replica starts");
    let client = Client::new(&server.address().to_string(), "default").expect("an address");
    own.set(ReplicaId(client.server().await.unwrap().replica)).unwrap();
    World { server, client }
}

/// Two of them that know each other.
async fn pair() -> (World, World) {
    let (a, b, _) = pair_with(None).await;
    (a, b)
}

/// The same, with an exchange of signs of life.
pub(crate) async fn pair_with(liveness: Option<String>) -> (World, World, Arc<SqliteStore>) {
    let store = Arc::new(SqliteStore::in_memory(Arc::new(outlive_api::clock::SystemClock)).unwrap());
    let letters = Letters::default();
    let a = replica(&store, &letters, "a", liveness.clone()).await;
    let b = replica(&store, &letters, "b", liveness).await;
    for world in [&a, &b] {
        until("they see each other", async || live(&world.client).await == 2).await;
    }
    (a, b, store)
}

async fn live(client: &Client) -> usize {
    client.server().await.unwrap().replicas.iter().filter(|r| r.live && !r.name.is_empty()).count()
}

pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let found = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("did not come true: {what}"));
}

pub(crate) async fn stop(a: World, b: World) {
    a.server.stop().await;
    b.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_came_in_at_one_replica_starts_on_a_worker_of_the_other() {
    let (a, b) = pair().await;
    let mut worker = Worker::connect(&b, "w-1").await;
    worker.beat(1, &[]).await;
    let run = a.client.create_run(&noop(), None).await.unwrap();
    assert!(run.warnings.is_empty(), "the other's worker counts: {:?}", run.warnings);
    let lease = worker.leases_in_time().await.remove(0);
    assert_eq!(lease.run_id, run.id);
    let seen = &a.client.workers().await.unwrap().workers[0];
    assert_eq!((seen.status.as_str(), seen.held.len()), ("online", 1), "{seen:?}");
    assert_eq!(worker.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await, [WireResult::Ok]);
    until_run(&a, run.id, |r| r.state == State::Succeeded).await;
    stop(a, b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_ask_for_at_one_replica_reaches_a_worker_of_the_other() {
    let (a, b) = pair().await;
    let mut worker = Worker::connect(&b, "w-1").await;
    worker.beat(3, &[]).await;
    let mut leases = Vec::new();
    for _ in 0..2 {
        a.client.create_run(&noop(), None).await.unwrap();
        leases.push(worker.leases_in_time().await.remove(0));
    }
    let start = |n: usize| WireItem::bare(OpName::Start, Some(leases[n].lease()));
    worker.report(vec![start(0), start(1)]).await;

    let steer = SignalBody { name: "steer".into(), data: Some(Json::parse("7".into()).unwrap()) };
    a.client.signal_run(leases[0].run_id, &steer).await.unwrap();
    let told =
        worker.until(|m| if let ServerMessage::Signal { name, data, .. } = m { Some((name, data)) } else { None });
    let (name, data) = told.await;
    assert_eq!((name.as_str(), data.text()), ("steer", "7"));

    a.client.cancel_run(leases[0].run_id, &CancelBody::default()).await.unwrap();
    // Its hint is lost; the audit finds it by the row.
    let told = worker.until(|m| if let ServerMessage::Cancel { run_id, .. } = m { Some(run_id) } else { None });
    assert_eq!(told.await, leases[0].run_id);

    let id = worker.registered.worker_id;
    assert_eq!(a.client.worker_action(id, "drain").await.unwrap().status, "draining");
    worker.until(|m| matches!(m, ServerMessage::Drain).then_some(())).await;
    a.client.worker_action(id, "evict").await.unwrap();
    let lost = worker.until(|m| if let ServerMessage::Lost { reason, .. } = m { Some(reason) } else { None }).await;
    assert_eq!(lost, Reason::Evicted);
    stop(a, b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_moves_to_another_replica_keeps_what_it_holds() {
    let (a, b) = pair().await;
    let mut worker = Worker::connect(&a, "w-1").await;
    worker.beat(1, &[]).await;
    let run = a.client.create_run(&noop(), None).await.unwrap();
    let lease = worker.leases_in_time().await.remove(0);
    worker.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
    // Its connection ends; it comes back at the other replica, as behind a balancer.
    let mut worker = Worker::resume(&b, worker.die()).await;
    worker.beat(0, &[&lease]).await;
    worker.until(|m| matches!(m, ServerMessage::BeatAck { home_unsure: false, .. }).then_some(())).await;
    // The first home has had its window, and more.
    until("the first home has let it go", async || a.client.server().await.unwrap().sessions == 0).await;
    let now = a.client.run(run.id).await.unwrap();
    assert_eq!((now.state, now.epoch, now.losses), (State::Running, lease.epoch, 0));
    assert_eq!(worker.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await, [WireResult::Ok]);
    stop(a, b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_whose_session_answers_at_another_replica_is_in_use() {
    let (a, b) = pair().await;
    let mut worker = Worker::connect(&a, "w-1").await;
    worker.beat(1, &[]).await;
    let other = Register { outbox_key: "another folder".into(), ..registration("w-1", WireLiveness::Session) };
    let refused = b.client.register(&other).await.unwrap_err();
    assert_eq!(refused.code(), Some("name_in_use"));
    let taken = b.client.register(&Register { takeover: true, ..other }).await.unwrap();
    assert_eq!(taken.incarnation.0, 2);
    let told = worker.until(|m| if let ServerMessage::Close { why, .. } = m { Some(why) } else { None }).await;
    assert_eq!(told, outlive_api::session::CloseReason::SessionReplaced);
    stop(a, b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_polls_through_a_balancer_is_heard_and_told_at_every_replica() {
    let (a, b) = pair().await;
    let registered = a.client.register(&registration("p-1", WireLiveness::Poll)).await.unwrap();
    let (at_a, at_b) = (a.client.with_token(&registered.session_token), b.client.with_token(&registered.session_token));
    let run = b.client.create_run(&noop(), None).await.unwrap();
    let body = ClaimBody { request_id: uuid::Uuid::new_v4(), max: 1, wait: Some(Millis::secs(20)) };
    let lease = at_a.claim(registered.worker_id, &body).await.unwrap().leases.remove(0);
    assert_eq!(lease.run_id, run.id);
    let beat = || Some(PollBeat { held: vec![Held { run_id: lease.run_id, epoch: lease.epoch, frozen_ms: 0 }] });
    let report = |op| ReportBody { beat: beat(), items: vec![WireItem::bare(op, Some(lease.lease()))], replay: false };
    let answer = at_b.report(registered.worker_id, &report(OpName::Start)).await.unwrap();
    assert_eq!((answer.results, answer.orders), (vec![WireResult::Ok], vec![]));
    assert_eq!(a.client.server().await.unwrap().sessions, 1, "its home has not moved");
    a.client.cancel_run(run.id, &CancelBody::default()).await.unwrap();
    let only_beat = ReportBody { beat: beat(), items: Vec::new(), replay: false };
    let told = at_b.report(registered.worker_id, &only_beat).await.unwrap().orders;
    assert_eq!(told, [WireOrder::Cancel { run_id: run.id, epoch: lease.epoch }]);
    let ended = at_b.report(registered.worker_id, &report(OpName::Cancelled)).await.unwrap();
    assert_eq!(ended.results, [WireResult::Ok]);
    let told = at_b.report(registered.worker_id, &only_beat).await.unwrap().orders;
    let lost = WireOrder::Lost { run_id: run.id, epoch: lease.epoch, reason: Reason::LeaseReleased };
    assert_eq!(told, [lost], "it is not its own any more");
    stop(a, b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_at_home_where_no_replica_is_comes_home() {
    let (a, b, store) = pair_with(None).await;
    let quick = QueuePolicy { lease_ttl: Millis::secs(2), ..QueuePolicy::default() };
    a.client.put_queue("default", &quick).await.unwrap();
    let mut dies = Worker::connect(&a, "dies").await;
    dies.beat(1, &[]).await;
    let run = a.client.create_run(&noop(), None).await.unwrap();
    let lease = dies.leases_in_time().await.remove(0);
    dies.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
    // What no program does: its row names a replica that there never was.
    let holder = Holder { worker: dies.registered.worker_id, incarnation: dies.registered.incarnation };
    store.open_session(holder, ReplicaId(77)).await.unwrap().unwrap();
    drop(dies.die());
    let mut rescuer = Worker::connect(&b, "rescuer").await;
    let again = async {
        loop {
            rescuer.beat(1, &[]).await;
            let next = tokio::time::timeout(Duration::from_millis(500), rescuer.next()).await;
            if let Ok(Some(ServerMessage::Leases { push_seq: 1.., leases })) = next {
                return leases;
            }
        }
    };
    let leases = tokio::time::timeout(PATIENCE, again).await.expect("within two rounds of the audit and a TTL");
    assert_eq!((leases[0].run_id, leases[0].epoch.0), (run.id, 2));
    stop(a, b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_ends_on_purpose_names_the_others() {
    let (a, b) = pair().await;
    let mut worker = Worker::connect(&a, "w-1").await;
    worker.beat(1, &[]).await;
    let told =
        async { worker.until(|m| if let ServerMessage::Close { r#try, .. } = m { Some(r#try) } else { None }).await };
    let (told, ()) = tokio::join!(told, a.server.stop());
    assert_eq!(told, ["b.test:7070"]);
    b.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_with_a_replica_s_name_ends_the_first() {
    let store = Arc::new(SqliteStore::in_memory(Arc::new(outlive_api::clock::SystemClock)).unwrap());
    let letters = Letters::default();
    let first = replica(&store, &letters, "a", None).await;
    let second = replica(&store, &letters, "a", None).await;
    tokio::time::timeout(PATIENCE, first.server.stopped()).await.expect("the first one ends");
    stop(first, second).await;
}
