//! Connections of workers: open, hear, beat, report, end (`session/mod.rs`, `session/reports.rs`).

use super::driver::{self, Staged, input, lease_info, number, session_info, wire_lease};
use super::verdicts::lose_replaced;
use crate::net::{Down, Up};
use crate::store;
use crate::twin::Twin;
use crate::world::World;
use outlive_api::report::{OpName, WireItem, WireResult};
use outlive_api::session::{Held, ServerMessage, WorkerMessage};
use outlive_core::engine::{BeatInfo, CloseKind, ConnId, Input};
use outlive_core::report::{Item, ItemResult};
use outlive_core::{Holder, Incarnation};
use outlive_store::{Leases as _, StoreError, Workers as _};
use std::collections::VecDeque;

/// The wait before a report that the store did not take is tried again.
const TRY_AGAIN: u64 = 200;

/// A connection.
pub(crate) struct Conn {
    pub link: usize,
    pub holder: Holder,
    /// Leases held when it opened, for the first answer.
    pub held: Staged,
    opened: bool,
    /// The other side went away while it was being opened.
    ended: bool,
}

/// Reports of a connection: one store call at a time. Goes on after the connection's end until nothing waits.
pub(crate) struct Reports {
    holder: Holder,
    link: usize,
    queue: VecDeque<(u64, Vec<WireItem>, bool)>,
    busy: bool,
    /// Which call its answer is waited for; the answer to an earlier one comes too late.
    call: u64,
}

/// Something came in.
pub(crate) fn arrived(w: &mut World, link: usize, what: Up) {
    match what {
        Up::Open(holder) => open(w, link, holder),
        Up::Message(message) => heard(w, link, *message),
        Up::End => ended(w, link),
    }
}

fn open(w: &mut World, link: usize, holder: Holder) {
    if w.server.stopping {
        return w.down(link, Down::Refused);
    }
    let conn = number(link);
    w.log(format_args!("{holder} asks for a session on connection {}", conn.0));
    // Authenticated bytes count as hearing before any store work.
    input(w, Input::Heard(holder, None));
    w.server.conns.insert(conn, Conn { link, holder, held: Staged::new(), opened: false, ended: false });
    w.job(move |w| {
        let result = store::now(w.server.db.store.open_session(holder, w.server.replica));
        if matches!(result, Ok(Some(_))) || w.server.db.struck() {
            let row = store::sure(store::now(w.truth_db.worker(holder.worker)), "the truth can be read");
            if let Some(row) = row.filter(|row| row.holder() == holder) {
                w.truth.opened(holder, row.home_seq, link);
            }
        }
        w.reply(move |w| opened(w, link, conn, result));
    });
}

fn opened(w: &mut World, link: usize, conn: ConnId, result: Result<Option<outlive_store::Opened>, StoreError>) {
    let gone = w.server.conns.get(&conn).is_none_or(|c| c.ended);
    let opened = match result {
        // A request whose client went away is dropped where it stands, or goes on to its end: both happen.
        Ok(Some(opened)) if !gone || w.chance.chance(50) => opened,
        Ok(Some(opened)) => {
            w.server.conns.remove(&conn);
            return for_nobody(w, &opened);
        }
        other => {
            w.server.conns.remove(&conn);
            let answer = if matches!(other, Ok(None)) { Down::Replaced } else { Down::Refused };
            w.down(link, answer);
            return;
        }
    };
    let holder = opened.worker.holder();
    let leases: Vec<_> = opened.leases.iter().filter_map(|row| lease_info(w, row)).collect();
    w.log(format_args!(
        "{holder} has session {} on connection {} with {} leases",
        opened.home_seq,
        conn.0,
        leases.len()
    ));
    let info = session_info(&opened.worker, opened.home_seq, leases);
    let held = opened.leases.into_iter().map(|row| wire_lease(w, row)).collect();
    w.server.conns.insert(conn, Conn { link, holder, held, opened: true, ended: false });
    w.server.reports.insert(conn, Reports { holder, link, queue: VecDeque::new(), busy: false, call: 0 });
    w.down(link, Down::Accepted);
    let proxied = w.hosts[w.net.links[link].host].proxied;
    input(w, Input::Open(info, Some(conn), proxied));
    if gone {
        closed(w, link, CloseKind::Ended);
    }
}

/// It opened in the store, and whoever asked has gone (`Opening`).
fn for_nobody(w: &mut World, opened: &outlive_store::Opened) {
    let leases = opened.leases.iter().filter_map(|row| lease_info(w, row)).collect();
    input(w, Input::Adopt(session_info(&opened.worker, opened.home_seq, leases)));
}

fn ended(w: &mut World, link: usize) {
    match w.server.conns.get_mut(&number(link)) {
        Some(conn) if !conn.opened => conn.ended = true,
        Some(_) => closed(w, link, CloseKind::Ended),
        None => {}
    }
}

fn closed(w: &mut World, link: usize, kind: CloseKind) {
    if let Some(conn) = w.server.conns.remove(&number(link)) {
        w.log(format_args!("connection {} of {} ended: {kind:?}", number(link).0, conn.holder));
        w.net.links[link].server_end = false;
        let mut ended = number(link);
        if w.twin == Twin::LateCloseCounts {
            ended = w.server.conns.iter().find(|(_, c)| c.holder == conn.holder).map_or(ended, |(id, _)| *id);
        }
        input(w, Input::Closed(conn.holder, ended, kind));
    }
}

/// The engine wants it closed: after its last message, by our doing.
pub(crate) fn close_ours(w: &mut World, link: usize) {
    w.server_closes(link);
    w.after(0, w.server.owner(), move |w| closed(w, link, CloseKind::Ours));
}

fn heard(w: &mut World, link: usize, message: WorkerMessage) {
    let conn = number(link);
    let Some(holder) = w.server.conns.get(&conn).filter(|c| c.opened).map(|c| c.holder) else { return };
    input(w, Input::Heard(holder, Some(conn)));
    match message {
        WorkerMessage::Beat(beat) => {
            let info = BeatInfo {
                beat_seq: beat.beat_seq,
                credit: beat.credit,
                seen_push_seq: beat.seen_push_seq,
                timer: beat.timer,
                held: beat.held.iter().map(Held::info).collect(),
            };
            input(w, Input::Beat(holder, conn, info));
        }
        WorkerMessage::Report { report_seq, items, replay } => {
            if let Some(reports) = w.server.reports.get_mut(&conn) {
                reports.queue.push_back((report_seq, items, replay));
            }
            pump(w, conn);
        }
    }
}

/// The next store call of a connection's reports: what waits goes together.
fn pump(w: &mut World, conn: ConnId) {
    let gone = !w.server.conns.contains_key(&conn);
    let Some(reports) = w.server.reports.get_mut(&conn).filter(|r| !r.busy) else { return };
    let Some((first, mut items, replay)) = reports.queue.pop_front() else {
        if gone {
            w.server.reports.remove(&conn);
        }
        return;
    };
    let mut together = vec![(first, items.len())];
    while reports.queue.front().is_some_and(|(_, _, other)| *other == replay)
        && let Some((seq, more, _)) = reports.queue.pop_front()
    {
        together.push((seq, more.len()));
        items.extend(more);
    }
    reports.busy = true;
    let batch = Batch { conn, holder: reports.holder, items, replay, together };
    if w.scenario.balanced && w.chance.chance(30) {
        return elsewhere(w, batch);
    }
    here(w, batch);
}

/// Reports that go together.
#[derive(Clone)]
struct Batch {
    conn: ConnId,
    holder: Holder,
    items: Vec<WireItem>,
    replay: bool,
    together: Vec<(u64, usize)>,
}

fn here(w: &mut World, batch: Batch) {
    let Some(call) = next_call(w, batch.conn) else { return };
    report(w, batch.holder, batch.items, batch.replay, move |w, results| {
        answered(w, batch.conn, call, batch.together, results);
    });
}

fn next_call(w: &mut World, conn: ConnId) -> Option<u64> {
    let reports = w.server.reports.get_mut(&conn)?;
    reports.call += 1;
    Some(reports.call)
}

/// As requests of their own that a balancer brings to any replica. Without an answer they are made again here: what was
/// asked for first may then come twice, and in another order.
fn elsewhere(w: &mut World, batch: Batch) {
    let Some(call) = next_call(w, batch.conn) else { return };
    let (home, there, way) = (w.server.owner(), w.balanced(), w.latency());
    let (again, Batch { conn, holder, items, replay, together }) = (batch.clone(), batch);
    w.after(way, w.replica(there).owner(), move |w| {
        input(w, Input::Heard(holder, None));
        report(w, holder, items, replay, move |w, results| {
            let way = w.latency();
            w.after(way, home, move |w| answered(w, conn, call, together, results));
        });
    });
    let patience = w.chance.between(300, 3_000);
    w.after(patience, home, move |w| {
        if w.server.reports.get(&conn).is_some_and(|r| r.busy && r.call == call) {
            here(w, again);
        }
    });
}

fn answered(w: &mut World, conn: ConnId, call: u64, together: Vec<(u64, usize)>, results: Vec<WireResult>) {
    let Some(reports) = w.server.reports.get_mut(&conn).filter(|r| r.call == call) else { return };
    reports.busy = false;
    let (link, mut results) = (reports.link, results.into_iter());
    for (report_seq, count) in together {
        let results = results.by_ref().take(count).collect();
        if w.server.conns.contains_key(&conn) {
            w.down(link, Down::Message(Box::new(ServerMessage::Results { report_seq, results })));
        }
    }
    pump(w, conn);
}

/// Applies items until the store has answered.
pub(super) fn report(
    w: &mut World,
    holder: Holder,
    items: Vec<WireItem>,
    replay: bool,
    then: impl FnOnce(&mut World, Vec<WireResult>) + 'static,
) {
    if super::twins::report_waits(w) {
        return w.after(TRY_AGAIN, w.server.owner(), move |w| report(w, holder, items, replay, then));
    }
    let done = items.iter().any(|item| item.op == OpName::OutboxDone);
    let good: Vec<Result<Item, String>> =
        items.iter().filter(|item| item.op != OpName::OutboxDone).cloned().map(WireItem::into_item).collect();
    let said: Vec<Item> = good.iter().filter_map(|item| item.clone().ok()).collect();
    let before = Holder { incarnation: Incarnation(holder.incarnation.0 - 1), ..holder };
    let sender = if replay { before } else { holder };
    w.job(move |w| {
        let result = if said.is_empty() { Ok(outlive_store::Reported::default()) } else { w.apply(sender, &said) };
        w.reply(move |w| match result {
            Err(_) => {
                w.after(TRY_AGAIN, w.server.owner(), move |w| report(w, holder, items, replay, then));
            }
            Ok(reported) => {
                driver::committed(w, reported.commit);
                let alive = said.iter().zip(&reported.results);
                let alive = alive.filter(|(item, r)| **r == ItemResult::Ok && !item.op.ends_attempt());
                let alive: Vec<_> = alive.map(|(item, _)| (sender, item.lease)).collect();
                if !alive.is_empty() {
                    input(w, Input::Reported(alive));
                }
                let mut answers = reported.results.into_iter();
                let mut answered: Vec<WireResult> = good
                    .into_iter()
                    .map(|item| match item {
                        Ok(_) => answers.next().map(WireResult::from),
                        Err(detail) => Some(WireResult::Invalid { detail }),
                    })
                    .map(|r| r.unwrap_or(WireResult::Invalid { detail: "not answered".to_owned() }))
                    .collect();
                if !done {
                    return then(w, answered);
                }
                answered.push(WireResult::Ok);
                lose_replaced(w, before, None, move |w, result| match result {
                    Ok(_) => then(w, answered),
                    Err(_) => report(w, holder, items, replay, then),
                });
            }
        });
    });
}

/// A worker that names leases of others, or of before: nothing may come of it.
pub(crate) fn confused(w: &mut World, sender: Holder, item: Item) {
    w.job(move |w| {
        let result = w.apply(sender, &[item]);
        w.reply(move |w| {
            if let Ok(reported) = result {
                driver::committed(w, reported.commit);
            }
        });
    });
}

impl World {
    /// The store takes a report; each item is compared with what it may change (I2).
    fn apply(&mut self, sender: Holder, items: &[Item]) -> Result<outlive_store::Reported, StoreError> {
        // What changes a row without being worth a hint (a checkpoint, a flag that another run's write moves) is seen as well.
        items.iter().for_each(|item| self.reread(item.lease.run_id));
        let before = self.truth.rows_of(items);
        let (by, told) = super::twins::reported(self, sender, items);
        let result = store::now(self.server.db.store.report(by, told));
        self.saw(result.as_ref().ok().map(|r| &r.commit));
        items.iter().for_each(|item| self.reread(item.lease.run_id));
        self.compare(&before, sender, items, result.as_ref().ok().map(|r| r.results.as_slice()));
        result
    }
}
