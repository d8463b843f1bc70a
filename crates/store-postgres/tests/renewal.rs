//! Another history of the database: what a standby that takes over, or a restored copy, makes of a store.

mod support;

use outlive_core::clock::SimClock;
use outlive_core::policy::QueuePolicy;
use outlive_core::report::{Completion, Frame, ItemResult, Op};
use outlive_core::{Epoch, Json, LeaseRef, Millis, Reason, RunId, State};
use outlive_pg_private::{Database, Options as ServerOptions, Server};
use outlive_store::LeaseRow;
use outlive_store_tests::{Built, Session, TENANT, World};
use std::future::Future;
use std::sync::Arc;
use support::runtime;

/// Of the queue `a` when its leases were given out: longer than what its policy says later.
const TTL: Millis = Millis::secs(30);
const GRACE: Millis = Millis::secs(5);

fn lease(row: &LeaseRow) -> LeaseRef {
    LeaseRef { run_id: row.run.id, epoch: row.run.epoch }
}

fn complete(last_output_seq: i64) -> Op {
    Op::Complete(Completion { last_output_seq: Some(last_output_seq), ..Completion::default() })
}

fn frame(seq: i64, text: &str) -> Op {
    Op::Output(Frame { seq, channel: "stdout".into(), bytes: text.as_bytes().to_vec() })
}

/// A test over the store at a URL, with whatever is in it.
fn at<T: Future<Output = ()>>(url: &str, test: impl FnOnce(World) -> T) {
    let factory = |clock: Arc<SimClock>| {
        let store = runtime().block_on(support::store(url, "one", clock));
        Built { store: Arc::new(store), keep: Box::new(()) }
    };
    World::run(&factory, test);
}

/// What was going on.
struct Before {
    worked: LeaseRow,
    asked_to_end: RunId,
    serial: [RunId; 2],
    waits: RunId,
    session: Session,
}

async fn before(w: &World) -> Before {
    let long = QueuePolicy { lease_ttl: TTL, offline_grace: GRACE, ..QueuePolicy::default() };
    let (_, class) = w.queue("a", long).await;
    let session = w.worker("w").await;
    let worked = w.leased(&session, &class).await;
    for op in [frame(1, "old "), Op::Checkpoint(Json::parse("7".into()).unwrap())] {
        assert_eq!(w.say(&session, lease(&worked), op).await, ItemResult::Ok);
    }
    let asked_to_end = w.leased(&session, &class).await.run.id;
    w.store.cancel(TENANT, asked_to_end, Reason::Cancelled, None).await.unwrap();
    let first = w.one_with(&class, |new| new.new.serial_key = Some("k".into())).await.id;
    assert_eq!(w.take(&session, &class).await.run.id, first);
    let second = w.one_with(&class, |new| new.new.serial_key = Some("k".into())).await.id;
    w.queue("a", QueuePolicy::default()).await;
    let waits = w.one(&class).await.id;
    Before { worked, asked_to_end, serial: [first, second], waits, session }
}

/// Each as its worker, and a person, would meet it.
async fn after(w: &World, before: Before) {
    let Before { worked, asked_to_end, serial, waits, session: old } = before;
    let row = w.row(worked.run.id).await;
    assert_eq!((row.state, row.holder, row.losses, row.failures), (State::Queued, None, 0, 0));
    assert_eq!(row.epoch, Epoch(worked.run.epoch.0 + Epoch::JUMP));
    assert_eq!(w.row(asked_to_end).await.state, State::Cancelled);
    assert_eq!(w.row(waits).await.epoch, Epoch(Epoch::JUMP));
    for op in [frame(2, "lost"), complete(1)] {
        let said = w.say(&old, lease(&worked), op).await;
        assert!(matches!(said, ItemResult::Fenced { .. }), "{said:?}");
    }
    // A run that waits here may be at work: nothing is given until its worker cannot believe in that any more.
    let class = w.class("a").await;
    let session = w.open(old.holder).await;
    w.pass(Millis(1));
    let none = w.claim(&session, &[&class], 10).await;
    assert_eq!((none.leases.len(), none.retry_after), (0, Some(TTL + GRACE - Millis(1))));
    let new = w.request(vec![w.draft(&class)]);
    let claims = vec![w.order(&session, &[&class], 10)];
    let created = w.store.create(outlive_store::CreateRequest { claims, ..new }).await.unwrap();
    assert_eq!((created.claimed[0].leases.len(), created.runs[0].run.state), (0, State::Queued));
    let (_, fresh) = w.queue("another", QueuePolicy::default()).await;
    w.leased(&session, &fresh).await;
    w.pass(TTL + GRACE - Millis(1));
    let taken = w.claim(&session, &[&class], 10).await.leases;
    let ids: Vec<RunId> = taken.iter().map(|lease| lease.run.id).collect();
    assert_eq!(ids, [worked.run.id, serial[0], waits, created.runs[0].run.id], "the second of a key waits");
    // The next attempt begins anew, from the checkpoint.
    let again = &taken[0];
    assert_eq!(again.checkpoint.as_ref().map(Json::text), Some("7"));
    for op in [frame(1, "new"), complete(1)] {
        assert_eq!(w.say(&session, lease(again), op).await, ItemResult::Ok);
    }
    assert!(w.log(worked.run.id).await.concat().contains("new"), "the frames of the new attempt are no repetitions");
    let attempts = w.store.attempts(TENANT, worked.run.id).await.unwrap().unwrap();
    let seen: Vec<_> = attempts.iter().map(|row| (row.view.attempt.epoch.0, row.view.attempt.reason)).collect();
    assert_eq!(seen[0], (1, Reason::LeaseReleased));
    assert_eq!((seen.len(), seen[1].0), (2, 2 + Epoch::JUMP));
    // A cancelled run that was queued by it has no attempt that never was.
    w.store.cancel(TENANT, serial[1], Reason::Cancelled, None).await.unwrap();
    assert!(w.store.attempts(TENANT, serial[1]).await.unwrap().unwrap().is_empty());
    while w.store.audit_waiting(1_000).await.unwrap().more {}
    assert_eq!(w.store.audit_waiting(1_000).await.unwrap().acted, 0, "counts, clocks and keys are right");
}

#[test]
fn nothing_of_the_old_history_counts_in_another_one_and_its_runs_go_on() {
    let mut server = Server::start(&ServerOptions::default()).expect("a server");
    let database = Database::empty(&server.url("postgres")).expect("a database");
    let (mut was, mut generation) = (None, None);
    at(&database.url(), async |w| {
        was = Some(before(&w).await);
        generation = Some(w.store.load().await.unwrap().generation);
    });
    server.begin_another_history().expect("another history");
    at(&database.url(), async |w| {
        let renewed = w.store.load().await.unwrap().generation;
        assert_ne!(Some(renewed), generation);
        after(&w, was.take().unwrap()).await;
        generation = Some(renewed);
    });
    // The next start finds the history that it knows.
    at(&database.url(), async |w| assert_eq!(Some(w.store.load().await.unwrap().generation), generation));
}
