//! What happens, on the command line: over restarts of the server too.

use crate::support::{House, Running, serve, until};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

/// Every line that a follower prints, as it prints them.
fn follow(house: &House, args: &[&str]) -> (Running, Arc<Mutex<Vec<Value>>>) {
    let args = [&["events", "--follow", "-o", "jsonl"], args].concat();
    let mut child = house.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let to = Arc::clone(&seen);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            to.lock().unwrap().push(serde_json::from_str(&line).unwrap());
        }
    });
    (Running(child), seen)
}

fn is_about(event: &Value, name: &str, run: &str) -> bool {
    event["type"] == name && event["run_id"].as_str().is_some_and(|id| id == run)
}

#[test]
fn a_follower_misses_nothing_over_a_restart_of_the_server_and_sees_nothing_twice() {
    let mut house = House::open(1);
    // From the beginning, so that it does not matter when the follower comes.
    let first = house.start("true");
    let all = house.json(&["events", "-n", "1000"]);
    let oldest = all[0]["id"].as_str().unwrap().to_owned();
    let (follower, seen) = follow(&house, &["--after", &oldest]);
    let has = |name: &str, run: &str| seen.lock().unwrap().iter().any(|event| is_about(event, name, run));
    until("the first run's end is shown", || has("run.finished", &first));
    house.server.signal("-KILL");
    house.server.0.wait().unwrap();
    let address = house.url.trim_start_matches("http://").to_owned();
    house.server = serve(house.folder.path(), &address).0;
    let second = house.start("true");
    until("the second run's end is shown", || has("run.finished", &second));
    drop(follower);
    let stored = house.json(&["events", "-n", "100000"]);
    let seen = seen.lock().unwrap();
    let shown: Vec<&str> = seen.iter().map(|event| event["id"].as_str().unwrap()).collect();
    let kept: Vec<&str> = stored.as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect();
    let from = kept.iter().position(|id| *id == oldest).unwrap() + 1;
    assert_eq!(shown, kept[from..from + shown.len()]);
}

#[test]
fn a_subject_and_its_changes_are_shown() {
    let house = House::open(1);
    let done = house.call(&["run", "-q", "--subject", "agent/7", "--", "true"]);
    assert_eq!(done.code, 0, "{done:?}");
    let subject = house.json(&["subjects", "show", "agent/7"]);
    assert_eq!((subject["status"].as_str(), subject["active_count"].as_i64()), (Some("idle"), Some(0)));
    assert_eq!(subject["last"]["state"], "succeeded");
    let card = house.call(&["subjects", "show", "agent/7"]);
    assert!(card.out.contains("idle") && card.out.contains("succeeded"), "{card:?}");
    let changes = house.json(&["events", "--types", "subject.changed"]);
    let statuses: Vec<_> = changes.as_array().unwrap().iter().map(|c| c["status"].as_str().unwrap()).collect();
    assert_eq!(statuses.last(), Some(&"idle"));
    let table = house.call(&["events", "--types", "subject.*,run.finished"]);
    assert!(table.out.contains("working → idle, 0 active · last succeeded"), "{table:?}");
    assert_eq!(house.call(&["events", "--types", "run.finshed"]).code, 2);
}
