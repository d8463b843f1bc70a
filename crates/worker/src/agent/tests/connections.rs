use super::*;

#[test]
fn the_end_of_the_connection_shortens_trust_and_another_is_opened_at_once() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.pass(2_000);
    world.ack_beats();
    world.give(Input::Disconnected { conn: world.conn });
    assert_eq!(world.deadline(run), Some(world.at + 800));
    world.effects.clear();
    world.pass(50);
    assert!(world.has(|e| matches!(e, Effect::Connect { address, .. } if address == "a:1")));
}

#[test]
fn a_new_connection_gives_no_trust_before_its_first_acknowledgement() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.give(Input::Disconnected { conn: world.conn });
    let shortened = world.deadline(run);
    world.open();
    assert_eq!(world.deadline(run), shortened);
    let opened = world.at;
    world.greet(vec![]);
    assert_eq!(world.deadline(run), Some(opened + 8_000));
}

#[test]
fn tries_go_round_the_addresses_with_growing_waits() {
    let mut world = World::new(1);
    let mut addresses = Vec::new();
    let mut waits = Vec::new();
    for _ in 0..8 {
        let before = world.at;
        world.effects.clear();
        while world.effects.is_empty() {
            world.pass(1);
        }
        waits.push(world.at - before);
        let Effect::Connect { conn, address, .. } = world.effects[0].clone() else { panic!("{:?}", world.effects) };
        addresses.push(address);
        world.give(Input::Disconnected { conn });
    }
    assert_eq!(addresses[..4], ["a:1", "a:1", "b:1", "a:1"]);
    assert!(waits[7] > 500 && waits[7] <= 2_000, "{waits:?}");
}

#[test]
fn an_unanswered_beat_opens_another_session_and_keeps_trust_and_the_old_connection() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.pass(2_000);
    world.ack_beats();
    let deadline = world.deadline(run);
    let old = world.conn;
    world.effects.clear();
    world.pass(2_000 + 4_000 + 100);
    assert!(world.has(|e| matches!(e, Effect::Connect { address, .. } if address == "b:1")));
    assert!(!world.has(|e| matches!(e, Effect::Close(_))));
    world.open();
    assert!(!world.has(|e| matches!(e, Effect::Close(_))), "not before the new one is greeted");
    world.greet(vec![]);
    assert!(world.has(|e| matches!(e, Effect::Close(conn) if *conn == old)));
    assert!(world.deadline(run) > deadline);
}

/// Found by the simulation: a server that stood still, refused some tries, and went on; its connection was dropped later, and
/// the agent waited for longer than the window.
#[test]
fn tries_that_failed_while_the_connection_stood_do_not_slow_the_reconnect_after_its_end() {
    let mut world = World::connected(1);
    world.running(1);
    let asked = |e: &Effect| if let Effect::Connect { conn, .. } = e { Some(*conn) } else { None };
    for _ in 0..500 {
        world.pass(50);
        if let Some(conn) = world.effects.iter().find_map(asked) {
            world.effects.retain(|e| asked(e).is_none());
            world.give(Input::Disconnected { conn });
        }
    }
    world.ack_beats();
    world.give(Input::Disconnected { conn: world.conn });
    world.effects.clear();
    world.pass(50);
    assert!(world.has(|e| matches!(e, Effect::Connect { .. })));
}

/// Found by the simulation: an answer to an opening was lost on the way, and the agent waited for it for longer than its lease.
#[test]
fn an_opening_that_is_not_answered_is_given_up_sooner_than_a_short_lease() {
    let mut world = World::new(1);
    let mut waits = Vec::new();
    while waits.len() < 8 {
        world.effects.clear();
        while world.effects.is_empty() {
            world.pass(1);
        }
        let Effect::Connect { conn, within, .. } = world.effects[0].clone() else { panic!("{:?}", world.effects) };
        waits.push(within.0);
        world.give(Input::Disconnected { conn });
    }
    assert_eq!((waits[0], waits[7]), (4_000, 5_000), "two beats, and never more than five seconds");
    let mut world = World::connected(1);
    world.give(Input::Server {
        conn: world.conn,
        message: ServerMessage::Hello(Hello {
            home_seq: HomeSeq(1),
            heartbeat_ms: 600,
            reconnect_window_ms: 1_000,
            proxied: false,
            sole: true,
            replicas: Vec::new(),
        }),
    });
    world.give(Input::Disconnected { conn: world.conn });
    world.effects.clear();
    world.pass(50);
    assert!(world.has(|e| matches!(e, Effect::Connect { within, .. } if within.0 <= 2_400)), "{:?}", world.effects);
}

#[test]
fn the_old_connections_end_before_the_new_one_is_greeted_counts() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.pass(2_000);
    world.ack_beats();
    let old = world.conn;
    world.pass(6_100);
    world.open();
    world.effects.clear();
    world.give(Input::Disconnected { conn: old });
    assert_eq!(world.deadline(run), Some(world.at + 800));
}

#[test]
fn a_planned_close_keeps_the_trust_that_it_promises() {
    let mut world = World::connected(1);
    let run = world.running(1);
    world.pass(2_000);
    world.ack_beats();
    world.effects.clear();
    world.say(ServerMessage::Close { why: CloseReason::Shutdown, keep_trust_ms: 5_000, r#try: vec!["c:1".into()] });
    assert_eq!(world.deadline(run), Some(world.at + 5_000));
    world.pass(30);
    assert!(world.has(|e| matches!(e, Effect::Connect { address, .. } if address == "c:1")));
}

#[test]
fn strict_takeover_ignores_the_end_of_the_connection() {
    let mut world = World::connected(1);
    let strict = Lease { takeover: Takeover::Strict, ..lease(1, 1) };
    world.push(1, vec![strict]);
    world.effects.clear();
    world.give(Input::Disconnected { conn: world.conn });
    assert_eq!(world.deadline(name(1, 1)), None);
}

#[test]
fn a_session_that_was_replaced_kills_its_work_and_exits_when_it_is_gone() {
    let mut world = World::connected(2);
    let (run, done) = (world.running(1), world.running(2));
    world.exits(done, code(0));
    world.effects.clear();
    world.say(ServerMessage::Close { why: CloseReason::SessionReplaced, keep_trust_ms: 0, r#try: vec![] });
    assert_eq!((world.stopped(run), world.exit()), (vec![Stop::Kill], None));
    world.exits(run, by_signal("SIGKILL"));
    assert_eq!(world.exit(), Some(crate::config::AgentExit::Replaced));
    assert!(!world.has(|e| matches!(e, Effect::Forget(of) if *of == done)), "an unanswered end stays in the outbox");
}

#[test]
fn a_lease_whose_trust_is_over_is_not_started_before_it_is_confirmed() {
    let mut world = World::connected(1);
    world.pass(9_000);
    world.effects.clear();
    world.push(1, vec![lease(1, 1)]);
    assert!(!world.has(|e| matches!(e, Effect::Spawn(_))));
    world.pass(2_000);
    world.ack_beats();
    assert!(world.has(|e| matches!(e, Effect::Spawn(_))));
}

#[test]
fn a_message_of_an_earlier_connection_is_ignored() {
    let mut world = World::connected(1);
    let run = world.running(1);
    let old = world.conn;
    world.give(Input::Disconnected { conn: old });
    world.connect();
    world.effects.clear();
    let LeaseRef { run_id, epoch } = run;
    let lost = ServerMessage::Lost { run_id, epoch, reason: outlive_core::Reason::LeaseReleased };
    world.give(Input::Server { conn: old, message: lost });
    assert!(world.stopped(run).is_empty());
}
