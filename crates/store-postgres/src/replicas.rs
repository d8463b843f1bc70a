//! Replicas: their seats and rows, and homes that move.

use crate::db::Op;
use crate::fault::{Answer, Done, Fault};
use crate::lease::lease_row;
use crate::reader::Reader;
use crate::rows::{readable, readable_by_seq, stored};
use crate::tx::Tx;
use crate::value::{column, get, plain, query, single, values_of};
use crate::{sql, workers};
use async_trait::async_trait;
use outlive_core::engine::{Homes, Note, OwnRow, PeerRow, REARMED_AT_MOST, Seat, Tally};
use outlive_core::{Holder, HomeSeq, Incarnation, ReplicaId, Wall, WorkerId};
use outlive_store::{Adopted, Adoption, Joined, LeaseRow, ReplicaBeat, ReplicaRow, ReplicaView, StoreError, WorkerRow};
use serde_json::value::RawValue;
use std::collections::HashMap;
use tokio_postgres::Row;

/// A process takes a seat.
pub(crate) struct Join {
    pub(crate) name: String,
    pub(crate) address: String,
}

#[async_trait]
impl Op for Join {
    type Answer = Joined;
    type Refusal = StoreError;

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Joined, StoreError> {
        let now = tx.now.0;
        let rows = tx.query(sql::REPLICA_JOIN, values_of![plain(&self.name), plain(&self.address), now]).await?;
        let row = rows.first().ok_or_else(|| Fault::damaged("a seat has no row"))?;
        let seat = Seat { replica: ReplicaId(get(row, 0)?), beat: get(row, 1)?, taken: get(row, 2)? };
        Ok(Ok(Joined { seat, start: get(row, 3)? }))
    }
}

#[async_trait]
impl Op for ReplicaBeat {
    type Answer = Option<ReplicaView>;
    type Refusal = StoreError;

    /// `None`: the seat is another process's.
    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Option<ReplicaView>, StoreError> {
        let Tally { sessions, silent, closed } = self.row.tally;
        let (notes, now) = (write_notes(&self.row.notes)?, tx.now.0);
        let values = values_of![
            self.replica.0,
            self.start,
            self.row.beat,
            i64::from(sessions),
            i64::from(silent),
            i64::from(closed),
            notes,
            now,
        ];
        let mut view = ReplicaView { observed: tx.observed, taken: 0, rows: Vec::new() };
        for row in tx.query(sql::REPLICA_BEAT, values).await? {
            let Some(taken) = get(&row, 10)? else { return Ok(Ok(None)) };
            let mut seen = read(&row)?;
            if seen.row.replica == self.replica {
                let OwnRow { beat, tally, ref notes } = self.row;
                seen.row = PeerRow { replica: self.replica, beat, tally, notes: notes.clone() };
                (seen.wrote_at, view.taken) = (tx.now, taken);
            }
            view.rows.push(seen);
        }
        // Also when no replica has a row at all.
        Ok(Ok(Some(view).filter(|view| view.rows.iter().any(|row| row.row.replica == self.replica))))
    }
}

fn read(row: &Row) -> Done<ReplicaRow> {
    let count = |i| Ok::<_, Fault>(u32::try_from(get::<i64>(row, i)?).unwrap_or(0));
    let tally = Tally { sessions: count(2)?, silent: count(3)?, closed: count(4)? };
    let notes = read_notes(get(row, 5)?);
    Ok(ReplicaRow {
        row: PeerRow { replica: ReplicaId(get(row, 0)?), beat: get(row, 1)?, tally, notes },
        name: get(row, 6)?,
        address: get(row, 7)?,
        started_at: Wall(get(row, 8)?),
        wrote_at: Wall(get(row, 9)?),
    })
}

/// (The version after this one, as the test of an upgrade plays it, adds a note that nobody knows.)
fn write_notes(notes: &[Note]) -> Done<String> {
    if !cfg!(feature = "next") {
        return Ok(serde_json::to_string(notes)?);
    }
    let mut all = notes.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    all.push(serde_json::json!({"of_the_next_version": 1}));
    Ok(serde_json::to_string(&all)?)
}

/// What a replica heard. A note that is not understood, of a newer version it may be, is passed over: the rows of replicas must be
/// read whoever wrote them, and behind each note stands a level.
fn read_notes(text: &str) -> Vec<Note> {
    let all: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    all.into_iter().filter_map(|note| serde_json::from_str(note.get()).ok()).collect()
}

#[async_trait]
impl Op for Adoption {
    type Answer = Adopted;
    type Refusal = StoreError;

    fn weight(&self) -> usize {
        self.limit as usize
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Adopted, StoreError> {
        let Self { from, beat, to, after, limit } = *self;
        // Also when nothing is left to take: what the row was read for is true only if it is unchanged. It stays locked, so
        // two who take over do so one after the other.
        let may = match beat {
            Some(beat) => from != to && tx.execute(sql::REPLICA_TAKEN, values_of![from.0, beat]).await? > 0,
            None => from == to || tx.query(sql::REPLICA_TAKEN_GET, values_of![from.0]).await?.is_empty(),
        };
        if !may {
            return Ok(Ok(Adopted { lost_race: true, ..Adopted::default() }));
        }
        let place = values_of![from.0, after.map_or(0, |id| id.0), i64::from(limit)];
        let rows = tx.query(sql::WORKER_ADOPT_PAGE, place).await?;
        let page = rows.iter().map(|row| get(row, 0)).collect::<Done<Vec<i64>>>()?;
        let next = page.last().filter(|_| page.len() == limit as usize).map(|id| WorkerId(*id));
        let armed = stored(tx.observed);
        tx.execute(sql::WORKER_ADOPT, values_of![page, to.0, i64::from(REARMED_AT_MOST), armed]).await?;
        for id in &page {
            tx.loaded.forget_worker(WorkerId(*id));
        }
        let rows = workers::some(tx.conn, &page).await?;
        let mut leases = leases(tx, page).await?;
        let with_leases = |row: WorkerRow| {
            let held = leases.remove(&row.holder()).unwrap_or_default();
            (row, held)
        };
        let sessions: Vec<_> = rows.into_iter().map(with_leases).collect();
        let sessions = sessions.into_iter().filter(|(row, held)| row.session_open || !held.is_empty()).collect();
        Ok(Ok(Adopted { sessions, lost_race: false, next }))
    }
}

/// Open leases of workers whose rows are locked: nothing is claimed for them meanwhile.
async fn leases(tx: &mut Tx<'_>, workers: Vec<i64>) -> Done<HashMap<Holder, Vec<LeaseRow>>> {
    let seqs: Vec<i64> = column(tx.conn, sql::LEASES_OF_SOME, values_of![workers]).await?;
    let runs = readable_by_seq(tx.conn, seqs).await?;
    let seqs: Vec<i64> = runs.iter().map(|run| run.seq).collect();
    tx.load_bodies(&seqs).await?;
    let mut held: HashMap<Holder, Vec<LeaseRow>> = HashMap::new();
    for run in runs {
        let Some((holder, _)) = run.lease() else { continue };
        let (class, body) = (tx.match_class(run.class).await?, tx.loaded.bodies.get(&run.seq).cloned());
        held.entry(holder).or_default().extend(readable(run.seq, lease_row(run, class, body))?);
    }
    Ok(held)
}

pub(crate) async fn homes(reader: &Reader<'_>, replica: ReplicaId) -> Done<Homes> {
    let conn = reader.conn();
    let taken = single::<i64>(conn, sql::REPLICA_TAKEN_GET, values_of![replica.0]).await?.unwrap_or(0);
    let read = |row: &Row| {
        let holder = Holder { worker: WorkerId(get(row, 0)?), incarnation: Incarnation(get(row, 1)?) };
        Ok((holder, HomeSeq(get(row, 2)?)))
    };
    let rows = query(conn, sql::WORKER_HOMED, values_of![replica.0]).await?;
    Ok(Homes { taken, sessions: rows.iter().map(read).collect::<Done<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_of_a_newer_version_is_passed_over_and_the_others_are_read() {
        let note = Note {
            holder: Holder { worker: WorkerId(7), incarnation: Incarnation(2) },
            opened: None,
            age: outlive_core::Millis(5),
            named: Vec::new(),
            evicted: false,
        };
        let known = serde_json::to_string(&note).unwrap();
        let more = known.replacen('{', "{\"and\":1,", 1);
        assert_eq!(read_notes(&format!("[{known},{{\"of\":\"the next\"}},7,{more}]")), [note.clone(), note]);
        assert_eq!(read_notes("{}"), []);
    }
}
