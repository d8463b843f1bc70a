//! Caps, pauses and rates: applied in the claim itself.

use crate::World;
use crate::build::{complete, lease};
use outlive_core::Millis;
use outlive_core::policy::{QueuePolicy, Rate};

fn capped(max: u32) -> QueuePolicy {
    QueuePolicy { max_running: Some(max), ..QueuePolicy::default() }
}

pub async fn max_running_holds_over_claims_and_frees_with_the_lease(w: World) {
    let (_, class) = w.queue("a", capped(3)).await;
    let (one, two) = (w.worker("one").await, w.worker("two").await);
    for _ in 0..5 {
        w.one(&class).await;
    }
    let first = w.claim(&one, &[&class], 2).await.leases;
    assert_eq!(first.len(), 2);
    let second = w.claim(&two, &[&class], 2).await;
    assert_eq!((second.leases.len(), second.exhausted.as_slice()), (1, [class.id].as_slice()));
    assert!(w.claim(&one, &[&class], 2).await.leases.is_empty());
    w.say(&one, lease(&first[0]), complete()).await;
    assert_eq!(w.claim(&two, &[&class], 2).await.leases.len(), 1);
    assert_eq!(w.tally(&class).await, (1, 0, 0, 3));
}

pub async fn a_freed_cap_names_the_ready_classes_of_its_queue(w: World) {
    let (_, class) = w.queue("a", capped(1)).await;
    let mut pinned = crate::build::class("a");
    pinned.pin = Some("x".to_owned());
    let other = w.class_of(pinned).await;
    let session = w.worker("w").await;
    let held = w.leased(&session, &class).await;
    w.one(&other).await;
    let items = vec![outlive_core::report::Item { lease: lease(&held), op: complete() }];
    let reported = w.store.report(session.holder, items).await.unwrap();
    assert_eq!(reported.commit.ready, [other.id]);
}

pub async fn a_paused_queue_gives_nothing_until_it_is_resumed(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    w.one(&class).await;
    w.store.pause_queue(class.queue, true).await.unwrap().unwrap();
    let claimed = w.claim(&session, &[&class], 1).await;
    assert_eq!((claimed.leases.len(), claimed.exhausted.as_slice()), (0, [class.id].as_slice()));
    let resumed = w.store.pause_queue(class.queue, false).await.unwrap().unwrap();
    assert_eq!(resumed.ready, [class.id]);
    assert_eq!(w.claim(&session, &[&class], 1).await.leases.len(), 1);
    assert!(w.store.pause_queue(outlive_core::QueueId(99), true).await.unwrap().is_none());
}

pub async fn a_rate_holds_in_every_window_and_says_when_to_come_back(w: World) {
    let rate = Some(Rate { limit: 2, per: Millis::secs(1) });
    let (_, class) = w.queue("a", QueuePolicy { rate, ..QueuePolicy::default() }).await;
    let session = w.worker("w").await;
    for _ in 0..6 {
        w.one(&class).await;
    }
    let first = w.claim(&session, &[&class], 1).await;
    assert_eq!((first.leases.len(), first.retry_after), (1, None));
    w.pass(Millis(600));
    let second = w.claim(&session, &[&class], 5).await;
    assert_eq!((second.leases.len(), second.retry_after), (1, Some(Millis(400))));
    let none = w.claim(&session, &[&class], 5).await;
    assert_eq!((none.leases.len(), none.retry_after), (0, Some(Millis(400))));
    assert_eq!(none.exhausted, [class.id]);
    w.pass(Millis(400));
    // The claim of 400 ms ago counts still: a fixed window would give two here.
    assert_eq!(w.claim(&session, &[&class], 5).await.leases.len(), 1);
    w.pass(Millis(600));
    assert_eq!(w.claim(&session, &[&class], 5).await.leases.len(), 1);
}

pub async fn the_cap_holds_for_runs_claimed_at_their_creation(w: World) {
    let (_, class) = w.queue("a", capped(2)).await;
    let session = w.worker("w").await;
    let mut request = w.request((0..4).map(|_| w.draft(&class)).collect());
    request.claims = vec![w.order(&session, &[&class], 4)];
    let created = w.store.create(request).await.unwrap();
    assert_eq!(created.claimed[0].leases.len(), 2);
    assert_eq!(created.claimed[0].exhausted, [class.id]);
    assert_eq!(w.tally(&class).await, (2, 0, 0, 2));
}
