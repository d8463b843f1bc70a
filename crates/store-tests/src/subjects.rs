//! Subjects follow their runs, transition by transition.

use crate::World;
use crate::build::{class_in, complete, failure, lease};
use crate::world::TENANT;
use outlive_core::feed::FeedEvent;
use outlive_core::policy::{OnLoss, QueuePolicy};
use outlive_core::report::{Op, Wait};
use outlive_core::run::Run;
use outlive_core::{Millis, Outcome, Reason, RunId, State};
use outlive_store::{ClassRow, SubjectRow};

async fn about(w: &World, class: &ClassRow, subjects: &[&str]) -> Run {
    w.one_with(class, |new| new.options.subjects = subjects.iter().map(|&s| s.to_owned()).collect()).await
}

async fn subject(w: &World, name: &str) -> SubjectRow {
    w.store.subject(TENANT, name, 100).await.unwrap()
}

/// Status, active runs, working runs.
async fn status(w: &World, name: &str) -> (&'static str, i64, i64) {
    let row = subject(w, name).await.subject;
    (row.status().as_str(), row.active, row.working)
}

/// Every change that was told of a subject: previous status, status, count, and how its last run ended.
async fn told(w: &World, name: &str) -> Vec<(&'static str, &'static str, i64, Option<State>)> {
    let events = w.whole_feed().await;
    let changes = events.into_iter().filter_map(|(_, event)| match event {
        FeedEvent::Subject { namespace, subject, change, .. } if namespace == TENANT && subject == name => Some(change),
        _ => None,
    });
    changes.map(|c| (c.previous.as_str(), c.status.as_str(), c.active, c.last.map(|last| last.state))).collect()
}

pub async fn a_life_goes_from_idle_over_queued_and_working_to_idle(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    assert_eq!(status(&w, "agent").await, ("idle", 0, 0));
    let run = about(&w, &class, &["agent"]).await;
    assert_eq!(status(&w, "agent").await, ("queued", 1, 0));
    assert_eq!(subject(&w, "agent").await.active[0].run.id, run.id);
    let held = w.take(&session, &class).await;
    assert_eq!(status(&w, "agent").await, ("working", 1, 1));
    w.say(&session, lease(&held), Op::Start).await;
    w.pass(Millis(7));
    w.say(&session, lease(&held), complete()).await;
    let row = subject(&w, "agent").await;
    assert!(row.active.is_empty());
    let last = row.subject.last.unwrap();
    assert_eq!((last.run, last.state, last.outcome), (run.id, State::Succeeded, Some(Outcome::Success)));
    assert_eq!((last.reason, last.at), (None, w.now()));
    let expected =
        [("idle", "queued", 1, None), ("queued", "working", 1, None), ("working", "idle", 0, Some(State::Succeeded))];
    assert_eq!(told(&w, "agent").await, expected);
}

pub async fn a_change_is_told_in_the_transaction_of_its_transition(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let run = about(&w, &class, &["agent"]).await;
    w.take(&session, &class).await;
    w.lose(&session).await;
    let events = w.whole_feed().await;
    let row_of = |name: &str| -> Vec<i64> {
        let of = |event: &FeedEvent| match event {
            FeedEvent::Run { run: id, .. } | FeedEvent::Subject { run: id, .. } => *id == run.id,
            _ => false,
        };
        events.iter().filter(|(_, e)| of(e) && e.type_name() == name).map(|(place, _)| place.row).collect()
    };
    let changes = row_of("subject.changed");
    assert_eq!(changes.len(), 3);
    assert_eq!(changes, [row_of("run.created")[0], row_of("run.claimed")[0], row_of("attempt.lost")[0]]);
}

pub async fn a_loss_queues_its_subject_and_a_failure_with_a_retry_too(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    about(&w, &class, &["agent"]).await;
    w.take(&session, &class).await;
    w.lose(&session).await;
    assert_eq!(status(&w, "agent").await, ("queued", 1, 0));
    let held = w.take(&session, &class).await;
    w.say(&session, lease(&held), failure()).await;
    assert_eq!(status(&w, "agent").await, ("queued", 1, 0));
    assert_eq!(subject(&w, "agent").await.subject.last, None, "no run of it has ended");
}

pub async fn a_run_that_ends_lost_leaves_its_reason(w: World) {
    let policy = QueuePolicy { on_loss: OnLoss::Fail, ..QueuePolicy::default() };
    let (_, class) = w.queue("a", policy).await;
    let session = w.worker("w").await;
    about(&w, &class, &["issue"]).await;
    w.take(&session, &class).await;
    w.lose(&session).await;
    assert_eq!(status(&w, "issue").await, ("idle", 0, 0));
    let last = subject(&w, "issue").await.subject.last.unwrap();
    assert_eq!((last.state, last.outcome), (State::Lost, Some(Outcome::Infrastructure)));
    assert_eq!(last.reason, Some(Reason::WorkerHeartbeatLost));
}

pub async fn held_and_scheduled_runs_count_as_queued(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let named = |new: &mut outlive_store::CreateRun| new.options.subjects = vec!["agent".to_owned()];
    let held = w
        .one_with(&class, |new| {
            named(new);
            new.new.hold = true;
        })
        .await;
    assert_eq!(status(&w, "agent").await, ("queued", 1, 0));
    w.store.release(TENANT, held.id, None, None).await.unwrap();
    let lease_ = w.take(&session, &class).await;
    w.say(&session, lease(&lease_), Op::Release(Wait::Hold { note: None })).await;
    assert_eq!(status(&w, "agent").await, ("queued", 1, 0));
    w.pass(QueuePolicy::default().hold_ttl + Millis(1));
    w.store.due(10).await.unwrap();
    assert_eq!(status(&w, "agent").await, ("idle", 0, 0));
    assert_eq!(subject(&w, "agent").await.subject.last.unwrap().state, State::Expired);
}

pub async fn a_cancelled_run_works_until_its_worker_has_stopped(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let run = about(&w, &class, &["agent"]).await;
    let held = w.take(&session, &class).await;
    w.store.cancel(TENANT, run.id, Reason::Cancelled, None).await.unwrap();
    assert_eq!(status(&w, "agent").await, ("working", 1, 1));
    w.say(&session, lease(&held), Op::Cancelled { exit: None }).await;
    assert_eq!(status(&w, "agent").await, ("idle", 0, 0));
    let waiting = about(&w, &class, &["agent"]).await;
    w.store.cancel(TENANT, waiting.id, Reason::Cancelled, None).await.unwrap();
    assert_eq!(status(&w, "agent").await, ("idle", 0, 0));
    let last = subject(&w, "agent").await.subject.last.unwrap();
    assert_eq!((last.run, last.state), (waiting.id, State::Cancelled));
}

pub async fn a_run_moves_all_of_its_subjects_and_each_once(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    about(&w, &class, &["agent", "issue", "agent", "feed"]).await;
    let held = w.take(&session, &class).await;
    for name in ["agent", "issue", "feed"] {
        assert_eq!(status(&w, name).await, ("working", 1, 1));
    }
    w.say(&session, lease(&held), complete()).await;
    for name in ["agent", "issue", "feed"] {
        assert_eq!(status(&w, name).await, ("idle", 0, 0));
        assert_eq!(told(&w, name).await.len(), 3);
    }
}

pub async fn runs_at_the_same_time_are_counted(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    for _ in 0..3 {
        about(&w, &class, &["agent"]).await;
    }
    let leases = w.claim(&session, &[&class], 2).await.leases;
    assert_eq!(status(&w, "agent").await, ("working", 3, 2));
    w.say(&session, lease(&leases[0]), complete()).await;
    assert_eq!(status(&w, "agent").await, ("working", 2, 1));
    w.say(&session, lease(&leases[1]), complete()).await;
    assert_eq!(status(&w, "agent").await, ("queued", 1, 0));
    let row = w.store.subject(TENANT, "agent", 100).await.unwrap();
    let waiting: Vec<RunId> = row.active.iter().map(|row| row.run.id).collect();
    let known: Vec<RunId> = leases.iter().map(|held| held.run.id).collect();
    assert!(waiting.len() == 1 && !known.contains(&waiting[0]));
}

pub async fn a_run_that_is_claimed_at_its_creation_works_at_once(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let mut draft = w.draft(&class);
    draft.options.subjects = vec!["agent".to_owned()];
    let mut request = w.request(vec![draft]);
    request.claims = vec![w.order(&session, &[&class], 1)];
    w.store.create(request).await.unwrap();
    assert_eq!(status(&w, "agent").await, ("working", 1, 1));
    assert_eq!(told(&w, "agent").await, [("idle", "working", 1, None)]);
}

pub async fn namespaces_do_not_share_subjects(w: World) {
    let (mine, other) = (w.class("a").await, w.class_of(class_in("other", "a")).await);
    about(&w, &mine, &["agent"]).await;
    let mut draft = w.draft(&other);
    draft.options.subjects = vec!["agent".to_owned()];
    let mut request = w.request(vec![draft]);
    "other".clone_into(&mut request.namespace);
    let theirs = w.store.create(request).await.unwrap().runs[0].run.id;
    assert_eq!(status(&w, "agent").await, ("queued", 1, 0));
    let row = w.store.subject("other", "agent", 100).await.unwrap();
    assert_eq!((row.subject.active, row.active[0].run.id), (1, theirs));
    let query = outlive_store::RunQuery { subject: Some("agent".to_owned()), ..Default::default() };
    assert_eq!(w.found(query).await.len(), 1);
}

pub async fn few_active_runs_are_shown_and_all_are_counted(w: World) {
    let class = w.class("a").await;
    let mut newest = Vec::new();
    for _ in 0..7 {
        newest.insert(0, about(&w, &class, &["agent"]).await.id);
    }
    let row = w.store.subject(TENANT, "agent", 3).await.unwrap();
    assert_eq!(row.subject.active, 7);
    assert_eq!(row.active.iter().map(|row| row.run.id).collect::<Vec<_>>(), newest[..3]);
}

pub async fn a_subject_is_forgotten_with_its_last_run(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let mut ended = Vec::new();
    for _ in 0..2 {
        about(&w, &class, &["agent"]).await;
        let held = w.take(&session, &class).await;
        w.say(&session, lease(&held), complete()).await;
        ended.push(held.run.id);
    }
    w.store.delete(TENANT, ended[0]).await.unwrap();
    assert_eq!(subject(&w, "agent").await.subject.last.unwrap().run, ended[1]);
    w.store.delete(TENANT, ended[1]).await.unwrap();
    assert_eq!(subject(&w, "agent").await.subject.last, None);
}

pub async fn the_audit_of_sound_subjects_finds_nothing(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    for n in 0..12 {
        about(&w, &class, &[&format!("agent {}", n % 5), "all"]).await;
        if let (0, Some(held)) = (n % 2, w.claim(&session, &[&class], 1).await.leases.first()) {
            w.say(&session, lease(held), complete()).await;
        }
    }
    loop {
        let swept = w.store.audit_subjects(2).await.unwrap();
        assert_eq!(swept.acted, 0);
        if !swept.more {
            return;
        }
    }
}
