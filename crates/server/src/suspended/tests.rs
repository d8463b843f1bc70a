//! A machine that was suspended, with the server on it. Its timers stood still meanwhile, its workers elsewhere did not: they gave
//! their connections up and looked for another server. What the server finds when it wakes says nothing about anybody.

use crate::opening::Opening;
use crate::policies::support::{House, Worker, hours};
use crate::start::session_info;
use outlive_core::engine::{BeatInfo, CloseKind, ConnId, HeldInfo, Input};
use outlive_core::{Epoch, Holder, LeaseRef, Millis};
use serde_json::json;

const POLICY: &str = "[queues.work]\nlease_ttl = \"10s\"\n";

/// A worker with a session, as its connection's task opens it.
async fn connected(house: &House, worker: &Worker) -> (Holder, ConnId) {
    let row = house.app.store.worker(worker.id.parse().unwrap()).await.unwrap().unwrap();
    let holder = row.holder();
    let opened = house.app.open_session(holder).await.unwrap().and_then(Opening::take).unwrap();
    let (conn, messages) = house.app.driver.connect(Vec::new());
    // What it is told is read by nobody here, and its queue must not end.
    std::mem::forget(messages);
    house.app.input(Input::Open(session_info(&opened.worker, opened.home_seq, Vec::new()), Some(conn), false));
    (holder, conn)
}

fn beat(house: &House, (holder, conn): (Holder, ConnId), beat_seq: u64, held: Vec<HeldInfo>) {
    let beat = BeatInfo { beat_seq, credit: 1, seen_push_seq: 1, timer: true, held };
    house.app.input(Input::Heard(holder, Some(conn)));
    house.app.input(Input::Beat(holder, conn, beat));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wakes_holds_neither_the_hour_nor_what_ended_meanwhile_against_anybody() {
    let house = House::with(POLICY).await;
    let worker = house.worker("w", &["work"], "session", None).await;
    let session = connected(&house, &worker).await;
    beat(&house, session, 1, Vec::new());
    let run = house.create("work").await;
    house.pass(Millis::secs(1)).await;
    assert_eq!(house.state(&run).await, "claimed");
    let lease = LeaseRef { run_id: run.parse().unwrap(), epoch: Epoch(1) };
    beat(&house, session, 2, vec![HeldInfo { lease, frozen: Millis::ZERO }]);
    house.pass(Millis::secs(1)).await;

    house.clock.suspend(hours(1));
    // The first thing that is read: its worker has given the connection up long ago, and tries another address now and then.
    house.app.input(Input::Closed(session.0, session.1, CloseKind::Ended));
    house.pass(Millis::secs(5)).await;
    assert_eq!(house.state(&run).await, "claimed", "an end that was read after a sleep is no evidence 4");
    let back = connected(&house, &worker).await;
    beat(&house, back, 1, vec![HeldInfo { lease, frozen: hours(1) }]);
    house.pass(Millis::secs(1)).await;
    assert_eq!(house.status("w").await.as_deref(), Some("online"));
    let server = house.get("/v1/server").await;
    assert!(server["judge"]["lag_ms"].as_u64() >= Some(hours(1).0), "the sleep is seen: {}", server["judge"]);

    // Never never: it falls silent after the wake, and that is held against it.
    house.pass(Millis::secs(12)).await;
    assert_eq!(house.state(&run).await, "queued worker_heartbeat_lost");
    assert_eq!(house.run(&run).await["losses"], json!(1));
}
