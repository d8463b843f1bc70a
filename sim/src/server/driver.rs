//! Inputs in, effects out, hints on: `driver.rs`, `commit.rs` and the adoption of `start.rs`.

use super::{polls, replicas, session, twins, verdicts};
use crate::net::{Down, conn_id};
use crate::store;
use crate::twin::Twin;
use crate::world::World;
use outlive_api::session::{CloseReason, Hello, Lease, ServerMessage};
use outlive_core::engine::{
    ClaimResult, ClaimToken, ClaimWanted, CloseWhy, ConnId, Effect, Input, LeaseInfo, Presence, Say, SessionInfo,
};
use outlive_core::home::Has;
use outlive_core::invariants;
use outlive_core::{Holder, HomeSeq, RunId};
use outlive_store::{ClaimOrder, Claimed, Commit, LeaseRow, Leases as _, StoreError, Sweeps as _, Workers as _};
use std::collections::BTreeMap;

pub(crate) type Staged = BTreeMap<RunId, Lease>;

pub(crate) fn input(w: &mut World, input: Input) {
    feed(w, input, &mut Staged::new());
}

/// The engine gets one input; messages leave in order, store work is asked for.
pub(crate) fn feed(w: &mut World, input: Input, staged: &mut Staged) {
    let now = w.mono();
    w.signs(&input);
    let input = twins::told(w, input);
    if let Some(recording) = w.server.recordings.last_mut() {
        recording.inputs.push((now, input.clone()));
    }
    let beat = if let Input::Beat(holder, conn, beat) = &input { Some((*holder, *conn, beat.beat_seq)) } else { None };
    let mut effects = w.server.engine.handle(input, now);
    if let (Twin::EagerAck, Some((holder, conn, seq))) = (w.twin, beat)
        && !effects.iter().any(|e| matches!(e, Effect::Say(_, _, Say::BeatAck(_))))
    {
        effects.push(Effect::Say(holder, conn, Say::BeatAck(seq)));
    }
    let open = w.server.engine.breaker().is_some();
    for effect in effects {
        match effect {
            Effect::Breaker(why) => w.log(format_args!("breaker: {why:?}")),
            Effect::Say(_, conn, message) => say(w, conn, message, staged),
            Effect::Order(holder, message) => w.server.polls.order(holder, &message),
            Effect::WriteRow(row) => replicas::write_row(w, row),
            Effect::AdoptFrom { replica, beat } => replicas::adopt_from(w, replica, beat),
            Effect::ReadHomes => replicas::read_homes(w),
            Effect::Claim(wanted) => claim(w, &wanted),
            Effect::Verdict(wanted) => {
                let wanted = twins::judged(w, wanted);
                if !wanted.again {
                    w.check(invariants::breaker(open, wanted.evidence));
                    w.judges(&wanted);
                }
                verdicts::write(w, wanted);
            }
            Effect::Announce(holder, status) => w.log(format_args!("{holder} is {}", status.as_str())),
        }
    }
}

fn say(w: &mut World, conn: ConnId, message: Say, staged: &mut Staged) {
    let (cluster, confirms_unsure) = (w.is_cluster(), w.twin == Twin::ConfirmsUnsure);
    let hides_proxies = w.twin == Twin::HidesProxies;
    let Some(handle) = w.server.conns.get_mut(&conn) else { return };
    let mut last = false;
    let message = match message {
        Say::Hello { home_seq, heartbeat, window, proxied } => ServerMessage::Hello(Hello {
            home_seq,
            heartbeat_ms: heartbeat.0,
            reconnect_window_ms: window.0,
            proxied: proxied && !hides_proxies,
            sole: !cluster,
            replicas: Vec::new(),
        }),
        Say::Held(leases) => {
            let leases = leases.iter().filter_map(|l| handle.held.remove(&l.run_id)).collect();
            handle.held = Staged::new();
            ServerMessage::Leases { push_seq: 0, leases }
        }
        Say::Push(push_seq, leases) => {
            let leases = leases.iter().filter_map(|l| staged.remove(&l.run_id)).collect();
            ServerMessage::Leases { push_seq, leases }
        }
        Say::Lost(l, reason) => ServerMessage::Lost { run_id: l.run_id, epoch: l.epoch, reason },
        Say::Cancel(l, reason) => ServerMessage::Cancel { run_id: l.run_id, epoch: l.epoch, reason },
        Say::Drain => ServerMessage::Drain,
        Say::BeatAck(beat_seq) => ServerMessage::BeatAck { beat_seq, home_unsure: false },
        Say::Unsure(beat_seq) => ServerMessage::BeatAck { beat_seq, home_unsure: !confirms_unsure },
        Say::Close(why) => {
            last = true;
            let why = match why {
                CloseWhy::Superseded => CloseReason::Superseded,
                CloseWhy::Replaced => CloseReason::SessionReplaced,
                CloseWhy::WrittenOff => CloseReason::WrittenOff,
            };
            ServerMessage::Close { why, keep_trust_ms: 0, r#try: Vec::new() }
        }
    };
    let link = handle.link;
    w.down(link, Down::Message(Box::new(message)));
    if last {
        session::close_ours(w, link);
    }
}

/// A claim under way, with the poll for which it is made.
pub(crate) struct Claim {
    token: ClaimToken,
    pub holder: Holder,
    home_seq: HomeSeq,
    pub request: Option<uuid::Uuid>,
}

impl Claim {
    pub(crate) fn of(order: &ClaimOrder, token: ClaimToken) -> Self {
        Self { token, holder: order.holder, home_seq: order.home_seq, request: order.request }
    }
}

pub(crate) fn order(w: &World, wanted: &ClaimWanted) -> ClaimOrder {
    ClaimOrder {
        holder: wanted.holder,
        replica: w.server.replica,
        home_seq: wanted.home_seq,
        max: wanted.max,
        classes: wanted.classes.clone(),
        request: w.server.polls.request(wanted.holder),
    }
}

fn claim(w: &mut World, wanted: &ClaimWanted) {
    let order = order(w, wanted);
    let claim = Claim::of(&order, wanted.token);
    w.job(move |w| {
        let result = store::now(w.server.db.store.claim(order));
        w.saw(result.as_ref().ok().map(|c| &c.commit));
        w.reply(move |w| claimed(w, &claim, result));
    });
}

/// A claim was answered.
pub(crate) fn claimed(w: &mut World, claim: &Claim, result: Result<Claimed, StoreError>) {
    let holder = claim.holder;
    let (result, rows, commit) = match result {
        Ok(claimed) => {
            let result = ClaimResult {
                leases: claimed.leases.iter().filter_map(|row| lease_info(w, row)).collect(),
                exhausted: claimed.exhausted,
                lost_race: claimed.lost_race,
                retry_after: claimed.retry_after,
                failed: false,
            };
            (result, claimed.leases, claimed.commit)
        }
        Err(_) => (ClaimResult { failed: true, ..ClaimResult::default() }, Vec::new(), Commit::default()),
    };
    for row in &rows {
        let name = w.name(row.run.id);
        w.log(format_args!("r{name} epoch {} goes to {holder}", row.run.epoch));
    }
    // A session that the store does not know under this home claims nothing, ever: the engine missed a newer one.
    if result.lost_race {
        verdicts::follow_home(w, holder, Has::Refused(claim.home_seq), |_| {});
    }
    let order: Vec<_> = rows.iter().map(|row| row.run.id).collect();
    let mut staged: Staged = rows.into_iter().map(|row| wire_lease(w, row)).collect();
    feed(w, Input::ClaimDone(claim.token, result), &mut staged);
    let rest = order.iter().filter_map(|id| staged.remove(id)).collect();
    polls::deliver(w, claim, rest);
    committed(w, commit);
}

/// Hands the hints of a transaction on, here and to other replicas.
pub(crate) fn committed(w: &mut World, commit: Commit) {
    replicas::tell_others(w, &commit);
    hinted(w, commit);
}

/// What a transaction, of this replica or another, may mean here.
pub(crate) fn hinted(w: &mut World, commit: Commit) {
    let ended: Vec<_> = commit.changed.iter().filter_map(|c| c.freed).collect();
    if !ended.is_empty() {
        input(w, Input::Ended(ended));
    }
    for cancel in commit.cancels {
        input(w, Input::Cancel(cancel.holder, cancel.lease, cancel.reason));
    }
    if !commit.ready.is_empty() {
        input(w, Input::Ready(commit.ready));
    }
}

pub(crate) fn lease_info(w: &World, row: &LeaseRow) -> Option<LeaseInfo> {
    LeaseInfo::of(&row.run, &row.options, &w.policy(row.run.queue))
}

impl World {
    pub(crate) fn policy(&self, queue: outlive_core::QueueId) -> outlive_core::policy::QueuePolicy {
        self.policies.get(&queue).cloned().unwrap_or_default()
    }
}

/// A lease for its worker: `view::lease`.
pub(crate) fn wire_lease(w: &World, row: LeaseRow) -> (RunId, Lease) {
    let policy = w.policy(row.run.queue);
    let limits = row.options.attempt_limits(&policy);
    let lease = Lease {
        run_id: row.run.id,
        epoch: row.run.epoch,
        kind: row.class.kind.clone(),
        queue: row.class.queue.clone(),
        input: row.input,
        attempt: row.run.attempt(),
        recovered: row.run.epoch.0 > 1 && row.run.losses > 0,
        checkpoint: row.checkpoint,
        resume_data: row.resume_data,
        lease_ttl_ms: policy.lease_ttl.0,
        offline_grace_ms: policy.offline_grace.0,
        run_timeout_ms: limits.run_timeout.0,
        progress_timeout_ms: limits.progress_timeout.map(|t| t.0),
        cancel_grace_ms: policy.cancel_grace.0,
        on_isolation: policy.on_isolation,
        takeover: policy.takeover,
        traceparent: None,
    };
    (lease.run_id, lease)
}

/// A session as the engine takes it: `session_info`.
pub(crate) fn session_info(
    worker: &outlive_store::WorkerRow,
    home_seq: HomeSeq,
    leases: Vec<LeaseInfo>,
) -> SessionInfo {
    SessionInfo {
        holder: worker.holder(),
        profile: worker.profile.clone(),
        presence: match worker.presence {
            outlive_store::Presence::Session => Presence::Session,
            outlive_store::Presence::Poll(interval) => Presence::Poll(interval),
            outlive_store::Presence::None(interval) => Presence::None(interval),
        },
        home_seq,
        draining: worker.draining,
        leases,
        rearmed: worker.rearmed,
        armed: worker.armed,
    }
}

/// The holder of leases whose session is not open: `ghost`.
pub(crate) fn ghost(holder: Holder, leases: Vec<LeaseInfo>) -> SessionInfo {
    SessionInfo {
        holder,
        profile: outlive_core::class::WorkerProfile::default(),
        presence: Presence::Session,
        home_seq: HomeSeq(0),
        draining: true,
        leases,
        rearmed: 0,
        armed: outlive_core::Observed(0),
    }
}

/// At the start: every session that was open may come back, and every open lease is watched, with a full TTL.
pub(crate) fn adopt_all(w: &mut World) -> Result<(), StoreError> {
    let mut leases: BTreeMap<Holder, Vec<LeaseInfo>> = BTreeMap::new();
    let mut cursor = None;
    loop {
        let page = store::now(w.server.db.store.leases_after(cursor, 1_000))?;
        for row in &page.rows {
            if let Some((holder, _)) = row.run.lease() {
                leases.entry(holder).or_default().extend(lease_info(w, row));
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    for worker in
        store::now(w.server.db.store.workers(None, None, 1_000))?.into_iter().filter(|worker| worker.session_open)
    {
        let held = leases.remove(&worker.holder()).unwrap_or_default();
        input(w, Input::Adopt(session_info(&worker, worker.home_seq, held)));
    }
    for (holder, held) in leases {
        input(w, Input::Audit(ghost(holder, held)));
    }
    Ok(())
}

/// Something that the home of a session is to do, which is another replica.
pub(crate) fn tell_home(w: &mut World, of: &Input) {
    let others: Vec<_> = w.replicas().filter(|r| r.index != w.server.index).map(super::Server::owner).collect();
    for owner in others {
        let (late, of) = (w.chance.between(1, 50), of.clone());
        w.after(late, owner, move |w| input(w, of));
    }
}

/// The number of a connection, for the log and the engine.
pub(crate) const fn number(link: usize) -> ConnId {
    conn_id(link)
}
