//! Another history of the database: a standby took over, or a copy was restored. What ran in the old one after that is not in
//! this one, and its workers do not know that. So nothing of the old history may be taken for something of the new one:
//!
//! - the *generation* changes: session tokens of any other are void, workers register anew;
//! - what was leased is queued again, from its last checkpoint, at no cost, or ends if it was asked to;
//! - the *epochs* of all runs that have not ended jump by 2^20, and nobody holds them: whatever is said under an older epoch is
//!   fenced, and the worker that says it kills that attempt;
//! - no queue gives anything for as long as a worker that hears nobody may go on believing in a lease of it
//!   (`queue.quiet_until`): a run that waits here may be at work by now, so nothing is started twice.
//!
//! All in the transaction of the start that finds the other history.

use crate::cache::Cache;
use crate::db::Op as _;
use crate::fault::Done;
use crate::rows::observed;
use crate::sql;
use crate::store::Time;
use crate::tx::Tx;
use crate::value::{execute, get, query, values_of};
use outlive_core::policy::LeaseTerms;
use outlive_core::run::{Evidence, LossBudget};
use outlive_core::{Epoch, Holder, Incarnation, Millis, QueueId, Reason, Wall, WorkerId};
use outlive_store::Verdict;
use std::collections::BTreeMap;
use tokio_postgres::Client;
use uuid::Uuid;

/// Runs whose epochs jump in one statement.
const PAGE: i64 = 10_000;

/// Makes it another store than the one of the old history.
pub(crate) async fn renew(conn: &Client, shard: i64, time: Time, process_now: Wall, timeline: i64) -> Done<()> {
    let rows = query(conn, sql::HEAD, &[]).await?;
    let head = rows.first().ok_or_else(|| crate::fault::Fault::damaged("outlive.meta has no row"))?;
    let now = match time {
        Time::Database => Wall(get(head, 11)?),
        Time::Process => process_now,
    };
    let mut cache = Cache::new(std::sync::Arc::default(), shard);
    cache.refresh(conn, get(head, 9)?).await?;
    let mut tx = Tx::new(conn, &mut cache, now, observed(get(head, 8)?));
    quieten(&mut tx).await?;
    close(&mut tx).await?;
    tx.conclude().await?;
    jump(conn).await?;
    for statement in [sql::WORKER_RENEW, sql::REQUEST_RENEW, sql::ERRAND_RENEW] {
        execute(conn, statement, &[]).await?;
    }
    execute(conn, sql::META_TIMELINE, values_of![Uuid::new_v4(), timeline]).await.map(drop)
}

/// Each queue waits for the longest trust that a worker may have in a lease of it: by the terms of those that are open here,
/// and by its policy for those that were given out since.
async fn quieten(tx: &mut Tx<'_>) -> Done<()> {
    let mut trusted: BTreeMap<QueueId, Millis> =
        tx.cache.queues.values().map(|queue| (queue.row.id, trust(queue.policy.terms()))).collect();
    for row in tx.query(sql::TERMS_OPEN, &[]).await? {
        let longest = trusted.entry(QueueId(get(&row, 0)?)).or_default();
        *longest = trust(LeaseTerms::from_number(get(&row, 1)?)).max(*longest);
    }
    let queues: Vec<i64> = trusted.keys().map(|queue| queue.0).collect();
    let until: Vec<i64> = trusted.values().map(|trust| (tx.now + *trust).0).collect();
    tx.execute(sql::QUEUE_QUIET, values_of![queues, until]).await.map(drop)
}

fn trust(terms: LeaseTerms) -> Millis {
    terms.lease_ttl + terms.offline_grace
}

/// Closes every lease, and the sessions that had them.
async fn close(tx: &mut Tx<'_>) -> Done<()> {
    for row in tx.query(sql::HOLDERS_OPEN, &[]).await? {
        let holder = Holder { worker: WorkerId(get(&row, 0)?), incarnation: Incarnation(get(&row, 1)?) };
        let verdict = Verdict {
            holder,
            guard: None,
            leases: None,
            reason: Reason::LeaseReleased,
            evidence: Evidence::Person,
            last_heard_at: tx.now,
            budget: LossBudget::Free,
            end_session: true,
        };
        if let Err(error) = verdict.run(tx).await? {
            return Err(crate::fault::Fault::Other(error.to_string()));
        }
    }
    Ok(())
}

async fn jump(conn: &Client) -> Done<()> {
    let mut after = 0;
    loop {
        let rows = query(conn, sql::RUN_RENEW, values_of![Epoch::JUMP, after, PAGE]).await?;
        match rows.iter().map(|row| get(row, 0)).collect::<Done<Vec<i64>>>()?.into_iter().max() {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}
