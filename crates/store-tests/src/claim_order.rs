//! Claims: who goes first, and who may claim.

use crate::World;
use crate::build::{class, complete, json, lease};
use outlive_core::{Epoch, HomeSeq, Millis, ReplicaId, State};
use outlive_store::WorkerMark;
use uuid::Uuid;

pub async fn the_best_rank_goes_first_over_all_classes(w: World) {
    let (a, b, session) = (w.class("a").await, w.class("b").await, w.worker("w").await);
    let normal = w.one(&a).await;
    w.pass(Millis::secs(1));
    let urgent = w.one_with(&b, |new| new.new.priority = 10).await;
    let late = w.one(&a).await;
    w.pass(Millis::secs(1));
    let last = w.one(&b).await;
    let lazy = w.one_with(&a, |new| new.new.priority = -1).await;
    let order = w.claim_ids(&session, &[&a, &b], 10).await;
    assert_eq!(order, [urgent.id, normal.id, late.id, last.id, lazy.id]);
}

pub async fn equal_ranks_go_in_order_of_creation(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let drafts: Vec<_> = (0..200).map(|_| w.draft(&class)).collect();
    let ids: Vec<_> = drafts.iter().map(|draft| draft.new.id).collect();
    w.try_create(drafts).await.unwrap();
    let mut taken = w.claim_ids(&session, &[&class], 150).await;
    taken.extend(w.claim_ids(&session, &[&class], 150).await);
    assert_eq!(taken, ids);
}

pub async fn a_claim_takes_no_more_than_asked_and_names_what_is_exhausted(w: World) {
    let (a, b, session) = (w.class("a").await, w.class("b").await, w.worker("w").await);
    for _ in 0..3 {
        w.one(&a).await;
    }
    let claimed = w.claim(&session, &[&a, &b], 2).await;
    assert_eq!((claimed.leases.len(), claimed.exhausted), (2, vec![b.id]));
    let mut rest = w.claim(&session, &[&a, &b], 2).await;
    rest.exhausted.sort();
    assert_eq!((rest.leases.len(), rest.exhausted), (1, vec![a.id, b.id]));
    assert!(!rest.lost_race);
    assert!(w.store.ready_classes().await.unwrap().is_empty());
}

pub async fn a_session_with_another_home_takes_nothing(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    w.one(&class).await;
    let mut order = w.order(&session, &[&class], 1);
    order.home_seq = HomeSeq(session.home_seq.0 - 1);
    assert!(w.store.claim(order.clone()).await.unwrap().lost_race);
    order.home_seq = session.home_seq;
    order.replica = ReplicaId(77);
    assert!(w.store.claim(order.clone()).await.unwrap().lost_race);
    order.replica = session.replica;
    order.holder.incarnation.0 += 1;
    assert!(w.store.claim(order).await.unwrap().lost_race);
    assert_eq!(w.claim(&session, &[&class], 1).await.leases.len(), 1);
}

pub async fn a_draining_left_or_closed_session_takes_nothing(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    w.one(&class).await;
    w.store.mark_worker(session.holder.worker, WorkerMark::Draining(true)).await.unwrap();
    assert!(w.claim(&session, &[&class], 1).await.lost_race);
    w.store.mark_worker(session.holder.worker, WorkerMark::Draining(false)).await.unwrap();
    let taken = w.take(&session, &class).await;
    w.say(&session, lease(&taken), complete()).await;
    w.one(&class).await;
    w.store.mark_worker(session.holder.worker, WorkerMark::Left).await.unwrap();
    assert!(w.claim(&session, &[&class], 1).await.lost_race);
    let registered = w.register(&w.registration("never opened")).await.unwrap();
    let closed = crate::world::Session { holder: registered.worker.holder(), ..session };
    let order = w.order(&closed, &[&class], 1);
    let order = outlive_store::ClaimOrder { home_seq: registered.worker.home_seq, ..order };
    assert!(w.store.claim(order).await.unwrap().lost_race);
}

pub async fn a_polling_request_is_answered_once(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    for _ in 0..4 {
        w.one(&class).await;
    }
    let request = Some(Uuid::from_u128(5));
    let order = outlive_store::ClaimOrder { request, ..w.order(&session, &[&class], 2) };
    assert!(w.store.claim_request(session.holder, Uuid::from_u128(5)).await.unwrap().is_none());
    let first = w.store.claim(order.clone()).await.unwrap().leases;
    let again = w.store.claim(order).await.unwrap().leases;
    assert_eq!(first, again);
    assert_eq!(w.store.claim_request(session.holder, Uuid::from_u128(5)).await.unwrap().unwrap(), first);
    assert_eq!(w.tally(&class).await, (2, 0, 0, 2));
}

pub async fn a_run_created_with_a_claim_does_not_overtake_what_waits(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let waiting = w.one(&class).await;
    let mut request = w.request(vec![w.draft(&class), w.draft(&class)]);
    let (first, second) = (request.runs[0].new.id, request.runs[1].new.id);
    request.claims = vec![w.order(&session, &[&class], 2)];
    let created = w.store.create(request).await.unwrap();
    let taken: Vec<_> = created.claimed[0].leases.iter().map(|lease| lease.run.id).collect();
    assert_eq!(taken, [waiting.id, first]);
    assert_eq!(w.row(second).await.state, State::Queued);
    assert_eq!(created.commit.ready, [class.id]);
}

pub async fn new_runs_of_one_request_go_in_its_order(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let mut drafts: Vec<_> = (0..6).map(|_| w.draft(&class)).collect();
    for (i, draft) in drafts.iter_mut().enumerate().skip(1).step_by(2) {
        draft.new.serial_key = Some(i.to_string());
    }
    let ids: Vec<_> = drafts.iter().map(|draft| draft.new.id).collect();
    let mut request = w.request(drafts);
    request.claims = vec![w.order(&session, &[&class], 4)];
    let created = w.store.create(request).await.unwrap();
    let taken: Vec<_> = created.claimed[0].leases.iter().map(|lease| lease.run.id).collect();
    assert_eq!(taken, ids[..4]);
}

pub async fn nothing_is_claimed_across_namespaces(w: World) {
    let class = w.class("a").await;
    w.one(&class).await;
    let stranger = w.worker_in("other", "w").await;
    let claimed = w.claim(&stranger, &[&class], 1).await;
    assert_eq!((claimed.leases.len(), claimed.exhausted), (0, vec![class.id]));
}

pub async fn a_run_created_with_a_claim_is_leased_in_one_step(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let mut request = w.request(vec![w.draft(&class)]);
    request.claims = vec![w.order(&session, &[&class], 1)];
    let created = w.store.create(request).await.unwrap();
    let taken = &created.claimed[0].leases[0];
    assert_eq!((taken.run.state, taken.run.epoch), (State::Claimed, Epoch(1)));
    assert_eq!(created.runs[0].run, taken.run);
    assert_eq!(w.row(taken.run.id).await, taken.run);
    assert_eq!(w.store.leases_of(session.holder).await.unwrap(), *created.claimed[0].leases);
    assert!(created.commit.ready.is_empty());
    let changed = &created.commit.changed[0];
    assert_eq!((changed.from, changed.to, changed.epoch), (State::Queued, State::Claimed, Epoch(1)));
    assert_eq!(w.say(&session, lease(taken), complete()).await, outlive_core::report::ItemResult::Ok);
    assert_eq!(w.tally(&class).await, (0, 0, 0, 0));
}

pub async fn a_lease_carries_input_options_checkpoint_and_resume_data(w: World) {
    let (class, session) = (w.class_of(class("a")).await, w.worker("w").await);
    let made = w.one_with(&class, |new| {
        new.input = json(r#"{"n":1}"#);
        new.options.max_attempts = Some(9);
        new.checkpoint = Some(json("[1]"));
        new.new.hold = true;
    });
    let made = made.await;
    w.store.release("default", made.id, Some(json(r#""go""#)), None).await.unwrap();
    let taken = w.take(&session, &class).await;
    assert_eq!((taken.input, taken.checkpoint), (json(r#"{"n":1}"#), Some(json("[1]"))));
    assert_eq!((taken.options.max_attempts, taken.resume_data), (Some(9), Some(json(r#""go""#))));
    assert_eq!(taken.class, class.class);
}
