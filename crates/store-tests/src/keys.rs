//! Business keys: unique among the active runs of a queue.

use crate::World;
use crate::build::{complete, lease};
use crate::world::TENANT;
use outlive_core::report::Op;
use outlive_core::run::Run;
use outlive_core::{Reason, State};
use outlive_store::{ClassRow, CreateError, CreateRun, OnConflict};

fn keyed(w: &World, class: &ClassRow, on_conflict: OnConflict) -> CreateRun {
    let mut draft = w.draft(class);
    draft.new.key = Some("k".to_owned());
    draft.on_conflict = on_conflict;
    draft
}

async fn make(w: &World, class: &ClassRow, on_conflict: OnConflict) -> Run {
    w.create(keyed(w, class, on_conflict)).await
}

pub async fn a_taken_key_is_refused_and_its_owner_named(w: World) {
    let (class, other) = (w.class("a").await, w.class("b").await);
    let owner = make(&w, &class, OnConflict::Reject).await;
    let refused = w.try_create(vec![keyed(&w, &class, OnConflict::Reject)]).await.unwrap_err();
    assert_eq!(refused, CreateError::KeyConflict { index: 0, key: "k".to_owned(), by: owner.id });
    // Another queue has keys of its own.
    make(&w, &other, OnConflict::Reject).await;
    let twice =
        vec![keyed(&w, &w.class("c").await, OnConflict::Reject), keyed(&w, &w.class("c").await, OnConflict::Reject)];
    assert!(matches!(w.try_create(twice).await.unwrap_err(), CreateError::KeyConflict { index: 1, .. }));
}

pub async fn a_taken_key_returns_its_owner(w: World) {
    let class = w.class("a").await;
    let owner = make(&w, &class, OnConflict::Reject).await;
    let created = w.try_create(vec![keyed(&w, &class, OnConflict::Return)]).await.unwrap();
    assert_eq!((created.runs[0].run.id, created.runs[0].existed), (owner.id, true));
    assert_eq!(w.tally(&class).await, (1, 0, 0, 0));
}

pub async fn a_replaced_waiting_run_ends_superseded(w: World) {
    let class = w.class("a").await;
    let old = make(&w, &class, OnConflict::Reject).await;
    let new = make(&w, &class, OnConflict::Replace).await;
    let row = w.row(old.id).await;
    assert_eq!((row.state, row.reason), (State::Cancelled, Some(Reason::Superseded)));
    assert!(new.is_ready());
    // Also within one batch: the later one stays.
    let batch = vec![keyed(&w, &class, OnConflict::Replace), keyed(&w, &class, OnConflict::Replace)];
    let created = w.try_create(batch).await.unwrap();
    assert_eq!(w.row(created.runs[0].run.id).await.reason, Some(Reason::Superseded));
    assert!(w.row(created.runs[1].run.id).await.is_ready());
    assert_eq!(w.tally(&class).await, (1, 0, 0, 0));
}

pub async fn a_replaced_leased_run_is_cancelled_and_the_new_one_waits_for_it(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    make(&w, &class, OnConflict::Reject).await;
    let old = w.take(&session, &class).await;
    let created = w.try_create(vec![keyed(&w, &class, OnConflict::Replace)]).await.unwrap();
    let new = &created.runs[0].run;
    assert!(new.blocked && created.commit.ready.is_empty());
    assert_eq!(created.commit.cancels[0].lease, lease(&old));
    let row = w.row(old.run.id).await;
    assert_eq!((row.state, row.reason, row.key), (State::Cancelling, Some(Reason::Superseded), None));
    assert!(w.claim(&session, &[&class], 1).await.leases.is_empty());
    let end = outlive_core::report::Item { lease: lease(&old), op: Op::Cancelled { exit: None } };
    let reported = w.store.report(session.holder, vec![end]).await.unwrap();
    assert_eq!(reported.commit.ready, [class.id]);
    assert_eq!(w.take(&session, &class).await.run.id, new.id);
}

pub async fn a_replacement_of_a_replacement_waits_for_the_same_lease(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    make(&w, &class, OnConflict::Reject).await;
    let old = w.take(&session, &class).await;
    let second = make(&w, &class, OnConflict::Replace).await;
    let third = make(&w, &class, OnConflict::Replace).await;
    assert_eq!(w.row(second.id).await.reason, Some(Reason::Superseded));
    assert!(third.blocked);
    w.lose(&session).await;
    assert_eq!(w.row(old.run.id).await.state, State::Cancelled);
    assert_eq!(w.take(&session, &class).await.run.id, third.id);
}

pub async fn a_key_is_free_when_its_run_has_ended(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    make(&w, &class, OnConflict::Reject).await;
    let held = w.take(&session, &class).await;
    w.say(&session, lease(&held), complete()).await;
    let second = make(&w, &class, OnConflict::Reject).await;
    w.store.cancel(TENANT, second.id, Reason::Cancelled, None).await.unwrap();
    assert!(make(&w, &class, OnConflict::Reject).await.is_ready());
}
