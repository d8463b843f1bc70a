//! Creation.

use crate::World;
use crate::build::{class_in, json};
use crate::world::TENANT;
use outlive_core::options::RunOptions;
use outlive_core::run::EventKind;
use outlive_core::{Millis, RunId, State};
use outlive_store::CreateError;

pub async fn a_run_is_read_back_as_it_was_made(w: World) {
    let class = w.class("a").await;
    let mut draft = w.draft(&class);
    draft.new.priority = 5;
    draft.new.serial_key = Some("thread/1".to_owned());
    draft.new.key = Some("invoice 7".to_owned());
    draft.options = RunOptions {
        max_attempts: Some(2),
        run_timeout: Some(Millis::mins(5)),
        subjects: vec!["agent/1".to_owned()],
        tags: [("team".to_owned(), "ml".to_owned())].into(),
        ..RunOptions::default()
    };
    draft.checkpoint = Some(json(r#"{"i":4}"#));
    let made = w.create(draft.clone()).await;
    let row = w.get(made.id).await;
    assert_eq!(row.run, made);
    assert_eq!((made.state, made.created_at, made.priority), (State::Queued, w.now(), 5));
    assert_eq!((&made.serial_key, &made.key), (&draft.new.serial_key, &draft.new.key));
    assert_eq!((row.input, row.options, row.detail.checkpoint), (draft.input, draft.options, draft.checkpoint));
    assert_eq!((row.class, row.worker_name), (class.class, None));
    let events = w.store.events(TENANT, made.id).await.unwrap().unwrap();
    assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::Created]);
}

pub async fn a_run_for_later_is_scheduled_and_a_held_one_held(w: World) {
    let class = w.class("a").await;
    let at = w.now() + Millis::secs(5);
    let later = w.one_with(&class, |new| new.new.run_at = Some(at)).await;
    assert_eq!((later.state, later.due_at, later.queued_at), (State::Scheduled, Some(at), None));
    let held = w.one_with(&class, |new| new.new.hold = true).await;
    assert_eq!(held.state, State::Held);
    assert!(w.store.ready_classes().await.unwrap().is_empty());
}

pub async fn a_batch_is_all_or_nothing(w: World) {
    let class = w.class("a").await;
    w.one_with(&class, |new| new.new.key = Some("k".to_owned())).await;
    let mut drafts: Vec<_> = (0..3).map(|_| w.draft(&class)).collect();
    drafts[2].new.key = Some("k".to_owned());
    let first = drafts[0].new.id;
    let refused = w.try_create(drafts).await.unwrap_err();
    assert!(matches!(refused, CreateError::KeyConflict { index: 2, .. }), "{refused}");
    assert!(w.store.get(TENANT, first).await.unwrap().is_none());
    assert_eq!(w.tally(&class).await, (1, 0, 0, 0));
}

pub async fn a_parent_must_exist_in_the_namespace(w: World) {
    let (here, there) = (w.class("a").await, w.class_of(class_in("other", "a")).await);
    let foreign = {
        let mut request = w.request(vec![w.draft(&there)]);
        "other".clone_into(&mut request.namespace);
        w.store.create(request).await.unwrap().runs[0].run.id
    };
    let unknown = RunId::from_parts(w.now(), 3);
    for id in [foreign, unknown] {
        let mut child = w.draft(&here);
        child.options.parent = Some(id);
        let refused = w.try_create(vec![w.draft(&here), child]).await.unwrap_err();
        assert_eq!(refused, CreateError::RunNotFound { index: 1, id });
        let mut retry = w.draft(&here);
        retry.options.retry_of = Some(id);
        assert_eq!(w.try_create(vec![retry]).await.unwrap_err(), CreateError::RunNotFound { index: 0, id });
    }
    // A parent may come in the same batch, before its child.
    let parent = w.draft(&here);
    let mut child = w.draft(&here);
    child.options.parent = Some(parent.new.id);
    assert_eq!(w.try_create(vec![parent, child]).await.unwrap().runs.len(), 2);
}

pub async fn a_chosen_id_may_be_repeated_and_not_reused(w: World) {
    let class = w.class("a").await;
    let mut draft = w.draft(&class);
    draft.id_chosen = true;
    let first = w.try_create(vec![draft.clone()]).await.unwrap();
    assert!(!first.runs[0].existed);
    let again = w.try_create(vec![draft.clone()]).await.unwrap();
    assert!(again.runs[0].existed);
    assert_eq!(again.runs[0].run, first.runs[0].run);
    let mut other = draft.clone();
    other.input = json("2");
    let refused = w.try_create(vec![w.draft(&class), other.clone()]).await.unwrap_err();
    assert_eq!(refused, CreateError::IdConflict { index: 1, id: draft.new.id });
    // Also within one batch.
    let mut new = w.draft(&class);
    new.id_chosen = true;
    let twice = w.try_create(vec![new.clone(), new.clone()]).await.unwrap();
    assert_eq!((twice.runs[0].existed, twice.runs[1].existed), (false, true));
    assert_eq!(w.tally(&class).await, (2, 0, 0, 0));
}

pub async fn a_creation_names_the_classes_that_became_ready(w: World) {
    let (a, b) = (w.class("a").await, w.class("b").await);
    let mut held = w.draft(&b);
    held.new.hold = true;
    let created = w.try_create(vec![w.draft(&a), w.draft(&a), held]).await.unwrap();
    assert_eq!(created.commit.ready, [a.id]);
    assert_eq!(created.commit.changed.len(), 3);
    assert_eq!(w.store.ready_classes().await.unwrap(), [a.id]);
    assert_eq!(w.store.load().await.unwrap().ready, [a.id]);
}
