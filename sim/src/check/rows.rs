//! Rows: each that a write changed, before and after.

use super::Judging;
use crate::store;
use crate::world::World;
use outlive_core::invariants::{self, Check, Truth};
use outlive_core::policy::derive;
use outlive_core::report::{Item, ItemResult};
use outlive_core::run::{ClosedBy, Evidence, Run};
use outlive_core::{Holder, LeaseRef, Millis, RunId};
use outlive_store::Commit;
use std::collections::BTreeMap;

/// An exit report, with everything that goes before it, is there within this.
const TOLD: Millis = Millis(1_500);

impl super::Truth {
    /// The rows of a report's runs, before it.
    pub(crate) fn rows_of(&self, items: &[Item]) -> BTreeMap<RunId, Run> {
        let ids = items.iter().map(|item| item.lease.run_id);
        ids.filter_map(|id| Some((id, self.rows.get(&id)?.clone()))).collect()
    }

    fn leased(&mut self, run: &Run) {
        let here = run.state.is_leased();
        let queue = self.by_queue.entry(run.queue).or_default();
        if here {
            queue.insert(run.id)
        } else {
            queue.remove(&run.id)
        };
        if let Some(key) = &run.serial_key {
            let serial = self.by_serial.entry(key.clone()).or_default();
            if here {
                serial.insert(run.id)
            } else {
                serial.remove(&run.id)
            };
        }
    }
}

impl World {
    /// A write has been answered, or its answer was lost: what changed is compared.
    pub(crate) fn saw(&mut self, commit: Option<&Commit>) {
        let changed: Vec<RunId> = match commit {
            Some(commit) => commit.changed.iter().map(|c| c.id).collect(),
            None if self.server.db.struck() => self.truth.active.iter().copied().collect(),
            None => Vec::new(),
        };
        for &id in &changed {
            self.reread(id);
        }
        for id in changed {
            let check = self.caps(id);
            self.check(check);
        }
    }

    /// Reads one row again.
    pub(crate) fn reread(&mut self, id: RunId) {
        let check = self.refresh(id);
        self.check(check);
    }

    fn refresh(&mut self, id: RunId) -> Check {
        let row = store::sure(store::now(self.truth_db.run_row(id)), "the truth can be read");
        let Some(after) = row else { return Ok(()) };
        self.truth.counts.rows += 1;
        let before = self.truth.rows.insert(id, after.clone());
        if before.as_ref() == Some(&after) {
            return Ok(());
        }
        if after.state.is_terminal() {
            self.truth.active.remove(&id);
        }
        self.truth.leased(&after);
        if let Some(host) = after.lease().and_then(|(holder, _)| self.truth.host_of(holder)) {
            self.truth.claimed_at.insert(host, self.now);
        }
        let name = self.name(id);
        let from = before.as_ref().map_or("nothing", |b| b.state.as_str());
        if before.as_ref().is_none_or(|b| b.state != after.state || b.epoch != after.epoch) {
            self.log(format_args!("r{name} {from} -> {} epoch {} {:?}", after.state, after.epoch, after.reason));
        }
        invariants::step(before.as_ref(), &after)?;
        match before {
            Some(before) => self.losses(&before, &after),
            None => Ok(()),
        }
    }

    /// I3: a lease was closed as a loss.
    fn losses(&mut self, before: &Run, after: &Run) -> Check {
        self.exit_was_told(before, after)?;
        let closed = before.state.is_leased() && after.epoch == before.epoch && after.closed_by == ClosedBy::Loss;
        let Some((holder, lease)) = before.lease().filter(|_| closed) else { return Ok(()) };
        self.truth.counts.losses += 1;
        invariants::reason_of_loss(after, after.reason)?;
        invariants::limit(lease, after.reason, self.beats(holder, lease))?;
        self.truth.counts.claim_ttl += u64::from(after.reason == Some(outlive_core::Reason::ClaimTtlExceeded));
        let open = self.truth.in_flight.get(&lease).is_some_and(|&link| self.is_open(&self.net.links[link]));
        let works = self.truth.poller_of(holder).is_some_and(|p| self.pollers[p].works_at(lease));
        invariants::takeback(lease, after.reason, open || works)?;
        let Some(judging) = self.truth.judging.filter(|j| j.holder == holder && j.evidence.by_absence()) else {
            return Ok(());
        };
        self.truth.counts.by_absence += 1;
        // The network is down for all at once: whoever is judged now is judged for that.
        invariants::breaker(self.network_down, judging.evidence)?;
        self.false_kill(before, lease, judging)
    }

    /// Evidence 1 waits for nothing: what an agent that is heard says of its process's end is written at once.
    fn exit_was_told(&mut self, before: &Run, after: &Run) -> Check {
        let Some((holder, lease)) = before.lease().filter(|_| !after.state.is_leased()) else { return Ok(()) };
        let Some((ended, host)) = self.truth.exits.remove(&lease) else { return Ok(()) };
        let h = &self.hosts[host];
        let heard = h.holder == Some(holder) && h.blameless_since.is_some_and(|since| since <= ended);
        // What waited for the store while it was slow is written first.
        let undisturbed = self.truth.troubled_at + 2_000 < ended && self.truth.levels.disturbed.is_empty();
        let connected = h.dropped_at.is_none_or(|at| at < ended);
        // A request that a balancer brought to a replica which then died is made again only after a while.
        if self.scenario.balanced
            || !heard
            || !undisturbed
            || !connected
            || h.online_since.is_none_or(|since| since > ended)
        {
            return Ok(());
        }
        invariants::within(lease.run_id, "has ended and was not written", Millis(self.now - ended), TOLD)
    }

    fn false_kill(&self, run: &Run, lease: LeaseRef, judging: Judging) -> Check {
        // A worker whose next home is slow to let it in has not come back within the window.
        let slow = !self.truth.levels.disturbed.is_empty() || self.truth.troubled_at + 2_000 > self.now;
        if self.is_cluster() && judging.evidence == Evidence::SessionClosed && slow {
            return Ok(());
        }
        // It may knock at a replica that does not hear or answer for as long before it goes on to the next.
        let finding = if self.is_cluster() && slow { 5_000 } else { 0 };
        let holder = judging.holder;
        let host = self.truth.host_of(holder).map(|host| &self.hosts[host]);
        let alive = host.filter(|h| h.holder == Some(holder) && h.agent.is_some());
        let since = alive.and_then(|h| h.blameless_since);
        let newer = self.truth.sessions.get(&holder).filter(|(home, _)| judging.home.is_none_or(|judge| *home > judge));
        let open = newer.map(|&(_, link)| &self.net.links[link]);
        let (proxied, beat) = host.map_or((false, Millis::ZERO), |h| (h.proxied, h.registered.0));
        let truth = Truth {
            window: derive::reconnect_window(beat, proxied),
            blameless_for: since.map(|since| Millis((self.now - since).saturating_sub(finding))),
            newer_session: since.is_some() && open.is_some_and(|l| self.is_open(l)),
        };
        invariants::evidence(lease, judging.evidence, &self.policy(run.queue).liveness(), truth)
    }

    /// I12, after all rows of a write have been read.
    fn caps(&self, id: RunId) -> Check {
        let Some(run) = self.truth.rows.get(&id).filter(|run| run.state.is_leased()) else { return Ok(()) };
        let leased = self.truth.by_queue.get(&run.queue).map_or(0, std::collections::BTreeSet::len);
        invariants::cap(&run.queue.to_string(), leased, self.policy(run.queue).max_running)?;
        let Some(key) = &run.serial_key else { return Ok(()) };
        let holders: Vec<_> = self.truth.by_serial.get(key).into_iter().flatten().copied().collect();
        invariants::serial(key, &holders)
    }

    /// I2: a report changed nothing but what its sender held.
    pub(crate) fn compare(
        &mut self,
        before: &BTreeMap<RunId, Run>,
        sender: Holder,
        items: &[Item],
        results: Option<&[ItemResult]>,
    ) {
        let holds = |item: &Item, run: &Run| run.epoch == item.lease.epoch && run.holder == Some(sender);
        for (n, item) in items.iter().enumerate() {
            let id = item.lease.run_id;
            let (Some(row), Some(after)) = (before.get(&id), self.truth.rows.get(&id)) else { continue };
            let open = holds(item, row) && row.state.is_leased();
            if open {
                continue;
            }
            // What another item of the same report may have done to the row is not this one's doing.
            let last = item.op.ends_attempt() || !items[n + 1..].iter().any(|other| other.lease.run_id == id);
            let others = items.iter().any(|other| other.lease.run_id == id && holds(other, row));
            let after = if last && (holds(item, row) || !others) { after } else { row };
            let unknown = ItemResult::Fenced { state: row.state, epoch: row.epoch };
            let result = results.and_then(|r| r.get(n)).unwrap_or(&unknown);
            let check = invariants::write(row, after, sender, item, result);
            self.check(check);
        }
    }
}
