//! Commands, without an agent: a job in, events out.

use crate::bench::Bench;
use crate::support::{MODES, carrying, lease, shell, unique, until};
use outlive_api::session::Lease;
use outlive_core::Json;
use outlive_core::report::Op;
use outlive_worker::agent::{ChildEvent, Parsed, Stop};
use outlive_worker::channel::Down;
use outlive_worker::reach::Mode;
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;

#[tokio::test]
async fn bytes_come_out_as_they_were_written_on_their_channels() {
    let mut bench = Bench::new(Mode::Auto);
    let seen = bench.run(shell(r"printf 'a\000\377b'; printf 'no newline' >&2")).await;
    assert_eq!(seen.stdout, b"a\0\xffb");
    assert_eq!(seen.stderr, b"no newline");
    assert_eq!((seen.exit().code, seen.output()), (Some(0), &Parsed::Log));
    assert!(seen.exit().max_rss_bytes > 0);
}

#[tokio::test]
async fn a_flood_is_cut_into_frames_of_at_most_256_kib_without_a_byte_lost() {
    let mut bench = Bench::new(Mode::Auto);
    let seen = bench.run(shell("head -c 5000000 /dev/zero | tr '\\0' 'x'")).await;
    assert_eq!(seen.stdout.len(), 5_000_000);
    assert!(seen.frames.iter().all(|&n| n <= 256 << 10));
    assert!(seen.frames.len() < 500, "{} frames", seen.frames.len());
}

#[tokio::test]
async fn output_is_seen_while_the_command_waits() {
    let mut bench = Bench::new(Mode::Auto);
    let handle = bench.begin(lease(&shell("printf prompt; read answer < /dev/zero")));
    bench.group().await;
    let ChildEvent::Output { bytes, .. } = bench.event().await else { panic!("output") };
    assert_eq!(bytes, b"prompt");
    handle.stop(Stop::Kill);
    bench.finish(&handle).await;
}

#[tokio::test]
async fn a_command_that_nobody_acknowledges_is_stopped_by_its_own_pipe() {
    let (mut bench, mut other) = (Bench::new(Mode::Auto), Bench::new(Mode::Auto));
    let handle = bench.begin(lease(&shell("head -c 3000000 /dev/zero; echo done >&2")));
    bench.group().await;
    let reference = other.run(shell("sleep 0.3"));
    tokio::pin!(reference);
    let mut taken = 0;
    loop {
        tokio::select! {
            event = bench.event() => match event {
                ChildEvent::Output { channel, bytes } if channel == "stdout" => taken += bytes.len(),
                other => panic!("{other:?}"),
            },
            _ = &mut reference => break,
        }
    }
    assert!(taken > 0 && taken <= 256 << 10, "{taken} bytes in hand");
    handle.widen(taken);
    let seen = bench.finish(&handle).await;
    assert_eq!((taken + seen.stdout.len(), seen.stderr.as_slice()), (3_000_000, &b"done\n"[..]));
}

#[tokio::test]
async fn stdin_may_be_larger_than_a_pipe_and_need_not_be_read() {
    let mut bench = Bench::new(Mode::Auto);
    let text = "0123456789".repeat(50_000);
    let seen = bench.run(json!({"command": ["cat"], "stdin": text})).await;
    assert_eq!(seen.text(), text);
    let seen = bench.run(json!({"command": ["true"], "stdin": text})).await;
    assert_eq!(seen.exit().code, Some(0));
}

#[tokio::test]
async fn exits_are_told_apart() {
    for mode in MODES {
        let mut bench = Bench::new(mode);
        assert_eq!(bench.run(shell("exit 7")).await.exit().code, Some(7));
        for (signal, name) in [("KILL", "SIGKILL"), ("SEGV", "SIGSEGV"), ("TERM", "SIGTERM"), ("PIPE", "SIGPIPE")] {
            let seen = bench.run(shell(&format!("kill -{signal} $$"))).await;
            assert_eq!((seen.exit().code, seen.exit().signal.as_deref()), (None, Some(name)));
        }
        let seen = bench.run(shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")).await;
        assert!(seen.exit().cpu_ms > 0, "{:?}", seen.exit());
    }
}

#[tokio::test]
async fn what_cannot_start_is_rejected_with_its_name_place_and_worker() {
    let mut bench = Bench::new(Mode::Auto);
    let seen = bench.run(json!({"command": ["no-such-command"], "cwd": "/"})).await;
    for part in ["\"no-such-command\"", "w-1", "directory /"] {
        assert!(seen.rejection().contains(part), "{}", seen.rejection());
    }
    let seen = bench.run(json!({"command": ["true"], "cwd": "/no/such/place"})).await;
    assert!(seen.rejection().contains("/no/such/place is not there"), "{}", seen.rejection());
    let seen = bench.run(json!({"command": ["/etc/passwd"]})).await;
    assert!(seen.rejection().contains("may not execute"), "{}", seen.rejection());
    assert!(bench.run(json!({"command": []})).await.rejection().contains("empty"));
    assert!(bench.run(json!({"cmd": []})).await.rejection().contains("not one of exec"));
}

#[tokio::test]
async fn the_environment_is_the_allow_list_what_the_run_names_and_what_outlive_adds() {
    let mut bench = Bench::new(Mode::Auto);
    let body = Lease { attempt: 2, recovered: true, ..lease(&json!({"command": ["env"], "env": {"K": "V"}})) };
    let name = body.lease();
    let handle = bench.begin(body);
    let text = bench.finish(&handle).await.text();
    for line in ["K=V", "OUTLIVE_ATTEMPT=2", "OUTLIVE_RECOVERED=true", "OUTLIVE_EPOCH=1"] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    assert!(text.contains(&format!("OUTLIVE_RUN_ID={}", name.run_id)));
    assert!(text.contains(&format!("OUTLIVE_LEASE={}", bench.domain.id(name))));
    assert!(text.lines().any(|l| l.starts_with("PATH=")));
    assert!(std::env::vars().any(|(k, _)| k.starts_with("CARGO")), "there is something to leave out");
    assert!(!text.contains("CARGO"), "{text}");
}

#[tokio::test]
async fn the_folder_is_private_holds_what_the_lease_brings_and_goes_away() {
    let mut bench = Bench::new(Mode::Auto);
    let script =
        "pwd; cat $OUTLIVE_CHECKPOINT_FILE; stat -c %a $OUTLIVE_SOCKET; test -e $OUTLIVE_RESUME_FILE || echo none";
    let checkpoint = Some(Json::parse("{\"i\":4}".into()).unwrap());
    let handle = bench.begin(Lease { checkpoint, ..lease(&shell(script)) });
    let text = bench.finish(&handle).await.text();
    let lines: Vec<_> = text.lines().collect();
    let work = std::path::PathBuf::from(lines[0]);
    assert_eq!(lines[1..], ["{\"i\":4}600", "none"]);
    until("the folder is gone", || !work.exists()).await;
}

#[tokio::test]
async fn structured_output_becomes_the_result_and_bad_output_goes_to_the_log() {
    let mut bench = Bench::new(Mode::Auto);
    let input = |format: &str, text: &str| json!({"command": ["printf", "%s", text], "output_format": format});
    let cases = [("json", "{\"a\":[1]}", "{\"a\":[1]}"), ("yaml", "a: 1", "{\"a\":1}"), ("jsonl", "1\n{}\n", "[1,{}]")];
    for (format, text, value) in cases {
        let seen = bench.run(input(format, text)).await;
        assert_eq!((seen.text().as_str(), seen.output()), ("", &Parsed::Value(Json::parse(value.into()).unwrap())));
    }
    let seen = bench.run(input("json", "{\"a\" 1}")).await;
    assert_eq!(seen.text(), "{\"a\" 1}");
    assert!(matches!(seen.output(), Parsed::Invalid { message } if message.contains("line 1 column 6")));
    let mut lenient = input("json", "no");
    lenient["strict_output"] = json!(false);
    let seen = bench.run(lenient).await;
    assert_eq!((seen.text().as_str(), seen.output()), ("no", &Parsed::Log));
    let failing = json!({"command": ["sh", "-c", "echo '{}'; exit 1"], "output_format": "json"});
    let seen = bench.run(failing).await;
    assert_eq!((seen.text().as_str(), seen.output()), ("{}\n", &Parsed::Log), "a failure has no result");
    let large = json!({"command": ["sh", "-c", "head -c 1100000 /dev/zero"], "output_format": "json"});
    let seen = bench.run(large).await;
    assert_eq!(seen.stdout.len(), 1_100_000);
    assert!(matches!(seen.output(), Parsed::Invalid { message } if message.contains("1048576")));
}

#[tokio::test]
async fn the_end_of_the_main_process_ends_the_attempt_and_what_it_left_behind() {
    for mode in MODES {
        let mut bench = Bench::new(mode);
        let mark = format!("MARK={:x}.", unique());
        let (name, value) = mark.split_once('=').unwrap();
        // A grandchild that holds the pipes, one that left the session, and one that was adopted twice over.
        let script = "sleep 1000 & setsid sleep 1000 & (setsid sh -c 'sleep 1000 & sleep 1000' &) ; echo out; exit 0";
        let seen = bench.run(json!({"command": ["sh", "-c", script], "env": {name: value}})).await;
        assert_eq!((seen.text().as_str(), seen.exit().code), ("out\n", Some(0)));
        assert_eq!(carrying(&mark), Vec::<i32>::new(), "{mode:?}: nothing is left when the end is told");
    }
}

#[tokio::test]
async fn term_reaches_the_group_and_kill_everything() {
    for mode in MODES {
        let mut bench = Bench::new(mode);
        let mark = format!("MARK={:x}.", unique());
        let (name, value) = mark.split_once('=').unwrap();
        let script = "trap 'echo caught' TERM; setsid sleep 1000 & echo ready; while :; do sleep 0.01; done";
        let handle = bench.begin(lease(&json!({"command": ["sh", "-c", script], "env": {name: value}})));
        bench.group().await;
        bench.says(b"ready\n").await;
        handle.stop(Stop::Term);
        bench.says(b"caught\n").await;
        handle.stop(Stop::Kill);
        let seen = bench.finish(&handle).await;
        assert_eq!(seen.exit().signal.as_deref(), Some("SIGKILL"));
        assert_eq!(carrying(&mark), Vec::<i32>::new());
    }
}

/// In a group that stands still a child joins, and stands still too, before it runs anything.
#[tokio::test]
async fn a_command_whose_group_is_frozen_does_not_begin_and_can_be_killed() {
    let mut bench = Bench::new(Mode::Auto);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("begun");
    let body = lease(&shell(&format!("touch {}", path.display())));
    let Some(group) = bench.domain.group(body.lease()) else { return };
    group.freeze(true);
    let handle = bench.begin(body);
    until("it is in its group", || group.is_populated()).await;
    handle.stop(Stop::Kill);
    let seen = bench.finish(&handle).await;
    assert_eq!((seen.exit().signal.as_deref(), path.exists()), (Some("SIGKILL"), false));
    assert_eq!(bench.run(shell("exit 0")).await.exit().code, Some(0), "the next one starts");
}

#[tokio::test]
async fn an_attempt_talks_over_its_socket() {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let mut bench = Bench::new(Mode::Auto);
    let handle = bench.begin(lease(&shell("echo $OUTLIVE_SOCKET; exec sleep 1000")));
    bench.group().await;
    let ChildEvent::Output { bytes, .. } = bench.event().await else { panic!("the socket's path") };
    let path = String::from_utf8(bytes).unwrap();
    let mode = std::fs::metadata(path.trim()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stream = tokio::net::UnixStream::connect(path.trim()).await.unwrap();
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"{\"ref\":7,\"op\":\"checkpoint\",\"data\":{\"i\":1}}\n").await.unwrap();
    let ChildEvent::Said { reference: Some(reference), op: Op::Checkpoint(data) } = bench.event().await else {
        panic!("a checkpoint")
    };
    assert_eq!(data.text(), "{\"i\":1}");
    handle.tell(Down::Answer { reference, result: outlive_api::report::WireResult::Ok });
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "{\"ref\":7,\"status\":\"ok\"}");
    write
        .write_all(b"{\"ref\":8,\"op\":\"output\",\"channel\":\"notes\",\"text\":\"hi\"}\n{\"ref\":9,\"op\":1}\n")
        .await
        .unwrap();
    assert!(matches!(bench.event().await, ChildEvent::Output { channel, .. } if channel == "notes"));
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "{\"ref\":8,\"status\":\"ok\"}");
    assert!(lines.next_line().await.unwrap().unwrap().contains("\"ref\":9,\"status\":\"invalid\""));
    handle.tell(Down::Cancel { reason: outlive_core::Reason::Cancelled });
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "{\"type\":\"cancel\",\"reason\":\"cancelled\"}");
    let late = tokio::net::UnixStream::connect(path.trim()).await.unwrap();
    let line = BufReader::new(late).lines().next_line().await.unwrap().unwrap();
    assert!(line.contains("cancel"), "who connects later is told too");
    handle.stop(Stop::Kill);
    bench.finish(&handle).await;
}
