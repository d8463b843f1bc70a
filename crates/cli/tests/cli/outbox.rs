//! Work that is done and was not reported: the agent is killed in between, and its next start delivers the result before
//! anything is taken back.

use crate::support::{House, serve};
use std::fs;
use std::path::{Path, PathBuf};

/// Waits for a file beside it, then ends.
const WORK: &str = "echo one; until [ -e go ]; do sleep 0.02; done; echo two";

/// A house whose worker `w-1` has these runs done and not reported, and is dead; so is the server. `w-2` would take anything.
fn done_and_not_reported(runs: usize) -> (House, Vec<String>) {
    let mut house = House::open(1);
    let ids: Vec<_> = (0..runs).map(|_| house.start(WORK)).collect();
    for id in &ids {
        house.until("it runs", |h| h.call(&["runs", "output", id]).out == "one\n");
    }
    house.hire("w-2");
    house.until("the other worker is online", |h| h.json(&["workers", "list"]).as_array().unwrap().len() == 2);
    house.server.signal("-9");
    house.server.0.wait().unwrap();
    fs::write(house.folder.path().join("go"), "").unwrap();
    let outbox = outbox(&house);
    house.until("the ends are in the outbox", |_| ends(&outbox) == runs);
    house.worker("w-1").signal("-9");
    house.workers[0].1.0.wait().unwrap();
    (house, ids)
}

fn outbox(house: &House) -> PathBuf {
    house.folder.path().join("w-1").join("outbox")
}

fn ends(outbox: &Path) -> usize {
    let bytes = fs::read(outbox).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains("\"complete\"")).count()
}

fn serve_again(house: &mut House) {
    let (server, _) = serve(house.folder.path(), house.url.trim_start_matches("http://"));
    house.server = server;
}

/// State, epoch, losses, attempts, output.
fn end_of(house: &House, id: &str) -> (String, u64, u64, usize, String) {
    house.until("it has ended", |h| h.show(id)["state"] == "succeeded");
    let run = house.show(id);
    let number = |name: &str| run[name].as_u64().unwrap();
    let attempts = house.json(&["runs", "attempts", id]).as_array().unwrap().len();
    let output = house.call(&["runs", "output", id]).out;
    (run["state"].as_str().unwrap().to_owned(), number("epoch"), number("losses"), attempts, output)
}

fn delivered() -> (String, u64, u64, usize, String) {
    ("succeeded".to_owned(), 1, 0, 1, "one\ntwo\n".to_owned())
}

#[test]
fn a_result_that_was_not_reported_is_delivered_by_the_next_start() {
    let (mut house, ids) = done_and_not_reported(2);
    serve_again(&mut house);
    house.hire("w-1");
    for id in &ids {
        assert_eq!(end_of(&house, id), delivered());
    }
    house.until("each is crossed off", |h| {
        let text = fs::read_to_string(outbox(h)).unwrap();
        ids.iter().all(|id| text.lines().rfind(|line| line.contains(id)).is_none_or(|line| !line.contains("items")))
    });
}

#[test]
fn a_torn_end_of_the_outbox_spoils_nothing_before_it() {
    let (mut house, ids) = done_and_not_reported(2);
    let path = outbox(&house);
    let mut bytes = fs::read(&path).unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let last = text.lines().rfind(|line| line.contains("\"complete\"")).unwrap();
    let (torn, whole): (Vec<_>, Vec<_>) = ids.iter().partition(|id| last.contains(id.as_str()));
    bytes.truncate(bytes.len() - last.len() / 2);
    bytes.extend([0xFF, 0x00, b'{', b'\n', b'x']);
    fs::write(&path, bytes).unwrap();
    serve_again(&mut house);
    house.hire("w-1");
    assert_eq!(end_of(&house, whole[0]), delivered());
    // The other one was lost with the torn line: it runs again, and only then.
    let again = end_of(&house, torn[0]);
    assert_eq!((again.1, again.2, again.3, again.4.as_str()), (2, 1, 2, "one\ntwo\n"), "{again:?}");
    assert_eq!(house.json(&["runs", "attempts", torn[0]])[0]["reason"], "worker_replaced");
}

#[test]
fn a_state_folder_that_was_copied_to_a_second_agent_delivers_once() {
    let (mut house, ids) = done_and_not_reported(1);
    let copy = house.folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(house.folder.path().join("w-1")).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
    }
    serve_again(&mut house);
    house.hire("w-1");
    house.hire_in("w-1", "copy");
    assert_eq!(end_of(&house, &ids[0]), delivered());
    // One of the two has the name; the other one does nothing.
    let next = house.start("echo once");
    let end = end_of(&house, &next);
    assert_eq!((end.1, end.3, end.4.as_str()), (1, 1, "once\n"));
    assert_eq!(end_of(&house, &ids[0]), delivered());
}
