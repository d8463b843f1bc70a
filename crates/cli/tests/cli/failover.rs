//! Several addresses of one cluster, for commands, followers and workers.

use crate::support::{Answer, House, serve};
use std::net::TcpListener;
use std::process::Stdio;

/// An address at which nobody listens now.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_dead_address_is_passed_over_by_commands_and_workers() {
    let mut house = House::open(0);
    house.url = format!("{},{}", free_address(), house.url);
    house.hire("w-1");
    let done = house.call(&["run", "--", "sh", "-c", "pwd"]);
    let here = house.folder.path().canonicalize().unwrap().display().to_string();
    assert_eq!((done.code, done.out.trim()), (0, here.as_str()), "all addresses are of this machine: {done:?}");
    let both_dead = format!("{},{}", free_address(), free_address());
    house.url.clone_from(&both_dead);
    let nobody = house.call(&["runs", "list"]);
    assert_eq!(nobody.code, 6, "{nobody:?}");
    assert!(both_dead.split(',').all(|address| nobody.err.contains(address)), "each is named: {nobody:?}");
}

#[test]
fn a_server_that_dies_and_comes_up_at_another_address_is_found_there_and_nothing_is_lost() {
    let mut house = House::open(0);
    let elsewhere = free_address();
    house.url = format!("{},http://{elsewhere}", house.url);
    house.hire("w-1");
    let id = house.start("i=0; until [ -e go ]; do i=$((i+1)); echo $i; sleep 0.05; done");
    let mut follow = house.command(&["runs", "output", &id, "--follow"]);
    let follower = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    house.until("there is output", |h| h.call(&["runs", "output", &id]).out.lines().count() >= 3);
    house.server.signal("-9");
    house.server.0.wait().unwrap();
    let (server, _) = serve(house.folder.path(), &elsewhere);
    house.server = server;
    let lines = house.call(&["runs", "output", &id]).out.lines().count();
    house.until("it goes on there", |h| h.call(&["runs", "output", &id]).out.lines().count() > lines);
    std::fs::write(house.folder.path().join("go"), "").unwrap();
    let shown = Answer::of(&follower.wait_with_output().unwrap());
    let expected: String = (1..=shown.out.lines().count()).flat_map(|n| [n.to_string(), "\n".to_owned()]).collect();
    assert_eq!((shown.code, &shown.out), (0, &expected), "every line once: {shown:?}");
    assert_eq!(house.call(&["runs", "output", &id]).out, expected, "and all of them");
    let run = house.show(&id);
    assert_eq!((run["losses"].as_u64(), run["epoch"].as_u64()), (Some(0), Some(1)), "{run}");
}
