//! Idempotency keys: 24 hours, in a namespace.

use crate::World;
use crate::build::class_in;
use outlive_core::Millis;
use outlive_store::{CreateError, CreateRequest, Idempotency};

async fn request(w: &World, body: u8) -> CreateRequest {
    let class = w.class("a").await;
    let idempotency = Some(Idempotency { key: "once".to_owned(), body_hash: [body; 32] });
    CreateRequest { idempotency, ..w.request(vec![w.draft(&class), w.draft(&class)]) }
}

pub async fn the_same_key_and_body_give_the_same_runs(w: World) {
    let first = w.store.create(request(&w, 1).await).await.unwrap();
    let again = w.store.create(request(&w, 1).await).await.unwrap();
    let ids = |created: &outlive_store::Created| created.runs.iter().map(|one| one.run.id).collect::<Vec<_>>();
    assert_eq!(ids(&first), ids(&again));
    assert!(again.runs.iter().all(|one| one.existed) && !first.runs.iter().any(|one| one.existed));
    assert_eq!(w.tally(&w.class("a").await).await, (2, 0, 0, 0));
}

pub async fn the_same_key_with_another_body_is_refused(w: World) {
    w.store.create(request(&w, 1).await).await.unwrap();
    let refused = w.store.create(request(&w, 2).await).await.unwrap_err();
    assert_eq!(refused, CreateError::IdempotencyMismatch);
    assert_eq!(w.tally(&w.class("a").await).await, (2, 0, 0, 0));
}

pub async fn where_nothing_new_is_admitted_repetitions_get_their_answer(w: World) {
    let first = w.store.create(request(&w, 1).await).await.unwrap();
    let mut chosen = w.draft(&w.class("a").await);
    chosen.id_chosen = true;
    w.try_create(vec![chosen.clone()]).await.unwrap();
    let closed = |request| CreateRequest { only_known: true, ..request };
    let again = w.store.create(closed(request(&w, 1).await)).await.unwrap();
    assert_eq!(again.runs[0].run.id, first.runs[0].run.id);
    assert!(w.store.create(closed(w.request(vec![chosen.clone()]))).await.unwrap().runs[0].existed);
    let other = w.draft(&w.class("a").await);
    let half_new = w.store.create(closed(w.request(vec![chosen, other]))).await.unwrap_err();
    assert_eq!(half_new, CreateError::WouldBeNew);
    assert_eq!(w.tally(&w.class("a").await).await, (3, 0, 0, 0));
}

pub async fn a_key_is_forgotten_after_a_day(w: World) {
    w.store.create(request(&w, 1).await).await.unwrap();
    w.pass(Millis::hours(24) + Millis(1));
    let new = w.store.create(request(&w, 2).await).await.unwrap();
    assert!(!new.runs[0].existed);
    assert_eq!(w.tally(&w.class("a").await).await, (4, 0, 0, 0));
}

pub async fn namespaces_do_not_share_keys(w: World) {
    w.store.create(request(&w, 1).await).await.unwrap();
    let class = w.class_of(class_in("other", "a")).await;
    let mut foreign = request(&w, 2).await;
    foreign.runs = vec![w.draft(&class)];
    "other".clone_into(&mut foreign.namespace);
    assert!(!w.store.create(foreign).await.unwrap().runs[0].existed);
}
