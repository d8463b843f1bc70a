//! Retention, the audit, and the collection of workers.

use crate::World;
use crate::build::{class, complete, frame, lease};
use crate::world::TENANT;
use outlive_core::Millis;
use outlive_core::policy::{QueuePolicy, Retention};

async fn ended(w: &World, name: &str, class: &outlive_store::ClassRow) -> outlive_core::RunId {
    let session = w.worker(name).await;
    let held = w.leased(&session, class).await;
    w.say(&session, lease(&held), frame(1, "x")).await;
    w.say(&session, lease(&held), complete()).await;
    held.run.id
}

async fn retain(w: &World, limit: u32) {
    while w.store.retention(limit).await.unwrap().more {}
}

pub async fn an_ended_run_goes_after_its_time_and_others_stay(w: World) {
    let short = Retention { runs: Millis::hours(1), output: Millis::hours(1) };
    let (_, brief) = w.queue("brief", QueuePolicy { retention: short, ..QueuePolicy::default() }).await;
    let long = w.class("long").await;
    let (gone, kept) = (ended(&w, "w", &brief).await, ended(&w, "w", &long).await);
    let waiting = w.one(&brief).await.id;
    w.pass(Millis::mins(59));
    retain(&w, 10).await;
    assert!(w.store.get(TENANT, gone).await.unwrap().is_some());
    w.pass(Millis::mins(1));
    retain(&w, 10).await;
    assert!(w.store.get(TENANT, gone).await.unwrap().is_none());
    assert!(w.store.get(TENANT, kept).await.unwrap().is_some());
    assert!(w.store.get(TENANT, waiting).await.unwrap().is_some());
    w.pass(Millis::hours(15 * 24));
    retain(&w, 10).await;
    assert!(w.store.get(TENANT, kept).await.unwrap().is_none());
}

pub async fn old_rows_that_wait_do_not_hold_up_the_ones_behind_them(w: World) {
    let class = w.class("a").await;
    for _ in 0..40 {
        w.one_with(&class, |new| new.new.hold = true).await;
    }
    let behind = ended(&w, "w", &class).await;
    w.pass(Millis::hours(15 * 24));
    for _ in 0..60 {
        w.store.retention(1).await.unwrap();
    }
    assert!(w.store.get(TENANT, behind).await.unwrap().is_none());
    assert_eq!(w.tally(&class).await, (0, 0, 40, 0));
}

pub async fn output_goes_before_its_run_and_leaves_a_gap(w: World) {
    let class = w.class("a").await;
    let run = ended(&w, "w", &class).await;
    w.pass(Millis::hours(4 * 24));
    retain(&w, 10).await;
    assert_eq!(w.log(run).await, ["A1", "gap 2-2 retention"]);
    assert_eq!(w.store.retention(10).await.unwrap().acted, 0);
}

pub async fn the_audit_finds_nothing_to_repair(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    for i in 0..10 {
        w.one_with(&class, |new| new.new.serial_key = (i % 2 == 0).then(|| "s".to_owned())).await;
        let held = w.claim(&session, &[&class], 1).await.leases;
        if let (0, Some(held)) = (i % 3, held.first()) {
            w.say(&session, lease(held), complete()).await;
        }
    }
    let before = w.tally(&class).await;
    for _ in 0..30 {
        assert_eq!(w.store.audit_waiting(3).await.unwrap().acted, 0);
        w.one(&class).await;
    }
    while w.store.audit_waiting(50).await.unwrap().more {}
    let after = w.tally(&class).await;
    assert_eq!((after.0, after.3), (before.0 + 30, before.3));
}

pub async fn the_audit_counts_what_changes_behind_it(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let mut runs = Vec::new();
    for _ in 0..9 {
        runs.push(w.one(&class).await.id);
    }
    // In the middle of its pass, the first run ends and the second is claimed.
    assert!(w.store.audit_waiting(4).await.unwrap().more);
    w.store.cancel(TENANT, runs[0], outlive_core::Reason::Cancelled, None).await.unwrap();
    w.take(&session, &class).await;
    while w.store.audit_waiting(4).await.unwrap().more {}
    assert_eq!(w.tally(&class).await, (7, 0, 0, 1));
}

pub async fn a_worker_is_collected_when_nothing_belongs_to_it(w: World) {
    let week = Millis::hours(7 * 24);
    let plain = w.class("a").await;
    let session = w.worker("gone").await;
    let pinned = {
        let mut pinned = class("a");
        pinned.pin = Some("wanted".to_owned());
        w.class_of(pinned).await
    };
    let wanted = w.worker("wanted").await;
    let alive = w.worker("alive").await;
    let held = w.leased(&session, &plain).await;
    let waiting = w.one(&pinned).await;
    for worker in [&session, &wanted] {
        let verdict = outlive_store::Verdict { leases: Some(Vec::new()), end_session: true, ..w.silence(worker) };
        w.store.lose(verdict).await.unwrap();
    }
    w.pass(week + Millis(1));
    // It holds a lease, and the other is the pin of a waiting run.
    assert_eq!(w.store.worker_gc(week, 10).await.unwrap().acted, 0);
    w.say(&session, lease(&held), complete()).await;
    w.store.cancel(TENANT, waiting.id, outlive_core::Reason::Cancelled, None).await.unwrap();
    assert_eq!(w.store.worker_gc(week, 10).await.unwrap().acted, 2);
    assert!(w.store.worker(session.holder.worker).await.unwrap().is_none());
    assert!(w.store.worker(alive.holder.worker).await.unwrap().is_some());
    // History stays.
    assert_eq!(w.get(held.run.id).await.worker_name.as_deref(), Some("gone"));
}
