//! Broken twins: the same world with one rule taken out. A check that does not catch its twin checks nothing.

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
}

impl Twin {
    /// Every broken one.
    pub const BROKEN: [Self; 5] =
        [Self::NoHomeGuard, Self::DeafGuard, Self::EagerAck, Self::CountsStalls, Self::NoBreaker];
}
