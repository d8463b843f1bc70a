//! Salvage: the success of a lost attempt is accepted while the run waits because of exactly that loss.

use crate::World;
use crate::build::{complete, frame, lease, raw_frame};
use crate::world::TENANT;
use outlive_core::report::{Completion, ItemResult, Op};
use outlive_core::run::EventKind;
use outlive_core::{Epoch, State};
use outlive_store::RecoveryOutcome;

pub async fn a_success_after_the_loss_is_accepted_while_the_run_waits(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    w.lose(&session).await;
    assert_eq!(w.say(&session, lease(&held), complete()).await, ItemResult::Ok);
    let row = w.row(held.run.id).await;
    assert_eq!((row.state, row.epoch), (State::Succeeded, Epoch(1)));
    assert_eq!(w.recoveries(row.id).await[0].outcome, RecoveryOutcome::Salvaged);
    let events = w.store.events(TENANT, row.id).await.unwrap().unwrap();
    assert!(events.iter().any(|event| event.kind == EventKind::Salvaged));
    assert_eq!(w.tally(&class).await, (0, 0, 0, 0));
    assert!(w.claim(&session, &[&class], 1).await.leases.is_empty());
}

pub async fn a_success_after_a_new_claim_is_fenced(w: World) {
    let (class, old, new) = (w.class("a").await, w.worker("old").await, w.worker("new").await);
    let held = w.leased(&old, &class).await;
    w.lose(&old).await;
    w.take(&new, &class).await;
    let fenced = ItemResult::Fenced { state: State::Claimed, epoch: Epoch(2) };
    assert_eq!(w.say(&old, lease(&held), complete()).await, fenced);
    // Nor when the newer attempt was lost as well.
    w.lose(&new).await;
    let said = w.say(&old, lease(&held), complete()).await;
    assert!(matches!(said, ItemResult::Fenced { .. }), "{said:?}");
}

pub async fn a_success_is_fenced_when_its_serial_key_has_moved_on(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let key = |new: &mut outlive_store::CreateRun| new.new.serial_key = Some("s".to_owned());
    w.one_with(&class, key).await;
    let first = w.take(&session, &class).await;
    // Lost twice, so that it waits and another of the same key goes first.
    w.lose(&session).await;
    let first = {
        assert_eq!(w.take(&session, &class).await.run.id, first.run.id);
        w.store.leases_of(session.holder).await.unwrap().remove(0)
    };
    w.lose(&session).await;
    assert_eq!(w.row(first.run.id).await.state, State::Scheduled);
    w.one_with(&class, key).await;
    let second = w.take(&session, &class).await;
    let said = w.say(&session, lease(&first), complete()).await;
    assert!(matches!(said, ItemResult::Fenced { .. }), "{said:?}");
    w.say(&session, lease(&second), complete()).await;
    while w.store.retention(10).await.unwrap().more {}
    let said = w.say(&session, lease(&first), complete()).await;
    assert!(matches!(said, ItemResult::Fenced { .. }), "also when the key is forgotten: {said:?}");
}

pub async fn missing_frames_travel_with_a_salvaged_end(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    w.say(&session, lease(&held), frame(1, "a")).await;
    w.lose(&session).await;
    let end = |frames| Op::Complete(Completion { last_output_seq: Some(3), frames, ..Completion::default() });
    let said = w.say(&session, lease(&held), end(vec![raw_frame(3, "stdout", b"c")])).await;
    assert_eq!(said, ItemResult::Gap { expected: 2 });
    assert_eq!(w.log(held.run.id).await, ["A1", "a", "L1"]);
    let frames = (1..=3).map(|n| raw_frame(n, "stdout", &[b"abc"[usize::try_from(n).unwrap() - 1]])).collect();
    assert_eq!(w.say(&session, lease(&held), end(frames)).await, ItemResult::Ok);
    assert_eq!(w.log(held.run.id).await, ["A1", "a", "L1", "b", "c"]);
}
