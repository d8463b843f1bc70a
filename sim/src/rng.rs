//! The only randomness: ```SplitMix64```, seeded with the number that a failure prints.

/// A generator. Copies go on independently.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers, always.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x5DEE_CE66_D1CE_4E5B)
    }

    /// A generator of its own for one part of the world, so that a change in one part does not move all others.
    pub(crate) fn part(&self, name: &str) -> Self {
        let salt = name.bytes().fold(self.0, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3));
        Self(salt)
    }

    /// 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        debug_assert!(from <= to, "a range goes up");
        from + self.bits() % (to - from + 1)
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.bits() % 100 < percent
    }

    /// A place in a list of `len`.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.bits() % (len.max(1) as u64)).unwrap_or(0)
    }

    /// Mostly short, sometimes long: between 1 and `longest`, with many small values.
    pub(crate) fn skewed(&mut self, longest: u64) -> u64 {
        let widest = self.between(1, longest);
        self.between(1, widest)
    }

    /// 128 bits.
    pub(crate) fn wide(&mut self) -> u128 {
        (u128::from(self.bits()) << 64) | u128::from(self.bits())
    }
}
