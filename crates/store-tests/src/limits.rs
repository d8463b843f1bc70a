//! Limits that a judge applies: what a verdict of each does to the row, and what the row keeps of their clocks.

use crate::World;
use crate::build::{complete, frame, lease};
use crate::world::TENANT;
use outlive_core::policy::QueuePolicy;
use outlive_core::report::{ItemResult, Op};
use outlive_core::run::{Evidence, Run};
use outlive_core::{Millis, Observed, Outcome, Reason, State};
use outlive_store::{LeaseRow, Presence, Verdict};

async fn by_limit(w: &World, session: &crate::Session, held: &LeaseRow, reason: Reason) -> Run {
    let verdict = Verdict {
        guard: None,
        leases: Some(vec![lease(held)]),
        reason,
        evidence: Evidence::Limit,
        ..w.silence(session)
    };
    let outcome = w.store.lose(verdict).await.unwrap();
    assert_eq!(outcome.lost, [lease(held)]);
    w.row(held.run.id).await
}

pub async fn a_start_or_claim_that_took_too_long_is_a_loss_and_queued(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    for reason in [Reason::StartTimeout, Reason::ClaimTtlExceeded] {
        let held = w.leased(&session, &class).await;
        let row = by_limit(&w, &session, &held, reason).await;
        assert_eq!((row.state, row.reason, row.losses, row.failures), (State::Queued, Some(reason), 1, 0));
        w.store.cancel(TENANT, row.id, Reason::Cancelled, None).await.unwrap();
    }
}

pub async fn work_without_progress_costs_an_attempt_and_is_tried_again_until_it_timed_out(w: World) {
    let (_, class) = w.queue("a", QueuePolicy { max_attempts: 2, ..QueuePolicy::default() }).await;
    let session = w.worker("w").await;
    let held = w.leased(&session, &class).await;
    w.say(&session, lease(&held), frame(1, "x")).await;
    let row = by_limit(&w, &session, &held, Reason::ProgressTimeout).await;
    assert_eq!((row.state, row.failures, row.losses), (State::Scheduled, 1, 0));
    assert!(w.recoveries(row.id).await.is_empty(), "nobody was lost");
    assert_eq!(w.log(row.id).await, ["A1", "x", "L1"]);
    w.pass(Millis::secs(5));
    w.store.due(10).await.unwrap();
    let held = w.take(&session, &class).await;
    w.say(&session, lease(&held), Op::Start).await;
    let row = by_limit(&w, &session, &held, Reason::ProgressTimeout).await;
    assert_eq!((row.state, row.outcome), (State::TimedOut, Some(Outcome::User)));
    let attempts = w.store.attempts(TENANT, row.id).await.unwrap().unwrap();
    assert_eq!(attempts.iter().map(|a| a.view.attempt.reason).collect::<Vec<_>>(), [Reason::ProgressTimeout; 2]);
    assert_eq!(w.tally(&class).await, (0, 0, 0, 0));
}

pub async fn an_attempt_that_ran_too_long_ends_its_run_and_its_worker_is_told(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    w.say(&session, lease(&held), Op::Start).await;
    let row = by_limit(&w, &session, &held, Reason::RunTimeout).await;
    assert_eq!((row.state, row.reason), (State::TimedOut, Some(Reason::RunTimeout)));
    let answer = w.say(&session, lease(&held), complete()).await;
    assert_eq!(answer, ItemResult::Terminal { state: State::TimedOut });
}

pub async fn the_row_keeps_when_an_attempt_began_and_when_it_last_said_something(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    w.store.advance_observed(Observed(1_000)).await.unwrap();
    let held = w.leased(&session, &class).await;
    assert_eq!((held.run.begun_observed, held.run.lease_observed), (Observed(1_000), Observed(1_000)));
    w.store.advance_observed(Observed(2_000)).await.unwrap();
    w.say(&session, lease(&held), Op::Start).await;
    w.store.advance_observed(Observed(9_000)).await.unwrap();
    w.say(&session, lease(&held), frame(1, "x")).await;
    let row = &w.store.leases_of(session.holder).await.unwrap()[0].run;
    assert_eq!((row.begun_observed, row.lease_observed), (Observed(2_000), Observed(9_000)));
}

pub async fn a_declared_interval_is_kept(w: World) {
    let kinds = [
        Presence::Session,
        Presence::Poll(Millis::secs(30)),
        Presence::None(None),
        Presence::None(Some(Millis::secs(60))),
    ];
    for (n, presence) in kinds.into_iter().enumerate() {
        let mut registration = w.registration(&format!("w-{n}"));
        registration.presence = presence;
        let registered = w.register(&registration).await.unwrap();
        assert_eq!(w.store.worker(registered.worker.id).await.unwrap().unwrap().presence, presence);
    }
}
