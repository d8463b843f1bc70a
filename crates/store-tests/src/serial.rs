//! Serial keys: runs with the same one never run at the same time.

use crate::World;
use crate::build::{class_in, complete, lease};
use crate::world::TENANT;
use outlive_core::report::Item;
use outlive_core::run::Run;
use outlive_core::{Millis, Reason, State};
use outlive_store::ClassRow;

async fn keyed(w: &World, class: &ClassRow, priority: i16) -> Run {
    let run = w.one_with(class, |new| {
        new.new.serial_key = Some("thread".to_owned());
        new.new.priority = priority;
    });
    run.await
}

pub async fn runs_of_one_key_never_run_at_once(w: World) {
    let (a, b, session) = (w.class("a").await, w.class("b").await, w.worker("w").await);
    let first = keyed(&w, &a, 0).await;
    keyed(&w, &a, 0).await;
    // The key is the namespace's, not the queue's.
    keyed(&w, &b, 0).await;
    let free = w.one(&b).await;
    let taken = w.claim_ids(&session, &[&a, &b], 10).await;
    assert_eq!(taken, [first.id, free.id]);
    assert!(w.claim(&session, &[&a, &b], 10).await.leases.is_empty());
    assert!(w.store.ready_classes().await.unwrap().is_empty());
}

pub async fn the_next_in_rank_order_follows_when_the_lease_closes(w: World) {
    let (a, b, session) = (w.class("a").await, w.class("b").await, w.worker("w").await);
    keyed(&w, &a, 0).await;
    let held = w.take(&session, &a).await;
    let low = keyed(&w, &a, -1).await;
    let high = keyed(&w, &b, 1).await;
    assert!(low.blocked && high.blocked);
    let items = vec![Item { lease: lease(&held), op: complete() }];
    let reported = w.store.report(session.holder, items).await.unwrap();
    assert_eq!(reported.commit.ready, [b.id]);
    let next = w.take(&session, &b).await;
    assert_eq!(next.run.id, high.id);
    assert!(w.claim(&session, &[&a], 1).await.leases.is_empty());
    w.say(&session, lease(&next), complete()).await;
    assert_eq!(w.take(&session, &a).await.run.id, low.id);
}

pub async fn a_better_rank_replaces_an_unclaimed_head(w: World) {
    let (a, b, session) = (w.class("a").await, w.class("b").await, w.worker("w").await);
    let head = keyed(&w, &a, 0).await;
    assert!(head.is_ready());
    let better = keyed(&w, &b, 5).await;
    assert!(better.is_ready());
    assert!(w.row(head.id).await.blocked);
    assert_eq!(w.claim_ids(&session, &[&a, &b], 2).await, [better.id]);
}

pub async fn a_cancelled_head_makes_room(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let head = keyed(&w, &class, 0).await;
    let next = keyed(&w, &class, 0).await;
    let cancelled = w.store.cancel(TENANT, head.id, Reason::Cancelled, None).await.unwrap();
    assert_eq!(cancelled.commit.ready, [class.id]);
    assert_eq!(w.take(&session, &class).await.run.id, next.id);
}

pub async fn the_key_stays_taken_while_its_run_is_cancelling(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    keyed(&w, &class, 0).await;
    let held = w.take(&session, &class).await;
    let next = keyed(&w, &class, 0).await;
    w.store.cancel(TENANT, held.run.id, Reason::Cancelled, None).await.unwrap();
    assert!(w.claim(&session, &[&class], 1).await.leases.is_empty());
    w.lose(&session).await;
    assert_eq!(w.row(held.run.id).await.state, State::Cancelled);
    assert_eq!(w.take(&session, &class).await.run.id, next.id);
}

pub async fn a_lost_run_keeps_its_place_in_line(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let first = keyed(&w, &class, 0).await;
    w.take(&session, &class).await;
    w.pass(Millis(1));
    let second = keyed(&w, &class, 0).await;
    w.lose(&session).await;
    assert!(w.row(second.id).await.blocked);
    assert_eq!(w.take(&session, &class).await.run.id, first.id);
    // After a second loss it waits for a time, and the other goes.
    w.lose(&session).await;
    assert_eq!(w.take(&session, &class).await.run.id, second.id);
}

pub async fn namespaces_do_not_share_serial_keys(w: World) {
    let here = w.class("a").await;
    keyed(&w, &here, 0).await;
    let there = w.class_of(class_in("other", "a")).await;
    let mut draft = w.draft(&there);
    draft.new.serial_key = Some("thread".to_owned());
    let mut request = w.request(vec![draft]);
    "other".clone_into(&mut request.namespace);
    assert!(w.store.create(request).await.unwrap().runs[0].run.is_ready());
}
