//! Rows of runs: no more of a row is sent than is new.

mod alike;

use super::{Writing, exactly, of};
use crate::fault::Done;
use crate::pending::Width;
use crate::recent::{Made, changed_elsewhere};
use crate::rows::stored;
use crate::sql;
use crate::value::{execute, plain, values_of};
use outlive_core::run::{ClosedBy, OutputHead, Run};
use outlive_core::{Outcome, Reason, Wall};
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// Versions of rows that are not locked.
type Assumed = BTreeMap<i64, Made>;
type Update = for<'a> fn(&'a Client, Vec<&'a Run>, &'a Assumed) -> Writing<'a>;

/// Who writes how much of a row.
pub(super) const UPDATES: &[(Width, Update)] = &[
    (Width::Whole, |conn, runs, assumed| Box::pin(update(conn, runs, assumed))),
    (Width::Claim, |conn, runs, assumed| Box::pin(claim(conn, runs, assumed))),
    (Width::End, |conn, runs, assumed| Box::pin(end(conn, runs, assumed))),
    (Width::Touch, |conn, runs, assumed| Box::pin(touch(conn, runs, assumed))),
];

/// Whether a new run is like most: nothing has happened to it but a claim, and no other row depends on it. The other columns of
/// such a row are written in `run_insert_plain.sql`.
pub(super) fn is_plain(run: &Run) -> bool {
    (run.failures, run.losses, run.losses_in_row) == (0, 0, 0)
        && (run.due_at, run.started_at, run.finished_at) == (None, None, None)
        && (run.outcome, run.reason, run.recovery) == (None, None, None)
        && run.closed_by == ClosedBy::Open
        && run.output == OutputHead { next: 1, ..OutputHead::default() }
        && (&run.serial_key, &run.key) == (&None, &None)
        && !run.has_subjects
        && !run.blocked
}

/// New rows that are plain.
pub(super) async fn insert_plain(conn: &Client, runs: Vec<&Run>) -> Done<()> {
    let values = values_of![
        of(&runs, |run| run.seq),
        of(&runs, |run| run.id.0),
        of(&runs, |run| run.class.0),
        of(&runs, |run| run.queue.0),
        of(&runs, |run| run.state.number()),
        of(&runs, |run| run.rank),
        of(&runs, |run| i64::from(run.priority)),
        of(&runs, |run| run.epoch.0),
        of(&runs, |run| run.created_at.0),
        of(&runs, |run| run.queued_at.map(|at| at.0)),
        of(&runs, |run| run.claimed_at.map(|at| at.0)),
        of(&runs, |run| stored(run.lease_observed)),
        of(&runs, |run| run.holder.map(|h| h.worker.0)),
        of(&runs, |run| run.holder.map(|h| h.incarnation.0)),
        of(&runs, |run| run.terms.number()),
        of(&runs, |run| stored(run.begun_observed)),
    ];
    exactly(execute(conn, sql::RUN_INSERT_PLAIN, values).await?, runs.len(), "new runs")
}

/// New rows of any kind, with their serial keys as stored.
pub(super) async fn insert(conn: &Client, runs: Vec<&Run>, slots: Vec<Option<String>>) -> Done<()> {
    let wall = |at: fn(&Run) -> Option<Wall>| of(&runs, |run| at(run).map(|at| at.0));
    let values = values_of![
        of(&runs, |run| run.seq),
        of(&runs, |run| run.id.0),
        of(&runs, |run| run.class.0),
        of(&runs, |run| run.queue.0),
        of(&runs, |run| run.state.number()),
        of(&runs, |run| run.blocked),
        of(&runs, |run| run.rank),
        of(&runs, |run| i64::from(run.priority)),
        of(&runs, |run| run.epoch.0),
        of(&runs, |run| i64::from(run.failures)),
        of(&runs, |run| i64::from(run.losses)),
        of(&runs, |run| i64::from(run.losses_in_row)),
        of(&runs, |run| run.outcome.map(Outcome::number)),
        of(&runs, |run| run.reason.map(Reason::number)),
        of(&runs, |run| run.created_at.0),
        wall(|run| run.queued_at),
        wall(|run| run.due_at),
        wall(|run| run.claimed_at),
        wall(|run| run.started_at),
        wall(|run| run.finished_at),
        of(&runs, |run| stored(run.lease_observed)),
        of(&runs, |run| run.holder.map(|h| h.worker.0)),
        of(&runs, |run| run.holder.map(|h| h.incarnation.0)),
        of(&runs, |run| run.closed_by as i64),
        of(&runs, |run| run.output.next),
        of(&runs, |run| run.output.seq),
        of(&runs, |run| run.output.bytes),
        of(&runs, |run| run.output.marker),
        slots,
        of(&runs, |run| run.key.as_deref().map(plain)),
        of(&runs, |run| run.recovery),
        of(&runs, |run| run.terms.number()),
        of(&runs, |run| run.has_subjects),
        of(&runs, |run| stored(run.begun_observed)),
    ];
    exactly(execute(conn, sql::RUN_INSERT, values).await?, runs.len(), "new runs")
}

/// Which version of each run the change is of, if it is not locked.
fn versions(runs: &[&Run], assumed: &Assumed) -> Vec<Option<i64>> {
    of(runs, |run| assumed.get(&run.seq).map(|made| made.number()))
}

/// All of them were written; what was not locked may have been changed elsewhere.
fn all_written(written: u64, versions: &[Option<i64>]) -> Done<()> {
    let done = exactly(written, versions.len(), "runs");
    if versions.iter().any(Option::is_some) { done.map_err(|_| changed_elsewhere()) } else { done }
}

/// Writes what a transition may have changed.
async fn update(conn: &Client, runs: Vec<&Run>, assumed: &Assumed) -> Done<()> {
    let versions = versions(&runs, assumed);
    let wall = |at: fn(&Run) -> Option<Wall>| of(&runs, |run| at(run).map(|at| at.0));
    let values = values_of![
        of(&runs, |run| run.seq),
        of(&runs, |run| run.state.number()),
        of(&runs, |run| run.blocked),
        of(&runs, |run| run.rank),
        of(&runs, |run| run.epoch.0),
        of(&runs, |run| i64::from(run.failures)),
        of(&runs, |run| i64::from(run.losses)),
        of(&runs, |run| i64::from(run.losses_in_row)),
        of(&runs, |run| run.outcome.map(Outcome::number)),
        of(&runs, |run| run.reason.map(Reason::number)),
        wall(|run| run.queued_at),
        wall(|run| run.due_at),
        wall(|run| run.claimed_at),
        wall(|run| run.started_at),
        wall(|run| run.finished_at),
        of(&runs, |run| stored(run.lease_observed)),
        of(&runs, |run| run.holder.map(|h| h.worker.0)),
        of(&runs, |run| run.holder.map(|h| h.incarnation.0)),
        of(&runs, |run| run.closed_by as i64),
        of(&runs, |run| run.output.next),
        of(&runs, |run| run.output.seq),
        of(&runs, |run| run.output.bytes),
        of(&runs, |run| run.output.marker),
        of(&runs, |run| run.key.as_deref().map(plain)),
        of(&runs, |run| run.recovery),
        of(&runs, |run| run.terms.number()),
        of(&runs, |run| stored(run.begun_observed)),
        versions,
    ];
    all_written(execute(conn, sql::RUN_UPDATE, values).await?, &versions)
}

/// Writes what a first claim may have changed.
async fn claim(conn: &Client, runs: Vec<&Run>, assumed: &Assumed) -> Done<()> {
    let values = |run: &Run| {
        [
            Some(run.state.number()),
            Some(run.epoch.0),
            run.claimed_at.map(|at| at.0),
            run.due_at.map(|at| at.0),
            Some(stored(run.lease_observed)),
            Some(stored(run.begun_observed)),
            run.holder.map(|h| h.worker.0),
            run.holder.map(|h| h.incarnation.0),
            Some(run.terms.number()),
        ]
    };
    alike::write(conn, (sql::RUN_CLAIM, sql::RUN_CLAIM_ALIKE), &runs, assumed, values).await
}

/// Writes what the end of an attempt that ends its run may have changed.
async fn end(conn: &Client, runs: Vec<&Run>, assumed: &Assumed) -> Done<()> {
    let values = |run: &Run| {
        [
            Some(run.state.number()),
            run.outcome.map(Outcome::number),
            run.reason.map(Reason::number),
            run.finished_at.map(|at| at.0),
            Some(run.closed_by as i64),
            Some(i64::from(run.losses_in_row)),
            run.started_at.map(|at| at.0),
            Some(stored(run.lease_observed)),
            Some(run.output.next),
            Some(run.output.seq),
            Some(run.output.bytes),
            Some(run.output.marker),
            run.recovery,
            Some(stored(run.begun_observed)),
        ]
    };
    alike::write(conn, (sql::RUN_END, sql::RUN_END_ALIKE), &runs, assumed, values).await
}

/// Writes what a report that leaves the state alone may have changed: nothing that an index knows.
async fn touch(conn: &Client, runs: Vec<&Run>, assumed: &Assumed) -> Done<()> {
    let versions = versions(&runs, assumed);
    let values = values_of![
        of(&runs, |run| run.seq),
        of(&runs, |run| i64::from(run.losses_in_row)),
        of(&runs, |run| run.started_at.map(|at| at.0)),
        of(&runs, |run| stored(run.lease_observed)),
        of(&runs, |run| run.output.next),
        of(&runs, |run| run.output.seq),
        of(&runs, |run| run.output.bytes),
        of(&runs, |run| run.output.marker),
        of(&runs, |run| run.recovery),
        of(&runs, |run| stored(run.begun_observed)),
        versions,
    ];
    all_written(execute(conn, sql::RUN_TOUCH, values).await?, &versions)
}
