//! The agent's decisions, without a process, a socket or a clock.
