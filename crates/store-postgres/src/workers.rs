//! The registry: names, incarnations, sessions.

use crate::db::Op;
use crate::fault::{Answer, Done, Fault};
use crate::lease::lease_row;
use crate::needs::Needs;
use crate::reader::Reader;
use crate::rows::{observed, to_text};
use crate::sql;
use crate::tx::Tx;
use crate::value::{Param, column, get, plain, query, values_of};
use async_trait::async_trait;
use outlive_core::class::WorkerProfile;
use outlive_core::feed::{FeedEvent, WorkerEdge};
use outlive_core::{Holder, HomeSeq, Incarnation, Millis, Reason, ReplicaId, Wall, WorkerId};
use outlive_store::{Opened, Presence, RegisterError, Registered, Registration, StoreError, WorkerMark, WorkerRow};
use std::collections::BTreeSet;
use tokio_postgres::{Client, Row};

/// A worker with the secret of its state folder, which no caller gets.
struct Stored {
    row: WorkerRow,
    outbox_key: String,
}

fn presence_number(presence: Presence) -> i64 {
    match presence {
        Presence::Session => 0,
        Presence::Poll(interval) => i64::try_from(interval.0.max(1)).unwrap_or(i64::MAX),
        Presence::None(None) => -1,
        Presence::None(Some(interval)) => -1 - i64::try_from(interval.0).unwrap_or(i64::MAX - 1),
    }
}

fn presence(number: i64) -> Presence {
    match u64::try_from(number) {
        Ok(0) => Presence::Session,
        Ok(interval) => Presence::Poll(Millis(interval)),
        Err(_) => Presence::None(u64::try_from(-1 - number).ok().filter(|&interval| interval > 0).map(Millis)),
    }
}

fn read(row: &Row) -> Done<Stored> {
    let profile: WorkerProfile = serde_json::from_str(get(row, 3)?)?;
    let row_ = WorkerRow {
        id: WorkerId(get(row, 0)?),
        profile,
        incarnation: Incarnation(get(row, 4)?),
        instance: get(row, 5)?,
        presence: presence(get(row, 6)?),
        version: get(row, 7)?,
        host: get(row, 8)?,
        pid: get(row, 9)?,
        first_seen_at: Wall(get(row, 10)?),
        registered_at: Wall(get(row, 11)?),
        last_heard_at: Wall(get(row, 12)?),
        draining: get(row, 13)?,
        left: get(row, 14)?,
        session_open: get(row, 15)?,
        replica: ReplicaId(get(row, 16)?),
        home_seq: HomeSeq(get(row, 17)?),
        rearmed: u8::try_from(get::<i64>(row, 20)?).unwrap_or(u8::MAX),
        armed: observed(get(row, 21)?),
        losses: get(row, 18)?,
    };
    Ok(Stored { row: row_, outbox_key: get(row, 19)? })
}

async fn all(conn: &Client, sql: &'static str, values: &[Param<'_>]) -> Done<Vec<Stored>> {
    query(conn, sql, values).await?.iter().map(read).collect()
}

/// One worker.
pub(crate) async fn worker(conn: &Client, id: WorkerId) -> Done<Option<WorkerRow>> {
    Ok(all(conn, sql::WORKER_GET, values_of![id.0]).await?.pop().map(|stored| stored.row))
}

/// A page of workers: of one namespace by name, of all by row.
pub(crate) async fn workers(
    reader: &Reader<'_>,
    namespace: Option<&str>,
    after: Option<WorkerId>,
    limit: u32,
) -> Done<Vec<WorkerRow>> {
    let limit = i64::from(limit);
    let found = match namespace {
        None => page(reader.conn(), after.map_or(0, |id| id.0), limit).await?,
        Some(namespace) => {
            let name = match after {
                Some(id) => reader.worker_name(id).await?,
                None => String::new(),
            };
            all(reader.conn(), sql::WORKER_PAGE, values_of![namespace, name, limit]).await?
        }
    };
    Ok(found.into_iter().map(|stored| stored.row).collect())
}

async fn page(conn: &Client, after: i64, limit: i64) -> Done<Vec<Stored>> {
    all(conn, sql::WORKER_PAGE_ALL, values_of![after, limit]).await
}

#[async_trait]
impl Op for Registration {
    type Answer = Registered;
    type Refusal = RegisterError;

    /// A process announces itself.
    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Registered, RegisterError> {
        let (namespace, name) = (&self.profile.namespace, &self.profile.name);
        tx.flush().await?;
        let found = all(tx.conn, sql::WORKER_BY_NAME, values_of![namespace.as_str(), name.as_str()]).await?.pop();
        let Some(old) = found else {
            let id = insert(tx, self).await?;
            let worker = reread(tx, id).await?;
            return Ok(Ok(Registered { worker, resumed: false, replaced: None, same_state_folder: true }));
        };
        let (row, id) = (&old.row, old.row.id);
        tx.loaded.forget_worker(id);
        if row.instance == self.instance {
            update(tx, self, row.incarnation, row.draining, row.session_open, row).await?;
            let worker = reread(tx, id).await?;
            return Ok(Ok(Registered { worker, resumed: true, replaced: None, same_state_folder: true }));
        }
        if row.session_open && !row.left && !self.may_replace {
            return Ok(Err(RegisterError::NameInUse { name: name.clone() }));
        }
        let incarnation = Incarnation(row.incarnation.0 + 1);
        let holding = holding(tx, id).await?;
        let replaced = holding.unwrap_or(row.holder());
        update(tx, self, incarnation, false, false, row).await?;
        if row.session_open {
            tell(tx, row, WorkerEdge::Offline, Some(Reason::WorkerReplaced));
        }
        // The key proves the end of the process that registered with it last, and of no other: an incarnation before that one
        // may hold leases that are being taken from it, and be alive.
        let same_key = old.outbox_key == *plain(&self.outbox_key) && replaced.incarnation == row.incarnation;
        let same_state_folder = same_key || row.presence != Presence::Session;
        let worker = reread(tx, id).await?;
        Ok(Ok(Registered { worker, resumed: false, replaced: Some(replaced), same_state_folder }))
    }
}

/// The newest incarnation that holds a lease.
async fn holding(tx: &mut Tx<'_>, id: WorkerId) -> Done<Option<Holder>> {
    let rows = tx.query(sql::LEASE_INCARNATION, values_of![id.0]).await?;
    let newest: Option<Option<i64>> = rows.first().map(|row| get(row, 0)).transpose()?;
    Ok(newest.flatten().map(|incarnation| Holder { worker: id, incarnation: Incarnation(incarnation) }))
}

async fn insert(tx: &mut Tx<'_>, new: &Registration) -> Done<WorkerId> {
    let values = values_of![
        new.profile.namespace.as_str(),
        new.profile.name.as_str(),
        to_text(Some(&new.profile))?,
        new.instance,
        plain(&new.outbox_key),
        presence_number(new.presence),
        plain(&new.version),
        plain(&new.host),
        new.pid,
        tx.now.0,
    ];
    let rows = query(tx.conn, sql::WORKER_INSERT, values).await?;
    Ok(WorkerId(get(rows.first().ok_or_else(|| Fault::damaged("a new worker has no row"))?, 0)?))
}

async fn update(
    tx: &mut Tx<'_>,
    new: &Registration,
    incarnation: Incarnation,
    draining: bool,
    session_open: bool,
    old: &WorkerRow,
) -> Done<()> {
    let registered_at = if incarnation == old.incarnation { old.registered_at } else { tx.now };
    let values = values_of![
        old.id.0,
        to_text(Some(&new.profile))?,
        incarnation.0,
        new.instance,
        plain(&new.outbox_key),
        presence_number(new.presence),
        plain(&new.version),
        plain(&new.host),
        new.pid,
        registered_at.0,
        old.last_heard_at.max(tx.now).0,
        draining,
        false,
        session_open,
    ];
    tx.execute(sql::WORKER_UPDATE, values).await.map(drop)
}

async fn reread(tx: &Tx<'_>, id: WorkerId) -> Done<WorkerRow> {
    let row = worker(tx.conn, id).await?;
    row.ok_or_else(|| Fault::damaged("a worker's row is not there after it was written"))
}

/// A connection of the current incarnation opens at a replica.
pub(crate) struct OpenSession {
    pub(crate) holder: Holder,
    pub(crate) replica: ReplicaId,
}

#[async_trait]
impl Op for OpenSession {
    type Answer = Option<Opened>;
    type Refusal = StoreError;

    fn needs<'c>(&'c self, needs: &mut Needs<'c>) {
        needs.closing.insert(self.holder.worker);
        needs.opening.insert(self.holder.worker);
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Option<Opened>, StoreError> {
        // Claims for the old home have been committed, or will find that it is not the home any more.
        let id = self.holder.worker;
        tx.guard_locked(id).await?;
        let (known, holds) = (tx.loaded.opening.remove(&id), tx.loaded.holds.remove(&id));
        let current = if known.is_some() {
            known
        } else {
            tx.flush().await?;
            worker(tx.conn, id).await?
        };
        let Some(row) = current.filter(|row| row.holder() == self.holder && !row.left) else { return Ok(Ok(None)) };
        if !row.session_open {
            tell(tx, &row, WorkerEdge::Online, None);
        }
        let worker = WorkerRow {
            replica: self.replica,
            home_seq: HomeSeq(row.home_seq.0 + 1),
            session_open: true,
            last_heard_at: row.last_heard_at.max(tx.now),
            rearmed: 0,
            armed: tx.observed,
            ..row
        };
        tx.pending.homes.insert(id, worker.clone());
        if let Some(Some(guard)) = tx.loaded.guards.get_mut(&id) {
            (guard.replica, guard.home_seq, guard.session_open) = (worker.replica, worker.home_seq, true);
        }
        let mut runs = Vec::new();
        match holds {
            Some(seqs) => {
                for seq in seqs {
                    let run = tx.run_by_seq(seq).await?;
                    runs.extend(run.filter(|run| run.holder == Some(self.holder) && run.state.is_leased()));
                }
            }
            None => runs = crate::lease::open_runs(tx, self.holder).await?,
        }
        let seqs: Vec<i64> = runs.iter().map(|run| run.seq).collect();
        tx.load_bodies(&seqs).await?;
        let mut leases = Vec::with_capacity(runs.len());
        for run in runs {
            let (class, body) = (tx.match_class(run.class).await?, tx.loaded.bodies.get(&run.seq).cloned());
            leases.push(lease_row(run, class, body)?);
        }
        Ok(Ok(Some(Opened { home_seq: worker.home_seq, worker, leases })))
    }
}

/// Reads at once what many openings need: the death of a replica brings a thousand of them. Their workers' rows are locked, so
/// nothing comes to what they hold but by claims of this very batch; who has some is asked for it when its turn comes.
pub(crate) async fn prefetch(tx: &mut Tx<'_>, opening: &BTreeSet<WorkerId>, claiming: &BTreeSet<WorkerId>) -> Done<()> {
    if opening.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = opening.iter().map(|worker| worker.0).collect();
    tx.loaded.opening = some(tx.conn, &ids).await?.into_iter().map(|row| (row.id, row)).collect();
    tx.loaded.holds = opening.difference(claiming).map(|worker| (*worker, Vec::new())).collect();
    let seqs: Vec<i64> = column(tx.conn, sql::LEASES_OF_SOME, values_of![ids]).await?;
    tx.lock_seqs(&seqs).await?;
    for seq in &seqs {
        let holder = tx.loaded.runs.get(seq).filter(|run| run.state.is_leased()).and_then(|run| run.holder);
        if let Some(held) = holder.and_then(|holder| tx.loaded.holds.get_mut(&holder.worker)) {
            held.push(*seq);
        }
    }
    tx.load_bodies(&seqs).await
}

/// A mark on a worker's row.
pub(crate) struct Mark {
    pub(crate) worker: WorkerId,
    pub(crate) mark: WorkerMark,
}

#[async_trait]
impl Op for Mark {
    type Answer = Option<WorkerRow>;
    type Refusal = StoreError;

    fn needs<'c>(&'c self, needs: &mut Needs<'c>) {
        if !matches!(self.mark, WorkerMark::Heard(_)) {
            needs.closing.insert(self.worker);
        }
    }

    /// `None`: no such worker.
    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Option<WorkerRow>, StoreError> {
        let (id, now) = (self.worker.0, tx.now.0);
        let changed = match self.mark {
            WorkerMark::Draining(on) => {
                tx.guard_locked(self.worker).await?;
                tx.execute(sql::WORKER_DRAINING, values_of![id, on]).await?
            }
            WorkerMark::Left => {
                tx.guard_locked(self.worker).await?;
                tx.flush().await?;
                let row = worker(tx.conn, self.worker).await?;
                if let Some(row) = row.filter(|row| !row.left) {
                    tell(tx, &row, WorkerEdge::Left, Some(Reason::WorkerLeft));
                }
                tx.execute(sql::WORKER_LEFT, values_of![id, now]).await?
            }
            WorkerMark::Heard(at) => tx.execute(sql::WORKER_HEARD, values_of![id, at.0]).await?,
        };
        tx.loaded.forget_worker(self.worker);
        Ok(Ok(if changed == 0 { None } else { worker(tx.conn, self.worker).await? }))
    }
}

/// The rows of these workers, in order.
pub(crate) async fn some(conn: &Client, ids: &[i64]) -> Done<Vec<WorkerRow>> {
    let found = all(conn, sql::WORKER_SOME, values_of![ids.to_vec()]).await?;
    Ok(found.into_iter().map(|stored| stored.row).collect())
}

/// A page of all workers, for the sweep.
pub(crate) async fn sweep_page(tx: &mut Tx<'_>, limit: u32) -> Done<Vec<WorkerRow>> {
    tx.flush().await?;
    let found = page(tx.conn, tx.cache.cursors.worker, i64::from(limit)).await?;
    Ok(found.into_iter().map(|stored| stored.row).collect())
}

/// Deletes a worker to which nothing belongs; its name stays readable for histories. Returns whether it did.
pub(crate) async fn collect(tx: &mut Tx<'_>, row: &WorkerRow) -> Done<bool> {
    // As it is under its lock: nothing is claimed for it, and no process takes its name.
    let guard = tx.guard_locked(row.id).await?;
    if guard.is_none_or(|guard| guard.session_open || guard.incarnation != row.incarnation) {
        return Ok(false);
    }
    if holding(tx, row.id).await?.is_some() || is_wanted(tx, row).await? {
        return Ok(false);
    }
    let now = tx.now.0;
    tx.execute(sql::WORKER_GONE_INSERT, values_of![row.id.0, row.profile.name.as_str(), now]).await?;
    tx.execute(sql::REQUEST_DELETE, values_of![row.id.0]).await?;
    tx.execute(sql::WORKER_DELETE, values_of![row.id.0]).await?;
    tx.loaded.forget_worker(row.id);
    tell(tx, row, WorkerEdge::Removed, None);
    Ok(true)
}

/// A verdict ends the session of an incarnation, whose row is locked: nothing is claimed for it any more.
pub(crate) async fn end_session(tx: &mut Tx<'_>, holder: Holder, heard: Wall, reason: Reason) -> Done<()> {
    tx.flush().await?;
    let open = worker(tx.conn, holder.worker).await?.filter(|row| row.holder() == holder && row.session_open);
    tx.execute(sql::WORKER_END_SESSION, values_of![holder.worker.0, holder.incarnation.0, heard.0]).await?;
    tx.loaded.forget_worker(holder.worker);
    if let Some(row) = open {
        tell(tx, &row, WorkerEdge::Offline, Some(reason));
    }
    Ok(())
}

/// An edge of a worker's status, for the feed.
fn tell(tx: &mut Tx<'_>, row: &WorkerRow, edge: WorkerEdge, reason: Option<Reason>) {
    let WorkerRow { id: worker, incarnation, ref profile, .. } = *row;
    let (namespace, name) = (profile.namespace.clone(), profile.name.clone());
    tx.pending.feed.push(&FeedEvent::Worker { edge, at: tx.now, namespace, name, worker, incarnation, reason });
}

/// Whether a run that has not ended is pinned to the worker.
async fn is_wanted(tx: &mut Tx<'_>, row: &WorkerRow) -> Done<bool> {
    let classes = crate::cache::classes(tx.conn).await?;
    let pinned = classes.iter().filter(|known| {
        known.class.namespace == row.profile.namespace && known.class.pin.as_ref() == Some(&row.profile.name)
    });
    let pinned: Vec<i64> = pinned.map(|known| known.id.0).collect();
    if pinned.is_empty() {
        return Ok(false);
    }
    let own = |class: &i64| tx.pending.sums.classes.get(&outlive_core::ClassId(*class)).is_some_and(|n| *n > 0);
    Ok(pinned.iter().any(own) || !query(tx.conn, sql::CLASS_ACTIVE_ANY, values_of![pinned]).await?.is_empty())
}
