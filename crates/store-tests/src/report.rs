//! Reports: what a worker says is applied once.

use crate::World;
use crate::build::{complete, failure, frame, json, lease, progress};
use crate::world::TENANT;
use outlive_core::report::{Completion, ErrorReport, ExitReport, Failure, Item, ItemResult, Op};
use outlive_core::run::{ClosedBy, EventKind, Run};
use outlive_core::{Millis, Outcome, Reason, State};
use outlive_store::LeaseRow;

pub async fn a_success_ends_the_run_with_its_result(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    w.pass(Millis(50));
    let exit = Some(ExitReport { code: Some(0), ..ExitReport::default() });
    let end = Completion { result: Some(json(r#"{"n":1}"#)), exit: exit.clone(), ..Completion::default() };
    let items = vec![Item { lease: lease(&held), op: Op::Complete(end) }];
    let reported = w.store.report(session.holder, items).await.unwrap();
    assert_eq!(reported.results, [ItemResult::Ok]);
    let changed = &reported.commit.changed[0];
    assert_eq!((changed.to, changed.took), (State::Succeeded, Some(Millis(50))));
    assert_eq!(changed.freed, Some((session.holder, lease(&held))));
    let row = w.get(held.run.id).await;
    assert_eq!((row.run.state, row.run.outcome), (State::Succeeded, Some(Outcome::Success)));
    assert_eq!((row.detail.result, row.detail.exit), (Some(json(r#"{"n":1}"#)), exit));
    assert_eq!((row.run.finished_at, row.worker_name.as_deref()), (Some(w.now()), Some("w")));
    assert_eq!(w.tally(&class).await, (0, 0, 0, 0));
}

pub async fn a_repeated_end_gets_the_first_answer(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    w.say(&session, lease(&held), complete()).await;
    let before = w.get(held.run.id).await;
    w.pass(Millis::secs(1));
    assert_eq!(w.say(&session, lease(&held), complete()).await, ItemResult::Ok);
    assert_eq!(w.get(held.run.id).await, before);
    // So does the end of an attempt that did not end its run.
    let second = w.leased(&session, &class).await;
    assert_eq!(w.say(&session, lease(&second), failure()).await, ItemResult::Ok);
    let before = w.get(second.run.id).await;
    assert_eq!(w.say(&session, lease(&second), failure()).await, ItemResult::Ok);
    assert_eq!(w.get(second.run.id).await, before);
    assert_eq!(w.store.attempts(TENANT, second.run.id).await.unwrap().unwrap().len(), 1);
}

pub async fn an_end_whose_frames_are_missing_is_a_gap(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    w.say(&session, lease(&held), frame(1, "x")).await;
    let end = Op::Complete(Completion { last_output_seq: Some(3), ..Completion::default() });
    let before = w.row(held.run.id).await;
    assert_eq!(w.say(&session, lease(&held), end.clone()).await, ItemResult::Gap { expected: 2 });
    assert_eq!(w.row(held.run.id).await, before);
    w.say(&session, lease(&held), frame(2, "y")).await;
    w.say(&session, lease(&held), frame(3, "z")).await;
    assert_eq!(w.say(&session, lease(&held), end).await, ItemResult::Ok);
}

pub async fn failures_use_attempts_and_the_last_one_ends_it(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let run = w.one_with(&class, |new| new.options.max_attempts = Some(2)).await;
    let error = ErrorReport { message: "no".to_owned(), ..ErrorReport::default() };
    let fail = Op::Fail(Failure {
        reason: Reason::ExitCode,
        error: Some(error.clone()),
        exit: None,
        retry_after: Some(Millis::secs(7)),
        permanent: false,
        last_output_seq: None,
    });
    let first = w.take(&session, &class).await;
    w.say(&session, lease(&first), fail.clone()).await;
    let row = w.row(run.id).await;
    assert_eq!((row.state, row.failures, row.due_at), (State::Scheduled, 1, Some(w.now() + Millis::secs(7))));
    w.pass(Millis::secs(7));
    w.store.due(1).await.unwrap();
    let second = w.take(&session, &class).await;
    w.say(&session, lease(&second), fail).await;
    let row = w.get(run.id).await;
    assert_eq!((row.run.state, row.run.failures, row.detail.error), (State::Failed, 2, Some(error.clone())));
    let attempts = w.store.attempts(TENANT, run.id).await.unwrap().unwrap();
    let outcomes: Vec<_> = attempts.iter().map(|a| (a.view.attempt.closed_by, a.view.attempt.outcome)).collect();
    assert_eq!(outcomes, [(ClosedBy::Report, Some(Outcome::User)); 2]);
    assert_eq!(attempts[0].view.attempt.error, Some(error));
}

pub async fn a_checkpoint_reaches_the_next_attempt(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    w.say(&session, lease(&held), Op::Checkpoint(json("1"))).await;
    w.say(&session, lease(&held), Op::Checkpoint(json("2"))).await;
    w.say(&session, lease(&held), progress(0.3)).await;
    w.lose(&session).await;
    let next = w.take(&session, &class).await;
    assert_eq!(next.checkpoint, Some(json("2")));
    let attempts = w.store.attempts(TENANT, held.run.id).await.unwrap().unwrap();
    assert_eq!(attempts[0].view.attempt.checkpoint, Some(json("2")));
    assert_eq!(w.get(held.run.id).await.detail.progress.unwrap().fraction, Some(0.3));
}

pub async fn any_statement_implies_the_start(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    for op in [Op::Start, progress(0.1), Op::Checkpoint(json("1")), frame(1, "x")] {
        let held = w.leased(&session, &class).await;
        w.pass(Millis(5));
        w.say(&session, lease(&held), op).await;
        let row = w.row(held.run.id).await;
        assert_eq!((row.state, row.started_at), (State::Running, Some(w.now())));
        assert_eq!(w.log(held.run.id).await[0], "A1");
        w.pass(Millis(5));
        w.say(&session, lease(&held), Op::Start).await;
        assert_eq!(w.row(held.run.id).await, row);
        w.say(&session, lease(&held), complete()).await;
    }
}

pub async fn a_normal_life_leaves_its_history(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    w.pass(Millis(5));
    w.say(&session, lease(&held), Op::Start).await;
    w.pass(Millis(5));
    w.say(&session, lease(&held), complete()).await;
    let events = w.store.events(TENANT, held.run.id).await.unwrap().unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Created, EventKind::Claimed, EventKind::Started, EventKind::Finished]);
    let attempts = w.store.attempts(TENANT, held.run.id).await.unwrap().unwrap();
    assert_eq!((attempts.len(), attempts[0].worker_name.as_str()), (1, "w"));
    assert!(!attempts[0].view.open);
}

pub async fn a_repeated_loss_gets_the_first_answer_and_is_counted_once(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    let lost = || Op::Lost { reason: outlive_core::Reason::ProcessKilled, exit: None };
    assert_eq!(w.say(&session, lease(&held), lost()).await, ItemResult::Ok);
    let row = w.row(held.run.id).await;
    assert_eq!(w.say(&session, lease(&held), lost()).await, ItemResult::Ok);
    assert_eq!((w.row(held.run.id).await, row.losses), (row, 1));
    let other = w.worker("other").await;
    w.take(&other, &class).await;
    assert_eq!(w.say(&session, lease(&held), lost()).await, ItemResult::Ok, "also when it runs elsewhere by now");
    assert!(matches!(w.say(&other, lease(&held), lost()).await, ItemResult::Fenced { .. }), "only whose it was");
    assert!(matches!(w.say(&session, lease(&held), Op::Start).await, ItemResult::Fenced { .. }));
}

/// Many runs in one batch become what each of them alone becomes, whether they change alike or not.
pub async fn many_in_one_batch_change_as_each_alone_would(w: World) {
    const MANY: u32 = 40;
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let alone = w.leased(&session, &class).await;
    w.say_all(&session, vec![item(&alone, Op::Start), item(&alone, complete())]).await;
    let ended = w.row(alone.run.id).await;
    let alone = (alone.run, ended);
    for alike in [true, false] {
        for _ in 0..MANY {
            w.one(&class).await;
        }
        let held = w.claim(&session, &[&class], MANY).await.leases;
        assert_eq!(held.len(), MANY as usize);
        let mut items = Vec::new();
        for (frames, held) in (1..).zip(&held) {
            assert_eq!(same_but_place(&held.run, &alone.0), alone.0);
            assert_eq!(w.row(held.run.id).await, held.run);
            items.push(item(held, Op::Start));
            if !alike {
                items.extend((1..=frames).map(|n| item(held, frame(n, "x"))));
            }
            items.push(item(held, complete()));
        }
        assert!(w.say_all(&session, items).await.iter().all(|result| *result == ItemResult::Ok));
        for (frames, held) in (1..).zip(&held) {
            let mut row = w.row(held.run.id).await;
            if !alike {
                assert_eq!((row.output.seq, row.output.bytes), (frames, frames));
                row.output = alone.1.output;
            }
            assert_eq!(same_but_place(&row, &alone.1), alone.1);
        }
        assert_eq!(w.tally(&class).await, (0, 0, 0, 0));
    }
}

fn item(held: &LeaseRow, op: Op) -> Item {
    Item { lease: lease(held), op }
}

/// The run as it would be in the other one's place.
fn same_but_place(run: &Run, other: &Run) -> Run {
    Run { seq: other.seq, id: other.id, rank: other.rank, ..run.clone() }
}
