//! The fence: only the incarnation that holds the open lease of an epoch may write for it.

use crate::World;
use crate::build::{complete, frame, json, lease, progress};
use outlive_core::report::{Item, ItemResult, Op};
use outlive_core::{Epoch, LeaseRef, RunId, State};

pub async fn every_claim_raises_the_epoch(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let mut held = w.leased(&session, &class).await;
    for epoch in 1..4 {
        assert_eq!(held.run.epoch, Epoch(epoch));
        let back = Op::Release(outlive_core::report::Wait::Nothing);
        assert_eq!(w.say(&session, lease(&held), back).await, ItemResult::Ok);
        held = w.take(&session, &class).await;
    }
}

pub async fn a_report_of_an_old_epoch_changes_nothing(w: World) {
    let (class, old, new) = (w.class("a").await, w.worker("old").await, w.worker("new").await);
    let first = w.leased(&old, &class).await;
    w.lose(&old).await;
    let second = w.take(&new, &class).await;
    assert_eq!(second.run.id, first.run.id);
    let before = w.get(first.run.id).await;
    for op in [Op::Start, frame(1, "x"), progress(0.5), Op::Checkpoint(json("1")), complete()] {
        let fenced = ItemResult::Fenced { state: State::Claimed, epoch: Epoch(2) };
        assert_eq!(w.say(&old, lease(&first), op.clone()).await, fenced);
        // The new epoch's number does not help: it is another's lease.
        assert_eq!(w.say(&old, lease(&second), op).await, fenced);
    }
    assert_eq!(w.get(first.run.id).await, before);
    assert_eq!(w.say(&new, lease(&second), complete()).await, ItemResult::Ok);
    let terminal = ItemResult::Terminal { state: State::Succeeded };
    assert_eq!(w.say(&old, lease(&first), complete()).await, terminal);
}

pub async fn a_report_of_another_incarnation_changes_nothing(w: World) {
    let class = w.class("a").await;
    let old = w.worker("w").await;
    let held = w.leased(&old, &class).await;
    let restarted = w.worker("w").await;
    assert_eq!(restarted.holder.worker, old.holder.worker);
    let fenced = ItemResult::Fenced { state: State::Claimed, epoch: Epoch(1) };
    assert_eq!(w.say(&restarted, lease(&held), complete()).await, fenced);
    // The old process may be alive and holds the lease still.
    assert_eq!(w.say(&old, lease(&held), complete()).await, ItemResult::Ok);
}

pub async fn a_report_of_another_namespace_finds_no_run(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    let stranger = w.worker_in("other", "w").await;
    let said = w.say(&stranger, lease(&held), complete()).await;
    assert!(matches!(said, ItemResult::Invalid { .. }), "{said:?}");
    assert_eq!(w.row(held.run.id).await, held.run);
}

pub async fn a_report_for_an_unknown_run_does_not_stop_the_others(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    let unknown = LeaseRef { run_id: RunId::from_parts(w.now(), 9), epoch: Epoch(1) };
    let items = vec![
        Item { lease: lease(&held), op: Op::Start },
        Item { lease: unknown, op: complete() },
        Item { lease: lease(&held), op: complete() },
    ];
    let said = w.say_all(&session, items).await;
    assert_eq!((&said[0], &said[2]), (&ItemResult::Ok, &ItemResult::Ok));
    assert!(matches!(said[1], ItemResult::Invalid { .. }));
    assert_eq!(w.row(held.run.id).await.state, State::Succeeded);
}
