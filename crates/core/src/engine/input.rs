//! What the engine is told.

use super::effect::{ClaimToken, VerdictWanted};
use super::observed::Senses;
use super::replicas::{Homes, Note, Rows};
use crate::class::{MatchClass, WorkerProfile};
use crate::options::{AttemptLimits, RunOptions};
use crate::policy::{Liveness, QueuePolicy};
use crate::run::Run;
use crate::time::{Millis, Observed};
use crate::{ClassId, Holder, HomeSeq, LeaseRef, QueueId, Reason, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A connection, numbered by the shell; never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// How a worker shows that it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// A connection with beats.
    Session,
    /// Requests, at least one in each interval.
    Poll(Millis),
    /// Not at all: only `claim_ttl` limits it. A run that it names in a beat all the same is judged by silence from then on, by the
    /// interval that was declared, if one was.
    None(Option<Millis>),
}

/// A lease as the engine knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Its name.
    pub lease: LeaseRef,
    /// By what it is judged: the very values that its worker was given.
    pub liveness: Liveness,
    /// Whether its attempt has started.
    pub started: bool,
    /// Whether somebody asked for its end.
    pub cancelling: bool,
    /// The store's observed clock at the claim, then at the start.
    pub begun: Observed,
    /// The store's observed clock at the claim, then at the last statement about it.
    pub since: Observed,
    /// How long its attempt may take.
    pub limits: AttemptLimits,
}

impl LeaseInfo {
    /// Of a run's row, if its lease is open.
    #[must_use]
    pub fn of(run: &Run, options: &RunOptions, policy: &QueuePolicy) -> Option<Self> {
        let (_, lease) = run.lease()?;
        Some(Self {
            lease,
            liveness: policy.judged_by(run.terms),
            started: run.started_at.is_some(),
            cancelling: run.state == State::Cancelling,
            begun: run.begun_observed,
            since: run.lease_observed,
            limits: options.attempt_limits(policy),
        })
    }
}

/// A lease as a worker names it in a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldInfo {
    /// Its name.
    pub lease: LeaseRef,
    /// For how long its work has stood still so far.
    pub frozen: Millis,
}

/// A session as the store has it, with what it holds.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Who.
    pub holder: Holder,
    /// What it offers.
    pub profile: WorkerProfile,
    /// How it shows that it lives.
    pub presence: Presence,
    /// Its home.
    pub home_seq: HomeSeq,
    /// It takes nothing new.
    pub draining: bool,
    /// What it holds.
    pub leases: Vec<LeaseInfo>,
    /// How often its countdown was begun anew by an adoption since a session of it opened.
    pub rearmed: u8,
    /// The store's observed clock when it was last given a full TTL.
    pub armed: Observed,
}

/// A beat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BeatInfo {
    /// To be acknowledged.
    pub beat_seq: u64,
    /// Total granted on this connection.
    pub credit: u64,
    /// The last push that was read.
    pub seen_push_seq: u64,
    /// Sent by the beat's timer: only such beats say what is held.
    pub timer: bool,
    /// What is held.
    pub held: Vec<HeldInfo>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseKind {
    /// EOF or RST from the other side: evidence 4.
    Ended,
    /// A time-out of the transport: silence, no evidence of its own.
    TimedOut,
    /// By the server's doing.
    Ours,
}

/// What a claim came to.
#[derive(Clone, Debug, Default)]
pub struct ClaimResult {
    /// Taken.
    pub leases: Vec<LeaseInfo>,
    /// Classes that had nothing to take.
    pub exhausted: Vec<ClassId>,
    /// The session had another home or incarnation.
    pub lost_race: bool,
    /// Rate limits: classes to try again after this long.
    pub retry_after: Option<Millis>,
    /// The store did not answer; nothing is known to be taken.
    pub failed: bool,
}

/// What a verdict came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerdictResult {
    /// These leases are closed.
    Committed(Vec<LeaseRef>),
    /// The session had another home or incarnation: nothing was written.
    LostRace,
    /// Nothing was written.
    Failed,
    /// Not known; the verdict is given again until it is.
    Unknown,
}

/// Everything that happens to the engine.
#[derive(Clone, Debug)]
pub enum Input {
    /// Each 50 ms.
    Tick(Senses),
    /// A queue's liveness policy, new or changed, with the queue's tenant and name.
    Queue(QueueId, (String, String), Liveness),
    /// A match class, new. Its queue is known.
    Class(ClassId, Arc<MatchClass>),
    /// Classes that may have a ready run.
    Ready(Vec<ClassId>),
    /// Runs are about to be created: which sessions should claim in the same transaction?
    Offer(Vec<(ClassId, u32)>),
    /// A session as the store has it, without a connection: of before the start, or of a connection that never came about.
    /// It may come back; its leases are armed with a full TTL. Older than what is in memory: ignored.
    Adopt(SessionInfo),
    /// A connection opened, and the store made this its home. Workers that poll have none.
    Open(SessionInfo, Option<ConnId>, Proxied),
    /// Bytes came in. Without a connection: a request of its own, such as the one that asks for a session.
    Heard(Holder, Option<ConnId>),
    /// A beat came in.
    Beat(Holder, ConnId, BeatInfo),
    /// A polling worker said what it holds. What is not known here may have been given to it by a replica that is its home by now:
    /// rows tell.
    PollHeld(Holder, Vec<HeldInfo>),
    /// A polling worker waits for at most this many leases; 0: it went away.
    PollWants(Holder, u32),
    /// Leases that were claimed for a poll which is not there any more: its worker does not know of them.
    Undelivered(Holder, Vec<LeaseRef>),
    /// A connection ended.
    Closed(Holder, ConnId, CloseKind),
    /// A claim was answered.
    ClaimDone(ClaimToken, ClaimResult),
    /// Reports came in for these leases: their start is no longer due; for workers that do not beat, a sign of life.
    Reported(Vec<(Holder, LeaseRef)>),
    /// Leases closed in the store by a report, a cancel or a person.
    Ended(Vec<(Holder, LeaseRef)>),
    /// Somebody asked for the end of a leased run.
    Cancel(Holder, LeaseRef, Reason),
    /// A verdict was answered.
    VerdictDone(VerdictWanted, VerdictResult),
    /// Take nothing new, or take again.
    Drain(Holder, bool),
    /// It said goodbye, or a newer incarnation has its name: the store holds nothing of it any more.
    Gone(Holder, Reason),
    /// All that it holds is to be taken although it may be alive: a person says so, or its name was taken over from elsewhere.
    Revoke(Holder, Reason),
    /// The audit met these open leases; whatever the engine does not know of them, it takes under its watch.
    Audit(SessionInfo),
    /// Open leases as the store has them now: what another replica was told of them (a start, a sign of life of a worker that
    /// does not beat) is known here from this.
    Seen(Vec<(Holder, LeaseInfo)>),
    /// This replica's row is written, and those of the others are read.
    Rows(Rows),
    /// What other replicas heard, and told by another way than their rows.
    Noted(Vec<Note>),
    /// The row was not written, or it is not known whether it was.
    RowUnwritten,
    /// The sessions whose home this replica is.
    Homes(Homes),
    /// They could not be read.
    HomesUnread,
    /// The store has another home for a session, elsewhere.
    Moved(Holder, HomeSeq),
}

/// Whether a proxy stands between agent and server, which may close connections for reasons of its own.
pub type Proxied = bool;
