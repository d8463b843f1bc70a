//! Times on the wire: RFC 3339, UTC, milliseconds.

use outlive_core::Wall;
use serde::{Deserialize, Deserializer, Serializer};

/// `2026-11-21T10:00:00.000Z`.
#[must_use]
pub fn text(at: Wall) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| "invalid".to_owned(), |t| format!("{t:.3}"))
}

/// Reads an RFC 3339 time of any zone.
///
/// # Errors
/// If it is not one.
pub fn parse(text: &str) -> Result<Wall, String> {
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    parsed.map(|t| Wall(t.as_millisecond())).map_err(|_| format!("\"{text}\" is not an RFC 3339 time"))
}

/// For `#[serde(with = "time")]` on a [`Wall`].
///
/// # Errors
/// Of the serialiser.
pub fn serialize<S: Serializer>(at: &Wall, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&text(*at))
}

/// For `#[serde(with = "time")]` on a [`Wall`].
///
/// # Errors
/// If it is not an RFC 3339 time.
pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Wall, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// For optional fields.
pub mod option {
    use super::{Deserialize, Deserializer, Serializer, Wall};

    /// For `#[serde(with = "time::option")]`.
    ///
    /// # Errors
    /// Of the serialiser.
    pub fn serialize<S: Serializer>(at: &Option<Wall>, s: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::serialize(at, s),
            None => s.serialize_none(),
        }
    }

    /// For `#[serde(with = "time::option", default)]`.
    ///
    /// # Errors
    /// If it is neither null nor an RFC 3339 time.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Wall>, D::Error> {
        let text = Option::<std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.map(|t| super::parse(&t)).transpose().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_read_back() {
        assert_eq!(text(Wall(1_795_000_000_000)), "2026-11-18T11:06:40.000Z");
        assert_eq!(parse("2026-11-18T12:06:40.5+01:00"), Ok(Wall(1_795_000_000_500)));
        assert!(parse("yesterday").is_err());
    }
}
