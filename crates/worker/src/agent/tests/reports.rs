use super::*;
use outlive_core::State;
use outlive_core::limits::sizes;
use outlive_core::report::{Completion, Op};

fn fenced() -> WireResult {
    WireResult::Fenced { state: State::Queued, epoch: Epoch(1) }
}

fn seqs(items: &[WireItem]) -> Vec<Option<i64>> {
    items.iter().filter(|i| i.op == OpName::Output).map(|i| i.seq).collect()
}

#[test]
fn start_and_complete_of_a_short_attempt_are_one_item_in_one_report() {
    let mut world = World::connected(10);
    let leases: Vec<_> = (1..=10).map(|n| Lease { kind: "noop".into(), ..lease(n, 1) }).collect();
    world.push(1, leases.clone());
    world.effects.clear();
    let done = Op::Complete(Completion::default());
    let events = leases.iter().flat_map(|l| {
        let ended = ChildEvent::Ended(End::Said(done.clone()));
        [ChildEvent::Started(None), ended].map(|event| Input::Child { lease: l.lease(), event })
    });
    world.give_all(events);
    assert_eq!(world.reports().len(), 1);
    assert_eq!(world.ops(), [OpName::Complete; 10]);
}

#[test]
fn an_end_is_not_sent_before_the_outbox_has_it() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.stores = false;
    world.exits(run, code(0));
    assert!(world.ops().is_empty());
    assert!(world.has(|e| matches!(e, Effect::Store(r) if r.lease == run && r.items.len() == 1)));
    world.give(Input::Stored(run));
    assert_eq!(world.ops(), [OpName::Complete]);
    world.answer_all();
    assert!(world.has(|e| matches!(e, Effect::Forget(of) if *of == run)));
    assert!(world.agent.held(world.now()).is_empty());
}

#[test]
fn the_outbox_gets_the_frames_that_are_not_acknowledged() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.outputs(run, "a");
    world.answer_all();
    world.outputs(run, "b");
    world.outputs(run, "c");
    world.exits(run, code(0));
    let record = world.effects.iter().find_map(|e| match e {
        Effect::Store(record) => Some(record.clone()),
        _ => None,
    });
    let items = record.unwrap().items;
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].frames.iter().map(|f| f.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(items[0].last_output_seq, Some(3));
    // The same for an end that carries none: they stand before it.
    let run = world.running(2);
    world.outputs(run, "x");
    world.exits(run, code(1));
    let ops = world.effects.iter().find_map(|e| match e {
        Effect::Store(record) if record.lease == run => Some(record.items.iter().map(|i| i.op).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(ops.unwrap(), [OpName::Output, OpName::Fail]);
}

#[test]
fn a_gap_is_answered_by_saying_it_again_from_there() {
    let mut world = World::connected(1);
    let run = world.running(1);
    for text in ["a", "b", "c"] {
        world.outputs(run, text);
    }
    let reports = world.reports();
    assert_eq!(reports.len(), 3);
    world.effects.clear();
    world.answer(reports[0].0, vec![WireResult::Ok]);
    world.answer(reports[1].0, vec![WireResult::Gap { expected: 2 }]);
    world.answer(reports[2].0, vec![WireResult::Gap { expected: 2 }]);
    assert_eq!(seqs(&world.items()), [Some(2), Some(3)], "once, although two answers ask for it");
}

#[test]
fn a_gap_that_cannot_be_filled_gives_the_attempt_up() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.outputs(run, "a");
    world.answer_all();
    world.effects.clear();
    world.outputs(run, "b");
    let seq = world.reports()[0].0;
    world.answer(seq, vec![WireResult::Gap { expected: 1 }]);
    assert_eq!(world.stopped(run), [Stop::Kill]);
}

#[test]
fn after_a_reconnect_everything_unanswered_is_said_again_in_order() {
    let mut world = World::connected(2);
    let (run, done) = (world.running(1), world.running(2));
    world.outputs(run, "a");
    world.child(run, ChildEvent::Said { reference: Some(5), op: Op::Checkpoint(Json::null()) });
    world.outputs(done, "b");
    world.exits(done, code(0));
    world.give(Input::Disconnected { conn: world.conn });
    world.connect();
    let items = world.items();
    let of =
        |lease: LeaseRef| items.iter().filter(|i| i.run_id == Some(lease.run_id)).map(|i| i.op).collect::<Vec<_>>();
    assert_eq!(of(run), [OpName::Output, OpName::Checkpoint]);
    assert_eq!(of(done), [OpName::Complete], "its frame travels inside, so that it can be salvaged");
    assert_eq!(items.iter().find(|i| i.op == OpName::Complete).unwrap().frames.len(), 1);
    assert_eq!(world.reports()[0].0, 1, "reports are numbered anew");
}

#[test]
fn a_fenced_attempt_is_killed_and_says_nothing_more() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.child(run, ChildEvent::Said { reference: Some(9), op: Op::Checkpoint(Json::null()) });
    let seq = world.reports()[0].0;
    world.effects.clear();
    world.answer(seq, vec![fenced()]);
    assert_eq!(world.stopped(run), [Stop::Kill]);
    let told =
        |e: &Effect| matches!(e, Effect::Tell(_, Down::Answer { reference: 9, result: WireResult::Fenced { .. } }));
    assert!(world.has(told));
    world.outputs(run, "x");
    world.exits(run, by_signal("SIGKILL"));
    assert!(world.items().is_empty());
    assert!(world.has(|e| matches!(e, Effect::Guard(Command::Untrack { .. }))));
}

#[test]
fn frames_that_are_fenced_after_the_end_travel_inside_it() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.outputs(run, "a");
    world.exits(run, code(0));
    let reports = world.reports();
    world.effects.clear();
    world.answer(reports[0].0, vec![fenced()]);
    let items = world.items();
    assert_eq!((items.len(), items[0].op, items[0].frames.len()), (1, OpName::Complete, 1));
}

#[test]
fn no_more_than_one_mebibyte_of_output_is_in_flight() {
    let mut world = World::connected(8);
    let frame = "x".repeat(sizes::FRAME);
    let runs: Vec<_> = (1..=6).map(|n| world.running(n)).collect();
    runs.iter().for_each(|&run| world.outputs(run, &frame));
    assert_eq!(world.items().len(), 4);
    let first = world.reports()[0].0;
    world.effects.clear();
    world.answer(first, vec![WireResult::Ok]);
    assert_eq!(world.items().len(), 1, "an answer makes room for the next");
    assert!(world.has(|e| matches!(e, Effect::Window(_, bytes) if *bytes == sizes::FRAME)));
}

#[test]
fn large_results_do_not_share_a_message_that_would_be_too_large() {
    let mut world = World::connected(4);
    world.push(1, (1..=4).map(|n| Lease { kind: "noop".into(), ..lease(n, 1) }).collect());
    world.effects.clear();
    let result = Some(Json::parse(format!("\"{}\"", "x".repeat(sizes::RESULT - 2))).unwrap());
    let done = Op::Complete(Completion { result, ..Completion::default() });
    let ended = (1..=4).map(|n| Input::Child { lease: name(n, 1), event: ChildEvent::Ended(End::Said(done.clone())) });
    world.give_all(ended);
    for answered in 1..=4 {
        assert_eq!(world.items().len(), answered, "one at a time");
        let seq = world.reports().last().unwrap().0;
        world.answer(seq, vec![WireResult::Ok]);
    }
}

#[test]
fn a_report_has_at_most_a_thousand_items() {
    let mut world = World::connected(2_000);
    world.push(1, (1..=1_500).map(|n| Lease { kind: "noop".into(), ..lease(n, 1) }).collect());
    world.effects.clear();
    let done = Op::Complete(Completion::default());
    let ended =
        (1..=1_500).map(|n| Input::Child { lease: name(n, 1), event: ChildEvent::Ended(End::Said(done.clone())) });
    world.give_all(ended);
    assert_eq!(world.items().len(), 1_000);
    let seq = world.reports()[0].0;
    world.effects.clear();
    world.answer(seq, vec![WireResult::Ok; 1_000]);
    assert_eq!(world.items().len(), 500);
}

#[test]
fn an_end_that_is_invalid_becomes_a_failure_that_says_so() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.exits(run, code(0));
    let seq = world.reports()[0].0;
    world.effects.clear();
    world.answer(seq, vec![WireResult::Invalid { detail: "result is larger".into() }]);
    let items = world.items();
    assert_eq!((items[0].op, items[0].error.clone().unwrap().message), (OpName::Fail, "result is larger".into()));
}

#[test]
fn a_checkpoint_is_answered_when_the_server_has_it() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.child(run, ChildEvent::Said { reference: Some(3), op: Op::Checkpoint(Json::null()) });
    let answered = |e: &Effect| matches!(e, Effect::Tell(_, Down::Answer { reference: 3, result: WireResult::Ok }));
    assert!(!world.has(answered));
    world.answer_all();
    assert!(world.has(answered));
}

#[test]
fn the_replay_of_an_outbox_comes_first_and_alone_and_ends_with_outbox_done() {
    let item = |op| WireItem { seq: Some(1), ..WireItem::bare(op, Some(name(9, 3))) };
    let record = Record { lease: name(9, 3), items: vec![item(OpName::Output), item(OpName::Fail)] };
    let mut world = World::replaying(1, vec![record]);
    assert_eq!(world.agent.outbox_pending(), 1);
    world.connect();
    let sent = world.effects.iter().find_map(|e| match e {
        Effect::Send { message: WorkerMessage::Report { report_seq, items, replay: true }, .. } => {
            Some((*report_seq, items.iter().map(|i| i.op).collect::<Vec<_>>()))
        }
        _ => None,
    });
    let (seq, ops) = sent.unwrap();
    assert_eq!(ops, [OpName::Output, OpName::Fail, OpName::OutboxDone]);
    // A connection that ends before the answer: everything again.
    world.give(Input::Disconnected { conn: world.conn });
    world.effects.clear();
    world.connect();
    world.answer(seq, vec![WireResult::Ok; 3]);
    assert!(world.has(|e| matches!(e, Effect::Forget(of) if *of == name(9, 3))));
    assert_eq!(world.agent.outbox_pending(), 0);
}

#[test]
fn what_has_ended_here_never_starts_again_under_the_same_epoch() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.exits(run, outlive_core::report::ExitReport { code: Some(0), ..Default::default() });
    world.answer_all();
    assert!(world.has(|e| matches!(e, Effect::Forget(lease) if *lease == run)));
    world.effects.clear();
    world.give(Input::Disconnected { conn: world.conn });
    world.open();
    world.greet(vec![lease(1, 1)]);
    assert!(!world.has(|e| matches!(e, Effect::Spawn(_))), "an answer that was on its way for long");
    world.push(1, vec![lease(1, 2)]);
    assert!(world.has(|e| matches!(e, Effect::Spawn(_))), "another epoch is another attempt");
}
