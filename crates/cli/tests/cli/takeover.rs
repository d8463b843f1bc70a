//! A worker is killed, a server is restarted: the work goes on, and whoever watches sees it once.

use crate::support::{Answer, House, serve};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

/// Counts from its checkpoint to 20, with a line and a checkpoint each.
fn counting() -> String {
    let binary = env!("CARGO_BIN_EXE_outlive");
    format!(
        r#"i=0; [ -s "$OUTLIVE_CHECKPOINT_FILE" ] && i=$(tr -cd 0-9 < "$OUTLIVE_CHECKPOINT_FILE"); i=${{i:-0}}
           while [ "$i" -lt 20 ]; do i=$((i+1)); echo "line $i"; {binary} step checkpoint "{{\"i\":$i}}"; sleep 0.1; done"#
    )
}

fn line_of(house: &House, id: &str) -> u64 {
    house.show(id)["checkpoint"]["i"].as_u64().unwrap_or(0)
}

#[test]
fn a_killed_worker_s_run_goes_on_elsewhere_from_its_checkpoint() {
    let house = House::open(2);
    let id = house.start(&counting());
    house.until("it is under way", |h| line_of(h, &id) >= 3);
    let first = house.show(&id)["lease"]["worker_name"].as_str().unwrap().to_owned();
    let follower = house
        .command(&["runs", "output", &id, "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    house.worker(&first).signal("-9");
    let seen = Answer::of(&follower.wait_with_output().unwrap());
    assert_eq!(seen.code, 0, "{seen:?}");
    assert!(seen.err.contains("lost") && seen.err.contains("goes on at"), "{seen:?}");
    assert!(seen.out.ends_with("line 20\n"), "{seen:?}");

    let attempts = house.json(&["runs", "attempts", &id]);
    assert_eq!(attempts.as_array().unwrap().len(), 2, "{attempts}");
    assert_eq!(attempts[0]["worker_name"], first.as_str());
    // To a judge that stood still meanwhile, the end of a connection is mere silence: rightly so.
    let closed = house.stood_still() < 100 || attempts[0]["reason"] != "worker_heartbeat_lost";
    let (reason, evidence) =
        if closed { ("worker_disconnected", "session_closed") } else { ("worker_heartbeat_lost", "silence") };
    assert_eq!(attempts[0]["reason"], reason);
    assert_ne!(attempts[1]["worker_name"], first.as_str());
    let last = house.call(&["runs", "output", &id]).out;
    let start: u64 = last.lines().next().unwrap().trim_start_matches("line ").parse().unwrap();
    let expected: String = (start..=20).flat_map(|n| ["line ".to_owned(), n.to_string(), "\n".to_owned()]).collect();
    assert!(start > 3, "it starts after its checkpoint, not from 1: {last}");
    assert_eq!(last, expected);

    let recoveries = house.json(&["recoveries", "list", "--run", &id]);
    assert_eq!(
        (recoveries[0]["evidence"].as_str(), recoveries[0]["outcome"].as_str()),
        (Some(evidence), Some("recovered"))
    );
    assert!(house.call(&["recoveries", "report"]).out.contains(evidence));
}

#[test]
fn a_follower_and_its_run_live_through_a_restart_of_the_server() {
    let mut house = House::open(1);
    let id = house.start(&counting());
    house.until("it is under way", |h| line_of(h, &id) >= 2);
    let mut follower = house
        .command(&["runs", "output", &id, "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(follower.stdout.take().unwrap());
    let mut seen = String::new();
    out.read_line(&mut seen).unwrap();
    house.server.signal("-9");
    house.server.0.wait().unwrap();
    let (server, url) = serve(house.folder.path(), house.url.trim_start_matches("http://"));
    assert_eq!(url, house.url);
    house.server = server;
    out.read_to_string(&mut seen).unwrap();
    let end = Answer::of(&follower.wait_with_output().unwrap());
    assert_eq!(end.code, 0, "{end:?}");
    assert!(end.err.contains("the server went away") && end.err.contains("the server is back"), "{end:?}");
    let expected: String = (1..=20).flat_map(|n| ["line ".to_owned(), n.to_string(), "\n".to_owned()]).collect();
    assert_eq!(seen, expected, "each line once");
    assert_eq!(house.show(&id)["losses"], 0, "nobody was reaped");
}

#[test]
fn a_detached_follower_leaves_the_run_alone_and_says_how_to_come_back() {
    let house = House::open(1);
    let id = house.start("sleep 60");
    let follower = house
        .command(&["runs", "output", &id, "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let follower = crate::support::Running(follower);
    house.until("it runs", |h| h.show(&id)["state"] == "running");
    // The handler of Ctrl-C is there once the first line of talk has been printed; asking again does no harm.
    let mut follower = follower;
    let mut talk = BufReader::new(follower.0.stderr.take().unwrap());
    let mut line = String::new();
    talk.read_line(&mut line).unwrap();
    follower.signal("-INT");
    assert_eq!(follower.0.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    talk.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("detached") && rest.contains("outlive runs output"), "{rest}");
    assert_eq!(house.show(&id)["state"], "running");
    assert_eq!(house.call(&["runs", "cancel", &id]).code, 0);
}
