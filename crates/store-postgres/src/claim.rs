//! Claims: a merge over the classes of the order by (rank, row), by index seeks. What cannot be taken now (paused queues,
//! queues at their cap or rate, held serial keys) is never looked at.
//!
//! ```text
//! room of each queue (under its row's lock, if it has a cap or a rate)
//!   ─► the best runs of the ready index, unlocked ─► lock them, passing over what others are at ─► take ─► until enough
//! ```
//!
//! A run that is created and claimed in the same transaction has not been inserted yet: it takes part in the merge from
//! memory and is inserted as claimed, which spares the ready index an entry that lives for microseconds.

use crate::cache::Queue;
use crate::create::Newborn;
use crate::db::Op;
use crate::edit::{Edit, record};
use crate::fault::{Answer, Done, Fault};
use crate::lease::lease_row;
use crate::needs::Needs;
use crate::pending::Request;
use crate::reader::Reader;
use crate::ready::Place;
use crate::rows::{readable, run_by_id};
use crate::tx::{Guard, Tx};
use crate::value::{get, query, single, values_of};
use crate::{serial, sql};
use async_trait::async_trait;
use outlive_core::policy::Rate;
use outlive_core::{ClassId, Epoch, Holder, LeaseRef, Millis, QueueId, RunId, Wall};
use outlive_store::{ClaimOrder, Claimed, Commit, LeaseRow, StoreError};
use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use uuid::Uuid;

/// How long a polling worker may repeat a request and get the same leases.
const REQUEST_KEPT: Millis = Millis::hours(1);
/// What another transaction was at is looked for again after this: it may only have looked, and then tells nobody.
const PASSED_OVER: Millis = Millis(20);
/// Ready rows of a class that one seek brings, at most.
const PAGE: usize = 1_024;

#[async_trait]
impl Op for ClaimOrder {
    type Answer = Claimed;
    type Refusal = StoreError;

    fn weight(&self) -> usize {
        self.max as usize
    }

    fn needs<'c>(&'c self, needs: &mut Needs<'c>) {
        needs.claiming.insert(self.holder.worker);
        needs.orders.push(self);
    }

    async fn run(&self, tx: &mut Tx<'_>) -> Answer<Claimed, StoreError> {
        claim_among(tx, self, &mut []).await.map(Ok)
    }

    fn finish(&self, answer: &mut Claimed, _: &Tx<'_>, hints: Commit) {
        answer.commit = hints;
    }
}

/// Claims for one session, over rows and over runs that the same transaction is about to insert.
pub(crate) async fn claim_among(tx: &mut Tx<'_>, order: &ClaimOrder, newborn: &mut [Newborn]) -> Done<Claimed> {
    let home = (order.replica, order.home_seq);
    let guard = tx.guard(order.holder.worker).await?;
    let may_claim = |g: &Guard| g.holds(order.holder, home) && g.session_open && !g.draining && !g.left;
    let Some(guard) = guard.filter(may_claim) else {
        return Ok(Claimed { lost_race: true, ..Claimed::default() });
    };
    if let Some(request) = order.request
        && let Some(leases) = answered(tx, order.holder, request).await?
    {
        return Ok(Claimed { leases, ..Claimed::default() });
    }
    if serial::unsettled(tx) {
        serial::settle(tx).await?;
    }
    let mut claimed = Claimed::default();
    let mut merge = Merge::over(tx, order, &guard.namespace, &mut claimed).await?;
    loop {
        let wanted = (order.max as usize).saturating_sub(claimed.leases.len());
        let chosen = merge.choose(tx, newborn, wanted).await?;
        if chosen.is_empty() {
            break;
        }
        let rows: Vec<(ClassId, Place)> =
            chosen.iter().filter(|c| c.newborn.is_none()).map(|c| (c.class, (c.rank, c.seq))).collect();
        tx.lock_ready(&rows).await?;
        let seqs: Vec<i64> = rows.iter().map(|(_, place)| place.1).collect();
        tx.load_bodies(&seqs).await?;
        for next in chosen {
            let lease = match next.newborn {
                None => take_row(tx, &next, order.holder).await?,
                Some(i) => Some(take_newborn(tx, &mut newborn[i], order.holder).await?),
            };
            if let Some(lease) = lease {
                claimed.leases.push(lease);
                merge.taken(tx, &next, &mut claimed).await?;
            }
        }
    }
    merge.finish(tx, newborn, order, &mut claimed).await?;
    if let (Some(request), false) = (order.request, claimed.leases.is_empty()) {
        remember(tx, order.holder, request, &claimed.leases).await?;
    }
    Ok(claimed)
}

/// Reads and locks beforehand what many orders are likely to take, if nothing but rank decides.
pub(crate) async fn prefetch(tx: &mut Tx<'_>, orders: &[&ClaimOrder]) -> Done<()> {
    let mut wanted: BTreeMap<ClassId, usize> = BTreeMap::new();
    let mut plain: BTreeSet<ClassId> = BTreeSet::new();
    for order in orders.iter().filter(|order| order.request.is_none()) {
        for &class in &order.classes {
            *wanted.entry(class).or_default() += page(order);
            let queue = tx.class(class).await?.queue;
            let queue = tx.queue(queue)?;
            if !queue.row.paused && queue.quiet_until <= tx.now && !queue.is_limited() {
                plain.insert(class);
            }
        }
    }
    wanted.retain(|class, n| {
        *n = (*n + 1).min(PAGE);
        plain.contains(class)
    });
    if wanted.is_empty() {
        return Ok(());
    }
    tx.ready.fill(tx.conn, &wanted).await?;
    let asked = orders.iter().map(|order| (order.classes.as_slice(), order.max as usize));
    let likely = tx.ready.first_in_line(&plain, asked);
    tx.lock_ready(&likely).await?;
    let seqs: Vec<i64> = likely.iter().map(|(_, place)| place.1).filter(|s| tx.loaded.runs.contains_key(s)).collect();
    tx.load_bodies(&seqs).await
}

/// Runs of each class that an order reads at once.
fn page(order: &ClaimOrder) -> usize {
    let max = order.max as usize;
    (max / order.classes.len().max(1) + 1).min(max).clamp(1, PAGE)
}

/// `None`: somebody else was at it, or it cannot be read.
async fn take_row(tx: &mut Tx<'_>, chosen: &Candidate, holder: Holder) -> Done<Option<LeaseRow>> {
    let Some(run) = tx.loaded.runs.get(&chosen.seq).cloned() else { return Ok(None) };
    if readable(run.seq, tx.loaded.must_be_readable(run.seq))?.is_none() {
        tx.ready.leave_out(chosen.class, (chosen.rank, chosen.seq));
        return Ok(None);
    }
    let class = tx.match_class(run.class).await?;
    let mut edit = Edit::new(run);
    let terms = tx.policy(edit.run.queue)?.terms();
    let change = edit.run.claim(holder, terms, tx.now, tx.observed);
    let change = change.ok_or_else(|| Fault::damaged("the ready index names a run that is not ready"))?;
    edit.apply(tx, change).await?;
    let run = edit.save(tx).await?;
    let body = tx.loaded.bodies.get(&run.seq).cloned();
    lease_row(run, class, body).map(Some)
}

async fn take_newborn(tx: &mut Tx<'_>, newborn: &mut Newborn, holder: Holder) -> Done<LeaseRow> {
    let before = newborn.run.state;
    let terms = tx.policy(newborn.run.queue)?.terms();
    let change = newborn.run.claim(holder, terms, tx.now, tx.observed);
    let change = change.ok_or_else(|| Fault::damaged("a new run that is not ready took part in a claim"))?;
    for event in change.events {
        record(tx, &newborn.run, event);
    }
    // Counted now and not at the insertion, so that the next step of the merge sees it.
    tx.count(&newborn.run, Some(before), Some(newborn.run.state)).await?;
    Ok(LeaseRow {
        run: newborn.run.clone(),
        class: tx.match_class(newborn.run.class).await?,
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
    /// Classes that may give something, with their queues.
    classes: BTreeMap<ClassId, QueueId>,
    rooms: BTreeMap<QueueId, Room>,
    page: usize,
}

impl Merge {
    async fn over(tx: &mut Tx<'_>, order: &ClaimOrder, namespace: &str, claimed: &mut Claimed) -> Done<Self> {
        let mut merge = Self { classes: BTreeMap::new(), rooms: BTreeMap::new(), page: page(order) };
        for &class in &order.classes {
            let known = tx.class(class).await?;
            let (queue, foreign) = (known.queue, known.class.namespace != namespace);
            if let Entry::Vacant(vacant) = merge.rooms.entry(queue) {
                vacant.insert(room(tx, queue, claimed).await?);
            }
            if foreign || merge.rooms.get(&queue).is_some_and(Room::is_shut) {
                if !claimed.exhausted.contains(&class) {
                    claimed.exhausted.push(class);
                }
                continue;
            }
            merge.classes.insert(class, queue);
        }
        Ok(merge)
    }

    fn open(&self) -> impl Iterator<Item = ClassId> {
        let is_open = |queue: &QueueId| !self.rooms.get(queue).is_some_and(Room::is_shut);
        self.classes.iter().filter(move |(_, queue)| is_open(queue)).map(|(class, _)| *class)
    }

    /// The best runs whose queues have room, at most so many; fewer if a class must be read on first. None: there are none.
    async fn choose(&self, tx: &mut Tx<'_>, newborn: &[Newborn], most: usize) -> Done<Vec<Candidate>> {
        if most == 0 {
            return Ok(Vec::new());
        }
        // One more, so that it is known at the end whether something is left.
        let page = self.page.min(most) + 1;
        let wanted: BTreeMap<ClassId, usize> = self.open().map(|class| (class, page)).collect();
        if !tx.ready.has(&wanted) {
            tx.flush().await?;
            tx.ready.fill(tx.conn, &wanted).await?;
        }
        let mut new: BTreeMap<ClassId, Vec<Candidate>> = BTreeMap::new();
        for (i, run) in newborn.iter().enumerate().map(|(i, one)| (i, &one.run)).filter(|(_, run)| run.is_ready()) {
            let candidate = Candidate { rank: run.rank, seq: run.seq, class: run.class, newborn: Some(i) };
            new.entry(run.class).or_default().push(candidate);
        }
        let mut left: BTreeMap<QueueId, i64> =
            self.rooms.iter().map(|(queue, room)| (*queue, room.by_cap.min(room.by_rate))).collect();
        let mut sources = BTreeMap::new();
        let mut heap = BinaryHeap::new();
        for (&class, &queue) in self.classes.iter().filter(|(class, _)| wanted.contains_key(class)) {
            let mut new = new.remove(&class).unwrap_or_default();
            new.sort_unstable();
            let pool = tx.ready.pool(class);
            let rows = pool.into_iter().flat_map(|pool| pool.runs.keys());
            let rows = rows.map(|&(rank, seq)| Candidate { rank, seq, class, newborn: None });
            let mut all: Vec<Candidate> = rows.take(most).chain(new).collect();
            all.sort_unstable();
            all.reverse();
            let drained = pool.is_none_or(|pool| pool.drained || pool.runs.len() > most);
            let mut source = Source { queue, all, drained };
            heap.extend(source.all.pop().map(Reverse));
            sources.insert(class, source);
        }
        let mut chosen = Vec::new();
        while let Some(Reverse(best)) = heap.pop() {
            let Some(source) = sources.get_mut(&best.class) else { continue };
            let Some(room) = left.get_mut(&source.queue).filter(|room| **room > 0) else { continue };
            *room -= 1;
            chosen.push(best);
            if chosen.len() == most {
                break;
            }
            match source.all.pop() {
                Some(next) => heap.push(Reverse(next)),
                // What comes next is not known yet.
                None if !source.drained => break,
                None => {}
            }
        }
        Ok(chosen)
    }

    /// Counts a claim against its queue's limits.
    async fn taken(&mut self, tx: &mut Tx<'_>, taken: &Candidate, claimed: &mut Claimed) -> Done<()> {
        let Some(&queue) = self.classes.get(&taken.class) else { return Ok(()) };
        let Some(room) = self.rooms.get_mut(&queue) else { return Ok(()) };
        room.by_cap -= 1;
        room.by_rate -= 1;
        room.taken += 1;
        if room.rate.is_some() {
            tx.pending.claim_log.push((queue, room.log_from + room.taken));
        }
        if room.by_rate == 0
            && let Some(rate) = room.rate
        {
            let (_, wait) = rate_room(tx, queue, rate).await?;
            claimed.retry_after = [claimed.retry_after, wait].into_iter().flatten().min();
        }
        Ok(())
    }

    /// Names the classes that have nothing more to take now, and forgets claims that no rate asks about.
    async fn finish(self, tx: &mut Tx<'_>, newborn: &[Newborn], order: &ClaimOrder, claimed: &mut Claimed) -> Done<()> {
        for (queue, room) in &self.rooms {
            if let (Some(rate), 1..) = (room.rate, room.taken) {
                let keep_after = room.log_from + room.taken - i64::from(rate.limit);
                tx.execute(sql::CLAIM_LOG_TRIM, values_of![queue.0, keep_after]).await?;
            }
        }
        let empty = self.classes.keys().filter(|class| tx.ready.pool(**class).is_none_or(|pool| pool.runs.is_empty()));
        let one: BTreeMap<ClassId, usize> = empty.map(|class| (*class, 1)).collect();
        if !tx.ready.has(&one) {
            tx.flush().await?;
            tx.ready.fill(tx.conn, &one).await?;
        }
        if claimed.leases.len() < order.max as usize
            && self.classes.keys().any(|class| tx.ready.was_passed_over(*class))
        {
            claimed.retry_after = Some(claimed.retry_after.map_or(PASSED_OVER, |sooner| sooner.min(PASSED_OVER)));
        }
        for (class, queue) in &self.classes {
            let shut = self.rooms.get(queue).is_some_and(Room::is_shut);
            let rows = tx.ready.pool(*class).is_some_and(|pool| !pool.runs.is_empty() || !pool.drained);
            let new = newborn.iter().any(|one| one.run.class == *class && one.run.is_ready());
            if shut || !(rows || new) {
                claimed.exhausted.push(*class);
            }
        }
        Ok(())
    }
}

/// The candidates of one class, the best last.
struct Source {
    queue: QueueId,
    all: Vec<Candidate>,
    drained: bool,
}

impl Room {
    const fn is_shut(&self) -> bool {
        self.by_cap <= 0 || self.by_rate <= 0
    }
}

async fn room(tx: &mut Tx<'_>, id: QueueId, claimed: &mut Claimed) -> Done<Room> {
    let queue = tx.queue(id)?;
    let Queue { row, quiet_until, .. } = queue;
    if *quiet_until > tx.now {
        let wait = quiet_until.since(tx.now);
        claimed.retry_after = Some(claimed.retry_after.map_or(wait, |sooner| sooner.min(wait)));
        return Ok(Room { by_cap: 0, by_rate: i64::MAX, rate: None, log_from: 0, taken: 0 });
    }
    if !queue.is_limited() {
        let by_cap = if row.paused { 0 } else { i64::MAX };
        return Ok(Room { by_cap, by_rate: i64::MAX, rate: None, log_from: 0, taken: 0 });
    }
    let leased = lock_queue(tx, id).await?;
    let Queue { row, policy, .. } = tx.queue(id)?.clone();
    let by_cap = match policy.max_running {
        _ if row.paused => 0,
        Some(max) => i64::from(max) - leased,
        None => i64::MAX,
    };
    let mut room = Room { by_cap, by_rate: i64::MAX, rate: policy.rate, log_from: 0, taken: 0 };
    if let Some(rate) = room.rate {
        let wait;
        (room.by_rate, wait) = rate_room(tx, id, rate).await?;
        room.log_from = last_claim(tx, id).await?;
        if !row.paused && room.by_rate <= 0 {
            claimed.retry_after = [claimed.retry_after, wait].into_iter().flatten().min();
        }
    }
    Ok(room)
}

/// Locks a queue's row against claims of other replicas, and says how many of its leases are open: what others have committed
/// (a lease that one of them gives back now still counts) and what this transaction has changed.
async fn lock_queue(tx: &mut Tx<'_>, id: QueueId) -> Done<i64> {
    if let Some(leased) = tx.loaded.leased.get(&id) {
        return Ok(*leased);
    }
    if !tx.loaded.queues.contains(&id) {
        let rows = query(tx.conn, sql::QUEUE_LOCK, values_of![vec![id.0]]).await?;
        tx.take_queues(&rows)?;
    }
    let committed: i64 = single(tx.conn, sql::COUNT_LEASED, values_of![id.0]).await?.unwrap_or(0);
    let own = (3..=5).filter_map(|state| tx.pending.sums.states.get(&(id, state))).sum::<i64>();
    tx.loaded.leased.insert(id, committed + own);
    Ok(committed + own)
}

async fn last_claim(tx: &mut Tx<'_>, queue: QueueId) -> Done<i64> {
    let rows = tx.query(sql::CLAIM_LOG_LAST, values_of![queue.0]).await?;
    let last: Option<Option<i64>> = rows.first().map(|row| get(row, 0)).transpose()?;
    Ok(last.flatten().unwrap_or(0))
}

/// Claims that the rate allows now and, if none, how long until one.
async fn rate_room(tx: &mut Tx<'_>, queue: QueueId, rate: Rate) -> Done<(i64, Option<Millis>)> {
    let first = last_claim(tx, queue).await? - i64::from(rate.limit);
    let (mut counted, mut oldest) = (0, None);
    for row in tx.query(sql::CLAIM_LOG_AFTER, values_of![queue.0, first]).await? {
        let at = Wall(get(&row, 0)?);
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
async fn answered(tx: &mut Tx<'_>, holder: Holder, request: Uuid) -> Done<Option<Vec<LeaseRow>>> {
    let key = values_of![holder.worker.0, holder.incarnation.0, request];
    let rows = tx.query(sql::REQUEST_GET, key).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let given: Vec<LeaseRef> = refs(get(row, 0)?).collect();
    let ids: Vec<RunId> = given.iter().map(|lease| lease.run_id).collect();
    tx.lock_ids(&ids).await?;
    let mut leases = Vec::new();
    for lease in given {
        let run = tx.run_by_id(lease.run_id).await?.filter(|run| run.lease() == Some((holder, lease)));
        if let Some(run) = run {
            tx.load_bodies(&[run.seq]).await?;
            let (class, body) = (tx.match_class(run.class).await?, tx.loaded.bodies.get(&run.seq).cloned());
            leases.push(lease_row(run, class, body)?);
        }
    }
    Ok(Some(leases))
}

/// The same, for readers.
pub(crate) async fn request_leases(reader: &Reader<'_>, holder: Holder, request: Uuid) -> Done<Option<Vec<LeaseRow>>> {
    let key = values_of![holder.worker.0, holder.incarnation.0, request];
    let Some(body) = single::<Vec<u8>>(reader.conn(), sql::REQUEST_GET, key).await? else { return Ok(None) };
    let mut open = Vec::new();
    for lease in refs(&body) {
        let run = run_by_id(reader.conn(), lease.run_id).await?;
        open.extend(run.filter(|run| run.lease() == Some((holder, lease))));
    }
    crate::lease::lease_rows(reader, open).await.map(Some)
}

async fn remember(tx: &mut Tx<'_>, holder: Holder, request: Uuid, leases: &[LeaseRow]) -> Done<()> {
    let mut body = Vec::with_capacity(leases.len() * 24);
    for lease in leases {
        body.extend_from_slice(lease.run.id.0.as_bytes());
        body.extend_from_slice(&lease.run.epoch.0.to_be_bytes());
    }
    let before = (tx.now - REQUEST_KEPT).0;
    tx.execute(sql::REQUEST_EXPIRE, values_of![holder.worker.0, before]).await?;
    tx.pending.requests.push(Request { holder, id: request, leases: body });
    Ok(())
}

fn refs(body: &[u8]) -> impl Iterator<Item = LeaseRef> {
    body.chunks_exact(24).filter_map(|chunk| {
        let (id, epoch) = chunk.split_at(16);
        let run_id = RunId(Uuid::from_slice(id).ok()?);
        Some(LeaseRef { run_id, epoch: Epoch(i64::from_be_bytes(epoch.try_into().ok()?)) })
    })
}
