//! Losses: one transaction closes the attempt, queues the run again, and writes its recovery.

use crate::World;
use crate::build::lease;
use crate::world::TENANT;
use outlive_core::run::{ClosedBy, EventKind, LossBudget};
use outlive_core::{Epoch, HomeSeq, Millis, Outcome, Reason, State};
use outlive_store::Verdict;

pub async fn the_first_loss_queues_again_at_once_at_the_same_rank(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    w.say(&session, lease(&held), outlive_core::report::Op::Start).await;
    w.pass(Millis::secs(10));
    let outcome = w.lose(&session).await;
    assert_eq!(outcome.lost, [lease(&held)]);
    assert_eq!(outcome.commit.ready, [class.id]);
    assert_eq!(outcome.commit.changed[0].freed, Some((session.holder, lease(&held))));
    let row = w.row(held.run.id).await;
    assert_eq!((row.state, row.rank, row.losses), (State::Queued, held.run.rank, 1));
    assert_eq!((row.outcome, row.reason), (Some(Outcome::Infrastructure), Some(Reason::WorkerHeartbeatLost)));
    let attempts = w.store.attempts(TENANT, row.id).await.unwrap().unwrap();
    assert_eq!(attempts.len(), 1);
    let attempt = &attempts[0].view.attempt;
    assert_eq!((attempt.epoch, attempt.closed_by, attempts[0].worker_name.as_str()), (Epoch(1), ClosedBy::Loss, "w"));
    let events = w.store.events(TENANT, row.id).await.unwrap().unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert!(kinds.contains(&EventKind::Lost) && kinds.contains(&EventKind::Queued), "{kinds:?}");
    assert!(w.lose(&session).await.lost.is_empty());
    assert_eq!(w.store.worker(session.holder.worker).await.unwrap().unwrap().losses, 1);
}

pub async fn losses_in_a_row_wait_and_then_quarantine(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let run = w.one(&class).await;
    for loss in 1..=5 {
        w.take(&session, &class).await;
        w.lose(&session).await;
        let row = w.row(run.id).await;
        let expected = match loss {
            1 => State::Queued,
            5 => State::Held,
            _ => State::Scheduled,
        };
        assert_eq!(row.state, expected, "after loss {loss}");
        w.pass(Millis::secs(400));
        if loss < 5 {
            w.store.due(10).await.unwrap();
        }
    }
    assert_eq!(w.row(run.id).await.reason, Some(Reason::CrashLoop));
    assert_eq!(w.store.attempts(TENANT, run.id).await.unwrap().unwrap().len(), 5);
}

pub async fn a_verdict_whose_guard_moved_changes_nothing(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    let reopened = w.open(session.holder).await;
    assert_eq!(reopened.home_seq, HomeSeq(session.home_seq.0 + 1));
    let outcome = w.lose(&session).await;
    assert!(outcome.lost_race && outcome.lost.is_empty());
    assert_eq!(w.row(held.run.id).await, held.run);
    // Evidence that is no absence needs no guard.
    let certain = Verdict { guard: None, ..w.silence(&session) };
    assert_eq!(w.store.lose(certain).await.unwrap().lost.len(), 1);
}

pub async fn a_verdict_names_leases_and_leaves_the_others(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let (kept, lost) = (w.leased(&session, &class).await, w.leased(&session, &class).await);
    let old = outlive_core::LeaseRef { epoch: Epoch(9), ..lease(&kept) };
    let verdict = Verdict { leases: Some(vec![old, lease(&lost)]), ..w.silence(&session) };
    assert_eq!(w.store.lose(verdict).await.unwrap().lost, [lease(&lost)]);
    assert_eq!(w.row(kept.run.id).await.state, State::Claimed);
}

pub async fn a_verdict_that_ends_the_session_stops_its_claims(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    w.leased(&session, &class).await;
    let verdict = Verdict { end_session: true, ..w.silence(&session) };
    w.store.lose(verdict).await.unwrap();
    assert!(w.claim(&session, &[&class], 1).await.lost_race);
    assert!(!w.store.worker(session.holder.worker).await.unwrap().unwrap().session_open);
    let back = w.open(session.holder).await;
    assert_eq!(w.claim(&back, &[&class], 1).await.leases.len(), 1);
}

pub async fn a_free_loss_costs_no_budget(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let run = w.one(&class).await;
    for _ in 0..7 {
        w.take(&session, &class).await;
        let verdict = Verdict { budget: LossBudget::Free, reason: Reason::WorkerLeft, ..w.silence(&session) };
        w.store.lose(verdict).await.unwrap();
    }
    let row = w.row(run.id).await;
    assert_eq!((row.state, row.losses, row.failures), (State::Queued, 0, 0));
}

pub async fn losses_never_use_the_attempts(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let run = w.one_with(&class, |new| new.options.max_attempts = Some(1)).await;
    for _ in 0..3 {
        w.take(&session, &class).await;
        w.lose(&session).await;
        w.pass(Millis::secs(400));
        w.store.due(10).await.unwrap();
    }
    let row = w.row(run.id).await;
    assert_eq!((row.state, row.failures, row.losses), (State::Queued, 0, 3));
}
