//! Deterministic simulation over the real engine, store and worker logic.
