//! What only a file can prove: durability, ownership, versions, rows.

use outlive_core::clock::SimClock;
use outlive_core::{Millis, RunId, State, Wall};
use outlive_store::{ClaimOrder, Store, StoreError};
use outlive_store_sqlite::SqliteStore;
use outlive_store_tests::{Built, Session, TENANT, World};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

fn clock() -> Arc<SimClock> {
    Arc::new(SimClock::starting_at(Wall(1_700_000_000_000)))
}

fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(path, clock())
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outlive.db");
    (folder, path)
}

/// Runs a test over a store in `path`, which stays there afterwards.
fn at<T: Future<Output = ()>>(path: &Path, test: impl FnOnce(World) -> T) {
    let factory = |clock: Arc<SimClock>| {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(path, clock).unwrap());
        Built { store, keep: Box::new(()) }
    };
    World::run(&factory, test);
}

const CHILD: &str = "OUTLIVE_TEST_FILE";

/// Not a test by itself (it ends at once): the process that `what_was_acknowledged_survives_kill_9` kills. Prints each run once
/// it is acknowledged.
#[test]
fn acknowledges_runs_until_it_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    at(Path::new(&path), async |w| {
        let class = w.class("a").await;
        let w = &w;
        let client = async |_| loop {
            let runs = w.try_create((0..3).map(|_| w.draft(&class)).collect()).await.unwrap().runs;
            let mut out = std::io::stdout().lock();
            for one in runs {
                writeln!(out, "\nacknowledged {}", one.run.id).unwrap();
            }
            out.flush().unwrap();
        };
        futures_util::future::join_all((0..8).map(client)).await;
    });
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let (_folder, path) = folder();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "acknowledges_runs_until_it_is_killed", "--nocapture"])
        .env(CHILD, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut acknowledged: Vec<RunId> = Vec::new();
    for line in lines {
        acknowledged.extend(line.strip_prefix("acknowledged ").and_then(|id| id.parse::<RunId>().ok()));
        if acknowledged.len() == 300 {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= 300);
    at(&path, async |w| {
        for id in &acknowledged {
            assert_eq!(w.row(*id).await.state, State::Queued);
        }
        let class = w.class("a").await;
        let kept = i64::try_from(acknowledged.len()).unwrap();
        assert!(w.counts(&class).await.queued >= kept, "counts are of the same transactions as the rows");
        while w.store.audit_waiting(1_000).await.unwrap().more {}
        assert_eq!(w.store.audit_waiting(1_000).await.unwrap().acted, 0);
    });
}

#[test]
fn a_second_opener_is_refused_until_the_first_has_gone() {
    let (_folder, path) = folder();
    let first = open(&path).unwrap();
    let refused = open(&path).unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(why) if why.contains("another process")), "{refused}");
    drop(first);
    open(&path).unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let (_folder, path) = folder();
    drop(open(&path).unwrap());
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
                 VALUES (99, 'later', '2026-01-01T00:00:00Z', '1')";
    Connection::open(&path).unwrap().execute(newer, []).unwrap();
    let refused = open(&path).unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(why) if why.contains("99")), "{refused}");
}

#[test]
fn two_files_have_different_generations_and_keep_them() {
    let (_one, first) = folder();
    let (_two, second) = folder();
    let generation = |path: &Path| {
        let mut found = None;
        at(path, async |w| {
            let loaded = w.store.load().await.unwrap();
            found = Some((loaded.generation, loaded.secret));
        });
        found.unwrap()
    };
    assert_eq!(generation(&first), generation(&first));
    assert_ne!(generation(&first), generation(&second));
}

/// Rows of every table.
fn rows(path: &Path) -> BTreeMap<String, i64> {
    let conn = Connection::open(path).unwrap();
    let mut tables = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let names: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let count = |name: &String| conn.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get(0)).unwrap();
    names.iter().map(|name| (name.clone(), count(name))).collect()
}

async fn a_life(w: &World, session: &Session, claim_at_creation: bool) {
    let class = w.class("a").await;
    let lease = if claim_at_creation {
        let mut request = w.request(vec![w.draft(&class)]);
        request.claims = vec![w.order(session, &[&class], 1)];
        w.store.create(request).await.unwrap().claimed.remove(0).leases.remove(0)
    } else {
        w.leased(session, &class).await
    };
    let lease = outlive_core::LeaseRef { run_id: lease.run.id, epoch: lease.run.epoch };
    w.say(session, lease, outlive_core::report::Op::Start).await;
    let end = outlive_core::report::Op::Complete(outlive_core::report::Completion::default());
    assert_eq!(w.say(session, lease, end).await, outlive_core::report::ItemResult::Ok);
}

#[test]
fn a_life_with_one_attempt_and_no_output_leaves_two_rows() {
    let (_folder, path) = folder();
    // The first life makes the queue, its class, its counts and the worker.
    at(&path, async |w| {
        let session = w.worker("w").await;
        a_life(&w, &session, false).await;
    });
    let before = rows(&path);
    at(&path, async |w| {
        // A later time, so that the ids are others.
        w.pass(Millis::secs(1));
        let session = w.worker("w").await;
        for claim_at_creation in [false, true] {
            a_life(&w, &session, claim_at_creation).await;
        }
    });
    let mut new = rows(&path);
    for (name, n) in &mut new {
        *n -= before[name];
    }
    // One row per group commit, whoever is in it.
    new.remove("feed");
    new.retain(|_, n| *n != 0);
    let expected = [("run".to_owned(), 2), ("run_input".to_owned(), 2)];
    assert_eq!(new, expected.into());
}

#[test]
fn a_run_that_ended_while_it_waited_for_a_key_leaves_no_trace_of_waiting() {
    let (_folder, path) = folder();
    at(&path, async |w| {
        let (class, session) = (w.class("a").await, w.worker("w").await);
        let keyed = async || {
            w.one_with(&class, |new| {
                new.new.key = Some("k".to_owned());
                new.on_conflict = outlive_store::OnConflict::Replace;
            })
            .await
        };
        keyed().await;
        w.take(&session, &class).await;
        let waits = keyed().await;
        assert!(waits.blocked);
        w.store.cancel(TENANT, waits.id, outlive_core::Reason::Cancelled, None).await.unwrap();
    });
    assert_eq!(rows(&path)["key_wait"], 0);
}

#[test]
fn many_clients_share_commits_and_each_run_is_claimed_once() {
    let (_folder, path) = folder();
    at(&path, async |w| {
        let w = &w;
        let class = &w.class("a").await;
        let sessions = futures_util::future::join_all((0..8).map(|n| {
            let name = format!("w{n}");
            async move { w.worker(&name).await }
        }));
        let sessions = sessions.await;
        let runs = 400;
        let creators = (0..runs).map(async |_| w.one(class).await.id);
        let mut created = futures_util::future::join_all(creators).await;
        let claimers = sessions.iter().map(async |session| {
            let mut taken = Vec::new();
            loop {
                let order: ClaimOrder = w.order(session, &[class], 7);
                let leases = w.store.claim(order).await.unwrap().leases;
                if leases.is_empty() {
                    return taken;
                }
                taken.extend(leases.iter().map(|lease| lease.run.id));
            }
        });
        let mut taken: Vec<RunId> = futures_util::future::join_all(claimers).await.concat();
        taken.sort();
        created.sort();
        assert_eq!(taken, created);
        assert_eq!(w.tally(class).await, (0, 0, 0, runs));
    });
    let commits = rows(&path)["feed"];
    assert!(commits < 400, "{commits} commits for 400 creations and their claims");
}

#[test]
fn a_poisoned_command_fails_alone() {
    let (_folder, path) = folder();
    at(&path, async |w| {
        let w = &w;
        let class = &w.class("a").await;
        let clients = (0..60).map(async |n| {
            let mut draft = w.draft(class);
            if n % 10 == 3 {
                draft.new.class = outlive_core::ClassId(999);
            }
            w.store.create(w.request(vec![draft])).await.is_ok()
        });
        let fine = futures_util::future::join_all(clients).await;
        let expected: Vec<bool> = (0..60).map(|n| n % 10 != 3).collect();
        assert_eq!(fine, expected);
        assert_eq!(w.tally(class).await, (54, 0, 0, 0));
        while w.store.audit_waiting(1_000).await.unwrap().more {}
        assert_eq!(w.store.audit_waiting(1_000).await.unwrap().acted, 0);
    });
}

#[test]
fn everything_is_there_after_a_restart() {
    let (_folder, path) = folder();
    let mut held = None;
    at(&path, async |w| {
        let (class, session) = (w.class("a").await, w.worker("w").await);
        w.one(&class).await;
        held = Some((session.holder, w.take(&session, &class).await));
        w.one(&class).await;
    });
    let (holder, lease) = held.unwrap();
    at(&path, async |w| {
        let class = w.class("a").await;
        assert_eq!(w.store.leases_of(holder).await.unwrap(), std::slice::from_ref(&lease));
        assert_eq!(w.tally(&class).await, (1, 0, 0, 1));
        assert_eq!(w.store.load().await.unwrap().ready, [class.id]);
        // The replica is the same one, so its verdicts still fit the sessions that it left open.
        let worker = w.store.worker(holder.worker).await.unwrap().unwrap();
        assert_eq!(worker.replica, w.store.load().await.unwrap().replica);
        assert!(w.store.get(TENANT, lease.run.id).await.unwrap().is_some());
    });
}

#[test]
fn the_audit_repairs_what_rows_say_is_wrong() {
    let (_folder, path) = folder();
    at(&path, async |w| {
        let class = w.class("a").await;
        let session = w.worker("w").await;
        for key in ["one", "one", "two", "two", "two"] {
            w.one_with(&class, |new| new.new.serial_key = Some(key.to_owned())).await;
        }
        w.one(&class).await;
        w.take(&session, &class).await;
    });
    // Key "one" is held and its second run must wait; key "two" has its first run in line; the last run is free.
    let damage = "UPDATE run SET blocked = 1 - blocked WHERE state = 2;
                  UPDATE queue_count SET n = n + 3;
                  UPDATE serial_slot SET holder = NULL, head = NULL;";
    Connection::open(&path).unwrap().execute_batch(damage).unwrap();
    at(&path, async |w| {
        let class = w.class("a").await;
        let mut acted = 0;
        loop {
            let swept = w.store.audit_waiting(2).await.unwrap();
            acted += swept.acted;
            if !swept.more {
                break;
            }
        }
        assert!(acted > 0);
        assert_eq!(w.tally(&class).await, (5, 0, 0, 1));
        while w.store.audit_waiting(2).await.unwrap().more {}
        let rows =
            w.store.list(outlive_store::RunQuery { namespace: TENANT.to_owned(), limit: 10, ..Default::default() });
        let mut ready: Vec<i64> =
            rows.await.unwrap().rows.iter().filter(|r| r.run.is_ready()).map(|r| r.run.seq).collect();
        ready.sort_unstable();
        assert_eq!(ready, [3, 6]);
        while w.store.audit_waiting(100).await.unwrap().more {}
        assert_eq!(w.store.audit_waiting(100).await.unwrap().acted, 0);
    });
}

#[test]
fn the_audit_repairs_subjects_from_their_runs() {
    let (_folder, path) = folder();
    at(&path, async |w| {
        let (class, session) = (w.class("a").await, w.worker("w").await);
        for subjects in [&["one", "two"][..], &["two"], &["three"], &["three"]] {
            w.one_with(&class, |new| new.options.subjects = subjects.iter().map(|&s| s.to_owned()).collect()).await;
        }
        w.take(&session, &class).await;
        let last = w.claim(&session, &[&class], 9).await.leases.pop().unwrap();
        let lease = outlive_core::LeaseRef { run_id: last.run.id, epoch: last.run.epoch };
        w.say(&session, lease, outlive_core::report::Op::Complete(outlive_core::report::Completion::default())).await;
    });
    // Counts that are wrong, a subject without its row, a run without its link, and a link of an ended run that says "active".
    let damage = "UPDATE subject SET active = active + 5, working = 0 WHERE name LIKE '%three';
                  DELETE FROM subject WHERE name LIKE '%one';
                  DELETE FROM run_subject WHERE subject LIKE '%two' AND seq = 1;
                  UPDATE run_subject SET active = 0 WHERE subject LIKE '%two' AND seq = 2;
                  UPDATE run_subject SET active = 1 WHERE subject LIKE '%three' AND seq = 4;";
    Connection::open(&path).unwrap().execute_batch(damage).unwrap();
    at(&path, async |w| {
        let audit = async |limit| {
            let mut acted = 0;
            loop {
                let (rows, subjects) = (w.store.audit_waiting(limit).await, w.store.audit_subjects(limit).await);
                let (rows, subjects) = (rows.unwrap(), subjects.unwrap());
                acted += rows.acted + subjects.acted;
                if !rows.more && !subjects.more {
                    return acted;
                }
            }
        };
        assert!(audit(1).await + audit(1).await > 0);
        for (name, counts, active) in [("one", (1, 1), 1), ("two", (2, 2), 2), ("three", (1, 1), 1)] {
            let row = w.store.subject(TENANT, name, 100).await.unwrap();
            assert_eq!((row.subject.active, row.subject.working), counts, "{name}");
            assert_eq!(row.active.len(), active, "{name}");
        }
        assert_eq!(audit(100).await, 0);
    });
}
