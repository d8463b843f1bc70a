//! Replicas: their seats and rows, and homes that move. One process owns a file; several engines over one store in memory are
//! the simulation's.

use crate::fault::Done;
use crate::lease::leases_of;
use crate::rows::{column, execute, prepared, single, stored};
use crate::tx::Tx;
use crate::{sql, workers};
use outlive_core::engine::{Homes, Note, PeerRow, REARMED_AT_MOST, Seat, Tally};
use outlive_core::{Holder, HomeSeq, Incarnation, ReplicaId, Wall, WorkerId};
use outlive_store::{Adopted, Adoption, Joined, ReplicaBeat, ReplicaRow, ReplicaView};
use rusqlite::{Connection, params};

pub(crate) fn join(tx: &mut Tx<'_>, name: &str, address: &str) -> Done<Joined> {
    let read = |row: &rusqlite::Row<'_>| {
        let seat = Seat { replica: ReplicaId(row.get(0)?), beat: row.get(1)?, taken: row.get(2)? };
        Ok(Joined { seat, start: row.get(3)? })
    };
    Ok(prepared(tx.conn, sql::REPLICA_JOIN)?.query_row(params![name, address, tx.now.0], read)?)
}

/// `None`: the seat is another process's.
pub(crate) fn beat(tx: &mut Tx<'_>, beat: &ReplicaBeat) -> Done<Option<ReplicaView>> {
    let Tally { sessions, silent, closed } = beat.row.tally;
    let notes = serde_json::to_string(&beat.row.notes)?;
    let written = prepared(tx.conn, sql::REPLICA_BEAT)?.execute(params![
        beat.replica.0,
        beat.start,
        beat.row.beat,
        sessions,
        silent,
        closed,
        notes,
        tx.now.0
    ])?;
    if written == 0 {
        return Ok(None);
    }
    let mut view = ReplicaView { observed: tx.cache.observed, taken: 0, rows: Vec::new() };
    let mut statement = prepared(tx.conn, sql::REPLICA_ALL)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let replica = ReplicaId(row.get(0)?);
        let notes: String = row.get(5)?;
        let notes: Vec<Note> = serde_json::from_str(&notes)?;
        let tally = Tally { sessions: row.get(2)?, silent: row.get(3)?, closed: row.get(4)? };
        if replica == beat.replica {
            view.taken = row.get(10)?;
        }
        view.rows.push(ReplicaRow {
            row: PeerRow { replica, beat: row.get(1)?, tally, notes },
            name: row.get(6)?,
            address: row.get(7)?,
            started_at: Wall(row.get(8)?),
            wrote_at: Wall(row.get(9)?),
        });
    }
    Ok(Some(view))
}

pub(crate) fn adopt(tx: &mut Tx<'_>, adoption: &Adoption) -> Done<Adopted> {
    let Adoption { from, beat, to, after, limit } = *adoption;
    let page: Vec<i64> = column(tx.conn, sql::WORKER_ADOPT_PAGE, &[&from.0, &after.map_or(0, |id| id.0), &limit])?;
    // Also when nothing is left to take: what the row was read for is true only if it is unchanged.
    let may = match beat {
        Some(beat) => from != to && execute(tx.conn, sql::REPLICA_TAKEN, &[&from.0, &beat])? > 0,
        None => from == to || single::<i64>(tx.conn, sql::REPLICA_TAKEN_GET, &[&from.0])?.is_none(),
    };
    if !may {
        return Ok(Adopted { lost_race: true, ..Adopted::default() });
    }
    let mut adopted = Adopted { next: page.last().map(|id| WorkerId(*id)), ..Adopted::default() };
    if page.len() < limit as usize {
        adopted.next = None;
    }
    let armed = stored(tx.cache.observed);
    for id in page {
        execute(tx.conn, sql::WORKER_ADOPT, &[&id, &to.0, &REARMED_AT_MOST, &armed])?;
        let Some(row) = workers::worker(tx.conn, WorkerId(id))? else { continue };
        let leases = leases_of(tx.conn, row.holder(), |run| tx.match_class(run.class))?;
        if row.session_open || !leases.is_empty() {
            adopted.sessions.push((row, leases));
        }
    }
    Ok(adopted)
}

pub(crate) fn homes(conn: &Connection, replica: ReplicaId) -> Done<Homes> {
    let taken = single::<i64>(conn, sql::REPLICA_TAKEN_GET, &[&replica.0])?.unwrap_or(0);
    let mut statement = prepared(conn, sql::WORKER_HOMED)?;
    let mut rows = statement.query([replica.0])?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        let holder = Holder { worker: WorkerId(row.get(0)?), incarnation: Incarnation(row.get(1)?) };
        sessions.push((holder, HomeSeq(row.get(2)?)));
    }
    Ok(Homes { taken, sessions })
}
