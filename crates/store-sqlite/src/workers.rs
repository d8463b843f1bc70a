//! The registry: names, incarnations, sessions.

use crate::fault::{Answer, Done, Fault};
use crate::lease::{leases_of, open_runs};
use crate::rows::{column, execute, observed, prepared, runs_by_seq, stored, to_text};
use crate::sql;
use crate::tx::Tx;
use outlive_core::class::WorkerProfile;
use outlive_core::feed::{FeedEvent, WorkerEdge};
use outlive_core::{Holder, HomeSeq, Incarnation, Millis, Reason, ReplicaId, Wall, WorkerId};
use outlive_store::{Opened, Presence, RegisterError, Registered, Registration, WorkerMark, WorkerRow};
use rusqlite::{Connection, Row, ToSql, params};

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

fn read(row: &Row<'_>) -> Done<Stored> {
    let profile: String = row.get(3)?;
    let profile: WorkerProfile = serde_json::from_str(&profile)?;
    let row_ = WorkerRow {
        id: WorkerId(row.get(0)?),
        profile,
        incarnation: Incarnation(row.get(4)?),
        instance: row.get(5)?,
        presence: presence(row.get(6)?),
        version: row.get(7)?,
        host: row.get(8)?,
        pid: row.get(9)?,
        first_seen_at: Wall(row.get(10)?),
        registered_at: Wall(row.get(11)?),
        last_heard_at: Wall(row.get(12)?),
        draining: row.get(13)?,
        left: row.get(14)?,
        session_open: row.get(15)?,
        replica: ReplicaId(row.get(16)?),
        home_seq: HomeSeq(row.get(17)?),
        rearmed: row.get(20)?,
        armed: observed(row.get(21)?),
        losses: row.get(18)?,
    };
    Ok(Stored { row: row_, outbox_key: row.get(19)? })
}

fn all(conn: &Connection, sql: &'static str, params: &[&dyn ToSql]) -> Done<Vec<Stored>> {
    let mut statement = prepared(conn, sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// One worker.
pub(crate) fn worker(conn: &Connection, id: WorkerId) -> Done<Option<WorkerRow>> {
    Ok(all(conn, sql::WORKER_GET, &[&id.0])?.pop().map(|stored| stored.row))
}

/// A page of workers: of one namespace by name, of all by row.
pub(crate) fn workers(
    conn: &Connection,
    namespace: Option<&str>,
    after: Option<WorkerId>,
    limit: u32,
) -> Done<Vec<WorkerRow>> {
    let found = match namespace {
        None => all(conn, sql::WORKER_PAGE_ALL, &[&after.map_or(0, |id| id.0), &limit])?,
        Some(namespace) => {
            let name = after.map(|id| crate::tx::worker_name(conn, id)).transpose()?.unwrap_or_default();
            all(conn, sql::WORKER_PAGE, &[&namespace, &name, &limit])?
        }
    };
    Ok(found.into_iter().map(|stored| stored.row).collect())
}

/// A process announces itself.
pub(crate) fn register(tx: &mut Tx<'_>, new: &Registration) -> Answer<Registered, RegisterError> {
    let (namespace, name) = (&new.profile.namespace, &new.profile.name);
    let Some(old) = all(tx.conn, sql::WORKER_BY_NAME, &[namespace, name])?.pop() else {
        let id = insert(tx, new)?;
        return Ok(Ok(Registered { worker: reread(tx, id)?, resumed: false, replaced: None, same_state_folder: true }));
    };
    let (row, id) = (&old.row, old.row.id);
    if row.instance == new.instance {
        update(tx, new, row.incarnation, row.draining, row.session_open, row)?;
        return Ok(Ok(Registered { worker: reread(tx, id)?, resumed: true, replaced: None, same_state_folder: true }));
    }
    if row.session_open && !row.left && !new.may_replace {
        return Ok(Err(RegisterError::NameInUse { name: name.clone() }));
    }
    let incarnation = Incarnation(row.incarnation.0 + 1);
    let held = runs_by_seq(tx.conn, column(tx.conn, sql::LEASES_OF, &[&id.0])?)?;
    let holding = held.iter().filter_map(|run| run.holder).max_by_key(|holder| holder.incarnation);
    let replaced = holding.unwrap_or(row.holder());
    update(tx, new, incarnation, false, false, row)?;
    if row.session_open {
        tell(tx, row, WorkerEdge::Offline, Some(Reason::WorkerReplaced));
    }
    // The key proves the end of the process that registered with it last, and of no other: an incarnation before that one may
    // hold leases that are being taken from it, and be alive.
    let same_key = old.outbox_key == new.outbox_key && replaced.incarnation == row.incarnation;
    let same_state_folder = same_key || row.presence != Presence::Session;
    Ok(Ok(Registered { worker: reread(tx, id)?, resumed: false, replaced: Some(replaced), same_state_folder }))
}

fn insert(tx: &Tx<'_>, new: &Registration) -> Done<WorkerId> {
    prepared(tx.conn, sql::WORKER_INSERT)?.execute(params![
        new.profile.namespace,
        new.profile.name,
        to_text(Some(&new.profile))?,
        1,
        new.instance,
        new.outbox_key,
        presence_number(new.presence),
        new.version,
        new.host,
        new.pid,
        tx.now.0,
        tx.now.0,
        tx.now.0,
    ])?;
    Ok(WorkerId(tx.conn.last_insert_rowid()))
}

fn update(
    tx: &Tx<'_>,
    new: &Registration,
    incarnation: Incarnation,
    draining: bool,
    session_open: bool,
    old: &WorkerRow,
) -> Done<()> {
    let registered_at = if incarnation == old.incarnation { old.registered_at } else { tx.now };
    prepared(tx.conn, sql::WORKER_UPDATE)?.execute(params![
        old.id.0,
        to_text(Some(&new.profile))?,
        incarnation.0,
        new.instance,
        new.outbox_key,
        presence_number(new.presence),
        new.version,
        new.host,
        new.pid,
        registered_at.0,
        old.last_heard_at.max(tx.now).0,
        draining,
        false,
        session_open,
    ])?;
    Ok(())
}

fn reread(tx: &Tx<'_>, id: WorkerId) -> Done<WorkerRow> {
    worker(tx.conn, id)?.ok_or_else(|| Fault::damaged("a worker's row is not there after it was written"))
}

/// A connection of the current incarnation opens at a replica.
pub(crate) fn open_session(tx: &mut Tx<'_>, holder: Holder, replica: ReplicaId) -> Done<Option<Opened>> {
    let current = worker(tx.conn, holder.worker)?;
    let Some(row) = current.filter(|row| row.incarnation == holder.incarnation && !row.left) else { return Ok(None) };
    if !row.session_open {
        tell(tx, &row, WorkerEdge::Online, None);
    }
    let armed = stored(tx.cache.observed);
    execute(tx.conn, sql::WORKER_HOME, &[&holder.worker.0, &replica.0, &tx.now.0, &armed])?;
    let worker = reread(tx, holder.worker)?;
    let leases = leases_of(tx.conn, holder, |run| tx.match_class(run.class))?;
    Ok(Some(Opened { home_seq: worker.home_seq, worker, leases }))
}

/// Writes a mark. `None`: no such worker.
pub(crate) fn mark(tx: &mut Tx<'_>, id: WorkerId, mark: WorkerMark) -> Done<Option<WorkerRow>> {
    let changed = match mark {
        WorkerMark::Draining(on) => execute(tx.conn, sql::WORKER_DRAINING, &[&id.0, &on])?,
        WorkerMark::Left => return leave(tx, id),
        WorkerMark::Heard(at) => execute(tx.conn, sql::WORKER_HEARD, &[&id.0, &at.0])?,
    };
    if changed == 0 { Ok(None) } else { worker(tx.conn, id) }
}

/// Deletes a worker to which nothing belongs; its name stays readable for histories. Returns whether it did.
pub(crate) fn collect(tx: &mut Tx<'_>, row: &WorkerRow) -> Done<bool> {
    let pinned = |class: &crate::cache::Class| {
        class.active > 0
            && *class.namespace == *row.profile.namespace
            && class.row.class.pin.as_ref() == Some(&row.profile.name)
    };
    let holds = !open_runs(tx.conn, row.holder())?.is_empty()
        || !column::<i64>(tx.conn, sql::LEASES_OF, &[&row.id.0])?.is_empty();
    if holds || tx.cache.classes.values().any(pinned) {
        return Ok(false);
    }
    execute(tx.conn, sql::WORKER_GONE_INSERT, &[&row.id.0, &row.profile.name, &tx.now.0])?;
    execute(tx.conn, sql::REQUEST_DELETE, &[&row.id.0])?;
    execute(tx.conn, sql::WORKER_DELETE, &[&row.id.0])?;
    tell(tx, row, WorkerEdge::Removed, None);
    Ok(true)
}

/// A worker's goodbye.
fn leave(tx: &mut Tx<'_>, id: WorkerId) -> Done<Option<WorkerRow>> {
    let Some(row) = worker(tx.conn, id)? else { return Ok(None) };
    execute(tx.conn, sql::WORKER_LEFT, &[&id.0, &tx.now.0])?;
    if !row.left {
        tell(tx, &row, WorkerEdge::Left, Some(Reason::WorkerLeft));
    }
    worker(tx.conn, id)
}

/// A verdict ends the session of an incarnation: nothing is claimed for it any more.
pub(crate) fn end_session(tx: &mut Tx<'_>, holder: Holder, heard: Wall, reason: Reason) -> Done<()> {
    let open = worker(tx.conn, holder.worker)?.filter(|row| row.holder() == holder && row.session_open);
    execute(tx.conn, sql::WORKER_END_SESSION, &[&holder.worker.0, &holder.incarnation.0, &heard.0])?;
    if let Some(row) = open {
        tell(tx, &row, WorkerEdge::Offline, Some(reason));
    }
    Ok(())
}

/// An edge of a worker's status, for the feed.
fn tell(tx: &mut Tx<'_>, row: &WorkerRow, edge: WorkerEdge, reason: Option<Reason>) {
    let WorkerRow { id: worker, incarnation, ref profile, .. } = *row;
    let (namespace, name) = (profile.namespace.clone(), profile.name.clone());
    tx.feed.push(&FeedEvent::Worker { edge, at: tx.now, namespace, name, worker, incarnation, reason });
}
