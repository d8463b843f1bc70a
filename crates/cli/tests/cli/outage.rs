//! The two promises: a stalled control plane kills nothing, and a worker that is written off never runs beside its successor.

use crate::support::{House, serve};
use std::collections::BTreeMap;
use std::fs;

/// The queue's lease in these tests; the outages last three of them.
const LEASE_MS: u64 = 2_000;

/// Milliseconds since boot, on the clock that the stamps below use.
fn uptime_ms() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an uptime")]
    let ms = (seconds * 1_000.0) as u64;
    ms
}

fn house() -> House {
    let house = House::open(2);
    let set = house.call(&["queues", "set", "default", &format!("lease_ttl={LEASE_MS}ms")]);
    assert_eq!(set.code, 0, "{set:?}");
    house
}

/// Runs that each print a number twice a second until they are told to end.
fn start_all(house: &House, count: usize) -> Vec<String> {
    let script = "i=0; until [ -e go ]; do i=$((i+1)); echo $i; sleep 0.5; done";
    let ids: Vec<_> = (0..count).map(|_| house.start(script)).collect();
    house.until("all run", |h| ids.iter().all(|id| h.show(id)["state"] == "running"));
    ids
}

fn finish_all(house: &House, ids: &[String]) {
    fs::write(house.folder.path().join("go"), "").unwrap();
    house.until("all have ended", |h| ids.iter().all(|id| h.show(id)["finished_at"].is_string()));
    for id in ids {
        let run = house.show(id);
        assert_eq!(
            (run["state"].as_str(), run["losses"].as_u64(), run["epoch"].as_u64()),
            (Some("succeeded"), Some(0), Some(1)),
            "{run}"
        );
        let lines = house.call(&["runs", "output", id]).out;
        let expected: String = (1..=lines.lines().count()).flat_map(|n| [n.to_string(), "\n".to_owned()]).collect();
        assert_eq!(lines, expected, "every line once");
    }
}

fn three_leases_pass(house: &House) {
    let start = uptime_ms();
    house.until("three leases have passed", |_| uptime_ms() >= start + 3 * LEASE_MS);
}

#[test]
fn a_server_that_sleeps_longer_than_a_lease_reaps_nobody() {
    let house = house();
    let ids = start_all(&house, 6);
    house.server.signal("-STOP");
    three_leases_pass(&house);
    house.server.signal("-CONT");
    finish_all(&house, &ids);
}

#[test]
fn a_server_that_is_killed_and_comes_back_after_a_lease_reaps_nobody() {
    let mut house = house();
    let ids = start_all(&house, 6);
    house.server.signal("-9");
    house.server.0.wait().unwrap();
    three_leases_pass(&house);
    let (server, _) = serve(house.folder.path(), house.url.trim_start_matches("http://"));
    house.server = server;
    finish_all(&house, &ids);
}

#[test]
fn a_stopped_agent_s_work_is_frozen_before_its_successor_starts_and_killed_when_it_wakes() {
    let house = house();
    let stamps = house.folder.path().join("stamps");
    let id =
        house.start("while :; do echo \"$OUTLIVE_EPOCH $(cut -d' ' -f1 /proc/uptime)\" >> stamps; sleep 0.02; done");
    house.until("it runs and stamps", |_| stamps.exists());
    let zombie = house.show(&id)["lease"]["worker_name"].as_str().unwrap().to_owned();
    house.worker(&zombie).signal("-STOP");
    let of_epoch = |epoch: &str| {
        let text = fs::read_to_string(&stamps).unwrap();
        text.lines().filter(|l| l.starts_with(epoch)).count()
    };
    house.until("its successor stamps", |_| of_epoch("2 ") >= 5);
    house.worker(&zombie).signal("-CONT");
    house.until("the zombie is back and holds nothing", |h| {
        let workers = h.json(&["workers", "list"]);
        let back = workers.as_array().unwrap().iter().find(|w| w["name"] == zombie.as_str()).unwrap().clone();
        back["status"] == "online" && back["held"].as_array().unwrap().is_empty()
    });
    let mark = of_epoch("2 ");
    house.until("the successor goes on", |_| of_epoch("2 ") >= mark + 10);

    // Overlap is a stamp of an epoch after the first stamp of a higher one.
    let mut first: BTreeMap<u64, f64> = BTreeMap::new();
    for line in fs::read_to_string(&stamps).unwrap().lines() {
        let (epoch, at) = line.split_once(' ').unwrap();
        let (epoch, at): (u64, f64) = (epoch.parse().unwrap(), at.parse().unwrap());
        first.entry(epoch).or_insert(at);
        let overlap = first.range(epoch + 1..).any(|(_, start)| at > *start);
        assert!(!overlap, "epoch {epoch} was at work at {at}, after its successor had started: {first:?}");
    }
    let attempts = house.json(&["runs", "attempts", &id]);
    assert_eq!(attempts[0]["reason"], "worker_heartbeat_lost", "{attempts}");
    assert_eq!(house.call(&["runs", "cancel", &id]).code, 0);
}
