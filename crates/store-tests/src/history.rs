//! A random history.

/// placeholder
pub fn steps() {}
/// placeholder
pub fn play() {}
/// placeholder
pub struct Step;
