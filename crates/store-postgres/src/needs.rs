//! What a batch will ask for, known from its commands: asked in one go, before any of them runs, and locked in order. What a
//! command needs beyond it is asked when it turns out; so this decides how fast a batch is and who waits for
//! whom, and nothing else.

use crate::cache::Cache;
use crate::create::Lookups;
use crate::fault::{Done, Fault};
use crate::recent::{Made, Recent};
use crate::sql;
use crate::tx::Tx;
use crate::value::{execute, get, plain, query, values_of};
use futures_util::future::{BoxFuture, join_all};
use outlive_core::run::Run;
use outlive_core::{ClassId, Holder, LeaseRef, QueueId, RunId, WorkerId};
use outlive_store::ClaimOrder;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

#[derive(Default)]
pub(crate) struct Needs<'c> {
    /// Runs to come.
    pub(crate) new_runs: usize,
    /// Recoveries to come.
    pub(crate) recoveries: usize,
    /// Runs to lock.
    pub(crate) ids: BTreeSet<RunId>,
    /// Leases that workers report about.
    pub(crate) reported: BTreeMap<RunId, (Holder, LeaseRef)>,
    /// Workers to lock against claims.
    pub(crate) closing: BTreeSet<WorkerId>,
    /// Workers whose sessions open; they are locked, too.
    pub(crate) opening: BTreeSet<WorkerId>,
    /// Workers that claim.
    pub(crate) claiming: BTreeSet<WorkerId>,
    /// Their orders.
    pub(crate) orders: Vec<&'c ClaimOrder>,
    /// Queues with a cap or a rate out of which they claim.
    pub(crate) limited: BTreeSet<QueueId>,
    /// What creations look for.
    pub(crate) lookups: Lookups<'c>,
}

/// Rows of each question, in the order of the questions.
pub(crate) struct Gathered(VecDeque<Vec<Row>>);

type Asking<'a> = BoxFuture<'a, Done<Vec<Row>>>;

impl Needs<'_> {
    /// Leases that are reported about: if nothing else has to be locked and this replica wrote all of them last, their runs are
    /// taken as they were then; otherwise they are locked with the rest.
    pub(crate) fn assume(&mut self, recent: &Recent) -> Vec<(Run, Made)> {
        let known = |(sender, lease): &(Holder, LeaseRef)| recent.get(*sender, *lease).cloned();
        let assumed: Option<Vec<_>> =
            if self.ids.is_empty() { self.reported.values().map(known).collect() } else { None };
        if assumed.is_none() {
            self.ids.extend(self.reported.keys());
        }
        assumed.unwrap_or_default()
    }

    /// Queues that orders will have to lock, by what is remembered of them; so all are locked in order. What this misses is
    /// locked when it turns out.
    pub(crate) fn look_for_limits(&mut self, cache: &Cache) {
        let classes: BTreeSet<ClassId> = self.orders.iter().flat_map(|order| order.classes.iter().copied()).collect();
        let queues = classes.into_iter().filter_map(|class| cache.queues.get(&cache.known.class(class)?.queue));
        self.limited.extend(queues.filter(|queue| queue.is_limited()).map(|queue| queue.row.id));
    }

    /// Begins the transaction and asks everything that depends on no answer.
    pub(crate) async fn gather(&self, conn: &Client) -> Done<Gathered> {
        let claiming: Vec<i64> = self.claiming.difference(&self.closing).map(|worker| worker.0).collect();
        let closing: Vec<i64> = self.closing.iter().map(|worker| worker.0).collect();
        let limited: Vec<i64> = self.limited.iter().map(|queue| queue.0).collect();
        let ids: Vec<Uuid> = self.ids.iter().map(|id| id.0).collect();
        let new_runs = i64::try_from(self.new_runs).unwrap_or(0);
        let recoveries = i64::try_from(self.recoveries).unwrap_or(0);
        let Lookups { chosen, keys, idempotency } = &self.lookups;
        let chosen: Vec<Uuid> = chosen.iter().map(|id| id.0).collect();
        let key_queues: Vec<i64> = keys.iter().map(|(queue, _)| queue.0).collect();
        let key_texts: Vec<_> = keys.iter().map(|(_, key)| plain(key)).collect();
        let namespaces: Vec<_> = idempotency.iter().map(|(namespace, _)| *namespace).collect();
        let used: Vec<_> = idempotency.iter().map(|(_, key)| plain(key)).collect();
        let begin: Asking<'_> = Box::pin(async { execute(conn, sql::BEGIN, &[]).await.map(|_| Vec::new()) });
        let head: Asking<'_> = Box::pin(query(conn, sql::HEAD, &[]));
        let mut asking = vec![begin, head];
        macro_rules! ask {
            ($wanted:expr, $statement:ident, $($value:expr),+) => {
                let (wanted, values) = ($wanted, ($(&$value,)+));
                asking.push(Box::pin(async move {
                    if !wanted {
                        return Ok(Vec::new());
                    }
                    ask!(@ $statement, values, $($value),+)
                }));
            };
            (@ $statement:ident, $values:ident, $a:expr) => {
                query(conn, sql::$statement, values_of![*$values.0]).await
            };
            (@ $statement:ident, $values:ident, $a:expr, $b:expr) => {
                query(conn, sql::$statement, values_of![*$values.0, *$values.1]).await
            };
        }
        ask!(!closing.is_empty(), WORKER_GUARD_LOCK, closing);
        ask!(!claiming.is_empty(), WORKER_GUARDS, claiming);
        ask!(!limited.is_empty(), QUEUE_LOCK, limited);
        ask!(!ids.is_empty(), SERIAL_LOCK_IDS, ids);
        ask!(!ids.is_empty(), RUN_LOCK_IDS, ids);
        ask!(new_runs > 0, RUN_SEQS, new_runs);
        ask!(recoveries > 0, RECOVERY_IDS, recoveries);
        ask!(!chosen.is_empty(), RUN_BY_ID, chosen);
        ask!(!key_queues.is_empty(), RUN_BY_KEY, key_queues, key_texts);
        ask!(!used.is_empty(), IDEMPOTENCY_GET, namespaces, used);
        let mut gathered = VecDeque::new();
        let mut failed: Option<Fault> = None;
        for answer in join_all(asking).await {
            match (answer, &failed) {
                (Ok(rows), _) => gathered.push_back(rows),
                (Err(fault), None | Some(Fault::Aborted)) => failed = Some(fault),
                (Err(_), Some(_)) => {}
            }
        }
        failed.map_or(Ok(Gathered(gathered)), Err)
    }

    /// Puts the answers where commands look for them.
    pub(crate) async fn fill(&self, tx: &mut Tx<'_>, mut gathered: Gathered) -> Done<()> {
        let mut next = || gathered.0.pop_front().unwrap_or_default();
        for (workers, rows) in [(&self.closing, next()), (&self.claiming, next())] {
            for worker in workers {
                tx.loaded.guards.entry(*worker).or_insert(None);
            }
            tx.take_guards(&rows)?;
        }
        tx.loaded.closing.clone_from(&self.closing);
        tx.take_queues(&next())?;
        let (lines, runs) = (next(), next());
        tx.loaded.ids.extend(self.ids.iter().map(|id| (*id, None)));
        tx.take_lines(&lines)?;
        tx.take_runs(&runs).await?;
        let about: Vec<i64> = tx.loaded.runs.values().filter(|run| run.has_subjects).map(|run| run.seq).collect();
        tx.load_means(&about).await?;
        for row in next() {
            tx.loaded.seqs.push_back(get(&row, 0)?);
        }
        for row in next() {
            tx.loaded.recovery_ids.push_back(get(&row, 0)?);
        }
        tx.loaded.chosen.extend(self.lookups.chosen.iter().map(|id| (*id, None)));
        for run in crate::rows::read_runs(&next())? {
            tx.loaded.chosen.insert(run.id, Some(run));
        }
        let keys = self.lookups.keys.iter();
        tx.loaded.keys.extend(keys.map(|(queue, key)| ((*queue, plain(key).into_owned()), None)));
        for row in next() {
            tx.loaded.keys.insert((QueueId(get(&row, 0)?), get(&row, 1)?), Some(get(&row, 2)?));
        }
        let used = self.lookups.idempotency.iter();
        tx.loaded
            .idempotency
            .extend(used.map(|(namespace, key)| (((*namespace).to_owned(), plain(key).into_owned()), None)));
        for row in next() {
            let kept = (get(&row, 2)?, get(&row, 3)?, get(&row, 4)?);
            tx.loaded.idempotency.insert((get(&row, 0)?, get(&row, 1)?), Some(kept));
        }
        crate::workers::prefetch(tx, &self.opening, &self.claiming).await?;
        crate::claim::prefetch(tx, &self.orders).await
    }
}

impl Gathered {
    /// What the transaction begins with.
    pub(crate) fn head(&mut self) -> Done<Row> {
        self.0.pop_front();
        let head = self.0.pop_front().and_then(|rows| rows.into_iter().next());
        head.ok_or_else(|| Fault::damaged("outlive.meta has no row"))
    }
}
