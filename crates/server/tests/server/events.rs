//! The feed over HTTP: what a reader gets, from where it goes on, and what it is refused.

use crate::raw::Request;
use crate::support::{PATIENCE, Worker, World, noop, until_run, world, world_at};
use outlive_api::client::events::{EventQuery, EventStream, FeedItem};
use outlive_api::events::FeedEvent;
use outlive_api::report::{OpName, WireItem};
use outlive_api::runs::NewRun;
use outlive_core::State;
use outlive_server::StoreLocation;

pub(crate) const ALL: EventQuery<'static> = EventQuery { types: "", after: None, recent: None, stored_only: true };

/// Everything that a stream shows until it ends, with its places.
pub(crate) async fn shown(world: &World, what: EventQuery<'_>) -> Vec<(String, FeedEvent)> {
    let mut stream = world.client.events(what).await.expect("the feed");
    let mut events = Vec::new();
    while let Some(item) = stream.next().await.expect("readable") {
        if let FeedItem::Event(event) = item {
            events.push((stream.last_id().expect("a place").to_owned(), *event));
        }
    }
    events
}

async fn next(stream: &mut EventStream) -> FeedEvent {
    let event = async {
        loop {
            if let FeedItem::Event(event) = stream.next().await.expect("readable").expect("the feed goes on") {
                return *event;
            }
        }
    };
    tokio::time::timeout(PATIENCE, event).await.expect("an event in time")
}

fn about(subject: &str) -> NewRun {
    NewRun { subjects: vec![subject.into()], ..noop() }
}

async fn run_once(world: &World, run: &NewRun, name: &str) -> outlive_core::RunId {
    let id = world.client.create_run(run, None).await.expect("a run").id;
    let mut worker = Worker::connect(world, name).await;
    worker.beat(1, &[]).await;
    let lease = worker.leases_in_time().await.remove(0);
    worker.report(vec![WireItem::bare(OpName::Start, Some(lease.lease()))]).await;
    worker.report(vec![WireItem::bare(OpName::Complete, Some(lease.lease()))]).await;
    until_run(world, id, |run| run.state == State::Succeeded).await;
    id
}

#[tokio::test]
async fn a_life_is_told_with_names_and_a_reader_goes_on_after_any_event() {
    let world = world().await;
    let id = run_once(&world, &about("agent/7"), "w").await;
    let events = shown(&world, ALL).await;
    let of_run: Vec<_> =
        events.iter().filter(|(_, e)| e.run_id == Some(id)).map(|(_, e)| (e.r#type.as_str(), e.state)).collect();
    let expected = [
        ("run.created", Some(State::Queued)),
        ("subject.changed", None),
        ("run.claimed", Some(State::Claimed)),
        ("subject.changed", None),
        ("attempt.started", Some(State::Running)),
        ("run.finished", Some(State::Succeeded)),
        ("subject.changed", None),
    ];
    assert_eq!(of_run, expected);
    let claimed = events.iter().find(|(_, e)| e.r#type == "run.claimed").map(|(_, e)| e).unwrap();
    assert_eq!((claimed.worker_name.as_deref(), claimed.queue.as_deref()), (Some("w"), Some("default")));
    let changes: Vec<_> = events.iter().map(|(_, e)| e).filter(|e| e.r#type == "subject.changed").collect();
    let statuses: Vec<_> =
        changes.iter().map(|e| (e.previous.as_deref(), e.status.as_deref(), e.active_count)).collect();
    let (idle, queued, working) = (Some("idle"), Some("queued"), Some("working"));
    assert_eq!(statuses, [(idle, queued, Some(1)), (queued, working, Some(1)), (working, idle, Some(0))]);
    assert_eq!(changes[2].last.as_ref().map(|last| (last.run_id, last.state)), Some((id, State::Succeeded)));
    for (n, (place, _)) in events.iter().enumerate() {
        assert_eq!(shown(&world, EventQuery { after: Some(place), ..ALL }).await, events[n + 1..]);
    }
}

#[tokio::test]
async fn a_reader_that_follows_gets_what_comes_and_resumes_where_its_connection_broke() {
    let world = world().await;
    world.client.create_run(&noop(), None).await.unwrap();
    let mut stream = world.client.events(EventQuery { types: "run.created", stored_only: false, ..ALL }).await.unwrap();
    // Before anything happened it knows from where to resume.
    assert_eq!(stream.next().await.unwrap(), Some(FeedItem::Place));
    let place = stream.last_id().unwrap().to_owned();
    let first = world.client.create_run(&noop(), None).await.unwrap().id;
    assert_eq!(next(&mut stream).await.run_id, Some(first));
    drop(stream);
    let second = world.client.create_run(&noop(), None).await.unwrap().id;
    let again = EventQuery { types: "run.*", after: Some(&place), stored_only: false, ..ALL };
    let mut stream = world.client.events(again).await.unwrap();
    assert_eq!(next(&mut stream).await.run_id, Some(first));
    assert_eq!(next(&mut stream).await.run_id, Some(second));
}

#[tokio::test]
async fn types_and_namespaces_are_filtered_and_a_misspelled_type_is_refused() {
    let world = world().await;
    run_once(&world, &noop(), "w").await;
    let other = outlive_api::client::Client::new(&world.server.address().to_string(), "other").unwrap();
    let theirs = other.create_run(&noop(), None).await.unwrap().id;
    let types: Vec<_> = shown(&world, EventQuery { types: "worker.online,run.finished", ..ALL }).await;
    let types: Vec<_> = types.iter().map(|(_, e)| e.r#type.as_str()).collect();
    assert_eq!(types, ["worker.online", "run.finished"]);
    assert!(shown(&world, ALL).await.iter().all(|(_, e)| e.run_id != Some(theirs)));
    let mut stream = other.events(ALL).await.unwrap();
    assert_eq!(next(&mut stream).await.run_id, Some(theirs));
    for bad in ["/v1/events?types=run.finshed", "/v1/events?after=7", "/v1/events?recent=99999999", "/v1/events?last=1"]
    {
        let answer = Request::new("GET", bad).send(world.server.address()).await;
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
    }
}

#[tokio::test]
async fn edges_of_workers_and_queues_are_told_once_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outlive.db");
    let first = world_at(StoreLocation::Sqlite(path.clone()), 0).await;
    first.client.create_run(&noop(), None).await.unwrap();
    let worker = Worker::connect(&first, "w").await;
    first.client.queue_action("default", "pause").await.unwrap();
    first.client.queue_action("default", "pause").await.unwrap();
    let registered = worker.registered.clone();
    let before = shown(&first, EventQuery { types: "worker.*,queue.*", ..ALL }).await;
    first.server.stop().await;
    drop(worker);
    let second = world_at(StoreLocation::Sqlite(path), 0).await;
    let mut worker = Worker::resume(&second, registered).await;
    worker.beat(0, &[]).await;
    let token = second.client.with_token(&worker.registered.session_token);
    token.worker_action(worker.registered.worker_id, "leave").await.unwrap();
    let events = shown(&second, EventQuery { types: "worker.*,queue.*", ..ALL }).await;
    let types: Vec<_> = events.iter().map(|(_, e)| e.r#type.as_str()).collect();
    assert_eq!(types, ["worker.online", "queue.paused", "worker.left"]);
    // Places of before the restart are places still.
    let (place, _) = before.last().unwrap();
    let after: Vec<_> = shown(&second, EventQuery { after: Some(place), types: "worker.*", ..ALL }).await;
    assert_eq!(after.len(), 1);
}

#[tokio::test]
async fn a_place_of_another_store_is_answered_with_a_gap_and_all_that_is_kept() {
    let world = world().await;
    let id = world.client.create_run(&noop(), None).await.unwrap().id;
    let mut stream = world.client.events(EventQuery { after: Some("00000001-5-1"), ..ALL }).await.unwrap();
    let Some(FeedItem::Gap(gap)) = stream.next().await.unwrap() else { panic!("a gap first") };
    assert_eq!((gap.after.as_str(), gap.why.as_str()), ("00000001-5-1", "restored"));
    assert_eq!(next(&mut stream).await.run_id, Some(id));
    // A place that this store never gave.
    let (place, _) = shown(&world, ALL).await.pop().unwrap();
    let beyond = format!("{}-999-1", place.split('-').next().unwrap());
    let mut stream = world.client.events(EventQuery { after: Some(&beyond), ..ALL }).await.unwrap();
    assert!(matches!(stream.next().await.unwrap(), Some(FeedItem::Gap(gap)) if gap.why == "retention"));
    assert_eq!(next(&mut stream).await.run_id, Some(id));
}

#[tokio::test]
async fn a_subject_is_seen_with_its_active_runs_and_one_that_nobody_named_is_idle() {
    let world = world().await;
    let nobody = world.client.subject("agent/7").await.unwrap();
    assert_eq!((nobody.status.as_str(), nobody.active_count, nobody.last), ("idle", 0, None));
    let id = world.client.create_run(&about("agent/7"), None).await.unwrap().id;
    let queued = world.client.subject("agent/7").await.unwrap();
    assert_eq!((queued.status.as_str(), queued.active_count, queued.active[0].id), ("queued", 1, id));
    let mut worker = Worker::connect(&world, "w").await;
    worker.beat(1, &[]).await;
    worker.leases_in_time().await;
    let working = world.client.subject("agent/7").await.unwrap();
    assert_eq!((working.status.as_str(), working.active[0].worker_name.as_deref()), ("working", Some("w")));
}
