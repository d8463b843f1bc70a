//! The exchange of signs of life on Redis: it puts a verdict off while it knows more than the rows, and whatever becomes of it,
//! nobody is taken for dead by it or kept alive by it.

use crate::replicas::{pair_with, stop, until};
use crate::support::{Worker, World, noop, registration, until_run};
use outlive_api::report::{OpName, WireItem};
use outlive_api::runs::Run;
use outlive_api::session::{Held, Lease, ServerMessage};
use outlive_api::workers::{ClaimBody, PollBeat, ReportBody, WireLiveness};
use outlive_core::policy::QueuePolicy;
use outlive_core::{Holder, Millis};
use outlive_liveness_redis::Redis as Exchange;
use outlive_pg_private::Redis;
use outlive_server::{StartError, StoreLocation, start};
use outlive_store::{Catalog as _, Liveness as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const TTL: Millis = Millis::secs(2);
/// Seconds of the store's observed clock by which a silent worker is lost, if nobody knows better: twice what it takes.
const LONG: u64 = 8;

async fn short_leases(world: &World) {
    world.client.put_queue("default", &QueuePolicy { lease_ttl: TTL, ..QueuePolicy::default() }).await.unwrap();
}

/// A worker that works on a run.
async fn at_work(world: &World, name: &str) -> (Worker, Lease) {
    let mut worker = Worker::connect(world, name).await;
    worker.beat(1, &[]).await;
    world.client.create_run(&noop(), None).await.unwrap();
    let lease = worker.leases_in_time().await.remove(0);
    worker.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
    (worker, lease)
}

/// Does something each 100 ms until it is told to stop.
fn each_100_ms<F: Future<Output = ()> + Send + 'static>(
    mut act: impl FnMut() -> F + Send + 'static,
) -> (Arc<AtomicBool>, JoinHandle<()>) {
    let on = Arc::new(AtomicBool::new(true));
    let going = on.clone();
    let task = tokio::spawn(async move {
        let mut each = tokio::time::interval(Duration::from_millis(100));
        while going.load(Ordering::Acquire) {
            each.tick().await;
            act().await;
        }
    });
    (on, task)
}

fn is_lost(run: &Run) -> bool {
    run.losses == 1
}

/// The store's observed clock goes on by so many seconds.
async fn pass(world: &World, seconds: u64) {
    let observed = async || world.client.server().await.unwrap().judge.observed_ms;
    let from = observed().await;
    until("time passes for the judge", async || observed().await >= from + seconds * 1_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_that_changes_puts_a_verdict_off_and_one_that_stands_still_does_not() {
    let redis = Redis::start().expect("a Redis");
    let (a, b, store) = pair_with(Some(redis.url())).await;
    short_leases(&a).await;
    let (worker, lease) = at_work(&a, "w-1").await;
    let generation = store.load().await.unwrap().generation;
    // As a replica that hears it leaves them; the worker says nothing to its home any more.
    let elsewhere = Arc::new(Exchange::new(&redis.url(), generation).unwrap());
    let holder = Holder { worker: worker.registered.worker_id, incarnation: worker.registered.incarnation };
    let (on, touching) = each_100_ms(move || {
        let elsewhere = elsewhere.clone();
        async move { elsewhere.touch(&[holder]).await.expect("Redis answers") }
    });
    pass(&a, LONG).await;
    let now = a.client.run(lease.run_id).await.unwrap();
    assert_eq!((now.losses, now.epoch), (0, lease.epoch), "somebody heard it");
    // What lies in Redis is true no longer, and stays there.
    on.store(false, Ordering::Release);
    touching.await.unwrap();
    assert_eq!(redis.ask(&["DBSIZE"]).unwrap(), ":1");
    until_run(&a, lease.run_id, is_lost).await;
    until("its sign is taken away when the store has confirmed it", async || redis.ask(&["DBSIZE"]).unwrap() == ":0")
        .await;
    stop(a, b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_heard_for_another_home_is_left_in_the_exchange() {
    let redis = Redis::start().expect("a Redis");
    let (a, b, _) = pair_with(Some(redis.url())).await;
    let registered = a.client.register(&registration("p-1", WireLiveness::Poll)).await.unwrap();
    let (at_a, at_b) = (a.client.with_token(&registered.session_token), b.client.with_token(&registered.session_token));
    let run = b.client.create_run(&noop(), None).await.unwrap();
    let body = ClaimBody { request_id: uuid::Uuid::new_v4(), max: 1, wait: Some(Millis::secs(20)) };
    let lease = at_a.claim(registered.worker_id, &body).await.unwrap().leases.remove(0);
    assert_eq!(lease.run_id, run.id);
    let held = vec![Held { run_id: lease.run_id, epoch: lease.epoch, frozen_ms: 0 }];
    let beat = ReportBody { beat: Some(PollBeat { held }), items: Vec::new(), replay: false };
    until("the other replica leaves its sign", async || {
        at_b.report(registered.worker_id, &beat).await.unwrap();
        redis.ask(&["DBSIZE"]).unwrap() == ":1"
    })
    .await;
    stop(a, b).await;
}

/// One worker beats and one is silent: the first keeps its run, the second loses it.
async fn only_the_silent_one_is_lost(a: &World, round: &str) {
    let (living, kept) = at_work(a, &format!("living-{round}")).await;
    let living = Arc::new(tokio::sync::Mutex::new(living));
    let (held, worker) = (kept.clone(), living.clone());
    let (on, beating) = each_100_ms(move || {
        let (worker, held) = (worker.clone(), held.clone());
        async move {
            let mut worker = worker.lock().await;
            worker.beat(0, &[&held]).await;
            worker.until(|m| matches!(m, ServerMessage::BeatAck { .. }).then_some(())).await;
        }
    });
    let (_silent, lost) = at_work(a, &format!("silent-{round}")).await;
    until_run(a, lost.run_id, is_lost).await;
    pass(a, LONG).await;
    let now = a.client.run(kept.run_id).await.unwrap();
    assert_eq!((now.losses, now.epoch), (0, kept.epoch), "{round}: it beats");
    on.store(false, Ordering::Release);
    beating.await.unwrap();
    let mut worker = living.lock().await;
    worker.report(vec![WireItem::bare(OpName::Complete, Some(kept.lease()))]).await;
    // The lost one waits: nobody else is to get it in the next round.
    a.client.cancel_run(lost.run_id, &outlive_api::runs::CancelBody::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_redis_the_living_keep_their_work_and_the_silent_lose_it() {
    let mut redis = Redis::start().expect("a Redis");
    let (a, b, _) = pair_with(Some(redis.url())).await;
    short_leases(&a).await;
    redis.stall(true).unwrap();
    only_the_silent_one_is_lost(&a, "stalled").await;
    redis.stall(false).unwrap();
    redis.kill();
    only_the_silent_one_is_lost(&a, "killed").await;
    redis.start_again().unwrap();
    let redis = Arc::new(redis);
    let flushed = redis.clone();
    let (on, flushing) = each_100_ms(move || {
        let redis = flushed.clone();
        async move { redis.flush().unwrap() }
    });
    only_the_silent_one_is_lost(&a, "flushed").await;
    on.store(false, Ordering::Release);
    flushing.await.unwrap();
    stop(a, b).await;
}

#[tokio::test]
async fn a_server_that_shares_no_store_has_no_exchange_and_a_wrong_address_is_refused_at_once() {
    let config = |url: &str| outlive_server::Config {
        liveness: Some(url.to_owned()),
        ..crate::support::config(StoreLocation::Memory, 0, 0)
    };
    let refused = start(config("redis://127.0.0.1:1/")).await.err();
    assert!(matches!(&refused, Some(StartError::Liveness(why)) if why.contains("one server alone")), "{refused:?}");
    let why = Exchange::new("http://127.0.0.1/", uuid::Uuid::nil()).unwrap_err();
    assert!(why.contains("redis[s]://"), "{why}");
}
