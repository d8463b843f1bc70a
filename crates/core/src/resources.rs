//! What one attempt may use of its host.

use std::fmt;

/// Limits of one attempt: what all its processes may use together. None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Memory, without swap.
    pub memory: Option<Bytes>,
    /// Processes and threads at once.
    pub pids: Option<u64>,
}

impl Resources {
    /// Whether nothing is limited.
    #[must_use]
    pub const fn is_unlimited(&self) -> bool {
        self.memory.is_none() && self.pids.is_none()
    }

    /// The lower of both, each for itself: a run cannot ask for more than its worker gives.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            memory: self.memory.into_iter().chain(other.memory).min(),
            pids: self.pids.into_iter().chain(other.pids).min(),
        }
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.memory, self.pids) {
            (None, None) => f.write_str("no limits"),
            (Some(memory), None) => write!(f, "memory {memory}"),
            (None, Some(pids)) => write!(f, "{pids} processes"),
            (Some(memory), Some(pids)) => write!(f, "memory {memory}, {pids} processes"),
        }
    }
}

/// A number of bytes; for people `512MiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// From the largest: the first that divides is written.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, size)| self.0 > 0 && self.0.is_multiple_of(*size)) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// Why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a size; write a number of bytes from 1, or a number and a unit: 64KiB, 512MiB, 2GiB")]
pub struct BadSize(pub String);

impl std::str::FromStr for Bytes {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        let bad = || BadSize(text.to_owned());
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let size = match unit.trim_start() {
            "" | "B" | "bytes" => 1,
            unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?.1,
        };
        let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(size)).filter(|&n| n > 0);
        bytes.map(Self).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_as_written_and_nothing_else_is_one() {
        for (text, bytes) in [("512MiB", 512 << 20), ("2GiB", 2 << 30), ("1025 bytes", 1025), ("3KiB", 3 << 10)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!("4096".parse(), Ok(Bytes(4096)));
        for text in ["", "0", "-1", "0MiB", "1.5GiB", "512MB", "MiB", "99999999999TiB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn of_two_limits_the_lower_counts_each_for_itself() {
        let of = |memory, pids| Resources { memory: Option::map(memory, Bytes), pids };
        assert_eq!(of(Some(5), None).and(of(Some(4), Some(9))), of(Some(4), Some(9)));
        assert_eq!(of(Some(3), Some(7)).and(of(None, Some(9))), of(Some(3), Some(7)));
        assert!(of(None, None).and(Resources::default()).is_unlimited());
    }
}
