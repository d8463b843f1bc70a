//! The feed: everything that happens, once and in order.

use crate::World;
use crate::build::{complete, frame, lease};
use crate::world::{Session, TENANT};
use outlive_core::feed::{FeedEvent, Notice};
use outlive_core::report::Op;
use outlive_core::run::EventKind;
use outlive_core::{Epoch, Millis, Reason, State};
use outlive_store::{ClassRow, FeedCursor, FeedFrom, FeedPage, OnConflict, Verdict, WorkerMark};

/// A page from a place.
async fn page(w: &World, from: FeedFrom, limit: u32) -> FeedPage {
    w.feed(from, limit).await
}

/// Everything after a place, read in pages of a size.
async fn all_by(w: &World, from: FeedFrom, limit: u32) -> Vec<(FeedCursor, FeedEvent)> {
    let mut from = from;
    let mut events = Vec::new();
    loop {
        let mut part = page(w, from, limit).await;
        assert!(!part.gap, "nothing was deleted");
        events.append(&mut part.events);
        if part.at_head {
            return events;
        }
        from = FeedFrom::After(part.next);
    }
}

async fn all(w: &World) -> Vec<(FeedCursor, FeedEvent)> {
    all_by(w, FeedFrom::Oldest, 1_000).await
}

/// The place behind everything so far.
async fn head(w: &World) -> FeedFrom {
    FeedFrom::After(page(w, FeedFrom::Head, 10).await.next)
}

/// The types of what came after a place.
async fn types(w: &World, from: FeedFrom) -> Vec<&'static str> {
    all_by(w, from, 1_000).await.iter().map(|(_, event)| event.type_name()).collect()
}

async fn life(w: &World, session: &Session, class: &ClassRow) {
    let held = w.leased(session, class).await;
    w.say(session, lease(&held), Op::Start).await;
    w.say(session, lease(&held), complete()).await;
}

pub async fn every_step_of_a_life_is_told_once_and_in_order(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let before = head(&w).await;
    let run = w.one(&class).await;
    w.pass(Millis(5));
    let held = w.take(&session, &class).await;
    w.pass(Millis(5));
    w.say(&session, lease(&held), Op::Start).await;
    w.say(&session, lease(&held), Op::Start).await;
    w.say(&session, lease(&held), frame(1, "x")).await;
    w.pass(Millis(5));
    w.say(&session, lease(&held), complete()).await;
    w.say(&session, lease(&held), complete()).await;
    let (id, queue, end) = (run.id, run.queue, w.now());
    let worker = Some(session.holder.worker);
    let told = |kind, at, epoch, state, worker| {
        let (epoch, reason) = (Epoch(epoch), None);
        FeedEvent::Run { kind, at, run: id, queue, epoch, state, reason, worker }
    };
    let at = |before: u64| end - Millis(before);
    let events: Vec<_> = all_by(&w, before, 1).await.into_iter().map(|(_, event)| event).collect();
    let expected = [
        told(EventKind::Created, at(15), 0, State::Queued, None),
        told(EventKind::Claimed, at(10), 1, State::Claimed, worker),
        told(EventKind::Started, at(5), 1, State::Running, worker),
        told(EventKind::Finished, at(0), 1, State::Succeeded, worker),
    ];
    assert_eq!(events, expected);
}

pub async fn a_loss_and_its_retry_are_told_in_one_transaction(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    let before = head(&w).await;
    w.lose(&session).await;
    let events = all_by(&w, before, 100).await;
    let steps: Vec<_> = events.iter().map(|(_, event)| event.type_name()).collect();
    assert_eq!(steps, ["attempt.lost", "run.queued"]);
    assert!(events.iter().all(|(place, _)| place.row == events[0].0.row));
    let FeedEvent::Run { run, epoch, reason, worker, .. } = &events[0].1 else { panic!("an event of a run") };
    assert_eq!((*run, *epoch, *reason), (held.run.id, Epoch(1), Some(Reason::WorkerHeartbeatLost)));
    assert_eq!(*worker, Some(session.holder.worker));
}

pub async fn a_reader_resumes_after_any_event_whatever_its_page(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    for _ in 0..4 {
        life(&w, &session, &class).await;
        w.try_create(vec![w.draft(&class), w.draft(&class), w.draft(&class)]).await.unwrap();
        let leases = w.claim(&session, &[&class], 9).await.leases;
        w.say_all(
            &session,
            leases.iter().map(|held| outlive_core::report::Item { lease: lease(held), op: complete() }).collect(),
        )
        .await;
    }
    let whole = all(&w).await;
    assert!(whole.windows(2).all(|pair| pair[0].0 < pair[1].0), "places rise");
    for limit in [1, 2, 3, 7] {
        assert_eq!(all_by(&w, FeedFrom::Oldest, limit).await, whole);
        for (n, (place, _)) in whole.iter().enumerate() {
            assert_eq!(all_by(&w, FeedFrom::After(*place), limit).await, whole[n + 1..], "after {place:?} by {limit}");
        }
    }
}

pub async fn a_reader_misses_nothing_that_is_committed_meanwhile(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let (mut from, mut seen) = (FeedFrom::Oldest, Vec::new());
    for n in 0..40 {
        if n % 3 != 2 {
            life(&w, &session, &class).await;
        }
        let part = page(&w, from, 1 + n % 4).await;
        seen.extend(part.events);
        from = FeedFrom::After(part.next);
    }
    seen.extend(all_by(&w, from, 3).await);
    assert_eq!(seen, all(&w).await);
}

pub async fn a_reader_at_the_head_gets_only_what_comes(w: World) {
    let class = w.class("a").await;
    w.one(&class).await;
    let from = page(&w, FeedFrom::Head, 10).await;
    assert!(from.events.is_empty() && from.at_head);
    let run = w.one(&class).await;
    let events = all_by(&w, FeedFrom::After(from.next), 10).await;
    assert!(matches!(&events[..], [(_, FeedEvent::Run { run: told, .. })] if *told == run.id), "{events:?}");
}

pub async fn the_newest_are_read_without_the_rest(w: World) {
    let class = w.class("a").await;
    for _ in 0..20 {
        w.one(&class).await;
    }
    let whole = all(&w).await;
    for n in [0, 1, 5, 19] {
        let recent = all_by(&w, FeedFrom::Recent(n), 100).await;
        assert!(recent.len() >= n as usize && recent.len() < whole.len());
        assert_eq!(recent, whole[whole.len() - recent.len()..]);
    }
    assert_eq!(all_by(&w, FeedFrom::Recent(10_000), 3).await, whole);
}

pub async fn a_place_whose_events_were_deleted_is_a_gap(w: World) {
    let class = w.class("a").await;
    w.one(&class).await;
    let old = page(&w, FeedFrom::Oldest, 1).await;
    for _ in 0..5 {
        w.one(&class).await;
    }
    let behind = page(&w, FeedFrom::Head, 1).await.next;
    w.pass(Millis::hours(6 * 24));
    let young = w.one(&class).await;
    w.pass(Millis::hours(25));
    while w.store.retention(2).await.unwrap().more {}
    let after_gap = page(&w, FeedFrom::After(old.next), 100).await;
    assert!(after_gap.gap && after_gap.at_head);
    assert!(matches!(&after_gap.events[..], [(_, FeedEvent::Run { run, .. })] if *run == young.id));
    // Nothing is missing behind what was read to its end, and the oldest that is kept is no gap to who asks for it.
    let events = all_by(&w, FeedFrom::After(behind), 100).await;
    assert_eq!(events, after_gap.events);
    assert_eq!(all(&w).await, after_gap.events);
}

pub async fn places_are_never_used_twice_though_all_is_deleted(w: World) {
    let class = w.class("a").await;
    w.one(&class).await;
    let end = head(&w).await;
    w.pass(Millis::hours(8 * 24));
    while w.store.retention(10).await.unwrap().more {}
    let run = w.one(&class).await;
    let events = all_by(&w, end, 10).await;
    assert!(matches!(&events[..], [(_, FeedEvent::Run { run: told, .. })] if *told == run.id), "{events:?}");
}

pub async fn a_place_that_never_was_is_a_gap(w: World) {
    let class = w.class("a").await;
    w.one(&class).await;
    let head = page(&w, FeedFrom::Head, 1).await.next;
    let beyond = page(&w, FeedFrom::After(FeedCursor::before(head.row + 7)), 100).await;
    assert!(beyond.gap && !beyond.events.is_empty());
    assert!(page(&w, FeedFrom::After(FeedCursor { row: head.row, index: 3 }), 100).await.gap);
    assert!(!page(&w, FeedFrom::After(head), 100).await.gap);
}

pub async fn what_was_refused_is_not_told(w: World) {
    let class = w.class("a").await;
    let keyed = |on_conflict| {
        let mut draft = w.draft(&class);
        (draft.new.key, draft.on_conflict) = (Some("k".to_owned()), on_conflict);
        draft
    };
    w.create(keyed(OnConflict::Reject)).await;
    let before = head(&w).await;
    w.try_create(vec![w.draft(&class), keyed(OnConflict::Reject)]).await.unwrap_err();
    w.try_create(vec![keyed(OnConflict::Return)]).await.unwrap();
    assert_eq!(types(&w, before).await, [""; 0]);
}

pub async fn each_edge_of_a_session_is_told_once(w: World) {
    let before = head(&w).await;
    let session = w.worker("w").await;
    w.open(session.holder).await;
    assert_eq!(types(&w, before).await, ["worker.online"]);

    let before = head(&w).await;
    let current = w.open(session.holder).await;
    let over = Verdict { leases: Some(Vec::new()), end_session: true, ..w.silence(&current) };
    w.store.lose(over.clone()).await.unwrap();
    w.store.lose(over).await.unwrap();
    assert_eq!(types(&w, before).await, ["worker.offline"]);
    let last = all(&w).await.pop().unwrap().1;
    let FeedEvent::Worker { name, worker, incarnation, reason, .. } = last else { panic!("an event of a worker") };
    assert_eq!((name.as_str(), worker), ("w", session.holder.worker));
    assert_eq!((incarnation, reason), (session.holder.incarnation, Some(Reason::WorkerHeartbeatLost)));

    let before = head(&w).await;
    w.open(session.holder).await;
    w.store.mark_worker(session.holder.worker, WorkerMark::Left).await.unwrap();
    w.store.mark_worker(session.holder.worker, WorkerMark::Left).await.unwrap();
    let gone = Verdict { leases: None, end_session: true, guard: None, ..w.silence(&current) };
    w.store.lose(gone).await.unwrap();
    assert_eq!(types(&w, before).await, ["worker.online", "worker.left"]);
}

pub async fn a_new_start_of_a_name_ends_the_old_one_and_a_late_verdict_tells_nothing(w: World) {
    let old = w.worker("w").await;
    let before = head(&w).await;
    w.worker("w").await;
    let late = Verdict { leases: None, end_session: true, guard: None, ..w.silence(&old) };
    w.store.lose(late).await.unwrap();
    assert_eq!(types(&w, before).await, ["worker.offline", "worker.online"]);
}

pub async fn a_collected_worker_is_told(w: World) {
    let session = w.worker("w").await;
    let over = Verdict { leases: Some(Vec::new()), end_session: true, ..w.silence(&session) };
    w.store.lose(over).await.unwrap();
    w.pass(Millis::hours(8 * 24));
    let before = head(&w).await;
    w.store.worker_gc(Millis::hours(7 * 24), 10).await.unwrap();
    w.store.worker_gc(Millis::hours(7 * 24), 10).await.unwrap();
    assert_eq!(types(&w, before).await, ["worker.removed"]);
}

pub async fn a_pause_is_told_when_it_is_new(w: World) {
    let class = w.class("a").await;
    let before = head(&w).await;
    for paused in [false, true, true, false, false] {
        w.store.pause_queue(class.queue, paused).await.unwrap();
    }
    assert_eq!(types(&w, before).await, ["queue.paused", "queue.resumed"]);
}

pub async fn the_server_tells_of_itself(w: World) {
    let before = head(&w).await;
    let failed = Notice::SweepFailed { phase: "audit".to_owned(), error: "no".to_owned() };
    let notices = [Notice::BreakerOpened("too many".to_owned()), Notice::BreakerClosed, failed];
    let notices: Vec<_> = notices.into_iter().map(|notice| (w.now(), notice)).collect();
    w.store.announce(notices.clone()).await.unwrap();
    let told: Vec<_> = all_by(&w, before, 10).await.into_iter().map(|(_, event)| event).collect();
    let expected: Vec<_> = notices.into_iter().map(|(at, notice)| FeedEvent::Notice { at, notice }).collect();
    assert_eq!(told, expected);
}

pub async fn tenants_are_told_apart(w: World) {
    let mine = w.worker("w").await;
    let other = w.worker_in("other", "w").await;
    let told = all(&w).await;
    let namespaces: Vec<_> = told
        .iter()
        .filter_map(|(_, event)| match event {
            FeedEvent::Worker { namespace, worker, .. } => Some((namespace.as_str(), *worker)),
            _ => None,
        })
        .collect();
    assert_eq!(namespaces, [(TENANT, mine.holder.worker), ("other", other.holder.worker)]);
}
