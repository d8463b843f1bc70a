//! The invariants I1 to I12 as functions.
