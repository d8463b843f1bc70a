//! Ready runs that a transaction knows of: for each class the first ones in the order of claims, read page by page without
//! locks, and kept true by everything that the transaction itself does.

use crate::fault::Done;
use crate::sql;
use crate::value::{get, query, values_of};
use outlive_core::ClassId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
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
    /// Somebody else was at one of them.
    passed_over: bool,
}

impl Default for Pool {
    fn default() -> Self {
        Self { runs: BTreeMap::new(), last: (i64::MIN, i64::MIN), drained: false, passed_over: false }
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

    /// What orders take of some of the classes, one after the other, if nothing but rank decides: each names its classes, and how
    /// much it takes. Goes through each line once, however many orders there are.
    pub(crate) fn first_in_line<'o>(
        &self,
        classes: &BTreeSet<ClassId>,
        orders: impl Iterator<Item = (&'o [ClassId], usize)>,
    ) -> Vec<(ClassId, Place)> {
        let line = |class: &ClassId| Some((*class, self.0.get(class)?.runs.keys().copied().peekable()));
        let mut lines: HashMap<ClassId, _> = classes.iter().filter_map(line).collect();
        let mut taken = Vec::new();
        for (named, most) in orders {
            let mut firsts = BinaryHeap::new();
            for class in named {
                let first = lines.get_mut(class).and_then(|line| line.peek().copied());
                firsts.extend(first.map(|place| Reverse((place, *class))));
            }
            for _ in 0..most {
                let Some(Reverse((place, class))) = firsts.pop() else { break };
                let Some(line) = lines.get_mut(&class) else { continue };
                // Not if the order names the class twice.
                if line.next_if_eq(&place).is_some() {
                    taken.push((class, place));
                    firsts.extend(line.peek().map(|next| Reverse((*next, class))));
                }
            }
        }
        taken
    }

    /// It cannot be read.
    pub(crate) fn leave_out(&mut self, class: ClassId, place: Place) {
        if let Some(pool) = self.0.get_mut(&class) {
            pool.runs.remove(&place);
        }
    }

    /// Somebody else is at it.
    pub(crate) fn pass_over(&mut self, class: ClassId, place: Place) {
        if let Some(pool) = self.0.get_mut(&class) {
            pool.runs.remove(&place);
            pool.passed_over = true;
        }
    }

    /// Whether a run of the class was not taken since somebody else was at it.
    pub(crate) fn was_passed_over(&self, class: ClassId) -> bool {
        self.0.get(&class).is_some_and(|pool| pool.passed_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClassId = ClassId(1);
    const B: ClassId = ClassId(2);
    const SHUT: ClassId = ClassId(3);

    fn ready(lines: &[(ClassId, &[Place])]) -> Ready {
        let pool = |places: &[Place]| Pool { runs: places.iter().map(|p| (*p, None)).collect(), ..Pool::default() };
        Ready(lines.iter().map(|(class, places)| (*class, pool(places))).collect())
    }

    #[test]
    fn orders_take_by_rank_over_their_classes_and_nothing_twice() {
        let ready = ready(&[(A, &[(1, 10), (3, 11), (5, 12)]), (B, &[(2, 20), (4, 21)]), (SHUT, &[(0, 30)])]);
        let open = BTreeSet::from([A, B]);
        let take = |orders: &[(&[ClassId], usize)]| {
            let taken = ready.first_in_line(&open, orders.iter().copied());
            taken.into_iter().map(|(_, (_, seq))| seq).collect::<Vec<_>>()
        };
        assert_eq!(take(&[(&[A, B, SHUT], 3)]), [10, 20, 11]);
        assert_eq!(take(&[(&[B], 1), (&[A, B], 2), (&[A], 5)]), [20, 10, 11, 12]);
        assert_eq!(take(&[(&[A, A], 9), (&[SHUT], 9), (&[B, A], 9)]), [10, 11, 12, 20, 21]);
        assert_eq!(take(&[(&[A], 0)]), [0_i64; 0]);
    }
}
