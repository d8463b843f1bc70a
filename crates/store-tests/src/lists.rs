//! Lists: pages, filters, and what is never shown.

use crate::World;
use crate::build::{class_in, complete, lease};
use crate::world::TENANT;
use outlive_core::{Millis, Reason, RunId, State};
use outlive_store::RunQuery;

pub async fn a_page_is_newest_first_and_continues_without_gaps(w: World) {
    let class = w.class("a").await;
    let mut made = Vec::new();
    for _ in 0..25 {
        made.push(w.one(&class).await.id);
    }
    made.reverse();
    assert_eq!(w.found(RunQuery { limit: 7, ..RunQuery::default() }).await, made);
    let query = RunQuery { namespace: TENANT.to_owned(), limit: 7, ..RunQuery::default() };
    let page = w.store.list(query).await.unwrap();
    assert_eq!(page.rows.len(), 7);
    assert!(page.next.is_some());
}

pub async fn each_filter_finds_exactly_its_runs(w: World) {
    let (a, b, session) = (w.class("a").await, w.class("b").await, w.worker("busy").await);
    let leased = w.leased(&session, &a).await.run.id;
    let ended = w.leased(&session, &b).await;
    w.say(&session, lease(&ended), complete()).await;
    let parent = w.one(&b).await.id;
    let child = w.one_with(&a, |new| {
        new.options.parent = Some(parent);
        new.options.subjects = vec!["agent/1".to_owned()];
        new.options.tags = [("team".to_owned(), "ml".to_owned())].into();
        new.new.serial_key = Some("s".to_owned());
    });
    let child = child.await.id;
    w.store.cancel(TENANT, child, Reason::Cancelled, None).await.unwrap();
    let ended = ended.run.id;
    let all = RunQuery::default();
    let expect: Vec<(RunQuery, Vec<RunId>)> = vec![
        (RunQuery { states: vec![State::Claimed, State::Running], ..all.clone() }, vec![leased]),
        (RunQuery { states: vec![State::Succeeded, State::Queued], ..all.clone() }, vec![parent, ended]),
        (RunQuery { queue: Some("b".to_owned()), ..all.clone() }, vec![parent, ended]),
        (RunQuery { kind: Some("exec".to_owned()), ..all.clone() }, vec![child, parent, ended, leased]),
        (RunQuery { kind: Some("action".to_owned()), ..all.clone() }, vec![]),
        (RunQuery { worker: Some("busy".to_owned()), ..all.clone() }, vec![ended, leased]),
        (RunQuery { worker: Some("idle".to_owned()), ..all.clone() }, vec![]),
        (RunQuery { subject: Some("agent/1".to_owned()), ..all.clone() }, vec![child]),
        (RunQuery { serial_key: Some("s".to_owned()), ..all.clone() }, vec![child]),
        (RunQuery { parent: Some(parent), ..all.clone() }, vec![child]),
        (RunQuery { tag: Some(("team".to_owned(), "ml".to_owned())), ..all.clone() }, vec![child]),
        (RunQuery { tag: Some(("team".to_owned(), "x".to_owned())), ..all.clone() }, vec![]),
        (RunQuery { reason: Some(Reason::Cancelled), ..all.clone() }, vec![child]),
        (RunQuery { parent: Some(parent), queue: Some("b".to_owned()), ..all }, vec![]),
    ];
    for (query, ids) in expect {
        assert_eq!(w.found(query.clone()).await, ids, "{query:?}");
    }
}

pub async fn ids_are_found_by_their_ends(w: World) {
    let class = w.class("a").await;
    let wanted = w.one(&class).await.id;
    w.pass(outlive_core::Millis::hours(24));
    let other = w.one(&class).await.id;
    let text = wanted.to_string();
    for length in [1, 4, 9, 14, 24, 36] {
        let prefix = RunQuery { id_prefix: Some(text[..length].to_owned()), ..RunQuery::default() };
        let suffix = RunQuery { id_suffix: Some(text[36 - length..].to_owned()), ..RunQuery::default() };
        assert!(w.found(prefix.clone()).await.contains(&wanted), "{prefix:?}");
        assert!(w.found(suffix.clone()).await.contains(&wanted), "{suffix:?}");
        if length > 9 {
            assert!(!w.found(prefix).await.contains(&other));
        }
    }
}

pub async fn other_namespaces_are_never_seen(w: World) {
    let class = w.class_of(class_in("other", "a")).await;
    let mut draft = w.draft(&class);
    draft.options.subjects = vec!["s".to_owned()];
    let id = draft.new.id;
    let mut request = w.request(vec![draft]);
    "other".clone_into(&mut request.namespace);
    w.store.create(request).await.unwrap();
    assert!(w.found(RunQuery::default()).await.is_empty());
    assert!(w.found(RunQuery { subject: Some("s".to_owned()), ..RunQuery::default() }).await.is_empty());
    assert!(w.store.get(TENANT, id).await.unwrap().is_none());
    assert!(w.store.attempts(TENANT, id).await.unwrap().is_none());
    assert!(w.store.events(TENANT, id).await.unwrap().is_none());
    assert!(w.store.get("other", id).await.unwrap().is_some());
}

pub async fn open_leases_are_paged_in_order_of_workers(w: World) {
    let class = w.class("a").await;
    let (one, two) = (w.worker("one").await, w.worker("two").await);
    let mut held = Vec::new();
    for i in 0..9 {
        let session = if i % 2 == 0 { &two } else { &one };
        held.push((session.holder, w.leased(session, &class).await.run.seq));
    }
    held.sort();
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let page = w.store.leases_after(cursor, 4).await.unwrap();
        seen.extend(page.rows.iter().map(|lease| (lease.run.holder.unwrap(), lease.run.seq)));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, held);
    let of_one = w.store.leases_of(one.holder).await.unwrap();
    assert_eq!(of_one.len(), 4);
}

pub async fn who_is_first_in_line_is_found_without_the_rest(w: World) {
    let (class, other) = (w.class("a").await, w.class("b").await);
    let plain = w.one(&class).await.id;
    let urgent = w.one_with(&class, |new| new.new.priority = 5).await.id;
    w.one_with(&class, |new| new.new.hold = true).await;
    w.one(&other).await;
    let ids = async |limit| -> Vec<RunId> {
        w.store.first_in_line(class.id, limit).await.unwrap().iter().map(|row| row.run.id).collect()
    };
    assert_eq!(ids(10).await, [urgent, plain]);
    assert_eq!(ids(1).await, [urgent]);
}

pub async fn held_runs_are_found_behind_any_number_of_others(w: World) {
    let class = w.class("a").await;
    let held = w.one_with(&class, |new| new.new.hold = true).await.id;
    for _ in 0..6 {
        w.try_create((0..1_000).map(|_| w.draft(&class)).collect()).await.unwrap();
    }
    let query = RunQuery { namespace: TENANT.to_owned(), states: vec![State::Held], limit: 10, ..RunQuery::default() };
    let page = w.store.list(query).await.unwrap();
    assert_eq!(page.rows.iter().map(|row| row.run.id).collect::<Vec<_>>(), [held]);
    assert_eq!(page.next, None);
}

pub async fn a_run_that_is_cancelling_says_since_when(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let run = w.leased(&session, &class).await.run;
    assert_eq!(w.get(run.id).await.cancel_requested_at, None);
    w.pass(Millis(7));
    let asked = w.now();
    w.store.cancel(TENANT, run.id, Reason::Cancelled, None).await.unwrap();
    w.pass(Millis(7));
    w.store.cancel(TENANT, run.id, Reason::Cancelled, None).await.unwrap();
    assert_eq!(w.get(run.id).await.cancel_requested_at, Some(asked));
}
