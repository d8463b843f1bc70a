//! One exercise suite that every store must pass.
