//! Instants and durations.
//!
//! Three clocks exist and their values never mix, so each has a type of its own:
//!
//! | type | clock | used for |
//! |---|---|---|
//! | [`Wall`] | the store's wall clock, Unix milliseconds | `run_at`, retention, queue and hold limits, what people read |
//! | [`Mono`] | one process's monotonic clock | the engine's `now`, trust deadlines (there: `CLOCK_BOOTTIME`) |
//! | [`Observed`] | time during which the judge could have heard | every verdict by absence, every limit that blames a worker |
//!
//! Wall clocks of two hosts are never compared (orleans#7505).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

/// A duration in whole milliseconds. On the wire: `"10s"`, `"1500ms"`, `"2h"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// `n` seconds.
    #[must_use]
    pub const fn secs(n: u64) -> Self {
        Self(n * 1_000)
    }

    /// `n` minutes.
    #[must_use]
    pub const fn mins(n: u64) -> Self {
        Self(n * 60_000)
    }

    /// `n` hours.
    #[must_use]
    pub const fn hours(n: u64) -> Self {
        Self(n * 3_600_000)
    }

    /// `percent` hundredths of this duration, rounded down.
    #[must_use]
    pub const fn percent(self, percent: u64) -> Self {
        Self(self.0.saturating_mul(percent) / 100)
    }

    /// For the standard library and timers.
    #[must_use]
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl Add for Millis {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Millis {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0;
        match n {
            0 => f.write_str("0s"),
            _ if n.is_multiple_of(86_400_000) => write!(f, "{}d", n / 86_400_000),
            _ if n.is_multiple_of(3_600_000) => write!(f, "{}h", n / 3_600_000),
            _ if n.is_multiple_of(60_000) => write!(f, "{}m", n / 60_000),
            _ if n.is_multiple_of(1_000) => write!(f, "{}s", n / 1_000),
            _ => write!(f, "{n}ms"),
        }
    }
}

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a duration; write a number and a unit: 500ms, 10s, 5m, 2h or 7d")]
pub struct BadDuration(pub String);

impl std::str::FromStr for Millis {
    type Err = BadDuration;

    fn from_str(text: &str) -> Result<Self, BadDuration> {
        let bad = || BadDuration(text.to_owned());
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, unit) = text.split_at(split);
        let unit: u64 = match unit.trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| bad())?;
        let mut total = whole.checked_mul(unit).ok_or_else(bad)?;
        let mut place = unit;
        for digit in fraction.bytes() {
            if !digit.is_ascii_digit() {
                return Err(bad());
            }
            place /= 10;
            total += u64::from(digit - b'0') * place;
        }
        Ok(Self(total))
    }
}

impl Serialize for Millis {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Milliseconds since the Unix epoch on the store's wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Wall(pub i64);

impl Wall {
    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Millis {
        Millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Millis> for Wall {
    type Output = Self;
    fn add(self, d: Millis) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.0).unwrap_or(i64::MAX)))
    }
}

impl Sub<Millis> for Wall {
    type Output = Self;
    fn sub(self, d: Millis) -> Self {
        Self(self.0.saturating_sub(i64::try_from(d.0).unwrap_or(i64::MAX)))
    }
}

macro_rules! monotonic {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl $name {
            /// How long after `earlier` this is; zero if it is not after it.
            #[must_use]
            pub fn since(self, earlier: Self) -> Millis {
                Millis(self.0.saturating_sub(earlier.0))
            }
        }

        impl Add<Millis> for $name {
            type Output = Self;
            fn add(self, d: Millis) -> Self {
                Self(self.0.saturating_add(d.0))
            }
        }
    };
}

monotonic! {
    /// Milliseconds on one process's monotonic clock. Meaningless in another process.
    Mono
}
monotonic! {
    /// Milliseconds of *observed* time: it stands still whenever the judge could not have heard.
    Observed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_written() {
        for text in ["0s", "1ms", "1500ms", "10s", "5m", "2h", "7d"] {
            let parsed: Millis = text.parse().expect(text);
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!("1.5s".parse(), Ok(Millis(1_500)));
        for text in ["", "10", "s", "-1s", "1 week", "1.x s", "99999999999999999999s"] {
            assert!(text.parse::<Millis>().is_err(), "{text}");
        }
    }
}
