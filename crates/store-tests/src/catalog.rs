//! Queues, classes, counts, the store's own signs.

use crate::World;
use crate::build::{class, class_in, complete, lease};
use crate::world::TENANT;
use outlive_core::given::GivenPolicy;
use outlive_core::policy::QueuePolicy;
use outlive_core::{Millis, Observed};

pub async fn a_class_keeps_its_number_and_makes_its_queue(w: World) {
    let first = w.class("a").await;
    let again = w.class("a").await;
    assert_eq!(first, again);
    let mut labelled = class("a");
    labelled.requires.insert("gpu".to_owned(), "a100".to_owned());
    let other = w.class_of(labelled.clone()).await;
    assert_ne!(other.id, first.id);
    assert_eq!(other.queue, first.queue);
    let foreign = w.class_of(class_in("other", "a")).await;
    assert_ne!(foreign.queue, first.queue);
    let loaded = w.store.load().await.unwrap();
    assert_eq!(loaded.classes, [first, other, foreign]);
    assert_eq!(loaded.queues[0].policy, QueuePolicy::default());
    assert_eq!(loaded.queues.len(), 2);
}

pub async fn a_policy_is_replaced_and_read_back(w: World) {
    let class = w.class("a").await;
    let policy = QueuePolicy { max_attempts: 7, max_running: Some(3), ..QueuePolicy::default() };
    let put = w.store.put_queue(TENANT, "a", policy.clone().into()).await.unwrap();
    assert_eq!((put.id, &put.policy), (class.queue, &policy));
    assert_eq!(w.store.load().await.unwrap().queues[0], put);
}

pub async fn what_was_said_of_a_policy_is_told_apart_from_the_defaults(w: World) {
    w.class("plain").await;
    let given: GivenPolicy = serde_json::from_str(r#"{"max_attempts":3,"backoff":{"max":"1m"}}"#).unwrap();
    let put = w.store.put_queue(TENANT, "a", given).await.unwrap();
    assert_eq!(put.set, ["backoff.max", "max_attempts"], "also a value that is the default, if somebody said it");
    let loaded = w.store.load().await.unwrap().queues;
    assert_eq!((loaded[0].set.len(), &loaded[1]), (0, &put));
}

pub async fn a_fresh_store_has_a_generation_and_nothing_else(w: World) {
    let loaded = w.store.load().await.unwrap();
    assert!(!loaded.generation.is_nil());
    assert_ne!(loaded.secret, [0; 32]);
    assert_eq!(loaded.observed, Observed(0));
    assert!(loaded.queues.is_empty() && loaded.classes.is_empty() && loaded.ready.is_empty());
    assert!(w.store.health().await.unwrap().schema_version >= 1);
}

pub async fn counts_follow_every_state(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let later = w.now() + Millis::secs(60);
    w.one_with(&class, |new| new.new.run_at = Some(later)).await;
    w.one_with(&class, |new| new.new.hold = true).await;
    let first = w.one(&class).await;
    w.pass(Millis::secs(1));
    w.one(&class).await;
    assert_eq!(w.tally(&class).await, (2, 1, 1, 0));
    assert_eq!(w.counts(&class).await.oldest_queued_at, first.queued_at);
    let held = w.take(&session, &class).await;
    assert_eq!(w.tally(&class).await, (1, 1, 1, 1));
    w.say(&session, lease(&held), outlive_core::report::Op::Start).await;
    assert_eq!(w.tally(&class).await, (1, 1, 1, 1));
    w.say(&session, lease(&held), complete()).await;
    assert_eq!(w.tally(&class).await, (1, 1, 1, 0));
    w.pass(Millis::secs(60));
    w.store.due(10).await.unwrap();
    assert_eq!(w.tally(&class).await, (2, 0, 1, 0));
}

pub async fn the_pulse_is_since_the_last_commit(w: World) {
    w.class("a").await;
    w.pass(Millis(1_500));
    let pulse = w.store.pulse();
    assert_eq!((pulse.since_commit, pulse.pending), (Millis(1_500), None));
    w.store.advance_observed(Observed(1)).await.unwrap();
    assert_eq!(w.store.pulse().since_commit, Millis(0));
}

pub async fn the_observed_clock_never_goes_back(w: World) {
    assert_eq!(w.store.advance_observed(Observed(500)).await.unwrap(), Observed(500));
    assert_eq!(w.store.advance_observed(Observed(400)).await.unwrap(), Observed(500));
    assert_eq!(w.store.load().await.unwrap().observed, Observed(500));
    let (class, session) = (w.class("a").await, w.worker("w").await);
    assert_eq!(w.leased(&session, &class).await.run.lease_observed, Observed(500));
}
