//! Serial keys: of the waiting runs of one key only the first in rank order is in the ready index, and only while no run of
//! the key is leased.
//!
//! `serial_slot` says who holds the key (a lease is open), who is first in line, and who claimed it last. Everything but the
//! last is derived: [`settle`] works it out again from rows, so the audit can call it on any key at any time.

use crate::fault::Done;
use crate::keys;
use crate::rows::{column, execute, prepared, run_by_seq, slot_of};
use crate::sql;
use crate::tx::Tx;
use outlive_core::State;
use outlive_core::run::Run;
use rusqlite::{Connection, OptionalExtension, params};

/// A key's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    holder: Option<i64>,
    head: Option<i64>,
    last_claimed: Option<i64>,
}

fn load(conn: &Connection, slot: &str) -> Done<Option<Slot>> {
    let read = |row: &rusqlite::Row<'_>| Ok(Slot { holder: row.get(0)?, head: row.get(1)?, last_claimed: row.get(2)? });
    Ok(prepared(conn, sql::SERIAL_GET)?.query_row([slot], read).optional()?)
}

/// Whether a run of the same key was claimed since this one. A slot is forgotten only after its last run has ended; so a
/// run that waits and finds none was not the last.
pub(crate) fn moved_on(tx: &Tx<'_>, run: &Run) -> Done<bool> {
    let Some(key) = &run.serial_key else { return Ok(false) };
    let slot = load(tx.conn, &slot_of(&tx.class(run.class)?.namespace, key))?;
    Ok(slot.is_none_or(|slot| slot.last_claimed != Some(run.seq)))
}

/// A run with a serial key came, was claimed, gave its lease up, or left the line.
pub(crate) fn moved(tx: &mut Tx<'_>, run: &Run, freed: bool) -> Done<()> {
    let Some(key) = &run.serial_key else { return Ok(()) };
    let name = slot_of(&tx.class(run.class)?.namespace, key);
    let was = load(tx.conn, &name)?;
    let mut slot = was.unwrap_or_default();
    if run.state.is_leased() {
        slot.holder = Some(run.seq);
        slot.last_claimed = Some(run.seq);
    } else if freed && slot.holder == Some(run.seq) {
        slot.holder = None;
    }
    settle(tx, &name, was, slot).map(drop)
}

/// The audit's look at one key: whether anything was wrong.
pub(crate) fn audit(tx: &mut Tx<'_>, name: &str) -> Done<bool> {
    let Some(was) = load(tx.conn, name)? else { return Ok(false) };
    let mut slot = was;
    if let Some(holder) = slot.holder {
        let open = run_by_seq(tx.conn, holder)?.is_some_and(|run| run.state.is_leased());
        slot.holder = slot.holder.filter(|_| open);
    }
    let mut changed = settle(tx, name, Some(was), slot)?;
    let head = load(tx.conn, name)?.and_then(|slot| slot.head);
    for ready in column::<i64>(tx.conn, sql::SERIAL_READY, &[&name])? {
        if head != Some(ready) {
            changed |= execute(tx.conn, sql::RUN_BLOCK, &[&ready])? > 0;
        }
    }
    Ok(changed)
}

/// The audit's look at one run with a serial key: whether its key's row did not know of it.
pub(crate) fn audit_run(tx: &mut Tx<'_>, run: &Run) -> Done<bool> {
    let Some(key) = &run.serial_key else { return Ok(false) };
    let slot = load(tx.conn, &slot_of(&tx.class(run.class)?.namespace, key))?;
    let known = match slot {
        Some(slot) => !run.state.is_leased() || slot.holder == Some(run.seq),
        None => run.state != State::Queued && !run.state.is_leased(),
    };
    if !known {
        moved(tx, run, false)?;
    }
    Ok(!known)
}

/// Makes the first in line ready, or nobody while the key is held. Returns whether a row changed.
fn settle(tx: &mut Tx<'_>, name: &str, was: Option<Slot>, mut slot: Slot) -> Done<bool> {
    slot.head = if slot.holder.is_some() { None } else { first_in_line(tx, name)? };
    let mut changed = was != Some(slot);
    if let Some(old) = was.and_then(|was| was.head).filter(|&old| slot.head != Some(old)) {
        changed |= execute(tx.conn, sql::RUN_BLOCK, &[&old])? > 0;
    }
    if let Some(head) = slot.head
        && execute(tx.conn, sql::RUN_UNBLOCK, &[&head])? > 0
    {
        changed = true;
        if let Some(run) = run_by_seq(tx.conn, head)? {
            tx.hint_ready(run.class);
        }
    }
    if was != Some(slot) {
        prepared(tx.conn, sql::SERIAL_PUT)?.execute(params![name, slot.holder, slot.head, slot.last_claimed])?;
    }
    Ok(changed)
}

fn first_in_line(tx: &Tx<'_>, name: &str) -> Done<Option<i64>> {
    let mut statement = prepared(tx.conn, sql::SERIAL_WAITING)?;
    let mut rows = statement.query([name])?;
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        if !keys::waits(tx, seq) {
            return Ok(Some(seq));
        }
    }
    Ok(None)
}
