//! The registry: names, incarnations, homes.

use crate::World;
use crate::build::lease;
use crate::world::{HERE, TENANT};
use outlive_core::{HomeSeq, Incarnation, Millis, ReplicaId};
use outlive_store::{Presence, RegisterError, WorkerMark};
use uuid::Uuid;

pub async fn a_name_keeps_its_row_and_counts_its_starts(w: World) {
    let mut registration = w.registration("w");
    registration.presence = Presence::Poll(Millis::secs(3));
    registration.profile.labels.insert("gpu".to_owned(), "a100".to_owned());
    let first = w.register(&registration).await.unwrap();
    assert_eq!((first.worker.incarnation, first.resumed, first.replaced), (Incarnation(1), false, None));
    let row = w.store.worker(first.worker.id).await.unwrap().unwrap();
    assert_eq!(row, first.worker);
    assert_eq!((row.presence, &row.profile), (Presence::Poll(Millis::secs(3)), &registration.profile));
    registration.instance = Uuid::from_u128(99);
    w.pass(Millis::secs(1));
    let second = w.register(&registration).await.unwrap();
    assert_eq!((second.worker.id, second.worker.incarnation), (first.worker.id, Incarnation(2)));
    assert_eq!(second.worker.first_seen_at, first.worker.first_seen_at);
    assert!(second.same_state_folder && second.worker.registered_at > first.worker.registered_at);
}

pub async fn the_same_process_resumes(w: World) {
    let class = w.class("a").await;
    let registration = w.registration("w");
    let first = w.register(&registration).await.unwrap();
    let session = w.open(first.worker.holder()).await;
    let held = w.leased(&session, &class).await;
    let again = w.register(&registration).await.unwrap();
    assert_eq!((again.resumed, again.worker.incarnation), (true, Incarnation(1)));
    assert!(again.worker.session_open);
    let opened = w.store.open_session(session.holder, HERE).await.unwrap().unwrap();
    assert_eq!(opened.leases, [held]);
}

pub async fn a_name_with_an_open_session_is_refused(w: World) {
    let session = w.worker("w").await;
    let refused = w.register(&w.registration("w")).await.unwrap_err();
    assert_eq!(refused, RegisterError::NameInUse { name: "w".to_owned() });
    assert!(w.store.open_session(session.holder, HERE).await.unwrap().is_some(), "a refusal applies nothing");
    w.store.mark_worker(session.holder.worker, WorkerMark::Left).await.unwrap();
    assert_eq!(w.register(&w.registration("w")).await.unwrap().worker.incarnation, Incarnation(2));
}

pub async fn a_takeover_names_the_replaced_incarnation(w: World) {
    let class = w.class("a").await;
    let old = w.worker("w").await;
    let held = w.leased(&old, &class).await;
    let mut elsewhere = w.registration("w");
    elsewhere.may_replace = true;
    "another folder".clone_into(&mut elsewhere.outbox_key);
    let taken = w.register(&elsewhere).await.unwrap();
    assert_eq!((taken.replaced, taken.same_state_folder), (Some(old.holder), false));
    assert!(!taken.worker.session_open && !taken.worker.draining);
    // The lease is the old one's until evidence says otherwise.
    assert_eq!(w.store.leases_of(old.holder).await.unwrap(), std::slice::from_ref(&held));
    assert!(w.store.leases_of(taken.worker.holder()).await.unwrap().is_empty());
    // Started again from the other folder: its key says nothing about the first process, which still holds the lease.
    let mut third = w.registration("w");
    third.may_replace = true;
    "another folder".clone_into(&mut third.outbox_key);
    let again = w.register(&third).await.unwrap();
    assert_eq!((again.replaced, again.same_state_folder), (Some(old.holder), false));
    assert_eq!(w.say(&old, lease(&held), crate::build::complete()).await, outlive_core::report::ItemResult::Ok);
    let mut fourth = w.registration("w");
    fourth.may_replace = true;
    "another folder".clone_into(&mut fourth.outbox_key);
    let last = w.register(&fourth).await.unwrap();
    assert_eq!((last.replaced, last.same_state_folder), (Some(again.worker.holder()), true));
}

pub async fn each_home_has_a_higher_number(w: World) {
    let session = w.worker("w").await;
    let elsewhere = w.store.open_session(session.holder, ReplicaId(2)).await.unwrap().unwrap();
    assert_eq!(elsewhere.home_seq, HomeSeq(session.home_seq.0 + 1));
    assert_eq!((elsewhere.worker.replica, elsewhere.worker.session_open), (ReplicaId(2), true));
    // A new incarnation goes on counting: a verdict for an older home never fits again.
    let restarted = w.worker("w").await;
    assert!(restarted.home_seq > elsewhere.home_seq);
}

pub async fn an_old_incarnation_opens_no_session(w: World) {
    let old = w.worker("w").await;
    let new = w.worker("w").await;
    assert!(w.store.open_session(old.holder, HERE).await.unwrap().is_none());
    assert!(w.store.open_session(new.holder, HERE).await.unwrap().is_some());
    let mut unknown = new.holder;
    unknown.worker.0 += 100;
    assert!(w.store.open_session(unknown, HERE).await.unwrap().is_none());
}

pub async fn a_sign_of_life_is_kept(w: World) {
    let id = w.worker("w").await.holder.worker;
    w.pass(Millis::secs(9));
    let heard = w.store.mark_worker(id, WorkerMark::Heard(w.now())).await.unwrap().unwrap();
    assert_eq!(heard.last_heard_at, w.now());
}

pub async fn workers_are_paged_by_name(w: World) {
    for name in ["d", "b", "a", "c"] {
        w.worker(name).await;
    }
    w.worker_in("other", "x").await;
    let (mut after, mut names) = (None, Vec::new());
    loop {
        let page = w.store.workers(Some(TENANT), after, 3).await.unwrap();
        names.extend(page.iter().map(|row| row.profile.name.clone()));
        let Some(last) = page.last() else { break };
        after = Some(last.id);
    }
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!(w.store.workers(None, None, 10).await.unwrap().len(), 5);
}
