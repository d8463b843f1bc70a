//! What may be a name: of a queue, kind, worker, label, key, tag, subject, tenant.
//!
//! One rule for all, so that every name can be typed, compared and shown: 1 to 200 characters, none of them a control character,
//! and no white space at its ends.

use crate::limits::sizes;

/// A text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to {} characters, no control characters, and no white space at its ends", sizes::NAME)]
pub struct BadName;

/// Checks a name.
///
/// # Errors
/// If it is none.
pub fn check(name: &str) -> Result<(), BadName> {
    let fits = !name.is_empty() && name.chars().count() <= sizes::NAME;
    let plain = !name.chars().any(char::is_control) && name.trim() == name;
    if fits && plain { Ok(()) } else { Err(BadName) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_typed_compared_and_shown() {
        for good in ["a", "lobu-connector:sync", "группа 7", &"x".repeat(200)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", " a", "a\t", "\u{a0}a", "a\u{1f}b", "a\nb", &"x".repeat(201)] {
            assert_eq!(check(bad), Err(BadName), "{bad:?}");
        }
    }
}
