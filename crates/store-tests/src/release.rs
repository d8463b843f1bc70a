//! Waiting states: release, due, expiry; and deletion.

use crate::World;
use crate::build::{complete, frame, json, lease};
use crate::world::TENANT;
use outlive_core::explain::Cause;
use outlive_core::policy::QueuePolicy;
use outlive_core::report::{Op, Wait};
use outlive_core::{Millis, Outcome, Reason, State};
use outlive_store::{Expiry, OutputFrom, OutputQuery, RunQuery, WriteError};

pub async fn a_held_run_is_queued_with_data_for_its_next_attempt(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let run = w.one_with(&class, |new| new.new.hold = true).await;
    assert!(w.claim(&session, &[&class], 1).await.leases.is_empty());
    w.pass(Millis::secs(3));
    let commit = w.store.release(TENANT, run.id, Some(json(r#"{"ok":true}"#)), None).await.unwrap();
    assert_eq!(commit.ready, [class.id]);
    let taken = w.take(&session, &class).await;
    assert_eq!((taken.run.id, taken.resume_data), (run.id, Some(json(r#"{"ok":true}"#))));
}

pub async fn a_run_that_does_not_wait_refuses(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    let id = held.run.id;
    let release = async || w.store.release(TENANT, id, None, None).await.unwrap_err();
    assert_eq!(release().await, WriteError::NotWaiting(State::Claimed));
    w.say(&session, lease(&held), complete()).await;
    assert_eq!(release().await, WriteError::Terminal(State::Succeeded));
    assert_eq!(w.store.release("other", id, None, None).await.unwrap_err(), WriteError::NotFound);
}

pub async fn a_release_that_is_repeated_with_its_key_ends_no_later_wait(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let run = w.one_with(&class, |new| new.new.hold = true).await;
    let key = |hash: u8| Some(outlive_store::Idempotency { key: "yes".to_owned(), body_hash: [hash; 32] });
    w.store.release(TENANT, run.id, None, key(1)).await.unwrap();
    let held = w.take(&session, &class).await;
    let again = Op::Release(Wait::Hold { note: None });
    w.say(&session, lease(&held), again).await;
    assert_eq!(w.row(run.id).await.state, State::Held);
    assert!(w.store.release(TENANT, run.id, None, key(1)).await.unwrap().ready.is_empty());
    assert_eq!(w.row(run.id).await.state, State::Held, "it waits for another answer now");
    let other = w.store.release(TENANT, run.id, None, key(2)).await.unwrap_err();
    assert_eq!(other, WriteError::IdempotencyMismatch);
    w.store.release(TENANT, run.id, None, None).await.unwrap();
    assert_eq!(w.row(run.id).await.state, State::Queued);
}

pub async fn a_hand_back_may_wait_or_hold_and_costs_nothing(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    let id = held.run.id;
    w.say(&session, lease(&held), Op::Checkpoint(json("7"))).await;
    w.say(&session, lease(&held), Op::Release(Wait::Delay { delay: Millis::mins(10), note: None })).await;
    let row = w.row(id).await;
    assert_eq!((row.state, row.due_at), (State::Scheduled, Some(w.now() + Millis::mins(10))));
    w.store.release(TENANT, id, None, None).await.unwrap();
    let held = w.take(&session, &class).await;
    assert_eq!(held.checkpoint, Some(json("7")));
    let note = Some("waits for an approval".to_owned());
    w.say(&session, lease(&held), Op::Release(Wait::Hold { note: note.clone() })).await;
    let row = w.get(id).await;
    assert_eq!((row.run.state, row.detail.note), (State::Held, note));
    assert_eq!((row.run.failures, row.run.losses), (0, 0));
}

pub async fn resume_data_outlives_a_loss_and_goes_with_the_hand_back(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let run = w.one_with(&class, |new| new.new.hold = true).await;
    w.store.release(TENANT, run.id, Some(json("1")), None).await.unwrap();
    w.take(&session, &class).await;
    w.lose(&session).await;
    let next = w.worker("x").await;
    let again = w.take(&next, &class).await;
    assert_eq!(again.resume_data, Some(json("1")), "the lost attempt may not have used it");
    w.say(&next, lease(&again), Op::Release(Wait::Hold { note: None })).await;
    w.store.release(TENANT, run.id, None, None).await.unwrap();
    assert_eq!(w.take(&next, &class).await.resume_data, None, "the next wait is another one");
}

pub async fn a_scheduled_run_is_queued_when_it_is_due(w: World) {
    let class = w.class("a").await;
    let (soon, later) = (w.now() + Millis::secs(5), w.now() + Millis::secs(9));
    let run = w.one_with(&class, |new| new.new.run_at = Some(soon)).await;
    w.one_with(&class, |new| new.new.run_at = Some(later)).await;
    let early = w.store.due(10).await.unwrap();
    assert_eq!((early.acted, early.next_due), (0, Some(soon)));
    w.pass(Millis::secs(5));
    let due = w.store.due(10).await.unwrap();
    assert_eq!((due.acted, due.next_due, due.commit.ready.as_slice()), (1, Some(later), [class.id].as_slice()));
    let row = w.row(run.id).await;
    assert_eq!((row.state, row.rank), (State::Queued, run.rank));
}

pub async fn held_and_queued_runs_expire(w: World) {
    let policy = QueuePolicy { hold_ttl: Millis::secs(5), ..QueuePolicy::default() };
    let (_, class) = w.queue("a", policy).await;
    let held = w.one_with(&class, |new| new.new.hold = true).await;
    let mut drafts: Vec<_> = (0..3).map(|_| w.draft(&class)).collect();
    for draft in &mut drafts {
        draft.new.queue_ttl = Some(Millis::secs(5));
    }
    let queued = w.try_create(drafts).await.unwrap().runs;
    w.pass(Millis::secs(6));
    assert_eq!(w.store.due(3).await.unwrap().acted, 1, "the held one; why nobody took the others is asked first");
    let cause = Cause { code: "no_worker_for_queue", detail: "no worker is online".to_owned() };
    let batch = async |limit| {
        let rows = w.store.overdue(limit).await.unwrap();
        rows.iter().map(|row| Expiry { id: row.run.id, because: vec![cause.clone()] }).collect::<Vec<_>>()
    };
    let first = batch(2).await;
    assert_eq!(first.len(), 2, "a bounded batch, the longest overdue first");
    let session = w.worker("w").await;
    let last = batch(10).await;
    let taken = w.take(&session, &class).await.run.id;
    // One was claimed between the look and the act: a lost race, not an end.
    let swept = w.store.expire(last).await.unwrap();
    assert_eq!((swept.found, swept.acted), (3, 2));
    assert_eq!(w.row(taken).await.state, State::Claimed);
    assert!(batch(10).await.is_empty());
    assert_eq!(w.store.expire(first).await.unwrap().acted, 0, "a second time changes nothing");
    let queued: Vec<_> = queued.into_iter().filter(|run| run.run.id != taken).collect();
    let detail = w.get(queued[0].run.id).await.detail;
    assert_eq!(detail.note.as_deref(), Some("no worker is online"));
    assert!(detail.reason_detail.is_some_and(|d| d.text().contains("no_worker_for_queue")));
    let row = w.row(held.id).await;
    assert_eq!((row.state, row.reason), (State::Expired, Some(Reason::HoldExpired)));
    let row = w.row(queued[0].run.id).await;
    assert_eq!(
        (row.state, row.outcome, row.reason),
        (State::Expired, Some(Outcome::Dispatch), Some(Reason::QueueTtlExpired))
    );
    assert!(w.store.ready_classes().await.unwrap().is_empty());
}

pub async fn only_a_terminal_run_is_deleted_and_nothing_of_it_stays(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let run = w.one_with(&class, |new| {
        new.options.subjects = vec!["s".to_owned()];
        new.options.tags = [("t".to_owned(), "1".to_owned())].into();
    });
    let run = run.await;
    let held = w.take(&session, &class).await;
    assert_eq!(w.store.delete(TENANT, run.id).await.unwrap_err(), WriteError::NotTerminal(State::Claimed));
    w.say(&session, lease(&held), frame(1, "x")).await;
    w.say(&session, lease(&held), complete()).await;
    assert_eq!(w.store.delete("other", run.id).await.unwrap_err(), WriteError::NotFound);
    w.store.delete(TENANT, run.id).await.unwrap();
    assert!(w.store.get(TENANT, run.id).await.unwrap().is_none());
    let query = OutputQuery { from: OutputFrom::After(0), channel: None, limit: 9, max_bytes: 9 };
    assert!(w.store.output(run.id, query).await.unwrap().is_none());
    assert!(w.found(RunQuery { subject: Some("s".to_owned()), ..RunQuery::default() }).await.is_empty());
    let tag = Some(("t".to_owned(), "1".to_owned()));
    assert!(w.found(RunQuery { tag, ..RunQuery::default() }).await.is_empty());
    assert_eq!(w.store.delete(TENANT, run.id).await.unwrap_err(), WriteError::NotFound);
}
