//! What must not last: looked at each second. A level counts only for as long as nothing disturbs server and store.
//!
//! I5: an open lease that nobody watches; a worker that is at home where nobody knows it. I11: a lease of an agent that is gone; a run that is ready while somebody could take
//! it. And a cancel that nobody carries out.

use crate::host::Host;
use crate::queue::Owner;
use crate::server::Server;
use crate::store::{now, sure};
use crate::world::World;
use outlive_core::engine::Status;
use outlive_core::invariants::{self, AUDIT, Delays};
use outlive_core::run::{ClosedBy, Evidence, Run};
use outlive_core::{Holder, LeaseRef, Millis, RunId, State};
use outlive_store::Workers as _;
use std::collections::{BTreeMap, BTreeSet};

/// How often.
const EVERY: u64 = 1_000;
/// What one look may miss, and what messages need.
const SLACK: Millis = Millis(2_500);

/// Since when what lasts.
#[derive(Default)]
pub(crate) struct Levels {
    unwatched: BTreeMap<LeaseRef, u64>,
    /// How long, of time in which nothing disturbed server and store.
    orphaned: BTreeMap<LeaseRef, u64>,
    /// Lost, and neither queued again nor over.
    aside: BTreeMap<RunId, u64>,
    starved: BTreeMap<RunId, u64>,
    /// Hosts with a free slot, each with the time of its last claim.
    room: BTreeMap<(usize, u64), u64>,
    cancelling: BTreeMap<LeaseRef, u64>,
    /// Workers that are well, and not known where the store has them.
    astray: BTreeMap<Holder, u64>,
    /// Replicas that, or whose way to the store, do not do what they should.
    pub disturbed: BTreeSet<usize>,
    restarted: u64,
    /// When the breaker was last seen open.
    breaker: Option<u64>,
}

/// Looks, and looks again later.
pub(crate) fn look(w: &mut World) {
    let healthy = w.replicas().all(Server::runs) && w.truth.levels.disturbed.is_empty();
    let starts = w.replicas().map(|r| u64::from(r.boot)).sum();
    let restarted = w.truth.levels.restarted != starts;
    if !healthy || restarted {
        // A start arms anew. What disturbs the store for a moment does so only twice.
        let orphaned = if restarted { BTreeMap::new() } else { std::mem::take(&mut w.truth.levels.orphaned) };
        w.truth.levels = Levels {
            disturbed: std::mem::take(&mut w.truth.levels.disturbed),
            orphaned,
            restarted: starts,
            ..Levels::default()
        };
    }
    if healthy {
        // Whether a run is blocked by its serial key changes with other runs' writes, which name only those.
        let waiting: Vec<_> =
            w.truth.active.iter().filter(|id| w.truth.rows.get(id).is_some_and(Run::is_ready)).copied().collect();
        waiting.into_iter().for_each(|id| w.reread(id));
        let rows: Vec<Run> = w.truth.active.iter().filter_map(|id| w.truth.rows.get(id)).cloned().collect();
        leases(w, &rows);
        ready(w, &rows);
        homes(w);
    }
    w.after(EVERY, Owner::World, look);
}

/// Carries on with what is still so; how long each has lasted.
fn lasting<K: Ord + Copy>(levels: &mut BTreeMap<K, u64>, now: u64, so: &BTreeSet<K>) -> Vec<(K, Millis)> {
    levels.retain(|key, _| so.contains(key));
    so.iter().map(|&key| (key, Millis(now - *levels.entry(key).or_insert(now)))).collect()
}

fn leases(w: &mut World, rows: &[Run]) {
    let aside = |run: &&Run| {
        run.state == State::Held
            && run.closed_by == ClosedBy::Loss
            && run.reason != Some(outlive_core::Reason::CrashLoop)
    };
    let aside: BTreeSet<RunId> = rows.iter().filter(aside).map(|run| run.id).collect();
    let now = w.now;
    for (run, lasted) in lasting(&mut w.truth.levels.aside, now, &aside) {
        w.check(invariants::within(run, "was lost and is not queued again", lasted, AUDIT));
    }
    let (mut unwatched, mut orphaned, mut cancelling) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut terms = BTreeMap::new();
    for run in rows {
        let Some((holder, lease)) = run.lease() else { continue };
        terms.insert(lease, w.policy(run.queue).liveness());
        if !w.replicas().any(|r| r.engine.leases(holder).contains(&lease)) {
            unwatched.insert(lease);
        }
        let host = w.truth.host_of(holder).map(|host| &w.hosts[host]);
        if let Some(poller) = w.truth.poller_of(holder).map(|p| &w.pollers[p]) {
            // Whoever does not beat is under `claim_ttl`, or has its TTL since it was named.
            let terms: &mut outlive_core::policy::Liveness = terms.get_mut(&lease).unwrap_or_else(|| unreachable!());
            terms.lease_ttl = Millis::secs(60).max(terms.claim_ttl);
            if poller.holder != Some(holder) || !poller.alive {
                orphaned.insert(lease);
            }
        } else if host.is_none_or(|h| h.holder != Some(holder) || h.agent.is_none()) {
            orphaned.insert(lease);
        }
        if run.state == State::Cancelling && host.is_some_and(|h| h.blameless_since.is_some()) {
            cancelling.insert(lease);
        }
    }
    let now = w.now;
    if w.replicas().any(|r| r.engine.breaker().is_some()) {
        w.truth.levels.breaker = Some(now);
    }
    let breaker = w.truth.levels.breaker;
    for (lease, lasted) in lasting(&mut w.truth.levels.unwatched, now, &unwatched) {
        w.check(invariants::watched(lease, lasted, AUDIT + SLACK));
    }
    w.truth.levels.orphaned.retain(|lease, _| orphaned.contains(lease));
    for lease in orphaned {
        let lasted = w.truth.levels.orphaned.entry(lease).or_default();
        *lasted += EVERY;
        let lasted = Millis(*lasted);
        let doubted = breaker.is_some_and(|at| now - at <= lasted.0);
        let delays = Delays { rearmed: true, breaker: doubted, alone: doubted, ..Delays::default() };
        let most = invariants::bound(Evidence::Silence, &terms[&lease], delays);
        w.check(invariants::within(lease.run_id, "is held by an agent that is gone", lasted, most + SLACK));
    }
    for (lease, lasted) in lasting(&mut w.truth.levels.cancelling, now, &cancelling) {
        let limit = &terms[&lease];
        let most = Millis::secs(20) + limit.lease_ttl + limit.offline_grace + AUDIT;
        w.check(invariants::within(lease.run_id, "has been asked to end", lasted, most));
    }
}

impl World {
    /// Whether the server lets a host's worker drain, because somebody asked for it.
    pub(crate) fn drains(&self, host: &Host) -> bool {
        let now = self.mono();
        let of = |holder| self.replicas().filter_map(move |r| r.engine.session(holder, now));
        host.holder.is_some_and(|holder| of(holder).any(|session| session.status == Status::Draining))
    }
}

/// A worker that is well is known where its row says that it is at home.
fn homes(w: &mut World) {
    let mut astray = BTreeSet::new();
    for holder in w.hosts.iter().filter(|h| h.agent.is_some() && h.blameless_since.is_some()).filter_map(|h| h.holder) {
        let row = sure(now(w.truth_db.worker(holder.worker)), "the truth can be read");
        let Some(row) = row.filter(|row| row.holder() == holder && !row.left) else { continue };
        let knows = |r: &Server| r.replica == row.replica && r.engine.home_seq(holder) == Some(row.home_seq);
        if !row.session_open || !w.replicas().any(knows) {
            astray.insert(holder);
        }
    }
    let at = w.now;
    for (holder, lasted) in lasting(&mut w.truth.levels.astray, at, &astray) {
        w.check(invariants::at_home(holder, lasted, AUDIT + SLACK));
    }
}

/// A ready run below all caps, while some worker has room.
fn ready(w: &mut World, rows: &[Run]) {
    // A worker that claims all the time takes what goes before; one that has had room for all that time has no excuse.
    let mut room = BTreeSet::new();
    for host in w.hosts.iter().filter(|h| h.could_take() && h.blameless_since.is_some() && !w.drains(h)) {
        let claimed = w.truth.claimed_at.get(&host.index).copied().unwrap_or_default();
        room.insert((host.index, claimed.max(host.blameless_since.unwrap_or_default() + 5_000)));
    }
    let now = w.now;
    let most = AUDIT + SLACK;
    let room = lasting(&mut w.truth.levels.room, now, &room).into_iter().find(|(_, lasted)| *lasted > most);
    let mut starved = BTreeSet::new();
    for run in rows.iter().filter(|run| run.is_ready() && !w.clients.is_for_pollers(run.queue)) {
        let cap = w.policy(run.queue).max_running.map_or(usize::MAX, |n| n as usize);
        let leased = rows.iter().filter(|other| other.queue == run.queue && other.state.is_leased()).count();
        if leased < cap {
            starved.insert(run.id);
        }
    }
    for (run, lasted) in lasting(&mut w.truth.levels.starved, now, &starved) {
        let Some(((host, _), _)) = room else { continue };
        let (holder, now) = (w.hosts[host].holder, w.mono());
        let session: Vec<_> = w.replicas().map(|r| holder.and_then(|holder| r.engine.session(holder, now))).collect();
        let what = format!("is ready while h{host} could take it (the engine sees {session:?})");
        w.check(invariants::within(run, &what, lasted, most));
    }
}
