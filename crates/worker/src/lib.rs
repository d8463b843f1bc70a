//! The agent: session, trust, outbox, guard, processes.
