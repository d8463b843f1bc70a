//! `outlive dev`: ready, supervised, and gone in order.

use crate::support::{Answer, Running, outlive, until};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use tempfile::TempDir;

/// A dev server; its address and the processes of its workers.
fn dev() -> (TempDir, Running, BufReader<std::process::ChildStderr>, String, Vec<u32>) {
    // Those that are killed cannot remove their folder.
    let home = tempfile::tempdir().unwrap();
    let mut child = outlive()
        .args(["dev", "--ephemeral", "--listen", "127.0.0.1:0"])
        .env("TMPDIR", home.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    let (mut url, mut pids) = (String::new(), Vec::new());
    for line in talk.by_ref().lines() {
        let line = line.unwrap();
        if let Some((_, found)) = line.split_once("server   ") {
            found.clone_into(&mut url);
        }
        if line.contains("workers") {
            pids = line.split("pid ").skip(1).map(|p| p[..p.find(')').unwrap()].parse().unwrap()).collect();
        }
        if line.contains("Ctrl-C stops") {
            break;
        }
    }
    assert_eq!(pids.len(), 2);
    (home, Running(child), talk, url, pids)
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn dev_runs_commands_and_stops_in_order() {
    let (_home, mut dev, mut talk, url, pids) = dev();
    let run = outlive().args(["run", "-q", "--server", &url, "--", "echo", "hello"]).output().unwrap();
    assert_eq!(Answer::of(&run).out, "hello\n");
    let port = url.rsplit_once('/').unwrap().1;
    let second = Answer::of(&outlive().args(["dev", "--ephemeral", "--listen", port]).output().unwrap());
    assert_eq!(second.code, 1);
    assert!(second.err.contains("is taken") && second.err.contains("--listen 127.0.0.1:"), "{second:?}");
    dev.signal("-TERM");
    assert_eq!(dev.0.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    talk.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("stopping"), "{rest}");
    assert!(!pids.into_iter().any(lives));
}

#[test]
fn a_worker_that_dies_is_started_again() {
    let (_home, dev, mut talk, url, pids) = dev();
    std::process::Command::new("kill").args(["-9", &pids[0].to_string()]).status().unwrap();
    let mut line = String::new();
    while !line.contains("is back") {
        line.clear();
        assert!(talk.read_line(&mut line).unwrap() > 0, "dev ended");
    }
    until("both are online", || {
        let list = outlive().args(["workers", "list", "--server", &url, "-o", "json"]).output().unwrap();
        let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap_or_default();
        let online = |w: &&serde_json::Value| w["status"] == "online" && w["pid"] != pids[0];
        list.as_array().is_some_and(|l| l.iter().filter(online).count() == 2)
    });
    drop(dev);
}

#[test]
fn nothing_outlives_a_killed_dev() {
    let (_home, mut dev, _talk, url, pids) = dev();
    let run = outlive().args(["run", "-d", "--server", &url, "--", "sleep", "1234567"]).output().unwrap();
    assert_eq!(Answer::of(&run).code, 0);
    dev.0.kill().unwrap();
    dev.0.wait().unwrap();
    until("its workers are gone", || !pids.iter().copied().any(lives));
    let carries = |pid: &str| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|c| c.ends_with(b"1234567\0") && c.starts_with(b"sleep"))
    };
    until("so is the work", || {
        let pids = std::fs::read_dir("/proc").unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
        !pids.into_iter().any(|pid| carries(&pid))
    });
}
