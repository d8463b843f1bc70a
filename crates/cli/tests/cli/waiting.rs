//! Waiting without a slot: hold, release with data, delay, and signals, as scripts and people use them.

use crate::support::{House, outlive};
use serde_json::json;

const BINARY: &str = env!("CARGO_BIN_EXE_outlive");

#[test]
fn a_run_waits_for_a_person_without_a_slot_and_goes_on_with_what_they_say() {
    let house = House::open(1);
    let script = format!(
        r#"data=$({BINARY} step show)
           case "$data" in
             *'"resume_data":null'*) {BINARY} step checkpoint '{{"page":4}}' && {BINARY} step release --hold --note 'approve the mail' && exit 0;;
             *) echo "$data";;
           esac"#
    );
    let run = house.start(&script);
    house.until("it is held", |h| h.show(&run)["state"] == "held");
    let held = house.show(&run);
    assert_eq!((&held["losses"], &held["failures"], &held["lease"]), (&json!(0), &json!(0), &json!(null)));
    assert!(held["reason_text"].as_str().unwrap().contains("approve the mail"), "{held}");
    let explained = house.json(&["runs", "explain", &run]);
    assert!(explained.to_string().contains("approve the mail"), "{explained}");
    // The slots of the only worker are free meanwhile.
    let other = house.call(&["run", "--", "echo", "between"]);
    assert_eq!((other.code, other.out.as_str()), (0, "between\n"), "{other:?}");
    let refused = house.call(&["runs", "signal", "--name", "go", &run]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(refused.err.contains("release it with data"), "{refused:?}");
    let released = house.call(&["runs", "release", &run, "--data", r#"{"ok":true}"#]);
    assert_eq!(released.code, 0, "{released:?}");
    house.until("it has ended", |h| h.show(&run)["state"] == "succeeded");
    let text = house.call(&["runs", "output", &run]).out;
    assert!(text.contains(r#""checkpoint":{"page":4}"#) && text.contains(r#""resume_data":{"ok":true}"#), "{text}");
}

#[test]
fn a_run_hands_itself_back_for_a_while_and_is_first_again_when_somebody_wants_it_sooner() {
    let house = House::open(1);
    let script = format!(
        "test -f done || {{ touch done; {BINARY} step release --delay 1h --note 'the rate limit'; exit; }}; echo again"
    );
    let run = house.start(&script);
    house.until("it waits", |h| h.show(&run)["state"] == "scheduled");
    let waiting = house.show(&run);
    assert!(waiting["reason_text"].as_str().unwrap().contains("the rate limit"), "{waiting}");
    assert_eq!(house.call(&["runs", "release", &run]).code, 0);
    house.until("it has ended", |h| h.show(&run)["state"] == "succeeded");
    assert_eq!(house.call(&["runs", "output", &run]).out, "again\n");
}

#[test]
fn a_run_is_held_or_scheduled_from_the_beginning() {
    let house = House::open(1);
    let id = |args: &[&str]| {
        let answer = house.call(&[&["run", "--detach"], args, &["--", "echo", "hi"]].concat());
        assert_eq!(answer.code, 0, "{answer:?}");
        answer.out.trim().to_owned()
    };
    let (held, later) = (id(&["--hold"]), id(&["--run-at", "2h"]));
    assert_eq!((&house.show(&held)["state"], &house.show(&later)["state"]), (&json!("held"), &json!("scheduled")));
    let soon = id(&["--run-at", "300ms"]);
    house.until("its time has come", |h| h.show(&soon)["state"] == "succeeded");
    assert_eq!(house.call(&["runs", "release", "--state", "held,scheduled", "--queue", "default", "--yes"]).code, 0);
    house.until("both ran", |h| [&held, &later].iter().all(|r| h.show(r)["state"] == "succeeded"));
    let wrong = outlive().args(["run", "--run-at", "tomorrow", "--", "true"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_signal_reaches_the_command_that_waits_for_it_once() {
    let house = House::open(1);
    let script = format!(
        "{BINARY} step signal nothing --timeout 10ms || echo code $?; echo ready; {BINARY} step signal steer; {BINARY} step signal"
    );
    let run = house.start(&script);
    house.until("it is ready", |h| h.call(&["runs", "output", &run]).out.contains("ready"));
    let signal = |name: &str, data: &str| house.call(&["runs", "signal", &run, "--name", name, "--data", data]);
    // One that nobody waits for yet is kept.
    assert_eq!(signal("later", "[1.50]").code, 0);
    let told = signal("steer", r#"{"left":true}"#);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.err.contains("w-1"), "{told:?}");
    house.until("it has ended", |h| h.show(&run)["state"] == "succeeded");
    let text = house.call(&["runs", "output", &run]).out;
    assert_eq!(text, "code 7\nready\n{\"left\":true}\n{\"name\":\"later\",\"data\":[1.50]}\n");
    assert_eq!(signal("steer", "1").code, 5);
}
