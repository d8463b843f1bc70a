//! `outlive backup` of a server under load, and `outlive restore` with workers that do not know of it.

use crate::support::{House, serve};
use outlive_api::client::Client;
use outlive_api::runs::{NewRun, NewRuns};
use outlive_core::{Epoch, Json, RunId};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Runs that the server has acknowledged, over many connections at once, until it is told to stop.
#[derive(Clone, Default)]
struct Load(Arc<Mutex<(Vec<RunId>, bool)>>);

impl Load {
    fn acknowledged(&self) -> Vec<RunId> {
        self.0.lock().unwrap().0.clone()
    }

    fn stop(&self) {
        self.0.lock().unwrap().1 = true;
    }

    async fn run(self, url: String) {
        let client = Client::new(&url, "default").unwrap();
        let one = async || {
            while !self.0.lock().unwrap().1 {
                let runs =
                    (0..10).map(|_| NewRun::of("exec", Json::of(&serde_json::json!({"command": ["true"]})).unwrap()));
                let created = client.create_runs(&NewRuns { runs: runs.collect() }).await.unwrap();
                self.0.lock().unwrap().0.extend(created.runs.iter().map(|run| run.id));
            }
        };
        tokio::join!(one(), one(), one(), one());
    }
}

fn restore(house: &House, more: &[&str]) {
    let store = format!("sqlite:{}", house.folder.path().join("outlive.db").display());
    let answer = house.call(&[&["restore", "copy.db", "--store", &store], more].concat());
    assert_eq!(answer.code, 0, "{answer:?}");
}

fn backup(house: &House) -> serde_json::Value {
    house.json(&["backup", "copy.db", "--store", "sqlite:outlive.db"])
}

#[test]
fn what_was_acknowledged_before_a_backup_of_a_busy_server_began_is_in_it() {
    let mut house = House::open(0);
    let load = Load::default();
    let loads = std::thread::spawn({
        let (load, url) = (load.clone(), house.url.clone());
        move || tokio::runtime::Runtime::new().unwrap().block_on(load.run(url))
    });
    house.until("there is load", |_| load.acknowledged().len() >= 500);
    let before = load.acknowledged();
    let saved = backup(&house);
    let after = load.acknowledged().len();
    house.until("the load goes on", |_| load.acknowledged().len() > after);
    load.stop();
    loads.join().unwrap();
    assert!(saved["runs"].as_u64().unwrap() >= before.len() as u64, "{saved}");
    house.server.signal("-9");
    house.server.0.wait().unwrap();
    restore(&house, &["--overwrite", "--no-wait"]);
    let (server, url) = serve(house.folder.path(), "127.0.0.1:0");
    (house.server, house.url) = (server, url);
    let client = Client::new(&house.url, "default").unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for id in before {
            client.run(id).await.unwrap_or_else(|e| panic!("{id}: {e}"));
        }
    });
}

/// The epochs that a run's attempts have stamped, in the order of the file.
fn stamps(folder: &Path, name: &str) -> Vec<i64> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn a_worker_of_the_lost_store_stops_its_old_work_before_the_restored_one_s_goes_on() {
    let mut house = House::open(1);
    assert_eq!(house.call(&["queues", "set", "default", "lease_ttl=2s"]).code, 0);
    let work = |name: &str| {
        let outlive = env!("CARGO_BIN_EXE_outlive");
        format!(
            "[ $OUTLIVE_EPOCH -gt 1000 ] && cat \"$OUTLIVE_CHECKPOINT_FILE\" > {name}.checkpoint
             {outlive} step checkpoint 7
             until [ -e go ]; do echo $OUTLIVE_EPOCH >> {name}; sleep 0.01; done"
        )
    };
    let folder = house.folder.path().to_owned();
    let at_work = house.start(&work("at-work"));
    let held = house.call(&["run", "--detach", "--hold", "--", "sh", "-c", &work("held")]).out.trim().to_owned();
    house.until("it has a checkpoint", |h| h.show(&at_work)["checkpoint"] == 7);
    assert_eq!(backup(&house)["leased"], 1);
    // Later than the copy: one starts, one is new.
    assert_eq!(house.call(&["runs", "release", &held]).code, 0);
    let later = house.start("true");
    house.until("it works, too", |_| stamps(&folder, "held").len() > 5);

    house.server.signal("-9");
    house.server.0.wait().unwrap();
    restore(&house, &["--overwrite"]);
    let at = house.url.trim_start_matches("http://").to_owned();
    house.server = serve(&folder, &at).0;

    house.until("it goes on", |_| stamps(&folder, "at-work").iter().any(|&epoch| epoch > Epoch::JUMP));
    assert_eq!(std::fs::read_to_string(folder.join("at-work.checkpoint")).unwrap().trim(), "7");
    assert_eq!(house.call(&["runs", "show", &later]).code, 3, "what came later is gone");
    assert_eq!(house.show(&held)["state"], "held", "as it was when the copy was made");
    assert_eq!(house.call(&["runs", "release", &held]).code, 0);
    house.until("the other one starts", |_| stamps(&folder, "held").iter().any(|&epoch| epoch > Epoch::JUMP));
    std::fs::write(folder.join("go"), "").unwrap();
    for (id, name, attempts) in [(&at_work, "at-work", 2), (&held, "held", 1)] {
        house.until("it ends", |h| h.show(id)["state"] == "succeeded");
        let run = house.show(id);
        assert_eq!((run["losses"].as_u64(), run["failures"].as_u64()), (Some(0), Some(0)), "{run}");
        assert_eq!(house.json(&["runs", "attempts", id]).as_array().unwrap().len(), attempts);
        let stamps = stamps(&folder, name);
        assert!(stamps.is_sorted(), "an old attempt worked on beside the new one: {stamps:?}");
    }
}
