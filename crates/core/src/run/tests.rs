//! The life of a run, transition by transition.

use super::begin::NewRun;
use super::derive::{Marker, attempts, history, markers};
use super::*;
use crate::explain::Cause;
use crate::ids::{ClassId, Epoch, Holder, Incarnation, LeaseRef, QueueId, RunId, WorkerId};
use crate::options::RunOptions;
use crate::policy::{OnLoss, QueuePolicy};
use crate::report::{Completion, Failure, Frame, Item, ItemResult, Op, Wait};
use crate::state::{Outcome, Reason, State};
use crate::time::{Millis, Observed, Wall};

const A: Holder = Holder { worker: WorkerId(1), incarnation: Incarnation(1) };
const B: Holder = Holder { worker: WorkerId(2), incarnation: Incarnation(1) };

fn queued() -> Run {
    let new = NewRun {
        id: RunId::from_parts(Wall(1), 7),
        class: ClassId(1),
        queue: QueueId(1),
        priority: 0,
        run_at: None,
        hold: false,
        serial_key: None,
        key: None,
        queue_ttl: None,
    };
    Run::create(new, &QueuePolicy::default(), Wall(1_000))
}

fn claimed(by: Holder) -> Run {
    let mut run = queued();
    run.claim(by, QueuePolicy::default().terms(), Wall(1_010), Observed(0)).unwrap();
    run
}

struct Say<'a> {
    policy: &'a QueuePolicy,
    attempt: Option<&'a Attempt>,
    now: Wall,
}

fn say(run: &mut Run, by: Holder, epoch: i64, op: Op, with: &Say<'_>) -> Result<Change, ItemResult> {
    let ctx = ReportContext {
        sender: by,
        now: with.now,
        observed: Observed(0),
        policy: with.policy,
        budgets: RunOptions::default().budgets(with.policy),
        attempt: with.attempt,
        serial_key_moved_on: false,
    };
    run.report(Item { lease: LeaseRef { run_id: run.id, epoch: Epoch(epoch) }, op }, &ctx)
}

fn plain(run: &mut Run, by: Holder, epoch: i64, op: Op) -> Result<Change, ItemResult> {
    let policy = QueuePolicy::default();
    say(run, by, epoch, op, &Say { policy: &policy, attempt: None, now: Wall(2_000) })
}

fn silence() -> Loss {
    Loss { reason: Reason::WorkerHeartbeatLost, evidence: Evidence::Silence, last_heard_at: Wall(1_500), exit: None }
}

fn lose(run: &mut Run, now: Wall) -> Option<Change> {
    let policy = QueuePolicy::default();
    run.lose(silence(), &policy, &RunOptions::default().budgets(&policy), LossBudget::Losses, now)
}

fn frame(seq: i64) -> Op {
    Op::Output(Frame { seq, channel: "stdout".into(), bytes: vec![b'x'; 3] })
}

fn complete() -> Op {
    Op::Complete(Completion::default())
}

fn failure(reason: Reason) -> Op {
    Op::Fail(Failure { reason, error: None, exit: None, retry_after: None, permanent: false, last_output_seq: None })
}

#[test]
fn a_normal_life_leaves_the_row_and_nothing_else() {
    let mut run = claimed(A);
    let change = plain(&mut run, A, 1, complete()).unwrap();
    assert_eq!((run.state, run.outcome), (State::Succeeded, Some(Outcome::Success)));
    assert!(change.closed.is_none() && change.detail.is_empty() && change.freed);
    assert!(change.events.iter().all(|e| !e.kind.is_kept()));
    let views = attempts(&run, vec![], None);
    assert_eq!(views.len(), 1);
    assert!(matches!(markers(&views)[..], [(1, Marker::Attempt { epoch: Epoch(1), .. })]));
    let kinds: Vec<_> = history(&run, &views, vec![]).iter().map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["run.created", "run.claimed", "attempt.started", "run.finished"]);
}

#[test]
fn only_the_holder_of_the_open_lease_can_write() {
    for (by, epoch) in [(B, 1), (A, 0), (A, 2)] {
        let mut run = claimed(A);
        let before = run.clone();
        let refused = plain(&mut run, by, epoch, complete()).unwrap_err();
        assert_eq!(refused, ItemResult::Fenced { state: State::Claimed, epoch: Epoch(1) });
        assert_eq!(run, before, "nothing changed");
    }
}

#[test]
fn a_repeated_end_gets_the_first_answer() {
    let mut run = claimed(A);
    plain(&mut run, A, 1, complete()).unwrap();
    assert_eq!(plain(&mut run, A, 1, complete()), Err(ItemResult::Ok));
    assert_eq!(plain(&mut run, B, 1, complete()), Err(ItemResult::Terminal { state: State::Succeeded }));

    let mut run = claimed(A);
    let change = plain(&mut run, A, 1, failure(Reason::ExitCode)).unwrap();
    assert_eq!(run.state, State::Scheduled);
    let policy = QueuePolicy::default();
    let with = Say { policy: &policy, attempt: change.closed.as_ref(), now: Wall(2_001) };
    assert_eq!(say(&mut run, A, 1, failure(Reason::ExitCode), &with), Err(ItemResult::Ok));
    assert!(matches!(say(&mut run, A, 1, frame(1), &with), Err(ItemResult::Fenced { .. })));
}

#[test]
fn a_loss_spends_no_attempt_and_keeps_the_rank() {
    let mut run = claimed(A);
    let rank = run.rank;
    let change = lose(&mut run, Wall(9_000)).unwrap();
    assert_eq!((run.state, run.losses, run.failures, run.rank), (State::Queued, 1, 0, rank));
    assert_eq!(change.closed.as_ref().map(|a| a.closed_by), Some(ClosedBy::Loss));
    assert!(change.freed);
    assert_eq!(lose(&mut run, Wall(9_001)), None, "a lease is lost once");
}

#[test]
fn the_fifth_loss_in_a_row_quarantines_and_a_checkpoint_starts_anew() {
    let mut run = queued();
    for n in 1..=4 {
        run.state = State::Queued;
        run.claim(A, QueuePolicy::default().terms(), Wall(n), Observed(0)).unwrap();
        let _ = lose(&mut run, Wall(n)).unwrap();
    }
    let mut spared = run.clone();
    run.state = State::Queued;
    run.claim(A, QueuePolicy::default().terms(), Wall(10), Observed(0)).unwrap();
    let _ = lose(&mut run, Wall(11)).unwrap();
    assert_eq!((run.state, run.reason), (State::Held, Some(Reason::CrashLoop)));
    assert!(run.due_at.is_some(), "held, with a limit");

    spared.state = State::Queued;
    spared.claim(A, QueuePolicy::default().terms(), Wall(10), Observed(0)).unwrap();
    let epoch = spared.epoch.0;
    plain(&mut spared, A, epoch, Op::Checkpoint(crate::Json::null())).unwrap();
    let _ = lose(&mut spared, Wall(11)).unwrap();
    assert_eq!((spared.state, spared.losses, spared.losses_in_row), (State::Queued, 5, 1));
}

#[test]
fn a_late_success_is_salvaged_only_while_the_run_waits_for_that_loss() {
    let mut run = claimed(A);
    let lost = lose(&mut run, Wall(9_000)).unwrap().closed.unwrap();
    let policy = QueuePolicy::default();
    let with = Say { policy: &policy, attempt: Some(&lost), now: Wall(9_100) };
    let mut waiting = run.clone();
    let change = say(&mut waiting, A, 1, complete(), &with).unwrap();
    assert_eq!(waiting.state, State::Succeeded);
    assert!(change.recovery.contains(&RecoveryStep::Salvaged));

    let mut other_op = run.clone();
    assert!(matches!(say(&mut other_op, A, 1, failure(Reason::ExitCode), &with), Err(ItemResult::Fenced { .. })));

    run.claim(B, QueuePolicy::default().terms(), Wall(9_200), Observed(0)).unwrap();
    assert!(matches!(say(&mut run, A, 1, complete(), &with), Err(ItemResult::Fenced { epoch: Epoch(2), .. })));
}

#[test]
fn a_success_whose_start_was_never_told_is_salvaged_with_its_marker_before_its_frames() {
    let mut run = claimed(A);
    let lost = lose(&mut run, Wall(9_000)).unwrap().closed.unwrap();
    let policy = QueuePolicy::default();
    let with = Say { policy: &policy, attempt: Some(&lost), now: Wall(9_100) };
    let frames = vec![Frame { seq: 1, channel: "stdout".into(), bytes: vec![] }];
    let done = Op::Complete(Completion { last_output_seq: Some(1), frames, ..Completion::default() });
    let before = run.clone();
    let short = Op::Complete(Completion { last_output_seq: Some(2), ..Completion::default() });
    assert_eq!(say(&mut run, A, 1, short, &with), Err(ItemResult::Gap { expected: 1 }));
    assert_eq!(run, before);
    let change = say(&mut run, A, 1, done, &with).unwrap();
    let views = derive::attempts(&run, vec![lost], None);
    let markers: Vec<_> = derive::markers(&views).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!((markers, change.frames[0].0), (vec![1, 2], 3), "its loss, its start, its frame");
}

#[test]
fn output_is_a_gap_free_order() {
    let mut run = claimed(A);
    let change = plain(&mut run, A, 1, frame(1)).unwrap();
    assert_eq!(
        change.frames.iter().map(|(offset, f)| (*offset, f.seq)).next(),
        Some((2, 1)),
        "the marker has offset 1"
    );
    assert_eq!(plain(&mut run, A, 1, frame(1)), Err(ItemResult::Ok), "a duplicate is absorbed");
    assert_eq!(plain(&mut run, A, 1, frame(3)), Err(ItemResult::Gap { expected: 2 }));
    let done = Op::Complete(Completion { last_output_seq: Some(2), ..Completion::default() });
    let before = run.clone();
    assert_eq!(plain(&mut run, A, 1, done), Err(ItemResult::Gap { expected: 2 }));
    assert_eq!(run, before);
    let carried = Frame { seq: 2, channel: "stdout".into(), bytes: vec![] };
    let done = Completion { last_output_seq: Some(2), frames: vec![carried], ..Completion::default() };
    assert_eq!(plain(&mut run, A, 1, Op::Complete(done)).unwrap().frames.len(), 1, "a replay carries what is missing");
}

#[test]
fn in_cancelling_only_a_success_wins() {
    let ends: [(Op, State); 4] = [
        (complete(), State::Succeeded),
        (failure(Reason::ExitCode), State::Cancelled),
        (Op::Release(Wait::Nothing), State::Cancelled),
        (Op::Cancelled { exit: None }, State::Cancelled),
    ];
    for (op, end) in ends {
        let mut run = claimed(A);
        let _ = run.cancel(Reason::Cancelled, None, Wall(1_500)).unwrap();
        assert_eq!(run.state, State::Cancelling);
        plain(&mut run, A, 1, op).unwrap();
        assert_eq!(run.state, end);
    }
    let mut run = claimed(A);
    let _ = run.cancel(Reason::Cancelled, None, Wall(1_500)).unwrap();
    let _ = lose(&mut run, Wall(2_000)).unwrap();
    assert_eq!(run.state, State::Cancelled, "a lost lease ends it: it is never queued again");
}

#[test]
fn a_cancel_before_the_claim_ends_at_once() {
    let mut run = queued();
    let _ = run.cancel(Reason::Cancelled, None, Wall(1_500)).unwrap();
    assert_eq!((run.state, run.outcome), (State::Cancelled, Some(Outcome::Cancelled)));
    assert!(run.cancel(Reason::Cancelled, None, Wall(1_600)).is_none());
}

#[test]
fn a_queue_ttl_ends_only_what_was_never_claimed() {
    let policy = QueuePolicy { queue_ttl: Some(Millis::secs(1)), ..QueuePolicy::default() };
    let new = NewRun {
        id: RunId::from_parts(Wall(1), 8),
        class: ClassId(1),
        queue: QueueId(1),
        priority: 0,
        run_at: None,
        hold: false,
        serial_key: None,
        key: None,
        queue_ttl: None,
    };
    let mut run = Run::create(new, &policy, Wall(1_000));
    let because =
        [Cause { code: "requirements_unmatched", detail: "needs gpu=a100; 0 of 3 live workers have it".into() }];
    assert!(run.clone().expire_unclaimed(&because, Wall(1_999)).is_none());
    let mut expired = run.clone();
    let change = expired.expire_unclaimed(&because, Wall(2_000)).unwrap();
    assert_eq!((expired.state, expired.outcome), (State::Expired, Some(Outcome::Dispatch)));
    assert_eq!(change.detail.note.as_deref(), Some("needs gpu=a100; 0 of 3 live workers have it"));
    let detail = change.detail.reason_detail.unwrap();
    assert!(detail.text().starts_with(r#"{"because":[{"code":"requirements_unmatched""#), "{}", detail.text());
    run.claim(A, QueuePolicy::default().terms(), Wall(1_500), Observed(0)).unwrap();
    let _ = lose(&mut run, Wall(1_600)).unwrap();
    assert!(run.expire_unclaimed(&because, Wall(99_999)).is_none(), "claimed once: no queue_ttl any more");
}

#[test]
fn on_loss_fail_ends_the_run_as_lost() {
    let policy = QueuePolicy { on_loss: OnLoss::Fail, ..QueuePolicy::default() };
    let mut run = claimed(A);
    let budgets = RunOptions::default().budgets(&policy);
    let _ = run.lose(silence(), &policy, &budgets, LossBudget::Losses, Wall(2_000)).unwrap();
    assert_eq!((run.state, run.outcome), (State::Lost, Some(Outcome::Infrastructure)));
}

#[test]
fn a_run_timeout_ends_as_timed_out_and_a_progress_timeout_is_tried_again() {
    let mut run = claimed(A);
    plain(&mut run, A, 1, failure(Reason::RunTimeout)).unwrap();
    assert_eq!(run.state, State::TimedOut);
    let mut run = claimed(A);
    plain(&mut run, A, 1, failure(Reason::ProgressTimeout)).unwrap();
    assert_eq!((run.state, run.failures), (State::Scheduled, 1));
}

fn by_limit(run: &mut Run, reason: Reason, policy: &QueuePolicy) -> Change {
    let loss = Loss { reason, evidence: Evidence::Limit, last_heard_at: Wall(1_900), exit: None };
    run.lose(loss, policy, &RunOptions::default().budgets(policy), LossBudget::Losses, Wall(2_000)).unwrap()
}

#[test]
fn a_limit_of_the_work_that_the_judge_applies_is_the_works_failure_and_no_loss() {
    let policy = QueuePolicy::default();
    let mut run = claimed(A);
    plain(&mut run, A, 1, Op::Start).unwrap();
    let before = run.clone();
    let change = by_limit(&mut run, Reason::ProgressTimeout, &policy);
    assert_eq!((run.state, run.failures, run.losses), (State::Scheduled, 1, 0));
    assert!(change.recovery.is_empty() && change.freed);
    crate::invariants::step(Some(&before), &run).unwrap();
    // Readers of its output are told, and its worker may still say that it was done.
    let closed = change.closed.unwrap();
    assert!(closed.lost_marker > 0);
    let with = Say { policy: &policy, attempt: Some(&closed), now: Wall(2_100) };
    say(&mut run.clone(), A, 1, complete(), &with).unwrap();
    assert!(say(&mut run, A, 1, frame(1), &with).is_err());

    let once = QueuePolicy { max_attempts: 1, ..policy };
    for reason in [Reason::ProgressTimeout, Reason::RunTimeout] {
        let mut run = claimed(A);
        let change = by_limit(&mut run, reason, &once);
        assert_eq!((run.state, run.outcome, run.reason), (State::TimedOut, Some(Outcome::User), Some(reason)));
        assert!(change.freed);
        let ended = history(&run, &attempts(&run, vec![], None), vec![]);
        assert_eq!(ended.iter().filter(|e| e.kind == EventKind::Finished).count(), 1);
        assert!(plain(&mut run, A, 1, complete()).is_err(), "terminal is final");
    }
    let mut run = claimed(A);
    run.cancel(Reason::Cancelled, None, Wall(1_900)).unwrap();
    by_limit(&mut run, Reason::RunTimeout, &once);
    assert_eq!(run.state, State::Cancelled, "a cancel ends cancelled, whatever ends it");
}

#[test]
fn the_attempts_limits_count_from_its_start() {
    let mut run = queued();
    run.claim(A, QueuePolicy::default().terms(), Wall(1_010), Observed(500)).unwrap();
    assert_eq!(run.begun_observed, Observed(500));
    let policy = QueuePolicy::default();
    for observed in [900, 1_900] {
        let ctx = ReportContext {
            sender: A,
            now: Wall(2_000),
            observed: Observed(observed),
            policy: &policy,
            budgets: RunOptions::default().budgets(&policy),
            attempt: None,
            serial_key_moved_on: false,
        };
        let seq = run.output.seq + 1;
        run.report(Item { lease: LeaseRef { run_id: run.id, epoch: Epoch(1) }, op: frame(seq) }, &ctx).unwrap();
    }
    assert_eq!((run.begun_observed, run.lease_observed), (Observed(900), Observed(1_900)));
}

#[test]
fn a_hand_back_is_free() {
    let mut run = claimed(A);
    plain(&mut run, A, 1, Op::Release(Wait::Hold { note: Some("waiting".into()) })).unwrap();
    assert_eq!((run.state, run.failures, run.losses), (State::Held, 0, 0));
    let change = run.release(Some(crate::Json::null()), None, Wall(3_000)).unwrap();
    assert_eq!(run.state, State::Queued);
    assert!(change.detail.resume_data.is_some());
}

#[test]
fn every_transition_is_one_that_the_state_machine_allows() {
    let mut run = claimed(A);
    let change = plain(&mut run, A, 1, Op::Start).unwrap();
    assert!(change.from.may_become(run.state));
    let change = lose(&mut run, Wall(3_000)).unwrap();
    assert!(change.from.may_become(run.state));
}
