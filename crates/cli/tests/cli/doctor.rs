//! `outlive doctor` on a house that is well, and on one that is not.

use crate::deploy::behind;
use crate::support::{Answer, House, outlive};
use outlive_pg_private::{Bouncer, Database, Options, Server, shared};
use serde_json::Value;

fn verdict<'v>(findings: &'v Value, check: &str) -> (&'v str, &'v str) {
    let finding = findings.as_array().unwrap().iter().find(|f| f["check"] == check);
    let finding = finding.unwrap_or_else(|| panic!("{check} is not in {findings}"));
    (finding["verdict"].as_str().unwrap(), finding["found"].as_str().unwrap())
}

#[test]
fn a_house_that_is_well_has_no_problem() {
    let house = House::open(1);
    let store = format!("sqlite:{}", house.folder.path().join("outlive.db").display());
    let answer = house.call(&["doctor", "--store", &store, "-o", "json"]);
    let findings: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(verdict(&findings, "server").0, "ok", "{findings}");
    assert_eq!(verdict(&findings, "clock").0, "ok", "{findings}");
    assert!(verdict(&findings, "store").1.contains("sqlite"), "the server tells of its store: {findings}");
    // A busy machine may be warned of its jitter; a problem it is only if beats would be lost.
    assert!(
        findings.as_array().unwrap().iter().all(|f| f["verdict"] != "problem" || f["check"] == "lease_ttl"),
        "{findings}"
    );
    let text = house.call(&["doctor"]);
    assert!(text.out.contains("control groups"), "{text:?}");
}

#[test]
fn the_way_to_a_server_is_walked_as_a_session_does() {
    let way = |house: &House| {
        let answer = house.call(&["doctor", "-o", "json"]);
        let findings: Value = serde_json::from_str(&answer.out).unwrap();
        let (is, found) = verdict(&findings, "way");
        (is.to_owned(), found.to_owned())
    };
    let mut house = House::open(0);
    let direct = house.url.clone();
    assert_eq!(way(&house).0, "ok");
    for (change, is, found) in [
        (("", ""), "warning", "through a proxy"),
        (("proxy_read_timeout 75s;", "proxy_read_timeout 1s;"), "problem", "it was cut after"),
        (("proxy_set_header Upgrade $http_upgrade;", ""), "problem", "a WebSocket does not"),
    ] {
        let nginx = behind(&mut house, change);
        let seen = way(&house);
        assert!(seen.0 == is && seen.1.contains(found), "{change:?}: {seen:?}");
        drop(nginx);
        house.url.clone_from(&direct);
    }
}

#[test]
fn what_is_wrong_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(&path, "this is no database, whatever its name says").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let mut command = outlive();
    command.args(["doctor", "-o", "json", "--server", "http://127.0.0.1:1", "--listen", &listen]);
    let answer = Answer::of(&command.args(["--store", &format!("sqlite:{}", path.display())]).output().unwrap());
    assert_eq!(answer.code, 1, "{answer:?}");
    let findings: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(verdict(&findings, "store").0, "problem", "{findings}");
    let (is, found) = verdict(&findings, "server");
    assert!(is == "problem" && found.contains(&listen), "{findings}");
    let advised = |f: &Value| f["verdict"] == "ok" || f["advice"].as_str().is_some_and(|a| a.len() > 10);
    assert!(findings.as_array().unwrap().iter().all(advised), "{findings}");
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(kept, "this is no database, whatever its name says", "an examination changes nothing");
}

/// What doctor says of a database, and its exit code.
fn examined(store: &str) -> (Value, i32) {
    let mut command = outlive();
    let answer = Answer::of(
        &command
            .args(["doctor", "-o", "json", "--server", "http://127.0.0.1:1", "--listen", "127.0.0.1:0"])
            .args(["--store", store])
            .output()
            .unwrap(),
    );
    (serde_json::from_str(&answer.out).unwrap_or_else(|e| panic!("{e}: {answer:?}")), answer.code)
}

const OF_A_DATABASE: [&str; 7] =
    ["database", "durability", "permissions", "connections", "notices", "database clock", "commits"];

#[test]
fn a_database_is_examined_and_its_password_shown_to_nobody() {
    let database = Database::empty(shared().unwrap()).unwrap();
    let (findings, _) = examined(&database.url());
    for check in OF_A_DATABASE {
        // Tests share it, and syncs may be slow or none: numbers may be warned of.
        let numbers = ["connections", "commits", "durability"].contains(&check);
        assert!(verdict(&findings, check).0 == "ok" || numbers, "{check}: {findings}");
    }
    assert!(verdict(&findings, "database").1.contains("PostgreSQL 1"), "{findings}");
    let password = database.url().split(':').nth(2).and_then(|rest| rest.split('@').next()).unwrap().to_owned();
    assert!(password.is_empty() || !findings.to_string().contains(&password), "{findings}");
    let (findings, code) = examined("postgres://outlive@127.0.0.1:1/none");
    assert_eq!((verdict(&findings, "database").0, code), ("problem", 1), "{findings}");
}

#[test]
fn a_database_behind_a_pgbouncer_and_one_that_forgets_are_named_with_what_to_do() {
    let settings = vec!["max_connections = 12".to_owned(), "fsync = off".to_owned()];
    let server = Server::start(&Options { settings, ..Options::default() }).unwrap();
    let bouncer = Bouncer::start(&server, 4).unwrap();
    let (findings, code) = examined(&bouncer.url("postgres"));
    assert_eq!(code, 1, "{findings}");
    let (is, found) = verdict(&findings, "notices");
    assert!(is == "warning" && found.contains("pooler") && found.contains("not heard"), "{findings}");
    assert_eq!(verdict(&findings, "connections").0, "problem", "nine are wanted: {findings}");
    assert_eq!(verdict(&findings, "durability").0, "problem", "{findings}");
    server.sql("postgres", "ALTER DATABASE postgres SET synchronous_commit = off").unwrap();
    let (findings, code) = examined(&server.url("postgres"));
    let (is, found) = verdict(&findings, "database");
    assert!(is == "problem" && found.contains("synchronous_commit is off") && code == 1, "{findings}");
}
