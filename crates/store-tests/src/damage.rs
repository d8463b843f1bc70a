//! Rows that no version of a store could have written: each is passed over, named in the log and counted; the others go on.
//!
//! These tests reach past the store ([`crate::Harm`]), so a store in memory does not play them.

use crate::world::{HERE, TENANT};
use crate::{Harm, Session, World};
use outlive_core::policy::QueuePolicy;
use outlive_core::run::Run;
use outlive_core::{Millis, Reason, RunId, State};
use outlive_store::{Adoption, ClassRow, Expiry, LeaseRow};

/// A reason that has no meaning.
fn spoil(harm: &Harm, run: &Run) {
    harm(&format!("UPDATE run SET reason = 999 WHERE seq = {}", run.seq));
}

/// Options that are no JSON.
fn spoil_options(harm: &Harm, run: &Run) {
    harm(&format!("UPDATE run_input SET options = '{{' WHERE seq = {}", run.seq));
}

fn ids(leases: &[LeaseRow]) -> Vec<RunId> {
    leases.iter().map(|lease| lease.run.id).collect()
}

/// A worker with three leases, of which the second cannot be read, and those that can.
async fn with_a_bad_lease(w: &World, harm: &Harm) -> (Session, ClassRow, [RunId; 2]) {
    let class = w.class("a").await;
    let session = w.worker("w").await;
    let [one, bad, two] =
        [w.leased(&session, &class).await, w.leased(&session, &class).await, w.leased(&session, &class).await];
    spoil(harm, &bad.run);
    (session, class, [one.run.id, two.run.id])
}

pub async fn what_is_due_goes_on_beside_a_row_that_cannot_be_read(w: World, harm: Harm) {
    let class = w.class("a").await;
    let soon = Some(w.now() + Millis::secs(1));
    let bad = w.one_with(&class, |new| new.new.run_at = soon).await;
    let good = w.one_with(&class, |new| new.new.run_at = soon).await;
    spoil(&harm, &bad);
    w.pass(Millis::secs(2));
    let swept = w.store.due(10).await.unwrap();
    assert_eq!((swept.found, swept.acted, swept.failed), (2, 1, 1), "{swept:?}");
    assert_eq!(w.row(good.id).await.state, State::Queued);
}

pub async fn what_nobody_took_in_time_ends_beside_a_row_that_cannot_be_read(w: World, harm: Harm) {
    let class = w.class("a").await;
    let ttl = Some(Millis::secs(1));
    let make = async || {
        w.one_with(&class, |new| {
            new.new.queue_ttl = ttl;
            new.options.queue_ttl = ttl;
        })
        .await
    };
    let (bad, good) = (make().await, make().await);
    spoil(&harm, &bad);
    w.pass(Millis::secs(2));
    let overdue = w.store.overdue(10).await.unwrap();
    assert_eq!(overdue.iter().map(|row| row.run.id).collect::<Vec<_>>(), [good.id]);
    let because = |id| Expiry { id, because: Vec::new() };
    let swept = w.store.expire(vec![because(bad.id), because(good.id)]).await.unwrap();
    assert_eq!((swept.found, swept.acted, swept.failed), (2, 1, 1), "{swept:?}");
    assert_eq!(w.row(good.id).await.state, State::Expired);
}

pub async fn a_claim_passes_over_a_ready_row_that_cannot_be_read(w: World, harm: Harm) {
    let class = w.class("a").await;
    let session = w.worker("w").await;
    let (bad, broken, good, behind) =
        (w.one(&class).await, w.one(&class).await, w.one(&class).await, w.one(&class).await);
    spoil(&harm, &bad);
    spoil_options(&harm, &broken);
    assert_eq!(w.claim_ids(&session, &[&class], 1).await, [good.id]);
    assert_eq!(w.claim_ids(&session, &[&class], 5).await, [behind.id]);
}

pub async fn leases_are_listed_without_one_that_cannot_be_read(w: World, harm: Harm) {
    let (session, _, good) = with_a_bad_lease(&w, &harm).await;
    assert_eq!(ids(&w.store.leases_after(None, 10).await.unwrap().rows), good);
    assert_eq!(ids(&w.store.leases_of(session.holder).await.unwrap()), good);
}

pub async fn a_session_opens_with_what_can_be_read(w: World, harm: Harm) {
    let (session, _, good) = with_a_bad_lease(&w, &harm).await;
    let opened = w.store.open_session(session.holder, HERE).await.unwrap().unwrap();
    assert_eq!(ids(&opened.leases), good);
}

pub async fn sessions_are_taken_over_with_what_can_be_read(w: World, harm: Harm) {
    let (session, _, good) = with_a_bad_lease(&w, &harm).await;
    let own = Adoption { from: HERE, beat: None, to: HERE, after: None, limit: 10 };
    let adopted = w.store.adopt(own).await.unwrap();
    let leases = adopted.sessions.iter().find(|(row, _)| row.holder() == session.holder).map(|(_, leases)| ids(leases));
    assert_eq!(leases.as_deref(), Some(&good[..]));
}

pub async fn a_verdict_takes_what_can_be_read(w: World, harm: Harm) {
    let (session, _, good) = with_a_bad_lease(&w, &harm).await;
    let lost = w.lose(&session).await;
    assert_eq!(lost.lost.iter().map(|lease| lease.run_id).collect::<Vec<_>>(), good);
}

pub async fn the_audit_counts_what_it_cannot_read_and_leaves_the_counts(w: World, harm: Harm) {
    let (_, class, _) = with_a_bad_lease(&w, &harm).await;
    let (bad, broken) = (w.one(&class).await, w.one(&class).await);
    spoil(&harm, &bad);
    spoil_options(&harm, &broken);
    let before = w.tally(&class).await;
    let audit = w.store.audit_waiting(100).await.unwrap();
    assert_eq!((audit.failed, audit.more), (3, false), "{audit:?}");
    assert_eq!(w.tally(&class).await, before, "what cannot be read is nobody's to count");
}

pub async fn what_is_past_its_retention_goes_beside_a_row_that_cannot_be_read(w: World, harm: Harm) {
    let (_, class) = w.queue("a", QueuePolicy::default()).await;
    let (bad, good) = (w.one(&class).await, w.one(&class).await);
    for run in [&bad, &good] {
        w.store.cancel(TENANT, run.id, Reason::Cancelled, None).await.unwrap();
    }
    spoil(&harm, &bad);
    w.pass(Millis::hours(15 * 24));
    let mut failed = 0;
    loop {
        let swept = w.store.retention(100).await.unwrap();
        failed += swept.failed;
        if !swept.more {
            break;
        }
    }
    assert_eq!(failed, 1);
    assert!(w.store.get(TENANT, good.id).await.unwrap().is_none());
}

pub async fn who_asks_for_it_is_told_and_others_of_the_batch_are_not(w: World, harm: Harm) {
    let class = w.class("a").await;
    let (bad, good) = (w.one(&class).await, w.one(&class).await);
    spoil(&harm, &bad);
    let (asked, fine) = futures_util::future::join(
        w.store.cancel(TENANT, bad.id, Reason::Cancelled, None),
        w.store.cancel(TENANT, good.id, Reason::Cancelled, None),
    )
    .await;
    assert!(asked.is_err() && fine.is_ok(), "{asked:?}, {fine:?}");
    assert_eq!(w.row(good.id).await.state, State::Cancelled);
}
