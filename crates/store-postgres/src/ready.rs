//! Ready runs that a transaction knows of: for each class the first ones in the order of claims, read page by page without
//! locks, and kept true by everything that the transaction itself does.

use crate::fault::Done;
use crate::sql;
use crate::value::{get, query, values_of};
use outlive_core::ClassId;
use std::collections::{BTreeMap, HashMap};
use tokio_postgres::Client;

/// Rank and row.
pub(crate) type Place = (i64, i64);

/// The ready runs of one class up to `last`; up to the end if `drained`.
#[derive(Debug)]
pub(crate) struct Pool {
    /// The serial key of each, if it has one.
    pub(crate) runs: BTreeMap<Place, Option<String>>,
    last: Place,
    pub(crate) drained: bool,
}

impl Default for Pool {
    fn default() -> Self {
        Self { runs: BTreeMap::new(), last: (i64::MIN, i64::MIN), drained: false }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Ready(HashMap<ClassId, Pool>);

impl Ready {
    pub(crate) fn pool(&self, class: ClassId) -> Option<&Pool> {
        self.0.get(&class)
    }

    /// Whether each class has this many, or all that there are.
    pub(crate) fn has(&self, wanted: &BTreeMap<ClassId, usize>) -> bool {
        wanted.iter().all(|(class, n)| self.0.get(class).is_some_and(|pool| pool.drained || pool.runs.len() >= *n))
    }

    /// Reads on where a class has less than it should.
    pub(crate) async fn fill(&mut self, conn: &Client, wanted: &BTreeMap<ClassId, usize>) -> Done<()> {
        let (mut classes, mut ranks, mut seqs, mut pages) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (class, n) in wanted {
            let pool = self.0.entry(*class).or_default();
            if !pool.drained && pool.runs.len() < *n {
                classes.push(class.0);
                ranks.push(pool.last.0);
                seqs.push(pool.last.1);
                pages.push(i64::try_from(n - pool.runs.len()).unwrap_or(1));
            }
        }
        if classes.is_empty() {
            return Ok(());
        }
        let rows = query(conn, sql::READY_AFTER, values_of![classes, ranks, seqs, pages]).await?;
        let mut found: HashMap<i64, i64> = HashMap::new();
        for row in &rows {
            let class: i64 = get(row, 0)?;
            let place = (get(row, 1)?, get(row, 2)?);
            *found.entry(class).or_default() += 1;
            let pool = self.0.entry(ClassId(class)).or_default();
            pool.last = pool.last.max(place);
            pool.runs.insert(place, get(row, 3)?);
        }
        for (class, page) in classes.iter().zip(&pages) {
            if found.get(class).copied().unwrap_or(0) < *page
                && let Some(pool) = self.0.get_mut(&ClassId(*class))
            {
                pool.drained = true;
            }
        }
        Ok(())
    }

    /// This transaction made a run ready, or took it away.
    pub(crate) fn set(&mut self, class: ClassId, place: Place, is_ready: bool, slot: Option<String>) {
        let Some(pool) = self.0.get_mut(&class) else { return };
        if !is_ready {
            pool.runs.remove(&place);
        } else if pool.drained || place <= pool.last {
            pool.runs.insert(place, slot);
        }
    }

    /// Somebody else is at it.
    pub(crate) fn pass_over(&mut self, class: ClassId, place: Place) {
        if let Some(pool) = self.0.get_mut(&class) {
            pool.runs.remove(&place);
        }
    }
}
