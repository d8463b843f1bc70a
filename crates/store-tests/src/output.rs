//! Output: a gap-free total order per run.

use crate::World;
use crate::build::{complete, frame, lease, raw_frame};
use crate::world::told;
use outlive_core::limits::sizes;
use outlive_core::report::{Item, ItemResult, Op};
use outlive_core::{Epoch, State};
use outlive_store::{OutputFrom, OutputKind, OutputQuery};

pub async fn frames_are_stored_once_and_in_order(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    for seq in [1, 2, 2, 1, 3] {
        assert_eq!(w.say(&session, lease(&held), frame(seq, &seq.to_string())).await, ItemResult::Ok);
    }
    let items = (4..7).map(|seq| Item { lease: lease(&held), op: frame(seq, &seq.to_string()) }).collect();
    w.say_all(&session, items).await;
    w.say(&session, lease(&held), complete()).await;
    assert_eq!(w.log(held.run.id).await, ["A1", "1", "2", "3", "4", "5", "6"]);
    let query = OutputQuery { from: OutputFrom::After(0), channel: None, limit: 100, max_bytes: usize::MAX };
    let page = w.store.output(held.run.id, query).await.unwrap().unwrap();
    assert!(page.at_head);
    assert_eq!((page.state, page.epoch, page.end_offset), (State::Succeeded, Epoch(1), 8));
    assert_eq!((page.next_after, page.namespace.as_str()), (7, "default"));
    let offsets: Vec<_> = page.entries.iter().map(|entry| entry.offset).collect();
    assert_eq!(offsets, [1, 2, 3, 4, 5, 6, 7]);
}

pub async fn a_gap_is_told_and_changes_nothing(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    assert_eq!(w.say(&session, lease(&held), frame(2, "b")).await, ItemResult::Gap { expected: 1 });
    assert_eq!(w.row(held.run.id).await, held.run);
    assert!(w.log(held.run.id).await.is_empty());
}

pub async fn every_attempt_starts_with_one_marker(w: World) {
    let class = w.class("a").await;
    let (one, two) = (w.worker("one").await, w.worker("two").await);
    let first = w.leased(&one, &class).await;
    w.say(&one, lease(&first), frame(1, "x")).await;
    w.lose(&one).await;
    let second = w.take(&two, &class).await;
    assert_eq!(w.say(&one, lease(&first), frame(2, "late")).await, second.run.fenced());
    w.say(&two, lease(&second), frame(1, "y")).await;
    w.say(&two, lease(&second), complete()).await;
    assert_eq!(w.log(first.run.id).await, ["A1", "x", "L1", "A2", "y"]);
    let entries = w.log_by(first.run.id, OutputFrom::After(0), 100).await;
    let OutputKind::Marker(_, name) = &entries[3].kind else { panic!("{entries:?}") };
    assert_eq!(name.as_deref(), Some("two"));
}

pub async fn the_current_attempt_is_where_its_marker_is(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let current = async |id| {
        let entries = w.log_by(id, OutputFrom::CurrentAttempt, 100).await;
        entries.iter().map(told).collect::<Vec<_>>()
    };
    let first = w.leased(&session, &class).await;
    let id = first.run.id;
    assert!(current(id).await.is_empty());
    w.say(&session, lease(&first), frame(1, "x")).await;
    assert_eq!(current(id).await, ["A1", "x"]);
    w.lose(&session).await;
    let second = w.take(&session, &class).await;
    assert_eq!(current(id).await, ["A1", "x", "L1"]);
    w.say(&session, lease(&second), frame(1, "y")).await;
    assert_eq!(current(id).await, ["A2", "y"]);
}

pub async fn pages_of_any_size_join_to_the_same_log(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    w.one(&class).await;
    let mut id = None;
    for _ in 0..3 {
        let held = w.take(&session, &class).await;
        id = Some(held.run.id);
        for seq in 1..6 {
            w.say(&session, lease(&held), frame(seq, &format!("{}.{seq}", held.run.epoch))).await;
        }
        w.lose(&session).await;
        w.pass(outlive_core::Millis::secs(10));
        w.store.due(10).await.unwrap();
    }
    let id = id.unwrap();
    let whole = w.log_by(id, OutputFrom::After(0), 1_000).await;
    assert_eq!(whole.len(), 3 * 7);
    for limit in 1..9 {
        assert_eq!(w.log_by(id, OutputFrom::After(0), limit).await, whole, "in pages of {limit}");
    }
    for after in 0..22 {
        let rest = w.log_by(id, OutputFrom::After(after), 4).await;
        assert_eq!(rest, whole[usize::try_from(after).unwrap().min(whole.len())..], "after {after}");
    }
    let query = OutputQuery { from: OutputFrom::After(0), channel: None, limit: 100, max_bytes: 1 };
    let page = w.store.output(id, query).await.unwrap().unwrap();
    assert_eq!(page.entries.iter().map(told).collect::<Vec<_>>(), ["A1", "1.1"]);
    assert!(!page.at_head);
}

pub async fn a_channel_is_filtered_and_markers_stay(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    for (seq, channel) in [(1, "stdout"), (2, "stderr"), (3, "stdout")] {
        let op = Op::Output(raw_frame(seq, channel, channel.as_bytes()));
        w.say(&session, lease(&held), op).await;
    }
    let channel = Some("stderr".to_owned());
    let query = OutputQuery { from: OutputFrom::After(0), channel, limit: 100, max_bytes: usize::MAX };
    let page = w.store.output(held.run.id, query).await.unwrap().unwrap();
    assert_eq!(page.entries.iter().map(told).collect::<Vec<_>>(), ["A1", "stderr"]);
    assert_eq!((page.at_head, page.next_after), (true, 4));
}

pub async fn a_log_over_its_limit_keeps_head_and_tail(w: World) {
    let (class, session) = (w.class("a").await, w.worker("w").await);
    let held = w.leased(&session, &class).await;
    let bytes = vec![b'x'; sizes::FRAME];
    let fit = sizes::RUN_OUTPUT / i64::try_from(sizes::FRAME).unwrap();
    for seq in 1..=fit + 10 {
        let op = Op::Output(raw_frame(seq, "stdout", &bytes));
        assert_eq!(w.say(&session, lease(&held), op).await, ItemResult::Ok);
    }
    let entries = w.log_by(held.run.id, OutputFrom::After(0), 1_000).await;
    let frames = entries.iter().filter(|entry| matches!(entry.kind, OutputKind::Frame { .. })).count();
    assert_eq!(i64::try_from(frames).unwrap(), fit);
    let gap = entries.iter().find(|entry| matches!(entry.kind, OutputKind::Gap { .. })).unwrap();
    let first = fit / 2 + 2;
    assert_eq!(told(gap), format!("gap {first}-{} limit", first + 9));
    assert_eq!(entries.last().unwrap().offset, fit + 11);
}
