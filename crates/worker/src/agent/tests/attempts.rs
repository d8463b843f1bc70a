use super::*;
use outlive_core::Reason;
use outlive_core::report::{Op, Wait};

fn last_item(world: &World) -> WireItem {
    world.items().pop().expect("an item")
}

#[test]
fn a_lease_that_is_here_already_is_ignored_and_its_credit_given_back() {
    let mut world = World::connected(2);
    let run = world.running(1);
    world.push(2, vec![lease(1, 1)]);
    world.exits(run, code(0));
    world.push(3, vec![lease(1, 1)]);
    assert!(!world.has(|e| matches!(e, Effect::Spawn(_))));
    world.pass(10);
    assert_eq!(world.beats().pop().unwrap().credit, 2 + 1 + 2, "one process reaped, two pushes ignored");
}

#[test]
fn a_newer_lease_of_the_same_run_waits_until_the_older_process_is_gone() {
    let mut world = World::connected(2);
    let old = world.running(1);
    world.push(2, vec![lease(1, 2)]);
    assert_eq!(world.stopped(old), [Stop::Kill]);
    assert!(!world.has(|e| matches!(e, Effect::Spawn(_))));
    world.exits(old, by_signal("SIGKILL"));
    assert!(world.has(|e| matches!(e, Effect::Spawn(l) if l.epoch == Epoch(2))));
    assert!(world.items().is_empty(), "of the older one nothing is said");
}

#[test]
fn lost_is_ignored_once_the_end_is_said() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.exits(run, code(0));
    world.lost(run);
    assert!(world.stopped(run).is_empty());
    assert_eq!(last_item(&world).op, OpName::Complete);
}

#[test]
fn a_lost_attempt_is_named_until_its_process_is_gone() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.lost(run);
    world.lost(run);
    assert_eq!(world.stopped(run), [Stop::Kill], "once");
    assert_eq!(world.agent.held(world.now()).len(), 1);
    world.exits(run, by_signal("SIGKILL"));
    assert!(world.agent.held(world.now()).is_empty());
    assert!(world.items().is_empty());
}

#[test]
fn an_outside_kill_is_a_loss_and_a_code_is_a_failure() {
    let mut world = World::connected(3);
    let ends = [(by_signal("SIGKILL"), OpName::Lost, Reason::ProcessKilled), (code(3), OpName::Fail, Reason::ExitCode)];
    for (n, (exit, op, reason)) in (1..).zip(ends) {
        let run = world.running(n);
        world.exits(run, exit);
        let item = last_item(&world);
        assert_eq!((item.op, item.reason), (op, Some(reason)));
    }
    let run = world.running(9);
    world.child(run, ChildEvent::Ended(End::Rejected { message: "no such command".into() }));
    let item = last_item(&world);
    assert_eq!((item.reason, item.permanent), (Some(Reason::Rejected), Some(true)));
}

#[test]
fn cancel_is_term_then_grace_then_kill_then_cancelled() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.cancel(run);
    assert_eq!(world.stopped(run), [Stop::Term]);
    assert!(world.has(|e| matches!(e, Effect::Tell(_, Down::Cancel { .. }))));
    world.pass(9_999);
    world.cancel(run);
    assert_eq!(world.stopped(run), [Stop::Term], "a second cancel does not prolong the grace");
    world.pass(1);
    assert_eq!(world.stopped(run), [Stop::Term, Stop::Kill]);
    world.exits(run, by_signal("SIGKILL"));
    assert_eq!(last_item(&world).op, OpName::Cancelled);
}

#[test]
fn work_that_ends_well_before_the_grace_is_over_is_complete() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.cancel(run);
    world.exits(run, code(0));
    assert_eq!(last_item(&world).op, OpName::Complete);
}

#[test]
fn a_lease_that_never_started_is_cancelled_without_a_process() {
    let mut world = World::connected(2);
    world.running(1);
    world.push(2, vec![lease(1, 2)]);
    world.cancel(name(1, 2));
    assert_eq!(last_item(&world).op, OpName::Cancelled);
    assert!(!world.has(|e| matches!(e, Effect::Spawn(_))));
}

#[test]
fn the_run_timeout_does_not_count_frozen_time_and_kills_nothing_that_is_frozen() {
    let mut world = World::connected(1);
    world.acks = true;
    world.push(1, vec![Lease { run_timeout_ms: 5_000, cancel_grace_ms: 1_000, ..lease(1, 1) }]);
    let run = name(1, 1);
    world.pass(3_000);
    world.guard(run, GuardEvent::Frozen);
    world.pass(60_000);
    assert!(world.stopped(run).is_empty());
    world.guard(run, GuardEvent::Thawed);
    world.pass(1_999);
    assert!(world.stopped(run).is_empty());
    world.pass(1);
    assert_eq!(world.stopped(run), [Stop::Term]);
    world.guard(run, GuardEvent::Frozen);
    world.pass(5_000);
    assert_eq!(world.stopped(run), [Stop::Term], "patience waits as well");
    world.guard(run, GuardEvent::Thawed);
    world.pass(1_000);
    assert_eq!(world.stopped(run), [Stop::Term, Stop::Kill]);
    world.exits(run, by_signal("SIGKILL"));
    let item = last_item(&world);
    assert_eq!((item.op, item.reason), (OpName::Fail, Some(Reason::RunTimeout)));
    assert!(item.exit.unwrap().timed_out);
}

#[test]
fn an_agent_that_stood_still_hears_late_that_its_work_was_frozen_and_counts_it_all() {
    let mut world = World::connected(1);
    world.push(1, vec![Lease { run_timeout_ms: 20_000, ..lease(1, 1) }]);
    let frozen_at = Mono(world.at + 8_000);
    world.at += 30_000;
    world.give_all([]);
    assert!(world.stopped(name(1, 1)).is_empty(), "by its deadline it knows that its work stands still");
    world.give(Input::Guard { lease: name(1, 1), event: GuardEvent::Frozen, at: frozen_at });
    assert!(world.stopped(name(1, 1)).is_empty(), "it has used 8 of its 20 seconds");
    assert_eq!(world.agent.held(world.now())[0].frozen_ms, 22_000);
}

#[test]
fn suspend_does_not_use_up_the_run_timeout() {
    let mut world = World::connected(1);
    world.push(1, vec![Lease { run_timeout_ms: 5_000, ..lease(1, 1) }]);
    let asleep = Now { boot: Mono(START + 100_000_000), mono: Mono(START + 1) };
    let effects = world.agent.turn([], asleep);
    assert!(!effects.iter().any(|e| matches!(e, Effect::Stop(..))));
}

#[test]
fn no_progress_is_a_failure_and_output_and_thawing_count_as_progress() {
    let mut world = World::connected(1);
    world.acks = true;
    world.push(1, vec![Lease { progress_timeout_ms: Some(3_000), ..lease(1, 1) }]);
    let run = name(1, 1);
    world.pass(2_000);
    world.outputs(run, "x");
    world.pass(2_000);
    world.guard(run, GuardEvent::Frozen);
    world.pass(10_000);
    world.guard(run, GuardEvent::Thawed);
    world.pass(2_999);
    assert!(world.stopped(run).is_empty());
    world.pass(1);
    assert_eq!(world.stopped(run), [Stop::Term]);
    world.exits(run, by_signal("SIGTERM"));
    assert_eq!(last_item(&world).reason, Some(Reason::ProgressTimeout));
}

#[test]
fn a_release_waits_for_the_end_of_the_process() {
    let mut world = World::connected(1);
    let run = world.running(1);
    let op = Op::Release(Wait::Delay { delay: Millis::mins(10), note: None });
    world.child(run, ChildEvent::Said { reference: Some(1), op });
    assert!(world.items().is_empty());
    assert!(world.has(|e| matches!(e, Effect::Tell(_, Down::Answer { reference: 1, result: WireResult::Ok }))));
    world.exits(run, code(1));
    let item = last_item(&world);
    assert_eq!((item.op, item.delay), (OpName::Release, Some(Millis::mins(10))));
}

#[test]
fn a_process_that_stays_after_its_release_is_ended() {
    let mut world = World::connected(1);
    world.acks = true;
    let run = world.running(1);
    world.child(run, ChildEvent::Said { reference: None, op: Op::Release(Wait::Nothing) });
    world.pass(10_000);
    assert_eq!(world.stopped(run), [Stop::Term]);
    world.pass(10_000);
    assert_eq!(world.stopped(run), [Stop::Term, Stop::Kill]);
}

#[test]
fn an_attempt_may_not_end_itself_over_its_channel() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.child(
        run,
        ChildEvent::Said { reference: Some(1), op: Op::Complete(outlive_core::report::Completion::default()) },
    );
    assert!(world.has(|e| matches!(e, Effect::Tell(_, Down::Answer { result: WireResult::Invalid { .. }, .. }))));
}

#[test]
fn a_kill_at_the_deadline_is_a_loss_of_the_workers_making() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.guard(run, GuardEvent::Stopped);
    world.exits(run, by_signal("SIGKILL"));
    assert_eq!((last_item(&world).op, last_item(&world).reason), (OpName::Lost, Some(Reason::WorkerExited)));
}

#[test]
fn the_guard_knows_of_a_lease_before_its_process_exists_and_after_that_of_its_group() {
    let mut world = World::connected(1);
    world.effects.clear();
    world.push(1, vec![lease(1, 1)]);
    let place = |wanted: fn(&Effect) -> bool| world.effects.iter().position(wanted).unwrap();
    assert!(place(|e| matches!(e, Effect::Guard(Command::Track { .. }))) < place(|e| matches!(e, Effect::Spawn(_))));
    world.child(name(1, 1), ChildEvent::Started(Some(77)));
    assert!(world.has(|e| matches!(e, Effect::Guard(Command::Group { group: 77, .. }))));
    world.effects.clear();
    world.give(Input::GuardReplaced);
    assert!(world.has(|e| matches!(e, Effect::Guard(Command::Adopt { group: Some(77), .. }))));
}
