//! The store's disk: low, full, read-only, damaged. Nothing that was acknowledged is lost, and nothing is answered wrongly.

use crate::raw::Request;
use crate::small_disk;
use crate::support::{PATIENCE, Worker, World, noop, registration, until_run, world_at, world_with};
use outlive_api::client::Client;
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::runs::{NewRun, RetryBody};
use outlive_api::session::{Beat, Held, ServerMessage, WorkerMessage};
use outlive_api::workers::{ClaimBody, ReportBody, WireLiveness};
use outlive_core::limits::sizes;
use outlive_core::{Json, Millis, RunId, State};
use outlive_server::StoreLocation;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

fn file(folder: &Path) -> StoreLocation {
    StoreLocation::Sqlite(folder.join("outlive.db"))
}

fn large(fill: &str, bytes: usize) -> NewRun {
    NewRun { input: Json::of(&fill.repeat(bytes / fill.len())).unwrap(), ..noop() }
}

fn complete(lease: outlive_core::LeaseRef) -> WireItem {
    WireItem::bare(OpName::Complete, Some(lease))
}

/// Waits until `/readyz` answers as wanted.
async fn until_ready(world: &World, want: u16) -> crate::raw::Answer {
    let ask = Request::new("GET", "/readyz");
    let found = async {
        loop {
            let answer = ask.send(world.server.address()).await;
            if answer.status == want {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("ready or not in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_low_disk_no_new_run_is_admitted_and_everything_else_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let world = world_at(file(folder.path()), 0).await;
    let registered = world.client.register(&registration("p-1", WireLiveness::Poll)).await.unwrap();
    let client = &world.client;
    let ended = client.create_run(&noop(), None).await.unwrap().id;
    client.cancel_run(ended, &outlive_api::runs::CancelBody::default()).await.unwrap();
    let [worked, cancelled] =
        [client.create_run(&noop(), Some("k-1")).await.unwrap().id, client.create_run(&noop(), None).await.unwrap().id];
    let port = world.server.address().port();
    world.server.stop().await;

    let world = world_with(file(folder.path()), port, u64::MAX / 2).await;
    let (client, address) = (&world.client, world.server.address());
    let new = Request::new("POST", "/v1/runs").header("outlive-namespace", "default").json(&noop());
    let batch = Request::new("POST", "/v1/runs/batch").json(&serde_json::json!({"runs": [noop()]}));
    let retry = Request::new("POST", format!("/v1/runs/{ended}/retry")).json(&RetryBody::default());
    for creates in [new, batch, retry] {
        let answer = creates.send(address).await;
        assert_eq!((answer.status, answer.code()), (503, "store_full"), "{creates:?} {answer:?}");
        assert!(answer.head.contains("\r\nretry-after: "), "{answer:?}");
        let detail = answer.body["detail"].as_str().unwrap();
        for part in [folder.path().to_str().unwrap(), "MiB free", "the mark of"] {
            assert!(detail.contains(part), "{detail}");
        }
    }
    let again = client.create_run(&noop(), Some("k-1")).await.unwrap();
    assert_eq!(again.id, worked, "a repetition is not new");

    let worker = client.with_token(&registered.session_token);
    let body = ClaimBody { request_id: uuid::Uuid::new_v4(), max: 1, wait: Some(Millis::secs(20)) };
    let lease = worker.claim(registered.worker_id, &body).await.unwrap().leases.remove(0);
    let report = ReportBody { items: vec![complete(lease.lease())], ..ReportBody::default() };
    assert_eq!(worker.report(registered.worker_id, &report).await.unwrap().results, [WireResult::Ok]);
    assert_eq!(client.run(worked).await.unwrap().state, State::Succeeded);
    let state = client.cancel_run(cancelled, &outlive_api::runs::CancelBody::default()).await.unwrap().state;
    assert_eq!(state, State::Cancelled);
    client.delete_run(ended).await.unwrap();
    let disk = client.server().await.unwrap().store.disk.unwrap();
    assert!(!disk.admits_new_runs && disk.free_bytes.unwrap() > 0 && disk.low_disk_bytes == u64::MAX / 2, "{disk:?}");
    let metrics = Request::new("GET", "/metrics").send(address).await.body.to_string();
    assert!(metrics.contains("outlive_store_free_bytes") && metrics.contains("outlive_store_admits_new_runs"));
    until_ready(&world, 200).await;
    world.server.stop().await;
}

#[test]
fn when_the_disk_has_room_again_new_runs_are_admitted_again() {
    let Some(disk) = small_disk::of("store_faults::when_the_disk_has_room_again_new_runs_are_admitted_again", "32m")
    else {
        return;
    };
    inside(async {
        let world = world_with(file(&disk), 0, 8 << 20).await;
        let filler = disk.join("filler");
        until_admitted(&world, true).await;
        std::fs::write(&filler, vec![0; 25 << 20]).unwrap();
        until_admitted(&world, false).await;
        std::fs::File::options().write(true).open(&filler).unwrap().set_len(23 << 20).unwrap();
        let server = world.client.server().await.unwrap().store.disk.unwrap();
        assert!(!server.admits_new_runs, "at the mark it stays as it was: {server:?}");
        std::fs::remove_file(&filler).unwrap();
        until_admitted(&world, true).await;
        world.server.stop().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn beats_are_acknowledged_behind_reports_that_the_store_does_not_take() {
    const LAST_BEAT: u64 = 1_000_000;
    let folder = tempfile::tempdir().unwrap();
    let world = world_at(file(folder.path()), 0).await;
    let mut worker = Worker::connect(&world, "w-1").await;
    worker.beat(1, &[]).await;
    world.client.create_run(&noop(), None).await.unwrap();
    let lease = worker.leases_in_time().await.remove(0);
    let other = rusqlite::Connection::open(folder.path().join("outlive.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reports = sizes::BATCH as u64;
    for report_seq in 1..=reports {
        let frame = WireItem {
            seq: i64::try_from(report_seq).ok(),
            channel: Some("stdout".to_owned()),
            text: Some("x".to_owned()),
            ..WireItem::bare(OpName::Output, Some(lease.lease()))
        };
        worker.say(&WorkerMessage::Report { report_seq, items: vec![frame], replay: false }).await;
    }
    let held = vec![Held { run_id: lease.run_id, epoch: lease.epoch, frozen_ms: 0 }];
    let beat = Beat { beat_seq: LAST_BEAT, credit: 1, seen_push_seq: 1_000, timer: true, held };
    worker.say(&WorkerMessage::Beat(beat)).await;
    let acknowledged = |message| match message {
        ServerMessage::BeatAck { beat_seq: LAST_BEAT, .. } => Some(()),
        ServerMessage::Results { .. } => panic!("nothing can have been stored"),
        _ => None,
    };
    worker.until(acknowledged).await;

    other.execute_batch("ROLLBACK").unwrap();
    for wanted in 1..=reports {
        let results = worker.until(|message| match message {
            ServerMessage::Results { report_seq, results } => Some((report_seq, results)),
            _ => None,
        });
        assert_eq!(results.await, (wanted, vec![WireResult::Ok]));
    }
    world.server.stop().await;
}

fn inside(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test);
}

/// Waits until the last look at the disk found what is wanted, and checks that it has its effect.
async fn until_admitted(world: &World, want: bool) {
    let found = async { while world.client.server().await.unwrap().store.disk.unwrap().admits_new_runs != want {} };
    tokio::time::timeout(PATIENCE, found).await.expect("admitted or not in time");
    let refused = world.client.create_run(&noop(), None).await.err();
    assert_eq!(refused.as_ref().and_then(|r| r.code()), (!want).then_some("store_full"), "{refused:?}");
}

/// Creates runs with inputs of this size until one does not fit; those that were acknowledged.
async fn fill(client: &Client, size: usize, runs: &mut Vec<(RunId, String)>) {
    for n in 0..10_000 {
        let run = large(&format!("{n:04}"), size);
        match client.create_run(&run, None).await {
            Ok(created) => runs.push((created.id, run.input.text().to_owned())),
            Err(refused) => {
                assert_eq!(refused.code(), Some("store_full"), "{refused}");
                return;
            }
        }
    }
    panic!("the disk never got full");
}

#[test]
fn a_full_disk_loses_nothing_and_what_was_done_meanwhile_is_delivered_when_there_is_room() {
    let name = "store_faults::a_full_disk_loses_nothing_and_what_was_done_meanwhile_is_delivered_when_there_is_room";
    let Some(disk) = small_disk::of(name, "16m") else { return };
    inside(async {
        let world = world_at(file(&disk), 0).await;
        let mut worker = Worker::connect(&world, "w-1").await;
        worker.beat(1, &[]).await;
        let done = world.client.create_run(&noop(), None).await.unwrap().id;
        let lease = worker.leases().await.remove(0);
        worker.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
        let mut runs = Vec::new();
        fill(&world.client, 64 << 10, &mut runs).await;
        // The last free bytes, too, and those that the file has already and nothing is in.
        let mut rest = std::fs::File::create(disk.join("rest")).unwrap();
        while rest.write(&[0; 512]).is_ok_and(|n| n > 0) {}
        fill(&world.client, 1, &mut runs).await;
        assert_eq!(until_ready(&world, 503).await.code(), "store_full");

        // The worker's result waits at the server; its beats are answered meanwhile.
        let items = vec![
            WireItem {
                seq: Some(1),
                channel: Some("stdout".into()),
                text: Some("x".repeat(100 << 10)),
                ..WireItem::bare(OpName::Output, Some(lease.lease()))
            },
            complete(lease.lease()),
        ];
        let client = world.client.clone();
        let (results, ()) = tokio::join!(worker.report(items), async {
            until_ready(&world, 503).await;
            assert_eq!(client.run(done).await.unwrap().state, State::Running, "not acknowledged, not there");
            for (id, _) in runs.iter().take(3) {
                assert_eq!(client.run(*id).await.unwrap().state, State::Queued, "what is there can be read");
            }
            small_disk::resize(&disk, "96m");
        });
        assert_eq!(results, [WireResult::Ok, WireResult::Ok]);
        until_ready(&world, 200).await;
        let run = world.client.run(done).await.unwrap();
        assert_eq!((run.state, run.epoch.0, run.losses), (State::Succeeded, 1, 0), "nothing was taken from the worker");
        runs.push((
            world.client.create_run(&large("zz", 1 << 10), None).await.unwrap().id,
            large("zz", 1 << 10).input.text().to_owned(),
        ));
        let port = world.server.address().port();
        world.server.stop().await;
        let world = world_at(file(&disk), port).await;
        for (id, input) in &runs {
            assert_eq!(world.client.run(*id).await.unwrap().input.text(), input);
        }
        world.server.stop().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_damaged_while_the_server_runs_is_never_read_as_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let world = world_at(file(folder.path()), 0).await;
    let mut runs = Vec::new();
    for n in 0..400 {
        let run = large(&format!("{n:04}"), 3 << 10);
        runs.push((world.client.create_run(&run, None).await.unwrap().id, run.input.text().to_owned()));
    }
    let port = world.server.address().port();
    world.server.stop().await;
    let world = world_at(file(folder.path()), port).await;
    let path = folder.path().join("outlive.db");
    let pages = std::fs::metadata(&path).unwrap().len() / 4_096;
    let mut db = std::fs::File::options().write(true).open(&path).unwrap();
    for page in (pages / 2)..(pages / 2 + pages / 8) {
        db.seek(SeekFrom::Start(page * 4_096)).unwrap();
        db.write_all(&[0xA5; 4_096]).unwrap();
    }
    drop(db);
    let mut refused = 0;
    for (id, input) in &runs {
        match world.client.run(*id).await {
            Ok(run) => assert_eq!(run.input.text(), input, "a wrong answer"),
            Err(problem) => {
                assert_eq!(problem.code(), Some("store_unavailable"), "{problem}");
                refused += 1;
            }
        }
    }
    assert!((1..400).contains(&refused), "{refused}");
    let answer = until_ready(&world, 503).await;
    assert!(answer.body["detail"].as_str().unwrap().contains("damaged"), "{answer:?}");
    until_run(&world, runs[0].0, |run| run.state == State::Queued).await;
    world.server.stop().await;
}

/// The sentence with which a server refuses to start.
async fn refusal(store: StoreLocation) -> String {
    let config = outlive_server::Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        store,
        advertise: String::new(),
        insecure_listen: false,
        replica: String::new(),
        low_disk: 0,
        liveness: None,
        settings: Vec::new(),
        version: "test".into(),
    };
    outlive_server::start(config).await.unwrap_err().to_string()
}

#[test]
fn a_file_or_folder_that_takes_no_writes_is_refused_at_the_start() {
    let name = "store_faults::a_file_or_folder_that_takes_no_writes_is_refused_at_the_start";
    let Some(disk) = small_disk::of(name, "32m") else { return };
    inside(async {
        let (one, two) = (disk.join("one"), disk.join("two"));
        for folder in [&one, &two] {
            std::fs::create_dir(folder).unwrap();
            world_at(file(folder), 0).await.server.stop().await;
        }
        small_disk::read_only(&one.join("outlive.db"));
        let said = refusal(file(&one)).await;
        assert!(said.contains("outlive.db is read-only; make it writable"), "{said}");
        std::fs::remove_file(two.join("outlive.db.lock")).unwrap();
        small_disk::read_only(&two);
        let said = refusal(file(&two)).await;
        assert!(said.contains("two takes no new files (read-only file system)"), "{said}");
        let said = refusal(StoreLocation::Sqlite(disk.join("three/outlive.db"))).await;
        assert!(said.contains("three cannot be read (no such file or directory); make it"), "{said}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_store_or_a_damaged_one_is_refused_at_the_start_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outlive.db");
    std::fs::write(&path, "a diary, not a database. ".repeat(1_000)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let said = refusal(file(folder.path())).await;
    assert!(said.contains("is damaged, or is no store of this program") && said.contains("Restore a copy"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::remove_file(&path).unwrap();

    let world = world_at(file(folder.path()), 0).await;
    for n in 0..50 {
        world.client.create_run(&large(&format!("{n:04}"), 3 << 10), None).await.unwrap();
    }
    world.server.stop().await;
    let mut damaged = std::fs::read(&path).unwrap();
    let middle = damaged.len() / 8_192 * 4_096;
    damaged[middle..middle + 4_096].fill(0xA5);
    std::fs::write(&path, &damaged).unwrap();
    let said = refusal(file(folder.path())).await;
    assert!(said.contains("is damaged, or is no store"), "{said}");
}
