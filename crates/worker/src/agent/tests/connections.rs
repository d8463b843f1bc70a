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

/// The next try that the agent asks for: when, where, and for how long. It fails.
fn next_try(world: &mut World) -> (u64, String, u64) {
    let asked = |e: &Effect| match e {
        Effect::Connect { conn, address, within } => Some((*conn, address.clone(), within.0)),
        _ => None,
    };
    loop {
        if let Some((conn, address, within)) = world.effects.iter().find_map(asked) {
            world.effects.retain(|e| asked(e).is_none());
            let at = world.at;
            world.give(Input::Disconnected { conn });
            return (at, address, within);
        }
        world.pass(1);
    }
}

#[test]
fn tries_go_round_the_addresses_with_rests_that_grow_for_each() {
    let mut world = World::new(1);
    let tries: Vec<_> = (0..18).map(|_| next_try(&mut world)).collect();
    let addresses: Vec<_> = tries.iter().map(|(_, address, _)| address.as_str()).collect();
    assert_eq!(addresses[..2], ["a:1", "b:1"]);
    assert!(tries[1].0 - tries[0].0 <= 1, "the second address does not wait for the first one's rest: {tries:?}");
    for of in ["a:1", "b:1"] {
        let at: Vec<_> = tries.iter().filter(|(_, address, _)| address == of).map(|(at, ..)| at).collect();
        let last = at[at.len() - 1] - at[at.len() - 2];
        assert!((1_000..=2_001).contains(&last), "{tries:?}");
    }
}

#[test]
fn a_replica_that_dies_is_tried_once_and_then_the_next_one_at_once() {
    let mut world = World::connected(1);
    world.effects.clear();
    world.give(Input::Disconnected { conn: world.conn });
    let ended = world.at;
    let (first, again, _) = next_try(&mut world);
    let (second, other, _) = next_try(&mut world);
    assert_eq!((again.as_str(), other.as_str()), ("a:1", "b:1"));
    assert!(first - ended <= 20 && second - first <= 1);
}

#[test]
fn a_server_that_is_not_sure_to_be_the_home_extends_no_trust_and_another_one_is_asked() {
    let mut world = World::connected(1);
    let run = world.running(1);
    let unsure = |world: &mut World| {
        world.effects.clear();
        world.pass(2_000);
        let beat_seq = world.beats().last().unwrap().beat_seq;
        world.say(ServerMessage::BeatAck { beat_seq, home_unsure: true });
        world.pass(30);
    };
    unsure(&mut world);
    assert_eq!(world.deadline(run), None, "neither longer nor shorter");
    assert!(world.has(|e| matches!(e, Effect::Connect { address, .. } if address == "b:1")));
    assert!(!world.has(|e| matches!(e, Effect::Close(_))), "the old one may be the home after all");
    let before = world.at;
    world.open();
    world.greet(vec![]);
    assert!(world.deadline(run).is_some_and(|at| at >= before + 8_000), "the new home confirms");
    // The first one again, although it has just been left: nobody is sure, and each try rests longer.
    unsure(&mut world);
    assert!(world.has(|e| matches!(e, Effect::Connect { address, .. } if address == "a:1")));
}

#[test]
fn a_late_answer_of_the_home_ends_the_search_and_its_address_is_the_first_again() {
    let mut world = World::connected(1);
    world.running(1);
    let (_, elsewhere, _) = next_try(&mut world);
    assert_eq!(elsewhere, "b:1");
    let beat_seq = world.beats().last().unwrap().beat_seq;
    world.say(ServerMessage::BeatAck { beat_seq, home_unsure: false });
    world.give(Input::Disconnected { conn: world.conn });
    assert_eq!(next_try(&mut world).1, "a:1");
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
fn a_connection_that_is_cut_before_it_is_greeted_is_tried_again_well_within_the_window() {
    let mut world = World::connected(1);
    world.running(1);
    world.give(Input::Disconnected { conn: world.conn });
    // Tries fail for so long that waits are at their longest; then one is opened, and cut at once.
    let asked = |e: &Effect| if let Effect::Connect { conn, .. } = e { Some(*conn) } else { None };
    for _ in 0..500 {
        world.pass(50);
        if let Some(conn) = world.effects.iter().find_map(asked) {
            world.effects.retain(|e| asked(e).is_none());
            world.give(Input::Disconnected { conn });
        }
    }
    world.open();
    world.give(Input::Disconnected { conn: world.conn });
    world.effects.clear();
    world.pass(250);
    assert!(world.has(|e| asked(e).is_some()), "the window is 1,000 ms");
}

#[test]
fn an_opening_that_is_not_answered_is_given_up_sooner_than_a_short_lease() {
    let mut world = World::new(1);
    let waits: Vec<_> = (0..8).map(|_| next_try(&mut world).2).collect();
    assert_eq!((waits[0], waits[7]), (5_000, 5_000), "two and a half beats, and never more than five seconds");
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
    // Of a TTL of 3 s half for the try, a fifth for the rest; also after a long time in which nobody answered.
    for _ in 0..12 {
        let from = world.at;
        let within = next_try(&mut world).2;
        assert_eq!(within, 1_500);
        assert!(world.at - from <= 650, "{}", world.at - from);
    }
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

/// A proxy may tell the server alone: the server's window runs, and the agent sees an open connection.
#[test]
fn behind_a_proxy_a_beat_is_worth_the_window_and_one_that_is_not_answered_is_enough_to_look_elsewhere() {
    let mut world = World::connected(1);
    let hello = Hello {
        home_seq: HomeSeq(1),
        heartbeat_ms: 2_000,
        reconnect_window_ms: 5_000,
        proxied: true,
        sole: true,
        replicas: Vec::new(),
    };
    world.say(ServerMessage::Hello(hello));
    let run = world.running(1);
    world.pass(2_000);
    let sent = world.at;
    world.ack_beats();
    world.effects.clear();
    world.pass(3_900);
    assert!(
        !world.has(|e| matches!(e, Effect::Connect { .. })),
        "the first beat that is not answered is 2 s old at {sent} + 4 s"
    );
    world.pass(200);
    assert!(world.has(|e| matches!(e, Effect::Connect { .. })));
    world.open();
    world.greet(vec![]);
    assert_eq!(world.deadline(run), Some(sent + 4_100 + 8_000), "the new one is direct");
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
