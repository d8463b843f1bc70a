//! Leases as their workers need them.

use crate::fault::{Done, Fault};
use crate::rows::{column, from_text, json, prepared, readable, run_by_seq};
use crate::sql;
use outlive_core::class::MatchClass;
use outlive_core::run::Run;
use outlive_core::{Holder, Json};
use outlive_store::LeaseRow;
use rusqlite::{Connection, OptionalExtension};
use std::sync::Arc;

/// A leased run with its input, options, checkpoint and resume data.
pub(crate) fn lease_row(conn: &Connection, run: Run, class: Arc<MatchClass>) -> Done<LeaseRow> {
    type Body = (String, Option<String>, Option<String>, Option<String>);
    let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Body> {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    };
    let body = prepared(conn, sql::LEASE_BODY)?.query_row([run.seq], read).optional()?;
    let (input, options, checkpoint, resume_data) =
        body.ok_or_else(|| Fault::damaged(format!("run {} has no input", run.id)))?;
    Ok(LeaseRow {
        run,
        class,
        input: Json::parse(input)?,
        options: from_text(options)?.unwrap_or_default(),
        checkpoint: json(checkpoint)?,
        resume_data: json(resume_data)?.filter(|data| !data.is_null()),
    })
}

/// Runs whose open lease the holder has.
pub(crate) fn open_runs(conn: &Connection, holder: Holder) -> Done<Vec<Run>> {
    let mut runs = Vec::new();
    for seq in column(conn, sql::LEASES_OF, &[&holder.worker.0])? {
        let run = readable(seq, run_by_seq(conn, seq))?.flatten();
        runs.extend(run.filter(|run| run.holder == Some(holder)));
    }
    Ok(runs)
}

/// The open leases of a holder.
pub(crate) fn leases_of(
    conn: &Connection,
    holder: Holder,
    class_of: impl Fn(&Run) -> Done<Arc<MatchClass>>,
) -> Done<Vec<LeaseRow>> {
    let mut leases = Vec::new();
    for run in open_runs(conn, holder)? {
        let seq = run.seq;
        leases.extend(readable(seq, class_of(&run).and_then(|class| lease_row(conn, run, class)))?);
    }
    Ok(leases)
}
