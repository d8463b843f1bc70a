//! Recoveries: measured objects.

use crate::World;
use crate::build::{complete, json, lease, progress};
use crate::world::TENANT;
use outlive_core::policy::{OnLoss, QueuePolicy};
use outlive_core::report::Op;
use outlive_core::run::Evidence;
use outlive_core::{Epoch, Millis, Reason, State};
use outlive_store::RecoveryOutcome;

pub async fn a_recovery_is_measured_from_loss_to_catching_up(w: World) {
    let class = w.class("a").await;
    let (one, two) = (w.worker("one").await, w.worker("two").await);
    let held = w.leased(&one, &class).await;
    w.say(&one, lease(&held), Op::Checkpoint(json("1"))).await;
    let heard = w.now();
    w.pass(Millis::secs(10));
    let verdict = outlive_store::Verdict { last_heard_at: heard, ..w.silence(&one) };
    w.store.lose(verdict).await.unwrap();
    let lost = w.now();
    let open = &w.recoveries(held.run.id).await[0];
    assert_eq!(
        (open.outcome, open.evidence, open.reason),
        (RecoveryOutcome::Open, Evidence::Silence, Reason::WorkerHeartbeatLost)
    );
    assert_eq!((open.last_heard_at, open.lost_at, open.queued_at), (heard, lost, Some(lost)));
    assert!(open.had_checkpoint && open.to.is_none());
    assert_eq!((open.from.worker_name.as_str(), open.from.epoch), ("one", Epoch(1)));
    w.pass(Millis(100));
    let again = w.take(&two, &class).await;
    let claimed = w.now();
    w.pass(Millis(100));
    w.say(&two, lease(&again), Op::Start).await;
    let started = w.now();
    w.pass(Millis(100));
    w.say(&two, lease(&again), Op::Checkpoint(json("2"))).await;
    let row = &w.recoveries(held.run.id).await[0];
    assert_eq!((row.claimed_at, row.started_at, row.caught_up_at), (Some(claimed), Some(started), Some(w.now())));
    assert_eq!(row.outcome, RecoveryOutcome::Recovered);
    let to = row.to.as_ref().unwrap();
    assert_eq!((to.worker_name.as_str(), to.epoch), ("two", Epoch(2)));
}

pub async fn progress_counts_from_the_old_maximum_on(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    w.say(&session, lease(&held), progress(0.5)).await;
    w.lose(&session).await;
    let again = w.take(&session, &class).await;
    w.say(&session, lease(&again), progress(0.4)).await;
    assert_eq!(w.recoveries(held.run.id).await[0].caught_up_at, None);
    w.say(&session, lease(&again), progress(0.5)).await;
    assert_eq!(w.recoveries(held.run.id).await[0].caught_up_at, Some(w.now()));
}

pub async fn a_second_loss_closes_the_first_recovery(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    w.lose(&session).await;
    w.take(&session, &class).await;
    w.lose(&session).await;
    let rows = w.recoveries(held.run.id).await;
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].outcome, rows[0].from.epoch), (RecoveryOutcome::Open, Epoch(2)));
    assert_eq!((rows[1].outcome, rows[1].from.epoch), (RecoveryOutcome::Over, Epoch(1)));
}

pub async fn a_loss_that_ends_its_run_is_over_at_once(w: World) {
    let policy = QueuePolicy { on_loss: OnLoss::Fail, ..QueuePolicy::default() };
    let (_, class) = w.queue("a", policy).await;
    let session = w.worker("w").await;
    let held = w.leased(&session, &class).await;
    w.lose(&session).await;
    let row = w.row(held.run.id).await;
    assert_eq!((row.state, row.recovery), (State::Lost, None));
    let recovery = &w.recoveries(row.id).await[0];
    assert_eq!((recovery.outcome, recovery.queued_at), (RecoveryOutcome::Over, None));
    assert_eq!(w.tally(&class).await, (0, 0, 0, 0));
}

pub async fn a_recovery_outlives_its_run(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    w.lose(&session).await;
    let again = w.take(&session, &class).await;
    w.say(&session, lease(&again), complete()).await;
    w.store.delete(TENANT, held.run.id).await.unwrap();
    let rows = w.recoveries(held.run.id).await;
    assert_eq!(rows[0].outcome, RecoveryOutcome::Recovered);
    assert_eq!(rows[0].caught_up_at, None);
    assert_eq!(rows[0].queue, "a");
}
