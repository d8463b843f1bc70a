//! What a replica does because there are others: its row, taking over, reading homes, hints of other replicas' commits.

use super::driver::{hinted, input, lease_info, session_info};
use crate::store;
use crate::world::World;
use outlive_core::ReplicaId;
use outlive_core::engine::{Input, OwnRow, Rows};
use outlive_store::{Adopted, Adoption, Commit, ReplicaBeat, Replicas as _, StoreError};

/// Workers taken over in one transaction.
const PAGE: u32 = 100;

/// Writes this replica's row and reads the others'.
pub(crate) fn write_row(w: &mut World, row: OwnRow) {
    let sent = w.mono();
    let beat = ReplicaBeat { replica: w.server.replica, start: w.server.seat_start, row };
    w.job(move |w| {
        let result = store::now(w.server.db.store.beat(beat));
        w.reply(move |w| match result {
            Ok(Some(view)) => {
                let me = w.server.replica;
                let peers = view.rows.into_iter().map(|row| row.row).filter(|row| row.replica != me).collect();
                input(w, Input::Rows(Rows { sent, observed: view.observed, taken: view.taken, peers }));
            }
            Ok(None) => w.kill_server(w.server.index),
            Err(_) => input(w, Input::RowUnwritten),
        });
    });
}

/// Takes over what a replica that is gone had.
pub(crate) fn adopt_from(w: &mut World, from: ReplicaId, beat: i64) {
    take_page(w, Adoption { from, beat: Some(beat), to: w.server.replica, after: None, limit: PAGE });
}

fn take_page(w: &mut World, adoption: Adoption) {
    w.job(move |w| {
        let result = store::now(w.server.db.store.adopt(adoption));
        w.reply(move |w| {
            let Ok(adopted) = result else { return };
            let next = adopted.next;
            adopt(w, adopted);
            if next.is_some() {
                take_page(w, Adoption { after: next, ..adoption });
            }
        });
    });
}

fn adopt(w: &mut World, adopted: Adopted) {
    for (worker, leases) in adopted.sessions {
        let holder = worker.holder();
        let index = w.server.index;
        w.log(format_args!("r{index} takes {holder} over as session {}", worker.home_seq));
        let leases = leases.iter().filter_map(|row| lease_info(w, row)).collect();
        input(w, Input::Adopt(session_info(&worker, worker.home_seq, leases)));
    }
}

/// At the start: what an earlier process in this seat had.
pub(crate) fn adopt_own(w: &mut World) -> Result<(), StoreError> {
    let me = w.server.replica;
    let mut after = None;
    loop {
        let page = store::now(w.server.db.store.adopt(Adoption { from: me, beat: None, to: me, after, limit: PAGE }))?;
        after = page.next;
        adopt(w, page);
        if after.is_none() {
            return Ok(());
        }
    }
}

pub(crate) fn read_homes(w: &mut World) {
    let me = w.server.replica;
    w.job(move |w| {
        let result = store::now(w.server.db.store.homes(me));
        w.reply(move |w| input(w, result.map_or(Input::HomesUnread, Input::Homes)));
    });
}

/// Hints reach other replicas late, twice, or not at all.
pub(crate) fn tell_others(w: &mut World, commit: &Commit) {
    if !w.is_cluster() || *commit == Commit::default() {
        return;
    }
    let others: Vec<_> = w.replicas().filter(|r| r.up && r.index != w.server.index).map(super::Server::owner).collect();
    for owner in others {
        let times = if w.chance.chance(10) { 0 } else { 1 + usize::from(w.chance.chance(5)) };
        for _ in 0..times {
            let (late, commit) = (w.chance.between(1, 50), commit.clone());
            w.after(late, owner, move |w| hinted(w, commit));
        }
    }
}
