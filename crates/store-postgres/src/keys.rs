//! Business keys whose earlier run is still leased: `on_conflict: replace` takes the key from it at once, and the new run
//! waits until that lease has closed (`key_busy`).

use crate::fault::Done;
use crate::tx::Tx;
use crate::value::{get, values_of};
use crate::{serial, sql};
use outlive_core::State;
use outlive_core::run::Run;

/// `seq` waits for the lease of `waits_for`.
pub(crate) async fn wait_for(tx: &mut Tx<'_>, seq: i64, waits_for: i64) -> Done<()> {
    tx.execute(sql::KEY_WAIT_INSERT, values_of![seq, waits_for]).await.map(drop)
}

/// The lease that a run waits for, if it waits for one: who waits has a business key.
pub(crate) async fn waits_for(tx: &mut Tx<'_>, run: &Run) -> Done<Option<i64>> {
    if run.key.is_none() {
        return Ok(None);
    }
    let rows = tx.query(sql::KEY_WAIT_GET, values_of![run.seq]).await?;
    rows.first().map(|row| get(row, 0)).transpose()
}

/// The lease of `seq` closed: whoever waited for it may be claimed, serial keys permitting.
pub(crate) async fn lease_closed(tx: &mut Tx<'_>, seq: i64) -> Done<()> {
    let rows = tx.query(sql::KEY_WAIT_OF, values_of![seq]).await?;
    let waiting = rows.iter().map(|row| get(row, 0)).collect::<Done<Vec<i64>>>()?;
    if waiting.is_empty() {
        return Ok(());
    }
    tx.lock_seqs(&waiting).await?;
    tx.execute(sql::KEY_WAIT_DELETE, values_of![waiting]).await?;
    for seq in waiting {
        let Some(run) = tx.run_by_seq(seq).await?.filter(|run| run.state == State::Queued) else { continue };
        if run.serial_key.is_some() {
            serial::moved(tx, &run, false).await?;
            continue;
        }
        for (_, class) in serial::set_blocked(tx, vec![seq], false).await? {
            tx.hint_ready(class);
        }
    }
    Ok(())
}
