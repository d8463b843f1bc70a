//! Copies of a file that is being written, and the stores that are made from them.

use outlive_core::clock::SimClock;
use outlive_core::report::{Completion, ItemResult, Op};
use outlive_core::{Epoch, Json, LeaseRef, Millis, Reason, RunId, State, Wall};
use outlive_store::{Expiry, LeaseRow, Restored, Store, StoreError};
use outlive_store_sqlite::{Restoring, SqliteStore, backup};
use outlive_store_tests::{Built, Session, TENANT, World};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Place {
    _folder: tempfile::TempDir,
    store: PathBuf,
    copy: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let (store, copy) = (folder.path().join("outlive.db"), folder.path().join("copy.db"));
    Place { _folder: folder, store, copy }
}

fn at<T: Future<Output = ()>>(path: &Path, test: impl FnOnce(World) -> T) {
    let factory = |clock: Arc<SimClock>| {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(path, clock).unwrap());
        Built { store, keep: Box::new(()) }
    };
    World::run(&factory, test);
}

fn restoring(place: &Place, overwrite: bool) -> Result<Restoring, StoreError> {
    let clock = Arc::new(SimClock::starting_at(Wall(1_700_000_100_000)));
    Restoring::begin(&place.copy, &place.store, overwrite, clock)
}

fn restore(place: &Place) -> Restored {
    restoring(place, true).unwrap().finish().unwrap()
}

fn lease(row: &LeaseRow) -> LeaseRef {
    LeaseRef { run_id: row.run.id, epoch: row.run.epoch }
}

fn complete() -> Op {
    Op::Complete(Completion::default())
}

/// Files beside the store, by their names.
fn files(place: &Place) -> Vec<String> {
    let all = std::fs::read_dir(place.store.parent().unwrap()).unwrap();
    let mut names: Vec<_> = all.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn why<T: std::fmt::Debug>(refused: Result<T, StoreError>) -> String {
    let Err(StoreError::Refused(why)) = refused else { panic!("{refused:?}") };
    why
}

#[test]
fn a_copy_of_an_open_store_has_all_that_was_acknowledged_and_nothing_later() {
    let p = place();
    let (mut before, mut after) = (None, None);
    at(&p.store, async |w| {
        let class = w.class("a").await;
        before = Some(w.one(&class).await.id);
        let saved = backup(&p.store, &p.copy, false).unwrap();
        assert_eq!((saved.runs, saved.leased), (1, 0));
        after = Some(w.one(&class).await.id);
        assert!(why(backup(&p.store, &p.copy, false)).contains("--overwrite"), "a copy is not replaced unasked");
    });
    restore(&p);
    at(&p.store, async |w| {
        assert_eq!(w.row(before.unwrap()).await.state, State::Queued);
        assert!(w.store.get(TENANT, after.unwrap()).await.unwrap().is_none());
    });
    assert!(!files(&p).iter().any(|name| name.contains("part")), "{:?}", files(&p));
}

/// The runs of the next test, as they were when the copy was made.
struct Runs {
    worked: LeaseRow,
    asked_to_end: LeaseRow,
    ended: RunId,
    waits: RunId,
    session: Session,
}

async fn runs(w: &World) -> Runs {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let worked = w.leased(&session, &class).await;
    assert_eq!(w.say(&session, lease(&worked), Op::Checkpoint(Json::parse("7".into()).unwrap())).await, ItemResult::Ok);
    let asked_to_end = w.leased(&session, &class).await;
    w.store.cancel(TENANT, asked_to_end.run.id, Reason::Cancelled, None).await.unwrap();
    let done = w.leased(&session, &class).await;
    assert_eq!(w.say(&session, lease(&done), complete()).await, ItemResult::Ok);
    let waits = w.one_with(&class, |new| new.new.queue_ttl = Some(Millis::secs(60))).await.id;
    Runs { worked, asked_to_end, ended: done.run.id, waits, session }
}

#[test]
fn nothing_of_the_lost_store_counts_in_the_restored_one_and_its_runs_go_on() {
    let p = place();
    let mut made = None;
    let mut old = None;
    at(&p.store, async |w| {
        let class = w.class("a").await;
        let all = runs(&w).await;
        old = Some(w.store.load().await.unwrap().generation);
        backup(&p.store, &p.copy, false).unwrap();
        // Later than the copy: the waiting run is claimed.
        let claimed = w.take(&all.session, &class).await;
        assert_eq!(claimed.run.id, all.waits);
        made = Some((all, claimed));
    });
    let restored = restore(&p);
    assert_eq!((restored.runs, restored.requeued, restored.cancelled), (4, 1, 1));
    let (all, claimed) = made.unwrap();
    at(&p.store, async |w| {
        assert_ne!(Some(w.store.load().await.unwrap().generation), old);
        assert_eq!(w.store.load().await.unwrap().generation, restored.generation);
        let worked = w.get(all.worked.run.id).await;
        assert_eq!((worked.run.state, worked.run.epoch, worked.run.losses), (State::Queued, Epoch(1 + Epoch::JUMP), 0));
        assert_eq!(w.row(all.asked_to_end.run.id).await.state, State::Cancelled);
        assert_eq!(w.row(all.ended).await.state, State::Succeeded);
        assert_eq!(w.row(all.waits).await.epoch, Epoch(Epoch::JUMP));
        // The old worker, of the same incarnation, with what it held in the lost store.
        for held in [&all.worked, &claimed] {
            let said = w.say(&all.session, lease(held), complete()).await;
            assert!(matches!(said, ItemResult::Fenced { .. }), "{said:?}");
        }
        while w.store.audit_waiting(1_000).await.unwrap().more {}
        assert_eq!(w.store.audit_waiting(1_000).await.unwrap().acted, 0, "counts and keys are right");
        // The new ones, taken by the same incarnation: the old epochs still say nothing.
        let session = w.open(all.session.holder).await;
        let class = w.class("a").await;
        for _ in 0..2 {
            let again = w.take(&session, &class).await;
            let old = if again.run.id == claimed.run.id { &claimed } else { &all.worked };
            let said = w.say(&session, lease(old), complete()).await;
            assert!(matches!(said, ItemResult::Fenced { .. }), "{said:?}");
            if again.run.id == all.worked.run.id {
                assert_eq!(again.checkpoint.as_ref().map(Json::text), Some("7"));
            }
            assert_eq!(w.say(&session, lease(&again), complete()).await, ItemResult::Ok);
            let attempts = w.store.attempts(TENANT, again.run.id).await.unwrap().unwrap();
            let epochs: Vec<i64> = attempts.iter().map(|row| row.view.attempt.epoch.0).collect();
            assert_eq!(epochs.last(), Some(&again.run.epoch.0));
            assert_eq!(epochs.len(), if again.run.id == claimed.run.id { 1 } else { 2 }, "{epochs:?}");
        }
    });
}

#[test]
fn a_run_that_was_never_claimed_still_expires_in_a_restored_store() {
    let p = place();
    let mut id = None;
    at(&p.store, async |w| {
        let class = w.class("a").await;
        id = Some(w.one_with(&class, |new| new.new.queue_ttl = Some(Millis::secs(60))).await.id);
        backup(&p.store, &p.copy, false).unwrap();
    });
    restore(&p);
    at(&p.store, async |w| {
        w.pass(Millis::secs(61));
        let overdue = w.store.overdue(10).await.unwrap();
        let expired = overdue.iter().map(|row| Expiry { id: row.run.id, because: Vec::new() }).collect();
        assert_eq!(w.store.expire(expired).await.unwrap().acted, 1);
        assert_eq!(w.row(id.unwrap()).await.reason, Some(Reason::QueueTtlExpired));
        assert!(w.store.overdue(10).await.unwrap().is_empty());
    });
}

#[test]
fn the_longest_trust_of_what_has_something_to_do_is_what_a_restore_waits_for() {
    let p = place();
    let ttl = |secs| outlive_core::policy::QueuePolicy { lease_ttl: Millis::secs(secs), ..Default::default() };
    at(&p.store, async |w| {
        let (_, busy) = w.queue("busy", ttl(20)).await;
        w.queue("idle", ttl(3_600)).await;
        backup(&p.store, &p.copy, false).unwrap();
        let nothing = Restoring::begin(&p.copy, &p.copy.with_extension("x"), false, Arc::new(SimClock::default()));
        assert_eq!(nothing.unwrap().trusted(), Millis::ZERO, "nothing to do, nobody to wait for");
        w.one(&busy).await;
        backup(&p.store, &p.copy, true).unwrap();
    });
    assert_eq!(restoring(&p, true).unwrap().trusted(), Millis::secs(20));
    let leased = place();
    at(&leased.store, async |w| {
        let (_, class) = w.queue("a", ttl(30)).await;
        w.leased(&w.worker("w").await, &class).await;
        // A lease keeps the terms that it was given.
        w.queue("a", ttl(5)).await;
        backup(&leased.store, &leased.copy, false).unwrap();
    });
    assert_eq!(restoring(&leased, true).unwrap().trusted(), Millis::secs(30));
}

#[test]
fn a_store_is_replaced_only_when_asked_and_never_while_a_server_has_it_and_is_kept() {
    let p = place();
    at(&p.store, async |w| {
        w.one(&w.class("a").await).await;
        backup(&p.store, &p.copy, false).unwrap();
        assert!(why(restoring(&p, true)).contains("another process"));
    });
    let before = std::fs::read(&p.store).unwrap();
    assert!(why(restoring(&p, false)).contains("--overwrite"));
    drop(restoring(&p, true).unwrap());
    assert!(std::fs::read(&p.store).unwrap() == before, "what was begun and given up changed nothing");
    let first = restore(&p).replaced.unwrap();
    let second = restore(&p).replaced.unwrap();
    assert_ne!(first, second);
    at(&first, async |w| assert_eq!(w.counts(&w.class("a").await).await.queued, 1));
}

#[test]
fn the_log_of_a_store_that_died_is_not_taken_for_the_new_one_s() {
    let p = place();
    at(&p.store, async |w| {
        w.one(&w.class("a").await).await;
        backup(&p.store, &p.copy, false).unwrap();
        for _ in 0..20 {
            w.one(&w.class("a").await).await;
        }
        // As `kill -9` leaves it: a log that was not folded.
        for ending in ["", "-wal"] {
            let name = |path: &Path| PathBuf::from(format!("{}{ending}", path.display()));
            std::fs::copy(name(&p.store), name(&p.store.with_extension("died"))).unwrap();
        }
    });
    let died =
        Place { store: p.store.with_extension("died"), copy: p.copy.clone(), _folder: tempfile::tempdir().unwrap() };
    let kept = restore(&died).replaced.unwrap();
    at(&died.store, async |w| assert_eq!(w.counts(&w.class("a").await).await.queued, 1));
    at(&kept, async |w| assert_eq!(w.counts(&w.class("a").await).await.queued, 21, "kept with its log"));
}

#[test]
fn what_is_no_copy_is_refused_and_says_so() {
    let p = place();
    assert!(why(restoring(&p, false)).contains("there is no copy"));
    assert!(why(backup(&p.store, &p.copy, false)).contains("there is no store"));
    std::fs::write(&p.copy, "not a database, by any means; and long enough to be read as one").unwrap();
    assert!(why(restoring(&p, false)).contains("no copy of a store"));
    std::fs::remove_file(&p.copy).unwrap();
    at(&p.store, async |w| {
        for _ in 0..50 {
            w.one(&w.class("a").await).await;
        }
        backup(&p.store, &p.copy, false).unwrap();
    });
    let mut bytes = std::fs::read(&p.copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8_192].fill(0xFF);
    std::fs::write(&p.copy, &bytes).unwrap();
    assert!(why(restoring(&p, true)).contains("damaged"));
    assert_eq!(files(&p).iter().filter(|name| name.contains("part")).count(), 0);
    // A damaged store is not saved as if it were whole, and a good copy stays.
    std::fs::write(&p.store, &bytes).unwrap();
    assert!(why(backup(&p.store, &p.copy, true)).contains("no copy could be made"));
}
