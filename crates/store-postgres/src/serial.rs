//! Serial keys: of the waiting runs of one key only the first in rank order is in the ready index, and only while no run of
//! the key is leased.
//!
//! `serial_slot` says who holds the key (a lease is open), who is first in line, and who claimed it last. Whoever changes a
//! run of a key has its row locked, so all of this is exact over all replicas. Everything but the last is derived:
//! [`settle`] works it out again from rows, for all lines that moved at once, so the audit can call it on any key at any time.

use crate::fault::Done;
use crate::sql;
use crate::tx::Tx;
use crate::value::{column, get, query, values_of};
use outlive_core::run::Run;
use outlive_core::{ClassId, State};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A key's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) holder: Option<i64>,
    pub(crate) head: Option<i64>,
    pub(crate) last_claimed: Option<i64>,
}

/// Whether a run of the same key was claimed since this one. A slot is forgotten only after its last run has ended; so a
/// run that waits and finds none was not the last.
pub(crate) async fn moved_on(tx: &mut Tx<'_>, run: &Run) -> Done<bool> {
    let Some(name) = tx.slot_name(run).await? else { return Ok(false) };
    let slot = tx.line(&name, false).await?;
    Ok(slot.is_none_or(|slot| slot.last_claimed != Some(run.seq)))
}

/// A run with a serial key came, was claimed, gave its lease up, or left the line.
pub(crate) async fn moved(tx: &mut Tx<'_>, run: &Run, freed: bool) -> Done<()> {
    let Some(name) = tx.slot_name(run).await? else { return Ok(()) };
    tx.line(&name, true).await?;
    let command = tx.command;
    let Some(line) = tx.loaded.lines.get_mut(&name) else { return Ok(()) };
    let was = line.slot;
    if run.state.is_leased() {
        line.slot.holder = Some(run.seq);
        line.slot.last_claimed = Some(run.seq);
    } else if freed && line.slot.holder == Some(run.seq) {
        line.slot.holder = None;
    }
    line.moved_by = Some(command);
    if line.slot != was {
        tx.pending.lines.insert(name);
    }
    Ok(())
}

/// Whether lines moved that are not settled.
pub(crate) fn unsettled(tx: &Tx<'_>) -> bool {
    tx.loaded.lines.values().any(|line| line.moved_by.is_some())
}

/// Makes the first in each line that moved ready, or nobody while the key is held. Returns how many lines were not so.
pub(crate) async fn settle(tx: &mut Tx<'_>) -> Done<u64> {
    let moved: BTreeMap<String, usize> =
        tx.loaded.lines.iter().filter_map(|(name, line)| Some((name.clone(), line.moved_by?))).collect();
    if moved.is_empty() {
        return Ok(0);
    }
    let heads = first_in_line(tx, &moved).await?;
    let (mut block, mut unblock, mut changed) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    for (name, command) in &moved {
        let Some(line) = tx.loaded.lines.get_mut(name) else { continue };
        line.moved_by = None;
        let (old, new) = (line.slot.head, heads.get(name).copied());
        block.extend(old.filter(|_| old != new));
        unblock.extend(new.map(|seq| (seq, (name, *command))));
        if old != new {
            line.slot.head = new;
            changed.insert(name);
            tx.pending.lines.insert(name.clone());
        }
    }
    set_blocked(tx, block, true).await?;
    let seqs = unblock.keys().copied().collect();
    for (seq, class) in set_blocked(tx, seqs, false).await? {
        if let Some((name, command)) = unblock.get(&seq) {
            changed.insert(name);
            let here = std::mem::replace(&mut tx.command, *command);
            tx.hint_ready(class);
            tx.command = here;
        }
    }
    Ok(changed.len() as u64)
}

/// Of each line that nobody holds, the first that waits for no business key.
async fn first_in_line(tx: &mut Tx<'_>, moved: &BTreeMap<String, usize>) -> Done<HashMap<String, i64>> {
    let is_free = |name: &&String| tx.loaded.lines.get(*name).is_some_and(|line| line.slot.holder.is_none());
    let free: Vec<&str> = moved.keys().filter(is_free).map(String::as_str).collect();
    if free.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = tx.query(sql::SERIAL_HEADS, values_of![free]).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

/// Takes waiting runs out of the ready index, or puts them there; those that changed.
pub(crate) async fn set_blocked(tx: &mut Tx<'_>, seqs: Vec<i64>, blocked: bool) -> Done<Vec<(i64, ClassId)>> {
    if seqs.is_empty() {
        return Ok(Vec::new());
    }
    let statement = if blocked { sql::RUN_BLOCK } else { sql::RUN_UNBLOCK };
    let mut changed = Vec::new();
    for row in tx.query(statement, values_of![seqs]).await? {
        let (seq, class, rank) = (get(&row, 0)?, ClassId(get(&row, 1)?), get(&row, 2)?);
        changed.push((seq, class));
        if let Some(run) = tx.loaded.runs.get_mut(&seq) {
            run.blocked = blocked;
        }
        tx.ready.set(class, (rank, seq), !blocked, get(&row, 3)?);
    }
    Ok(changed)
}

/// The audit's look at a page of keys: how many were wrong.
pub(crate) async fn audit(tx: &mut Tx<'_>, names: &[String]) -> Done<u64> {
    let missing: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| !tx.loaded.lines.contains_key(*name)).collect();
    if !missing.is_empty() {
        let rows = query(tx.conn, sql::SERIAL_LOCK, values_of![missing]).await?;
        tx.take_lines(&rows)?;
    }
    let mut wrong = BTreeSet::new();
    for name in names {
        let Some(slot) = tx.loaded.lines.get(name).map(|line| line.slot) else { continue };
        let mut holder = slot.holder;
        if let Some(seq) = holder {
            let open = tx.run_by_seq(seq).await?.is_some_and(|run| run.state.is_leased());
            holder = holder.filter(|_| open);
        }
        let command = tx.command;
        let Some(line) = tx.loaded.lines.get_mut(name) else { continue };
        line.moved_by = Some(command);
        if line.slot.holder != holder {
            line.slot.holder = holder;
            tx.pending.lines.insert(name.clone());
            wrong.insert(name);
        }
    }
    let mut found = settle(tx).await? + wrong.len() as u64;
    for name in names {
        let head = tx.loaded.lines.get(name).and_then(|line| line.slot.head);
        let ready: Vec<i64> = column(tx.conn, sql::SERIAL_READY, values_of![name.as_str()]).await?;
        let astray = ready.into_iter().filter(|seq| head != Some(*seq)).collect();
        found += set_blocked(tx, astray, true).await?.len() as u64;
    }
    Ok(found)
}

/// The audit's look at one run with a serial key: whether its key's row did not know of it.
pub(crate) async fn audit_run(tx: &mut Tx<'_>, run: &Run) -> Done<bool> {
    let Some(name) = tx.slot_name(run).await? else { return Ok(false) };
    let known = match tx.line(&name, false).await? {
        Some(slot) => !run.state.is_leased() || slot.holder == Some(run.seq),
        None => run.state != State::Queued && !run.state.is_leased(),
    };
    if known {
        return Ok(false);
    }
    // As it is under the key's lock.
    let Some(run) = tx.run_by_seq(run.seq).await? else { return Ok(false) };
    moved(tx, &run, false).await?;
    Ok(true)
}
