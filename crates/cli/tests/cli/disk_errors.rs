//! A write of the store fails in the middle of a commit, by a real error of the system: a file may not grow any more.

use crate::support::{House, Running, serve};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// Of the largest file that the server may write, in blocks of 512 bytes.
const BLOCKS: &str = "2048";

#[test]
fn after_a_write_error_the_server_ends_and_everything_acknowledged_is_there_at_its_next_start() {
    let mut house = House::open(0);
    house.server.signal("-TERM");
    house.server.0.wait().unwrap();
    let log = house.folder.path().join("limited.log");
    // With the signal ignored, a write beyond the limit is an error of that write.
    let script = format!("trap '' XFSZ; ulimit -f {BLOCKS}; exec \"$@\"");
    let store = format!("sqlite:{}", house.folder.path().join("outlive.db").display());
    let mut server = Command::new("sh")
        .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_outlive"), "--config", "-", "server", "--low-disk", "0"])
        .args(["--listen", house.url.trim_start_matches("http://"), "--store", &store])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    house.server = Running(server);

    let large = format!("true {}", "x".repeat(100_000));
    let mut acknowledged = Vec::new();
    for _ in 0..100 {
        let answer = house.call(&["run", "--detach", "--", "sh", "-c", &large]);
        if answer.code != 0 {
            assert!([1, 6].contains(&answer.code), "{answer:?}");
            break;
        }
        acknowledged.push(answer.out.trim().to_owned());
    }
    assert!((3..100).contains(&acknowledged.len()), "{}", acknowledged.len());
    assert_eq!(house.server.0.wait().unwrap().code(), Some(1));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("takes no more writes") && said.contains("nothing that was acknowledged is lost"), "{said}");

    let (server, _) = serve(house.folder.path(), house.url.trim_start_matches("http://"));
    house.server = server;
    for id in &acknowledged {
        assert_eq!(house.show(id)["state"], "queued");
    }
    assert!(house.json(&["runs", "list"]).as_array().unwrap().len() - acknowledged.len() <= 1, "the last may be there");
}
