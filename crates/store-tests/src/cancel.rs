//! Cancelling: it always ends.

use crate::World;
use crate::build::{complete, failure, lease};
use crate::world::TENANT;
use outlive_core::report::ItemResult;
use outlive_core::{Outcome, Reason, RunId, State};
use outlive_store::{Cancelled, WriteError};

async fn cancel(w: &World, id: RunId) -> Result<Cancelled, WriteError> {
    w.store.cancel(TENANT, id, Reason::Cancelled, Some("enough".to_owned())).await
}

pub async fn a_waiting_run_ends_at_once(w: World) {
    let class = w.class("a").await;
    let run = w.one(&class).await;
    let cancelled = cancel(&w, run.id).await.unwrap();
    assert_eq!(cancelled.state, State::Cancelled);
    assert!(cancelled.commit.cancels.is_empty());
    let row = w.get(run.id).await;
    assert_eq!((row.run.outcome, row.run.reason), (Some(Outcome::Cancelled), Some(Reason::Cancelled)));
    assert_eq!(row.detail.note.as_deref(), Some("enough"));
    let session = w.worker("w").await;
    assert!(w.claim(&session, &[&class], 1).await.leases.is_empty());
}

pub async fn a_leased_run_is_asked_to_end_and_its_worker_named(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    let cancelled = cancel(&w, held.run.id).await.unwrap();
    assert_eq!(cancelled.state, State::Cancelling);
    let order = &cancelled.commit.cancels[0];
    assert_eq!((order.holder, order.lease, order.reason), (session.holder, lease(&held), Reason::Cancelled));
    let said = w.say(&session, lease(&held), outlive_core::report::Op::Cancelled { exit: None }).await;
    assert_eq!(said, ItemResult::Ok);
    assert_eq!(w.row(held.run.id).await.state, State::Cancelled);
}

pub async fn a_second_cancel_changes_nothing_and_a_terminal_run_refuses(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    cancel(&w, held.run.id).await.unwrap();
    let before = w.row(held.run.id).await;
    let again = cancel(&w, held.run.id).await.unwrap();
    assert_eq!(again.state, State::Cancelling);
    assert!(again.commit.changed.is_empty());
    assert_eq!(w.row(held.run.id).await, before);
    w.lose(&session).await;
    let again = cancel(&w, held.run.id).await.unwrap();
    assert!(again.state == State::Cancelled && again.commit.changed.is_empty(), "also a repetition that comes late");
    let (other, next) = (w.worker("other").await, w.one(&class).await);
    let done = crate::build::lease(&w.take(&other, &class).await);
    w.say(&other, done, crate::build::complete()).await;
    assert_eq!(cancel(&w, next.id).await.unwrap_err(), WriteError::Terminal(State::Succeeded));
    let unknown = RunId::from_parts(w.now(), 1);
    assert_eq!(cancel(&w, unknown).await.unwrap_err(), WriteError::NotFound);
    let foreign = w.store.cancel("other", held.run.id, Reason::Cancelled, None).await.unwrap_err();
    assert_eq!(foreign, WriteError::NotFound);
}

pub async fn in_cancelling_a_completion_wins(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    cancel(&w, held.run.id).await.unwrap();
    assert_eq!(w.say(&session, lease(&held), complete()).await, ItemResult::Ok);
    assert_eq!(w.row(held.run.id).await.state, State::Succeeded);
}

pub async fn in_cancelling_a_failure_or_a_loss_ends_cancelled(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let failed = w.leased(&session, &class).await;
    cancel(&w, failed.run.id).await.unwrap();
    w.say(&session, lease(&failed), failure()).await;
    assert_eq!(w.row(failed.run.id).await.state, State::Cancelled);
    let lost = w.leased(&session, &class).await;
    cancel(&w, lost.run.id).await.unwrap();
    w.lose(&session).await;
    assert_eq!(w.row(lost.run.id).await.state, State::Cancelled);
    assert_eq!(w.tally(&class).await, (0, 0, 0, 0));
}

pub async fn cancelling_a_parent_cancels_the_whole_family(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let parent = w.one(&class).await;
    let child = w.one_with(&class, |new| new.options.parent = Some(parent.id)).await;
    let grandchild = w.one_with(&class, |new| new.options.parent = Some(child.id)).await;
    let stranger = w.one(&class).await;
    // The child has ended, which does not protect the grandchild.
    let taken = w.claim(&session, &[&class], 2).await.leases;
    assert_eq!(taken[1].run.id, child.id);
    w.say(&session, lease(&taken[1]), complete()).await;
    cancel(&w, parent.id).await.unwrap();
    assert_eq!(w.row(parent.id).await.state, State::Cancelling);
    assert_eq!(w.row(child.id).await.state, State::Succeeded);
    assert_eq!(w.row(grandchild.id).await.state, State::Cancelled);
    assert_eq!(w.row(stranger.id).await.state, State::Queued);
}

pub async fn a_family_of_thousands_is_cancelled(w: World) {
    let class = w.class("a").await;
    let parent = w.one(&class).await;
    for _ in 0..3 {
        let draft = |_| {
            let mut draft = w.draft(&class);
            draft.options.parent = Some(parent.id);
            draft
        };
        w.try_create((0..800).map(draft).collect()).await.unwrap();
    }
    assert_eq!(w.tally(&class).await, (2_401, 0, 0, 0));
    let cancelled = cancel(&w, parent.id).await.unwrap();
    assert_eq!(cancelled.commit.changed.len(), 2_401);
    assert_eq!(w.tally(&class).await, (0, 0, 0, 0));
}
