//! The fault decorator.
