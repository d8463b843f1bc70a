//! Numbers that follow from a seed (`SplitMix64`). The processes under load follow nobody's seed: it fixes what is asked and when
//! kills are meant to come, not what happens.

use outlive_core::{RunId, Wall};

/// A generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    pub const fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A UUIDv7.
    pub fn run_id(&mut self) -> RunId {
        RunId::from_parts(Wall(1_800_000_000_000), u128::from(self.next()) << 64 | u128::from(self.next()))
    }

    /// In another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, usize::try_from(self.below(last as u64 + 1)).unwrap_or(0));
        }
    }

    /// Another generator that follows from this one.
    #[must_use]
    pub const fn fork(&mut self) -> Self {
        Self(self.next())
    }
}
