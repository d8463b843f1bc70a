//! Broken twins: the same world with one rule taken out. A check that does not catch its twin checks nothing.
//!
//! The twins live in the simulation's shell, not in what is simulated: they change what the engine or the store is told, or
//! write verdicts of their own. Only the two broken breakers are modes of the engine's own, since nothing outside can be
//! told in their place.

/// Which rule is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Twin {
    /// None: everything is as it should be.
    #[default]
    Sound,
    /// Verdicts by absence do not repeat (home, `home_seq`) in their transaction.
    NoHomeGuard,
    /// Guards never freeze: agents ignore trust deadlines.
    DeafGuard,
    /// Beats are acknowledged although a verdict over the session is being written or its outcome is unknown.
    EagerAck,
    /// Each tick that a stall swallowed is made up for: the judge counts time in which it could not hear.
    CountsStalls,
    /// The breaker never opens.
    NoBreaker,
    /// A report is accepted from any worker, if it names the open epoch.
    NoOwnerCheck,
    /// A report is accepted under any epoch of its run, if somebody holds the run.
    NoOpenLeaseCheck,
    /// Silence is counted on the wall clock.
    WallClockAges,
    /// Silence is counted on the process's clock: what a stalled server wakes to is silence.
    VerdictAfterStall,
    /// The end of a connection that its worker has replaced counts as the end of its session.
    LateCloseCounts,
    /// A lost run is first put aside, and queued again by a step of its own.
    TwoSteps,
    /// A run that was claimed some time ago is taken, whether its worker beats or not.
    CoarseLimit,
    /// While the breaker is open, reports wait as well.
    BreakerStopsReports,
    /// The breaker never closes again.
    BreakerNeverCloses,
    /// Each time that the store comes back, silence begins anew.
    RearmsForEver,
    /// A lease that its worker does not name is taken back although its push may be on its way.
    EarlyTakeback,
    /// A replica that could not write its row goes on confirming beats.
    ConfirmsUnsure,
    /// When nearly all of a fleet are back after an outage or a start, the others are judged 5 s later, whatever they trust.
    ShortRest,
    /// Agents behind proxies are told that nothing stands between: they trust a connection whose end may be hidden from them.
    HidesProxies,
    /// A session is judged by the least TTL of what it holds, as a whole.
    LeastTtlForAll,
    /// That a worker which does not beat names a run exempts it from nothing.
    ForgetsNames,
    /// All that are absent are taken at once.
    NoRate,
}

impl Twin {
    /// Every broken one.
    pub const BROKEN: [Self; 22] = [
        Self::NoHomeGuard,
        Self::DeafGuard,
        Self::EagerAck,
        Self::CountsStalls,
        Self::NoBreaker,
        Self::NoOwnerCheck,
        Self::NoOpenLeaseCheck,
        Self::WallClockAges,
        Self::VerdictAfterStall,
        Self::LateCloseCounts,
        Self::TwoSteps,
        Self::CoarseLimit,
        Self::BreakerStopsReports,
        Self::BreakerNeverCloses,
        Self::RearmsForEver,
        Self::EarlyTakeback,
        Self::ConfirmsUnsure,
        Self::ShortRest,
        Self::HidesProxies,
        Self::LeastTtlForAll,
        Self::ForgetsNames,
        Self::NoRate,
    ];
}
