//! Replicas: seats, rows, and homes that move.

use crate::World;
use crate::world::TENANT;
use outlive_core::engine::{HeldInfo, Note, OwnRow, REARMED_AT_MOST, Tally};
use outlive_core::{Epoch, HomeSeq, LeaseRef, Millis, Observed, ReplicaId, RunId, Wall};
use outlive_store::{Adoption, Joined, ReplicaBeat};

async fn join(w: &World, name: &str) -> Joined {
    w.store.join(name, &format!("{name}:7")).await.unwrap()
}

fn row(seat: &Joined, beat: i64) -> ReplicaBeat {
    let row = OwnRow { beat, tally: Tally::default(), notes: Vec::new() };
    ReplicaBeat { replica: seat.seat.replica, start: seat.start, row }
}

fn from(gone: &Joined, beat: i64, to: &Joined) -> Adoption {
    Adoption { from: gone.seat.replica, beat: Some(beat), to: to.seat.replica, after: None, limit: 100 }
}

pub async fn a_seat_is_the_same_replica_again_and_the_earlier_process_is_told(w: World) {
    let (a, b) = (join(&w, "a").await, join(&w, "b").await);
    assert_ne!(a.seat.replica, b.seat.replica);
    assert!(w.store.beat(row(&a, a.seat.beat + 1)).await.unwrap().is_some());
    let again = join(&w, "a").await;
    assert_eq!((again.seat.replica, again.start), (a.seat.replica, a.start + 1));
    assert!(again.seat.beat > a.seat.beat + 1, "others see at once that it is another process");
    assert_eq!(w.store.beat(row(&a, 100)).await.unwrap(), None);
    let view = w.store.beat(row(&b, 1)).await.unwrap().unwrap();
    let seen = view.rows.iter().find(|r| r.row.replica == a.seat.replica).unwrap();
    assert_eq!((seen.row.beat, &*seen.name, &*seen.address), (again.seat.beat, "a", "a:7"), "it wrote nothing");
}

pub async fn what_a_replica_tells_is_read_by_the_others(w: World) {
    let (a, b) = (join(&w, "a").await, join(&w, "b").await);
    let worker = w.worker("w").await;
    w.store.advance_observed(Observed(5_000)).await.unwrap();
    let mut told = row(&a, 9);
    told.row.tally = Tally { sessions: 7, silent: 2, closed: 1 };
    let opened =
        Note { holder: worker.holder, opened: Some(HomeSeq(3)), age: Millis(40), named: Vec::new(), evicted: false };
    let named = vec![HeldInfo {
        lease: LeaseRef { run_id: RunId::from_parts(Wall(1), 1), epoch: Epoch(2) },
        frozen: Millis(7),
    }];
    told.row.notes = vec![opened.clone(), Note { opened: None, named, evicted: true, ..opened }];
    w.pass(Millis(10));
    w.store.beat(told.clone()).await.unwrap();
    let view = w.store.beat(row(&b, 4)).await.unwrap().unwrap();
    assert_eq!((view.observed, view.taken), (Observed(5_000), 0));
    let read = view.rows.iter().find(|r| r.row.replica == a.seat.replica).unwrap();
    assert_eq!((read.row.beat, read.row.tally, &read.row.notes), (9, told.row.tally, &told.row.notes));
    assert_eq!(read.wrote_at, w.now());
    assert!(view.rows.iter().any(|r| r.row.replica == b.seat.replica && r.row.beat == 4), "its own, as it is now");
}

pub async fn the_sessions_of_a_replica_that_is_gone_are_taken_over_with_what_they_hold(w: World) {
    let (a, b) = (join(&w, "a").await, join(&w, "b").await);
    let class = w.class("q").await;
    let worker = w.worker("w").await;
    let idle = w.worker("idle").await;
    w.worker_in(TENANT, "here").await;
    let mut here = worker.clone();
    for (session, replica) in [(&worker, a.seat.replica), (&idle, a.seat.replica)] {
        let opened = w.store.open_session(session.holder, replica).await.unwrap().unwrap();
        if session.holder == worker.holder {
            here.home_seq = opened.home_seq;
            here.replica = replica;
        }
    }
    let held = w.leased(&here, &class).await;
    w.store.beat(row(&a, 9)).await.unwrap();
    w.store.advance_observed(Observed(70_000)).await.unwrap();
    let taken = w.store.adopt(from(&a, 9, &b)).await.unwrap();
    assert!(!taken.lost_race && taken.next.is_none());
    let [(row_, leases), (other, none)] = &taken.sessions[..] else { panic!("{taken:?}") };
    assert_eq!((row_.holder(), row_.replica), (here.holder, b.seat.replica));
    assert_eq!((row_.home_seq, row_.rearmed, row_.armed), (HomeSeq(here.home_seq.0 + 1), 1, Observed(70_000)));
    assert_eq!((leases, other.holder(), none.len()), (&vec![held], idle.holder, 0));
    // Whatever the earlier home wants to write for it finds nothing.
    assert!(w.store.claim(w.order(&here, &[&class], 1)).await.unwrap().lost_race);
    let view = w.store.beat(row(&a, 10)).await.unwrap().unwrap();
    assert_eq!(view.taken, 1, "and it is told");
    let homes = w.store.homes(a.seat.replica).await.unwrap();
    assert_eq!((homes.taken, homes.sessions.len()), (1, 0));
    let homes = w.store.homes(b.seat.replica).await.unwrap();
    assert_eq!(homes.sessions, [(here.holder, row_.home_seq), (idle.holder, other.home_seq)]);
}

pub async fn a_replica_that_wrote_meanwhile_loses_nothing(w: World) {
    let (a, b) = (join(&w, "a").await, join(&w, "b").await);
    let worker = w.worker("w").await;
    let opened = w.store.open_session(worker.holder, a.seat.replica).await.unwrap().unwrap();
    w.store.beat(row(&a, 9)).await.unwrap();
    w.store.beat(row(&a, 10)).await.unwrap();
    let lost = w.store.adopt(from(&a, 9, &b)).await.unwrap();
    assert!(lost.lost_race && lost.sessions.is_empty());
    let same = w.store.worker(worker.holder.worker).await.unwrap().unwrap();
    assert_eq!((same.replica, same.home_seq), (a.seat.replica, opened.home_seq));
    assert_eq!(w.store.beat(row(&a, 11)).await.unwrap().unwrap().taken, 0);
}

pub async fn two_that_take_over_at_once_do_not_both_get_a_session(w: World) {
    let (a, b, c) = (join(&w, "a").await, join(&w, "b").await, join(&w, "c").await);
    let worker = w.worker("w").await;
    w.store.open_session(worker.holder, a.seat.replica).await.unwrap().unwrap();
    assert_eq!(w.store.adopt(from(&a, a.seat.beat, &b)).await.unwrap().sessions.len(), 1);
    let late = w.store.adopt(from(&a, a.seat.beat, &c)).await.unwrap();
    assert!(!late.lost_race && late.sessions.is_empty(), "nothing is left");
    assert_eq!(w.store.worker(worker.holder.worker).await.unwrap().unwrap().replica, b.seat.replica);
}

pub async fn a_session_that_goes_from_hand_to_hand_is_armed_anew_only_twice(w: World) {
    let seats = [join(&w, "a").await, join(&w, "b").await];
    let worker = w.worker("w").await;
    w.store.open_session(worker.holder, seats[0].seat.replica).await.unwrap().unwrap();
    let mut last = None;
    for n in 0..u64::from(REARMED_AT_MOST) + 2 {
        w.store.advance_observed(Observed((n + 1) * 10_000)).await.unwrap();
        let (from_, to) = (&seats[usize::from(n % 2 == 1)], &seats[usize::from(n % 2 == 0)]);
        let taken = w.store.adopt(from(from_, from_.seat.beat, to)).await.unwrap();
        last = taken.sessions.first().map(|(row, _)| (row.rearmed, row.armed));
    }
    assert_eq!(last, Some((REARMED_AT_MOST + 2, Observed(u64::from(REARMED_AT_MOST) * 10_000))));
    w.store.open_session(worker.holder, ReplicaId(1)).await.unwrap().unwrap();
    let row = w.store.worker(worker.holder.worker).await.unwrap().unwrap();
    assert_eq!((row.rearmed, row.armed), (0, Observed((u64::from(REARMED_AT_MOST) + 2) * 10_000)));
}

pub async fn a_process_takes_its_own_seats_sessions_over_page_by_page(w: World) {
    let a = join(&w, "a").await;
    for n in 0..5 {
        let worker = w.worker(&format!("w{n}")).await;
        w.store.open_session(worker.holder, a.seat.replica).await.unwrap().unwrap();
    }
    let again = join(&w, "a").await;
    let (mut after, mut pages) = (None, Vec::new());
    loop {
        let adoption = Adoption { from: a.seat.replica, beat: None, to: again.seat.replica, after, limit: 2 };
        let page = w.store.adopt(adoption).await.unwrap();
        pages.push(page.sessions.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [2, 2, 1]);
    assert_eq!(w.store.homes(a.seat.replica).await.unwrap().sessions.len(), 5);
}

pub async fn what_is_at_home_where_no_replica_is_is_anyones_to_take_and_of_a_replica_only_its_own(w: World) {
    let (a, b) = (join(&w, "a").await, join(&w, "b").await);
    let (lost, theirs) = (w.worker("lost").await, w.worker("theirs").await);
    w.store.open_session(lost.holder, ReplicaId(77)).await.unwrap().unwrap();
    w.store.open_session(theirs.holder, b.seat.replica).await.unwrap().unwrap();
    let take = |from| Adoption { from, beat: None, to: a.seat.replica, after: None, limit: 10 };
    let taken = w.store.adopt(take(ReplicaId(77))).await.unwrap();
    let holders: Vec<_> = taken.sessions.iter().map(|(row, _)| (row.holder(), row.replica)).collect();
    assert_eq!(holders, [(lost.holder, a.seat.replica)]);
    let refused = w.store.adopt(take(b.seat.replica)).await.unwrap();
    assert!(refused.lost_race && refused.sessions.is_empty(), "{refused:?}");
    assert_eq!(w.store.worker(theirs.holder.worker).await.unwrap().unwrap().replica, b.seat.replica);
}
