//! Leases as their workers need them.

use crate::fault::{Done, Fault};
use crate::loaded::Body;
use crate::reader::Reader;
use crate::rows::{readable, readable_by_seq};
use crate::sql;
use crate::tx::Tx;
use crate::value::{column, get, query, values_of};
use outlive_core::Holder;
use outlive_core::class::MatchClass;
use outlive_core::run::Run;
use outlive_store::LeaseRow;
use std::collections::HashMap;
use std::sync::Arc;

/// A leased run with its input, options, checkpoint and resume data.
pub(crate) fn lease_row(run: Run, class: Arc<MatchClass>, body: Option<Body>) -> Done<LeaseRow> {
    let body = body.ok_or_else(|| Fault::damaged(format!("run {} has no input", run.id)))?;
    let Body { input, options, checkpoint, resume_data } = body;
    Ok(LeaseRow { run, class, input, options, checkpoint, resume_data })
}

/// Leases of these runs, in their order, as committed; those that can be read.
pub(crate) async fn lease_rows(reader: &Reader<'_>, runs: Vec<Run>) -> Done<Vec<LeaseRow>> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let seqs: Vec<i64> = runs.iter().map(|run| run.seq).collect();
    let mut bodies: HashMap<i64, Body> = HashMap::new();
    for row in query(reader.conn(), sql::LEASE_BODY, values_of![seqs]).await? {
        let seq = get(&row, 0)?;
        bodies.extend(readable(seq, Body::read(&row))?.map(|body| (seq, body)));
    }
    let mut leases = Vec::with_capacity(runs.len());
    for run in runs {
        let seq = run.seq;
        let Some(class) = readable(seq, reader.class(run.class).await)? else { continue };
        leases.extend(readable(seq, lease_row(run, class.class, bodies.remove(&seq)))?);
    }
    Ok(leases)
}

/// Runs whose open lease the holder has, locked.
pub(crate) async fn open_runs(tx: &mut Tx<'_>, holder: Holder) -> Done<Vec<Run>> {
    let rows = tx.query(sql::LEASES_OF, values_of![holder.worker.0]).await?;
    let seqs = rows.iter().map(|row| get(row, 0)).collect::<Done<Vec<i64>>>()?;
    tx.lock_seqs(&seqs).await?;
    let mut runs = Vec::with_capacity(seqs.len());
    for seq in seqs {
        if tx.loaded.must_be_readable(seq).is_err() {
            tracing::error!(row = seq, "a run's row cannot be read; it is passed over");
            continue;
        }
        runs.extend(tx.run_by_seq(seq).await?.filter(|run| run.holder == Some(holder) && run.state.is_leased()));
    }
    Ok(runs)
}

/// The open leases of a holder, as committed.
pub(crate) async fn leases_of(reader: &Reader<'_>, holder: Holder) -> Done<Vec<LeaseRow>> {
    let rows: Vec<i64> = column(reader.conn(), sql::LEASES_OF, values_of![holder.worker.0]).await?;
    let mut runs = readable_by_seq(reader.conn(), rows).await?;
    runs.retain(|run| run.holder == Some(holder));
    lease_rows(reader, runs).await
}
