//! Claims: a merge over the classes of the order by (rank, row), by index seeks. What cannot be taken now (paused queues,
//! queues at their cap or rate, held serial keys) is never looked at.
//!
//! A run that is created and claimed in the same transaction has not been inserted yet: it takes part in the merge from
//! memory and is inserted as claimed, which spares the ready index an entry that lives for microseconds.

use crate::create::Newborn;
use crate::edit::{Edit, record};
use crate::fault::{Done, Fault};
use crate::lease::lease_row;
use crate::rows::{execute, prepared, readable, run_by_id, run_by_seq, single};
use crate::sql;
use crate::tx::{Guard, Tx};
use outlive_core::policy::Rate;
use outlive_core::{ClassId, Epoch, Holder, LeaseRef, Millis, QueueId, RunId};
use outlive_store::{ClaimOrder, Claimed, LeaseRow};
use rusqlite::params;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use uuid::Uuid;

/// How long a polling worker may repeat a request and get the same leases.
const REQUEST_KEPT: Millis = Millis::hours(1);
/// Ready rows that one seek brings, at most.
const PAGE: u32 = 64;

/// Claims for one session.
pub(crate) fn claim(tx: &mut Tx<'_>, order: &ClaimOrder) -> Done<Claimed> {
    let mut claimed = claim_among(tx, order, &mut [])?;
    claimed.commit = tx.take_hints();
    Ok(claimed)
}

/// The same, over rows and over runs that the same transaction is about to insert.
pub(crate) fn claim_among(tx: &mut Tx<'_>, order: &ClaimOrder, newborn: &mut [Newborn]) -> Done<Claimed> {
    let home = (order.replica, order.home_seq);
    let guard = tx.guard(order.holder.worker)?;
    let may_claim = |g: &Guard| g.holds(order.holder, home) && g.session_open && !g.draining && !g.left;
    let Some(guard) = guard.filter(may_claim) else {
        return Ok(Claimed { lost_race: true, ..Claimed::default() });
    };
    if let Some(request) = order.request
        && let Some(leases) = answered(tx, order.holder, request)?
    {
        return Ok(Claimed { leases, ..Claimed::default() });
    }
    let mut claimed = Claimed::default();
    let mut merge = Merge::over(tx, order, &guard.namespace, newborn, &mut claimed)?;
    while claimed.leases.len() < order.max as usize {
        let Some(next) = merge.next(tx, newborn)? else { break };
        let lease = match next.newborn {
            None => take_row(tx, next.seq, order.holder)?,
            Some(i) => Some(take_newborn(tx, &mut newborn[i], order.holder)?),
        };
        let Some(lease) = lease else { continue };
        claimed.leases.push(lease);
        merge.taken(tx, &next, &mut claimed)?;
    }
    merge.finish(tx, &mut claimed)?;
    if let (Some(request), false) = (order.request, claimed.leases.is_empty()) {
        remember(tx, order.holder, request, &claimed.leases)?;
    }
    Ok(claimed)
}

/// `None`: it cannot be read, all or a part of it. It stays as it is, and others are taken.
fn take_row(tx: &mut Tx<'_>, seq: i64, holder: Holder) -> Done<Option<LeaseRow>> {
    let read = || {
        let run = run_by_seq(tx.conn, seq)?.ok_or_else(|| Fault::damaged("the ready index names no row"))?;
        let class = tx.match_class(run.class)?;
        lease_row(tx.conn, run, class)
    };
    let Some(mut lease) = readable(seq, read())? else { return Ok(None) };
    let mut edit = Edit::new(lease.run);
    let terms = tx.policy(edit.run.queue)?.terms();
    let change = edit.run.claim(holder, terms, tx.now, tx.cache.observed);
    let change = change.ok_or_else(|| Fault::damaged("the ready index names a run that is not ready"))?;
    edit.apply(tx, change)?;
    lease.run = edit.save(tx)?;
    Ok(Some(lease))
}

fn take_newborn(tx: &mut Tx<'_>, newborn: &mut Newborn, holder: Holder) -> Done<LeaseRow> {
    let before = newborn.run.state;
    let terms = tx.policy(newborn.run.queue)?.terms();
    let change = newborn.run.claim(holder, terms, tx.now, tx.cache.observed);
    let change = change.ok_or_else(|| Fault::damaged("a new run that is not ready took part in a claim"))?;
    for event in &change.events {
        record(tx, &newborn.run, event)?;
    }
    // Counted now and not at the insertion, so that the next step of the merge sees it.
    tx.cache.count(&newborn.run, Some(before), Some(newborn.run.state));
    Ok(LeaseRow {
        run: newborn.run.clone(),
        class: tx.match_class(newborn.run.class)?,
        input: newborn.input.clone(),
        options: newborn.options.clone(),
        checkpoint: newborn.checkpoint.clone(),
        resume_data: None,
    })
}

/// A run that could be taken; compared in the order of claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: i64,
    seq: i64,
    class: ClassId,
    /// Its place among the new runs; none: it is a row.
    newborn: Option<usize>,
}

/// The ready runs of one class, in order, read page by page.
#[derive(Debug)]
struct Source {
    queue: QueueId,
    rows: VecDeque<(i64, i64)>,
    last: (i64, i64),
    drained: bool,
    newborn: VecDeque<usize>,
}

/// What a queue's limits leave.
#[derive(Debug)]
struct Room {
    by_cap: i64,
    by_rate: i64,
    rate: Option<Rate>,
    log_from: i64,
    taken: i64,
}

struct Merge {
    heap: BinaryHeap<Reverse<Candidate>>,
    sources: BTreeMap<ClassId, Source>,
    rooms: BTreeMap<QueueId, Room>,
    page: u32,
}

impl Merge {
    fn over(
        tx: &Tx<'_>,
        order: &ClaimOrder,
        namespace: &str,
        newborn: &[Newborn],
        claimed: &mut Claimed,
    ) -> Done<Self> {
        let classes = u32::try_from(order.classes.len()).unwrap_or(u32::MAX).max(1);
        let page = (order.max / classes + 1).min(order.max).clamp(1, PAGE);
        let mut merge = Self { heap: BinaryHeap::new(), sources: BTreeMap::new(), rooms: BTreeMap::new(), page };
        for &class in &order.classes {
            let known = tx.class(class)?;
            let (queue, foreign) = (known.row.queue, *known.namespace != *namespace);
            if let std::collections::btree_map::Entry::Vacant(vacant) = merge.rooms.entry(queue) {
                vacant.insert(room(tx, queue, claimed)?);
            }
            if foreign || merge.rooms.get(&queue).is_some_and(Room::is_shut) {
                if !claimed.exhausted.contains(&class) {
                    claimed.exhausted.push(class);
                }
                continue;
            }
            let (rows, newborn) = (VecDeque::new(), VecDeque::new());
            let source = Source { queue, rows, last: (i64::MIN, i64::MIN), drained: false, newborn };
            merge.sources.insert(class, source);
        }
        for (i, one) in newborn.iter().enumerate().filter(|(_, one)| one.run.is_ready()) {
            if let Some(source) = merge.sources.get_mut(&one.run.class) {
                source.newborn.push_back(i);
            }
        }
        for source in merge.sources.values_mut() {
            source.newborn.make_contiguous().sort_by_key(|&i| (newborn[i].run.rank, newborn[i].run.seq));
        }
        for class in merge.sources.keys().copied().collect::<Vec<_>>() {
            merge.advance(tx, class, newborn)?;
        }
        Ok(merge)
    }

    /// Puts the class's next run into the heap.
    fn advance(&mut self, tx: &Tx<'_>, class: ClassId, newborn: &[Newborn]) -> Done<()> {
        let Some(source) = self.sources.get_mut(&class) else { return Ok(()) };
        if source.rows.is_empty() && !source.drained {
            source.refill(tx, class, self.page)?;
        }
        let row = source.rows.front().map(|&(rank, seq)| Candidate { rank, seq, class, newborn: None });
        let new = source.newborn.front().map(|&i| (i, &newborn[i].run)).map(|(i, run)| Candidate {
            rank: run.rank,
            seq: run.seq,
            class,
            newborn: Some(i),
        });
        let Some(best) = [row, new].into_iter().flatten().min() else { return Ok(()) };
        match best.newborn {
            None => drop(source.rows.pop_front()),
            Some(_) => drop(source.newborn.pop_front()),
        }
        self.heap.push(Reverse(best));
        Ok(())
    }

    /// The best run whose queue has room.
    fn next(&mut self, tx: &Tx<'_>, newborn: &[Newborn]) -> Done<Option<Candidate>> {
        while let Some(Reverse(best)) = self.heap.pop() {
            let Some(source) = self.sources.get(&best.class) else { continue };
            if self.rooms.get(&source.queue).is_some_and(Room::is_shut) {
                continue;
            }
            self.advance(tx, best.class, newborn)?;
            return Ok(Some(best));
        }
        Ok(None)
    }

    /// Counts a claim against its queue's limits.
    fn taken(&mut self, tx: &Tx<'_>, taken: &Candidate, claimed: &mut Claimed) -> Done<()> {
        let Some(queue) = self.sources.get(&taken.class).map(|source| source.queue) else { return Ok(()) };
        let Some(room) = self.rooms.get_mut(&queue) else { return Ok(()) };
        room.by_cap -= 1;
        room.by_rate -= 1;
        room.taken += 1;
        if room.rate.is_some() {
            let n = room.log_from + room.taken;
            execute(tx.conn, sql::CLAIM_LOG_INSERT, &[&queue.0, &n, &tx.now.0])?;
        }
        if room.by_rate == 0
            && let Some(rate) = room.rate
        {
            let (_, wait) = rate_room(tx, queue, rate)?;
            claimed.retry_after = [claimed.retry_after, wait].into_iter().flatten().min();
        }
        Ok(())
    }

    /// Names the classes that have nothing more to take now, and forgets claims that no rate asks about.
    fn finish(self, tx: &Tx<'_>, claimed: &mut Claimed) -> Done<()> {
        for (queue, room) in &self.rooms {
            if let (Some(rate), 1..) = (room.rate, room.taken) {
                let keep_after = room.log_from + room.taken - i64::from(rate.limit);
                execute(tx.conn, sql::CLAIM_LOG_TRIM, &[&queue.0, &keep_after])?;
            }
        }
        let in_heap: BTreeSet<ClassId> = self.heap.iter().map(|Reverse(candidate)| candidate.class).collect();
        for (class, source) in self.sources {
            let shut = self.rooms.get(&source.queue).is_some_and(Room::is_shut);
            let more = in_heap.contains(&class) || !source.rows.is_empty() || !source.newborn.is_empty();
            if shut || !more {
                claimed.exhausted.push(class);
            }
        }
        Ok(())
    }
}

impl Source {
    fn refill(&mut self, tx: &Tx<'_>, class: ClassId, page: u32) -> Done<()> {
        let mut statement = prepared(tx.conn, sql::READY_AFTER)?;
        let mut rows = statement.query(params![class.0, self.last.0, self.last.1, page])?;
        while let Some(row) = rows.next()? {
            self.rows.push_back((row.get(0)?, row.get(1)?));
        }
        self.drained = self.rows.len() < page as usize;
        self.last = self.rows.back().copied().unwrap_or(self.last);
        Ok(())
    }
}

impl Room {
    const fn is_shut(&self) -> bool {
        self.by_cap <= 0 || self.by_rate <= 0
    }
}

fn room(tx: &Tx<'_>, id: QueueId, claimed: &mut Claimed) -> Done<Room> {
    let queue = tx.queue(id)?;
    let by_cap = match queue.policy.max_running {
        _ if queue.row.paused => 0,
        Some(max) => i64::from(max) - queue.leased(),
        None => i64::MAX,
    };
    let mut room = Room { by_cap, by_rate: i64::MAX, rate: queue.policy.rate, log_from: 0, taken: 0 };
    if let Some(rate) = room.rate {
        let wait;
        (room.by_rate, wait) = rate_room(tx, id, rate)?;
        room.log_from = last_claim(tx, id)?;
        if !queue.row.paused && room.by_rate <= 0 {
            claimed.retry_after = [claimed.retry_after, wait].into_iter().flatten().min();
        }
    }
    Ok(room)
}

fn last_claim(tx: &Tx<'_>, queue: QueueId) -> Done<i64> {
    Ok(single::<Option<i64>>(tx.conn, sql::CLAIM_LOG_LAST, &[&queue.0])?.flatten().unwrap_or(0))
}

/// Claims that the rate allows now and, if none, how long until one.
fn rate_room(tx: &Tx<'_>, queue: QueueId, rate: Rate) -> Done<(i64, Option<Millis>)> {
    let first = last_claim(tx, queue)? - i64::from(rate.limit);
    let mut statement = prepared(tx.conn, sql::CLAIM_LOG_AFTER)?;
    let mut rows = statement.query(params![queue.0, first])?;
    let (mut counted, mut oldest) = (0, None);
    while let Some(row) = rows.next()? {
        let at = outlive_core::Wall(row.get(0)?);
        if rate.counts(at, tx.now) {
            counted += 1;
            oldest = oldest.or(Some(at));
        }
    }
    let room = i64::from(rate.limit) - counted;
    let wait = oldest.filter(|_| room <= 0).map(|at| (at + rate.per).since(tx.now));
    Ok((room, wait))
}

/// The leases that the same request was given before, as far as they are open.
pub(crate) fn answered(tx: &Tx<'_>, holder: Holder, request: Uuid) -> Done<Option<Vec<LeaseRow>>> {
    let class_of = |class| tx.match_class(class);
    request_leases(tx.conn, holder, request, class_of)
}

/// The same, for readers.
pub(crate) fn request_leases(
    conn: &rusqlite::Connection,
    holder: Holder,
    request: Uuid,
    class_of: impl Fn(ClassId) -> Done<std::sync::Arc<outlive_core::class::MatchClass>>,
) -> Done<Option<Vec<LeaseRow>>> {
    let key = params![holder.worker.0, holder.incarnation.0, request];
    let Some(body) = single::<Vec<u8>>(conn, sql::REQUEST_GET, key)? else { return Ok(None) };
    let mut leases = Vec::new();
    for lease in refs(&body) {
        let open = run_by_id(conn, lease.run_id)?.filter(|run| run.lease() == Some((holder, lease)));
        if let Some(run) = open {
            let class = class_of(run.class)?;
            leases.push(lease_row(conn, run, class)?);
        }
    }
    Ok(Some(leases))
}

fn remember(tx: &Tx<'_>, holder: Holder, request: Uuid, leases: &[LeaseRow]) -> Done<()> {
    let mut body = Vec::with_capacity(leases.len() * 24);
    for lease in leases {
        body.extend_from_slice(lease.run.id.0.as_bytes());
        body.extend_from_slice(&lease.run.epoch.0.to_be_bytes());
    }
    execute(tx.conn, sql::REQUEST_EXPIRE, &[&holder.worker.0, &(tx.now - REQUEST_KEPT).0])?;
    let key: [&dyn rusqlite::ToSql; 5] = [&holder.worker.0, &holder.incarnation.0, &request, &body, &tx.now.0];
    execute(tx.conn, sql::REQUEST_PUT, &key)?;
    Ok(())
}

fn refs(body: &[u8]) -> impl Iterator<Item = LeaseRef> {
    body.chunks_exact(24).filter_map(|chunk| {
        let (id, epoch) = chunk.split_at(16);
        let run_id = RunId(Uuid::from_slice(id).ok()?);
        Some(LeaseRef { run_id, epoch: Epoch(i64::from_be_bytes(epoch.try_into().ok()?)) })
    })
}
