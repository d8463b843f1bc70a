//! Replies that get lost: repeating the call is safe.

use crate::World;
use crate::build::{complete, frame, lease};
use outlive_core::report::{Item, ItemResult};
use outlive_core::run::Run;
use outlive_store::faults::{Call, Fault, Faulty};
use outlive_store::{Catalog, CreateError, Leases, Runs, Store, StoreError};
use std::sync::atomic::{AtomicBool, Ordering};
use uuid::Uuid;

/// The world's store, which does `fault` to the first call of `method`.
fn once(w: &World, method: &'static str, fault: fn() -> Fault) -> Faulty<dyn Store, impl Fn(Call) -> Fault> {
    let armed = AtomicBool::new(true);
    let script = move |call: Call| {
        if call.method == method && armed.swap(false, Ordering::SeqCst) { fault() } else { Fault::None }
    };
    Faulty::new(w.store.clone(), script)
}

pub async fn a_creation_whose_reply_was_lost_is_not_made_twice(w: World) {
    let class = w.class("a").await;
    let store = once(&w, "create", || Fault::LoseReply);
    let mut draft = w.draft(&class);
    draft.id_chosen = true;
    let request = w.request(vec![draft]);
    let lost = store.create(request.clone()).await.unwrap_err();
    assert!(matches!(lost, CreateError::Store(StoreError::Unknown(_))), "{lost}");
    assert!(store.create(request).await.unwrap().runs[0].existed);
    assert_eq!(store.queue_counts(class.queue).await.unwrap().queued, 1);
}

pub async fn an_end_whose_reply_was_lost_is_answered_ok_again(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    let store = once(&w, "report", || Fault::LoseReply);
    let items = vec![Item { lease: lease(&held), op: frame(1, "x") }, Item { lease: lease(&held), op: complete() }];
    assert!(matches!(store.report(session.holder, items.clone()).await, Err(StoreError::Unknown(_))));
    let before: Run = w.row(held.run.id).await;
    let again = store.report(session.holder, items).await.unwrap();
    assert_eq!(again.results[1], ItemResult::Ok);
    assert_eq!(w.row(held.run.id).await, before);
    assert_eq!(w.log(held.run.id).await, ["A1", "x"]);
}

pub async fn a_torn_write_left_nothing(w: World) {
    let class = w.class("a").await;
    let refusals: [fn() -> Fault; 2] = [|| Fault::Tear, || Fault::Refuse];
    for refusal in refusals {
        let store = once(&w, "create", refusal);
        assert!(store.create(w.request(vec![w.draft(&class)])).await.is_err());
        assert_eq!(w.tally(&class).await, (0, 0, 0, 0));
    }
}

pub async fn a_polling_claim_whose_reply_was_lost_is_given_again(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    w.one(&class).await;
    w.one(&class).await;
    let store = once(&w, "claim", || Fault::LoseReply);
    let request = Some(Uuid::from_u128(1));
    let order = outlive_store::ClaimOrder { request, ..w.order(&session, &[&class], 1) };
    assert!(store.claim(order.clone()).await.is_err());
    assert_eq!(store.claim(order).await.unwrap().leases.len(), 1);
    assert_eq!(w.tally(&class).await, (1, 0, 0, 1));
}
