//! What a person or a script sees of the command line, against a real server and worker.

use crate::support::{Answer, House, outlive};
use std::process::Stdio;

#[test]
fn a_command_s_output_and_end_come_through() {
    let house = House::open(1);
    let good = house.call(&["run", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((good.code, good.out.as_str()), (0, "out\n"), "{good:?}");
    assert!(good.err.contains("err\n"), "{good:?}");
    let quiet = house.call(&["run", "--quiet", "--", "pwd"]);
    assert_eq!(
        quiet.out.trim(),
        house.folder.path().canonicalize().unwrap().display().to_string(),
        "the caller's directory"
    );
    assert_eq!(quiet.err, "");
    let bad = house.call(&["run", "--max-attempts", "1", "--", "sh", "-c", "exit 3"]);
    assert_eq!(bad.code, 10);
    assert!(bad.err.contains("failed: exit code 3"), "{bad:?}");
    let json = house.call(&[
        "run",
        "-q",
        "--output-format",
        "json",
        "--env",
        "K=v",
        "--",
        "sh",
        "-c",
        r#"printf '{"k":"%s"}' $K"#,
    ]);
    assert_eq!((json.code, json.out.trim()), (0, r#"{"k":"v"}"#), "{json:?}");
}

#[test]
fn a_missing_command_is_named_with_its_directory_and_worker() {
    let house = House::open(1);
    let answer = house.call(&["run", "--", "no-such-command"]);
    assert_eq!(answer.code, 10);
    let folder = house.folder.path().canonicalize().unwrap().display().to_string();
    for part in ["no-such-command", "w-1", &folder] {
        assert!(answer.err.contains(part), "{part} in {answer:?}");
    }
}

#[test]
fn a_run_that_needs_more_than_its_memory_says_so() {
    let house = House::open(1);
    let hog = r#"$x = "x" x (256 << 20); print length $x"#;
    let limited = ["run", "--memory", "64MiB", "--pids", "64", "--max-attempts", "1", "--", "perl", "-e", hog];
    let answer = house.call(&limited);
    assert_eq!(answer.code, 10, "{answer:?}");
    // Where no control group can be had, perl's own allocation fails.
    let words = ["needed more memory than its limit of 64MiB", "Out of memory"];
    assert!(words.iter().any(|part| answer.err.contains(part)), "{answer:?}");
    for wrong in ["--memory=0", "--memory=1.5GiB", "--pids=0"] {
        assert_eq!(house.call(&["run", wrong, "--", "true"]).code, 2, "{wrong}");
    }
}

#[test]
fn every_end_has_its_exit_code() {
    let house = House::open(1);
    assert_eq!(house.call(&["runs", "show", "00000000"]).code, 3);
    assert_eq!(house.call(&["runs", "show", "xyz"]).code, 2);
    assert_eq!(house.call(&["workers", "show", "nobody"]).code, 3);
    assert_eq!(house.call(&["queues", "set", "q", "lease_ttl=10ms"]).code, 2);
    assert_eq!(house.call(&["run", "echo", "x"]).code, 2);
    let slow = house.call(&["run", "--wait=100ms", "--", "sleep", "60"]);
    assert_eq!(slow.code, 7, "{slow:?}");
    let id = house.json(&["runs", "list"])[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(house.call(&["runs", "delete", &id]).code, 5, "a run that has not ended");
    let follower = house
        .command(&["runs", "output", &id, "--follow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(house.call(&["runs", "cancel", &id]).code, 0);
    assert_eq!(Answer::of(&follower.wait_with_output().unwrap()).code, 11);
    let nobody = outlive().args(["runs", "list", "--server", "127.0.0.1:9"]).output().unwrap();
    let nobody = Answer::of(&nobody);
    assert_eq!(nobody.code, 6);
    assert!(nobody.err.contains("start one with: outlive dev"), "{nobody:?}");
}

#[test]
fn a_run_is_named_by_any_unique_part_of_its_id() {
    let house = House::open(1);
    let id = house.start("true");
    let end = &id[id.len() - 8..];
    for name in [id.as_str(), end, &id[id.len() - 5..], &id[..20]] {
        assert_eq!(house.show(name)["id"], id.as_str(), "{name}");
    }
    assert!(house.call(&["runs", "list"]).out.contains(end));
    assert_eq!(house.call(&["runs", "list", "-o", "id"]).out.trim(), id);
    assert_eq!(house.call(&["runs", "list", "-o", "jsonl"]).out.lines().count(), 1);
    assert!(house.call(&["runs", "show", end, "-o", "yaml"]).out.contains("state: "));
}

#[test]
fn acting_on_all_matches_needs_a_yes_where_nobody_can_be_asked() {
    let house = House::open(0);
    for _ in 0..3 {
        house.start("true");
    }
    let refused = house.call(&["runs", "cancel", "--state", "queued"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("3 runs") && refused.err.contains("--yes"), "{refused:?}");
    assert_eq!(house.call(&["runs", "cancel", "--state", "queued", "--yes"]).code, 0);
    assert_eq!(house.json(&["runs", "list", "--state", "active"]).as_array().unwrap().len(), 0);
    assert_eq!(house.call(&["runs", "delete", "--state", "ended", "--yes"]).code, 0);
    assert_eq!(house.json(&["runs", "list"]).as_array().unwrap().len(), 0);
}

#[test]
fn a_run_that_nobody_can_take_says_why() {
    let house = House::open(1);
    let answer = house.call(&["run", "--wait=100ms", "--require", "gpu=a100", "--", "true"]);
    assert!(answer.err.contains("gpu=a100"), "{answer:?}");
    let id = house.json(&["runs", "list"])[0]["id"].as_str().unwrap().to_owned();
    let why = house.call(&["stuck", "--why", &id]).out;
    assert!(why.contains("requirements_unmatched"), "{why}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let house = House::open(0);
    let mut child = house.command(&["openapi"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let answer = Answer::of(&child.wait_with_output().unwrap());
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
}

#[test]
fn a_setting_comes_from_flag_environment_file_or_default_in_this_order() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("outlive.toml"), "namespace = \"of-file\"\nlisten = \"127.0.0.1:1\"\n").unwrap();
    let explain = |args: &[&str], variable: Option<&str>| {
        let mut command = outlive();
        command
            .args(["config", "explain", "-o", "json"])
            .args(args)
            .env_remove("OUTLIVE_CONFIG")
            .current_dir(folder.path());
        command.envs(variable.map(|v| ("OUTLIVE_NAMESPACE", v)));
        let all: serde_json::Value = serde_json::from_str(&Answer::of(&command.output().unwrap()).out).unwrap();
        let found = all.as_array().unwrap().iter().find(|s| s["name"] == "namespace").unwrap().clone();
        (found["value"].as_str().unwrap().to_owned(), found["origin"].as_str().unwrap().to_owned())
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(explain(&["--namespace", "f"], Some("e")), pair("f", "flag"));
    assert_eq!(explain(&[], Some("e")), pair("e", "environment OUTLIVE_NAMESPACE"));
    assert_eq!(explain(&[], None), pair("of-file", "file outlive.toml"));
    assert_eq!(explain(&["--config", "-"], None), pair("default", "default"));
}

#[test]
fn completions_exist_for_each_shell_and_help_starts_with_examples() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let answer = Answer::of(&outlive().args(["completions", shell]).output().unwrap());
        assert!(answer.code == 0 && answer.out.contains("recoveries"), "{shell}");
    }
    for command in
        ["run", "runs", "workers", "queues", "dev", "server", "worker", "demo", "bench", "step", "recoveries"]
    {
        let answer = Answer::of(&outlive().args([command, "--help"]).output().unwrap());
        assert!(answer.code == 0 && answer.out.starts_with("Examples"), "{command}: {}", answer.out);
    }
    assert_eq!(Answer::of(&outlive().output().unwrap()).code, 0);
}
