//! Changes of many rows that are the same for all of them: what one worker is given in one batch, and what it says of runs that
//! needed less than a batch. The values are then sent once, and the rows are found by their numbers alone.

use super::{Assumed, all_written, of, versions};
use crate::fault::Done;
use crate::value::{Param, Value as _, execute, type_of};
use futures_util::future::try_join_all;
use outlive_core::run::Run;
use std::collections::HashMap;
use tokio_postgres::Client;

/// Rows of each kind, at least, on average: a statement costs as much as a few rows.
const ROWS: usize = 16;

/// What is written into one row, in the order of the statement, and the version that it must be.
type Change<const N: usize> = ([Option<i64>; N], Option<i64>);

/// Writes rows by the second statement if enough of them change alike, and by the first one if not.
pub(super) async fn write<const N: usize>(
    conn: &Client,
    (each, alike): (&'static str, &'static str),
    runs: &[&Run],
    assumed: &Assumed,
    values: impl Fn(&Run) -> [Option<i64>; N],
) -> Done<()> {
    let versions = versions(runs, assumed);
    let changes: Vec<Change<N>> = runs.iter().zip(&versions).map(|(run, made)| (values(run), *made)).collect();
    let mut kinds: HashMap<&Change<N>, Vec<i64>> = HashMap::new();
    for (run, change) in runs.iter().zip(&changes) {
        kinds.entry(change).or_default().push(run.seq);
    }
    let written = if kinds.len() * ROWS <= runs.len() {
        let written = try_join_all(kinds.iter().map(|(change, seqs)| write_alike(conn, alike, change, seqs))).await?;
        written.iter().sum()
    } else {
        write_each(conn, each, runs, &changes).await?
    };
    all_written(written, &versions)
}

async fn write_alike<const N: usize>(
    conn: &Client,
    sql: &'static str,
    (values, made): &Change<N>,
    seqs: &Vec<i64>,
) -> Done<u64> {
    let mut params: Vec<Param<'_>> = vec![(seqs, type_of(seqs))];
    params.extend(values.iter().chain([made]).map(|value| (value as _, Option::<i64>::TYPE)));
    execute(conn, sql, &params).await
}

async fn write_each<const N: usize>(
    conn: &Client,
    sql: &'static str,
    runs: &[&Run],
    changes: &[Change<N>],
) -> Done<u64> {
    let seqs = of(runs, |run| run.seq);
    let columns: [Vec<Option<i64>>; N] = std::array::from_fn(|i| of(changes, |(values, _)| values[i]));
    let made = of(changes, |(_, made)| *made);
    let mut params: Vec<Param<'_>> = vec![(&seqs, type_of(&seqs))];
    params.extend(columns.iter().chain([&made]).map(|column| (column as _, type_of(column))));
    execute(conn, sql, &params).await
}
