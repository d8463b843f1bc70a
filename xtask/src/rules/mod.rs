//! Rules as absences: what must not be somewhere. Each has a test that shows a violation and that it is found.
//!
//! | file | reads |
//! |---|---|
//! | `proofs` | `docs/guarantees.md`, `docs/liveness.md`: a promise without a test, a test that is not there |
//! | `layers` | `Cargo.lock`: which crate may know which |
//! | `words` | the sources: what must not be said where |

pub(crate) mod layers;
pub(crate) mod proofs;
pub(crate) mod words;

use crate::house::House;

/// A violation, as a line for people: where, what, and why it is not allowed.
pub(crate) type Finding = String;

/// All rules over a house.
pub(crate) fn check(house: &House) -> Vec<Finding> {
    layers::check(house).into_iter().chain(words::check(house)).chain(proofs::check(house)).collect()
}
