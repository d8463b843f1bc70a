//! Business keys whose earlier run is still leased: `on_conflict: replace` takes the key from it at once, and the new run
//! waits until that lease has closed (`key_busy`).

use crate::fault::Done;
use crate::rows::{execute, run_by_seq};
use crate::tx::Tx;
use crate::{serial, sql};
use outlive_core::State;

/// Whether this run waits for another's lease to close.
pub(crate) fn waits(tx: &Tx<'_>, seq: i64) -> bool {
    !tx.cache.key_waits.is_empty() && tx.cache.key_waits.values().any(|waiting| waiting.contains(&seq))
}

/// `seq` waits for the lease of `waits_for`.
pub(crate) fn wait_for(tx: &mut Tx<'_>, seq: i64, waits_for: i64) -> Done<()> {
    execute(tx.conn, sql::KEY_WAIT_INSERT, &[&seq, &waits_for])?;
    tx.cache.key_waits.entry(waits_for).or_default().push(seq);
    Ok(())
}

/// The lease that a run waits for, if it waits for one.
pub(crate) fn waits_for(tx: &Tx<'_>, seq: i64) -> Option<i64> {
    tx.cache.key_waits.iter().find(|(_, waiting)| waiting.contains(&seq)).map(|(of, _)| *of)
}

/// The run will never be claimed: it waits no more.
pub(crate) fn stop_waiting(tx: &mut Tx<'_>, seq: i64) -> Done<()> {
    let Some(of) = waits_for(tx, seq) else { return Ok(()) };
    execute(tx.conn, sql::KEY_WAIT_DELETE, &[&seq])?;
    if let Some(waiting) = tx.cache.key_waits.get_mut(&of) {
        waiting.retain(|&other| other != seq);
        if waiting.is_empty() {
            tx.cache.key_waits.remove(&of);
        }
    }
    Ok(())
}

/// The lease of `seq` closed: whoever waited for it may be claimed, serial keys permitting.
pub(crate) fn lease_closed(tx: &mut Tx<'_>, seq: i64) -> Done<()> {
    let Some(waiting) = tx.cache.key_waits.remove(&seq) else { return Ok(()) };
    for seq in waiting {
        execute(tx.conn, sql::KEY_WAIT_DELETE, &[&seq])?;
        let Some(run) = run_by_seq(tx.conn, seq)?.filter(|run| run.state == State::Queued) else { continue };
        if run.serial_key.is_some() {
            serial::moved(tx, &run, false)?;
        } else if execute(tx.conn, sql::RUN_UNBLOCK, &[&seq])? > 0 {
            tx.hint_ready(run.class);
        }
    }
    Ok(())
}
