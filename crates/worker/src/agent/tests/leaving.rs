use super::*;
use crate::config::AgentExit;

#[test]
fn a_drain_finishes_what_runs_gives_back_what_does_not_and_leaves() {
    let mut world = World::connected(3);
    let run = world.running(1);
    world.push(2, vec![lease(1, 2)]);
    let (old, waiting) = (run, name(1, 2));
    world.effects.clear();
    world.give(Input::Shutdown(Shutdown::Drain));
    assert!(world.has(|e| matches!(e, Effect::Call(Call::Drain))));
    assert_eq!(world.ops(), [OpName::Release], "what waits goes back");
    assert_eq!(world.items()[0].epoch, Some(waiting.epoch));
    world.push(3, vec![lease(5, 1)]);
    assert!(!world.has(|e| matches!(e, Effect::Spawn(_))), "nothing new is started");
    world.answer_all();
    assert_eq!(world.exit(), None);
    world.exits(old, by_signal("SIGKILL"));
    assert_eq!(world.exit(), Some(AgentExit::Left));
    assert_eq!(world.agent.next_deadline(world.now()), None);
}

#[test]
fn a_second_wish_ends_what_runs_and_hands_it_back_without_cost() {
    let mut world = World::connected(2);
    let (run, well) = (world.running(1), world.running(2));
    world.give(Input::Shutdown(Shutdown::Drain));
    assert!(world.stopped(run).is_empty());
    world.give(Input::Shutdown(Shutdown::HandBack));
    assert_eq!(world.stopped(run), [Stop::Term]);
    world.exits(run, by_signal("SIGTERM"));
    world.exits(well, code(0));
    assert_eq!(world.ops(), [OpName::Release, OpName::Complete]);
    world.answer_all();
    assert_eq!(world.exit(), Some(AgentExit::Left));
}

#[test]
fn an_agent_that_cannot_tell_anybody_leaves_it_to_the_outbox() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.give(Input::Disconnected { conn: world.conn });
    world.give(Input::Shutdown(Shutdown::HandBack));
    world.exits(run, by_signal("SIGTERM"));
    world.pass(14_999);
    assert_eq!(world.exit(), None);
    world.pass(1);
    assert_eq!(world.exit(), Some(AgentExit::Unsent));
}

#[test]
fn a_drain_that_the_server_wants_is_told_to_the_attempts_and_ends_nothing() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.say(ServerMessage::Drain);
    assert!(world.has(|e| matches!(e, Effect::Tell(of, Down::Drain) if *of == run)));
    assert_eq!((world.stopped(run), world.exit()), (vec![], None));
}

#[test]
fn work_that_stands_still_and_ignores_term_does_not_keep_the_agent() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.give(Input::Disconnected { conn: world.conn });
    world.pass(1_000);
    world.guard(run, GuardEvent::Frozen);
    world.give(Input::Shutdown(Shutdown::HandBack));
    world.pass(10_000);
    assert_eq!(world.stopped(run), [Stop::Term, Stop::Kill]);
    world.exits(run, by_signal("SIGKILL"));
    world.pass(5_000);
    assert_eq!(world.exit(), Some(AgentExit::Unsent));
}

#[test]
fn an_agent_that_leaves_grants_nothing_even_on_a_new_connection() {
    let mut world = World::connected(3);
    let run = world.running(1);
    world.give(Input::Shutdown(Shutdown::Drain));
    world.give(Input::Disconnected { conn: world.conn });
    world.effects.clear();
    world.connect();
    assert!(world.has(|e| matches!(e, Effect::Call(Call::Drain))), "the server is told again");
    world.pass(2_000);
    assert!(world.beats().iter().all(|beat| beat.credit == 0));
    assert_eq!(world.agent.held(world.now())[0].lease(), run);
}

/// The same inputs give the same effects, to the letter.
#[test]
fn the_agent_is_deterministic() {
    let play = || {
        let mut world = World::connected(5);
        let runs: Vec<_> = (1..=5).map(|n| world.running(n)).collect();
        runs.iter().for_each(|&run| world.outputs(run, "text"));
        world.give(Input::Disconnected { conn: world.conn });
        world.connect();
        runs.iter().rev().for_each(|&run| world.exits(run, code(0)));
        world.pass(5_000);
        format!("{:?}", world.effects)
    };
    assert_eq!(play(), play());
}
