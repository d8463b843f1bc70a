//! Sessions of workers that send garbage, flood, or never read: they are ended, and their neighbours notice nothing.

use crate::support::{PATIENCE, Worker, World, noop, registration, world};
use futures_util::{SinkExt as _, StreamExt as _};
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::session::{CloseReason, ServerMessage};
use outlive_api::workers::{Register, WireLiveness};
use outlive_core::State;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Bytes, Message};

fn frame(text: &[u8], kind: Data, last: bool) -> Message {
    Message::Frame(Frame::message(Bytes::copy_from_slice(text), OpCode::Data(kind), last))
}

async fn session(world: &World, name: &str) -> outlive_api::client::socket::SessionSocket {
    let registered = world.client.register(&registration(name, WireLiveness::Session)).await.unwrap();
    world.client.with_token(&registered.session_token).session(registered.worker_id).await.unwrap()
}

/// Why the server closed it; none if it only ended.
async fn end(socket: &mut outlive_api::client::socket::SessionSocket) -> Option<CloseReason> {
    let reading = async {
        let mut why = None;
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Text(text) = message
                && let Ok(Some(ServerMessage::Close { why: said, .. })) = ServerMessage::parse(&text)
            {
                why = Some(said);
            }
        }
        why
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it is ended")
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_session_with_a_word_and_no_other() {
    let world = world().await;
    let mut good = Worker::connect(&world, "good").await;
    good.beat(1, &[]).await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    let lease = good.leases().await.remove(0);
    let items = vec![r#"{"op":"start"}"#; 1_001].join(",");
    let garbage = [
        Message::text("song"),
        Message::text(""),
        Message::text("[]"),
        Message::text(r#"{"type":"song"}"#),
        Message::text(r#"{"type":"beat","beat_seq":-1}"#),
        Message::text(r#"{"type":"beat","beat_seq":1e400}"#),
        Message::text(r#"{"type":"beat","beat_seq":1,"held":[{"run_id":"x","epoch":1}]}"#),
        Message::text(format!(r#"{{"type":"report","report_seq":1,"items":[{items}]}}"#)),
        Message::text(format!(r#"{{"type":"beat","x":{}"#, "[".repeat(1 << 20))),
        Message::binary(&b"\xff\xfe\x00"[..]),
    ];
    for (number, message) in garbage.into_iter().enumerate() {
        let mut bad = session(&world, &format!("bad-{number}")).await;
        bad.send(message.clone()).await.unwrap();
        assert_eq!(end(&mut bad).await, Some(CloseReason::Protocol), "{:.80}", message.to_string());
    }
    // What is no WebSocket text, and what is larger than any message, ends it too.
    let mut bad = session(&world, "bad-utf8").await;
    bad.send(frame(b"\xff\xff", Data::Text, true)).await.unwrap();
    end(&mut bad).await;
    let mut bad = session(&world, "bad-size").await;
    let _ = bad.send(Message::text("x".repeat(17 << 20))).await;
    end(&mut bad).await;
    let mut bad = session(&world, "bad-frames").await;
    let mut sent = bad.send(frame(b"x", Data::Text, false)).await;
    for _ in 0..17 {
        if sent.is_ok() {
            sent = bad.send(frame(&vec![b'x'; 1 << 20], Data::Continue, false)).await;
        }
    }
    end(&mut bad).await;
    good.beat(1, &[&lease]).await;
    assert_eq!(good.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await, [WireResult::Ok]);
    assert_eq!(world.client.run(run.id).await.unwrap().state, State::Succeeded);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_floods_and_never_reads_is_held_back_and_its_neighbour_keeps_its_lease() {
    let world = world().await;
    let mut good = Worker::connect(&world, "good").await;
    good.beat(1, &[]).await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    let lease = good.leases().await.remove(0);
    let mut bad = session(&world, "bad").await;
    bad.send(Message::text(r#"{"type":"beat","beat_seq":1}"#)).await.unwrap();
    // Every item is answered, no answer is read: at some point nothing more may be taken from it.
    let item = format!(r#"{{"op":"start","run_id":"{}","epoch":77}}"#, run.id);
    let report = format!(r#"{{"type":"report","report_seq":1,"items":[{}]}}"#, vec![item.as_str(); 1_000].join(","));
    let mut taken = 0_usize;
    while taken < 2_000 {
        let sent = bad.send(Message::text(report.clone()));
        match tokio::time::timeout(std::time::Duration::from_secs(2), sent).await {
            Ok(Ok(())) => taken += 1,
            // Its buffers are full, or it was cut off.
            _ => break,
        }
    }
    assert!(taken < 2_000, "the server takes everything from a peer that reads nothing");
    // Meanwhile and afterwards the other worker is heard and answered.
    good.beat(1, &[&lease]).await;
    good.until(|m| matches!(m, ServerMessage::BeatAck { .. }).then_some(())).await;
    assert_eq!(good.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await, [WireResult::Ok]);
    let run = world.client.run(run.id).await.unwrap();
    assert_eq!((run.state, run.losses), (State::Succeeded, 0));
    drop(bad);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_before_the_first_beat_is_answered_and_gives_no_lease() {
    let world = world().await;
    let mut worker = Worker::connect(&world, "w-1").await;
    let run = world.client.create_run(&noop(), None).await.unwrap();
    let lease = outlive_core::LeaseRef { run_id: run.id, epoch: outlive_core::Epoch(1) };
    let answer = worker.report(vec![WireItem::bare(OpName::Complete, Some(lease))]).await;
    assert!(matches!(answer[..], [WireResult::Fenced { .. }]), "{answer:?}");
    assert_eq!(world.client.run(run.id).await.unwrap().state, State::Queued);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_wrong_or_of_an_older_start_open_nothing() {
    let world = world().await;
    let first = world.client.register(&registration("w-1", WireLiveness::Session)).await.unwrap();
    let other = world.client.register(&registration("w-2", WireLiveness::Session)).await.unwrap();
    let newer = Register { takeover: true, ..registration("w-1", WireLiveness::Session) };
    let second = world.client.register(&newer).await.unwrap();
    assert_eq!((second.worker_id, second.incarnation.0), (first.worker_id, 2));
    let forged = first.session_token.replacen(".1.", ".2.", 1);
    for (token, code) in [
        (first.session_token.as_str(), "session_replaced"),
        (&other.session_token, "not_owner"),
        (&forged, "unauthenticated"),
        ("", "unauthenticated"),
        ("owt_", "unauthenticated"),
        ("owt_1.1.", "unauthenticated"),
    ] {
        let refused = world.client.with_token(token).session(first.worker_id).await.err().unwrap();
        assert_eq!(refused.code(), Some(code), "{token}: {refused}");
    }
    world.client.with_token(&second.session_token).session(first.worker_id).await.unwrap();
    world.server.stop().await;
}
