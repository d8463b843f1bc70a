use super::*;

#[test]
fn the_worker_speaks_first_and_grants_credit_when_it_knows_what_it_holds() {
    let mut world = World::new(4);
    world.open();
    let first = world.beats().remove(0);
    assert_eq!((first.beat_seq, first.timer, first.held.len(), first.credit), (1, true, 0, 0));
    world.greet(vec![lease(1, 1)]);
    world.pass(5);
    let second = world.beats().remove(1);
    assert_eq!((second.timer, second.credit), (false, 3), "what the server says it holds takes a slot");
    assert!(world.has(|e| matches!(e, Effect::Spawn(l) if l.lease() == name(1, 1))));
}

#[test]
fn it_beats_each_interval_with_all_that_it_holds() {
    let mut world = World::connected(2);
    let run = world.running(1);
    world.pass(1_999);
    let before = world.beats().iter().filter(|b| b.timer).count();
    world.pass(1);
    let beats = world.beats();
    let timers: Vec<_> = beats.iter().filter(|b| b.timer).collect();
    assert_eq!((before, timers.len()), (0, 1));
    assert_eq!(timers[0].held[0].lease(), run);
    assert_eq!(timers[0].seen_push_seq, 1);
}

#[test]
fn credit_rises_once_for_each_reaped_process_and_is_told_together() {
    let mut world = World::connected(3);
    let runs = [world.running(1), world.running(2), world.running(3)];
    world.pass(10);
    world.effects.clear();
    let ended = runs.map(|lease| Input::Child {
        lease,
        event: ChildEvent::Ended(End::Exit { exit: code(0), output: Parsed::Log }),
    });
    world.give_all(ended);
    world.answer_all();
    world.pass(10);
    let beats = world.beats();
    assert_eq!(beats.len(), 1, "one beat for three slots");
    assert_eq!((beats[0].timer, beats[0].credit), (false, 6));
}

#[test]
fn a_slot_is_free_when_its_process_is_reaped_and_held_until_its_end_is_answered() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.exits(run, code(0));
    world.pass(2_000);
    let last = world.beats().pop().unwrap();
    assert_eq!((last.credit, last.held.len()), (2, 1));
    world.answer_all();
    world.pass(2_000);
    let last = world.beats().pop().unwrap();
    assert_eq!((last.credit, last.held.len()), (2, 0), "and it is not granted twice");
}

#[test]
fn an_acknowledged_beat_gives_trust_from_its_sending() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.pass(2_000);
    let sent = world.at;
    world.pass(700);
    world.ack_beats();
    assert_eq!(world.deadline(run), Some(sent + 8_000));
}

#[test]
fn an_unsure_home_gives_no_trust_and_makes_the_agent_look_elsewhere() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.pass(2_000);
    let beat_seq = world.beats().pop().unwrap().beat_seq;
    world.say(ServerMessage::BeatAck { beat_seq, home_unsure: true });
    world.pass(100);
    assert_eq!(world.deadline(run), None);
    assert!(world.has(|e| matches!(e, Effect::Connect { address, .. } if address == "b:1")));
}

#[test]
fn a_lease_that_a_beat_did_not_name_is_not_confirmed_by_it() {
    let mut world = World::connected(2);
    world.pass(2_000);
    let beat_seq = world.beats().pop().unwrap().beat_seq;
    world.pass(500);
    let run = world.running(1);
    world.say(ServerMessage::BeatAck { beat_seq, home_unsure: false });
    assert_eq!(world.deadline(run), None);
}

#[test]
fn a_lost_lease_is_not_confirmed_by_a_later_acknowledgement() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.pass(2_000);
    world.lost(run);
    world.ack_beats();
    assert_eq!((world.stopped(run), world.deadline(run)), (vec![Stop::Kill], None));
}

#[test]
fn frozen_time_is_told_in_the_beat() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.guard(run, GuardEvent::Frozen);
    world.pass(500);
    world.guard(run, GuardEvent::Thawed);
    world.pass(1_500);
    assert_eq!(world.beats().pop().unwrap().held[0].frozen_ms, 500);
}

#[test]
fn a_credit_beat_names_nothing_and_confirms_nothing() {
    let mut world = World::connected(2);
    let (run, other) = (world.running(1), world.running(2));
    world.exits(other, code(0));
    world.pass(100);
    let beat = world.beats().pop().unwrap();
    assert!(!beat.timer && beat.held.is_empty());
    world.ack_beats();
    // The run was named in no beat of this connection yet.
    assert_eq!(world.deadline(run), None);
}
