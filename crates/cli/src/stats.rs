//! Distributions of measurements.

use serde::Serialize;

/// A distribution of durations, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) count: usize,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Spread {
    /// Of nanoseconds.
    pub(crate) fn of_nanos(values: &[u64]) -> Self {
        Self::of(values, 1_000_000.0)
    }

    /// Of milliseconds.
    pub(crate) fn of_millis(values: &[u64]) -> Self {
        Self::of(values, 1.0)
    }

    #[expect(clippy::cast_precision_loss, reason = "measurements are far below 2^52")]
    fn of(values: &[u64], per_ms: f64) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let at = |percent| rank(&sorted, percent) as f64 / per_ms;
        Self { count: sorted.len(), p50_ms: at(50), p90_ms: at(90), p99_ms: at(99), max_ms: at(100) }
    }

    /// `p50 1.2 ms · p90 … · p99 … · max … (n)`
    pub(crate) fn line(&self) -> String {
        let [p50, p90, p99, max] = [self.p50_ms, self.p90_ms, self.p99_ms, self.max_ms].map(figure);
        format!("p50 {p50} · p90 {p90} · p99 {p99} · max {max}  ({} measured)", self.count)
    }
}

/// Nearest rank: the least value that is not below `percent` of all.
fn rank(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// Milliseconds with three digits that mean something.
pub(crate) fn figure(ms: f64) -> String {
    match ms {
        _ if ms < 10.0 => format!("{ms:.2} ms"),
        _ if ms < 100.0 => format!("{ms:.1} ms"),
        _ if ms < 10_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<u64> = (1..=200).rev().collect();
        let of = |values: &[u64]| {
            let s = Spread::of_millis(values);
            [s.p50_ms, s.p90_ms, s.p99_ms, s.max_ms].map(|ms| format!("{ms}")).join(" ")
        };
        assert_eq!(of(&values), "100 180 198 200");
        assert_eq!(of(&[7]), "7 7 7 7");
        assert_eq!(of(&[]), "0 0 0 0");
    }
}
