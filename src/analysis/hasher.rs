//! A quick hash for small keys made of numbers, seeded per table so that nobody outside can choose keys that collide.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes [`QuickHasher`]s of one seed.
#[derive(Debug, Clone)]
pub(super) struct QuickBuild {
    seed: u64,
}

impl Default for QuickBuild {
    fn default() -> Self {
        Self { seed: RandomState::new().hash_one(0x006E_6574_6469_6167_u64) }
    }
}

impl BuildHasher for QuickBuild {
    type Hasher = QuickHasher;

    fn build_hasher(&self) -> QuickHasher {
        QuickHasher { state: self.seed }
    }
}

/// Folds each word in by a multiplication whose two halves are mixed.
#[derive(Debug, Clone)]
pub(super) struct QuickHasher {
    state: u64,
}

impl QuickHasher {
    /// Odd, with bits set evenly: the fractional part of the golden ratio.
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

    /// For what nobody gains by choosing alike.
    pub fn unseeded() -> Self {
        Self { state: Self::FACTOR }
    }

    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(Self::FACTOR);
        let [low, high] = [product as u64, (product >> 64) as u64];
        self.state = low ^ high.rotate_left(23);
    }
}

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(chunk.len() as u64, |word, &byte| word << 8 | u64::from(byte));
            self.fold(word);
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.fold(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.fold(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.fold(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.fold(number);
    }

    fn write_u128(&mut self, number: u128) {
        self.fold(number as u64);
        self.fold((number >> 64) as u64);
    }

    fn write_usize(&mut self, number: usize) {
        self.fold(number as u64);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn neighbouring_keys_spread_over_buckets_and_tags() {
        let build = QuickBuild::default();
        let hashes: Vec<u64> = (0..4096_u64).map(|key| build.hash_one((u128::from(key), 502_u16))).collect();
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), 4096);
        for shift in [0, 57] {
            let used = hashes.iter().map(|hash| hash >> shift & 0x7F).collect::<HashSet<_>>().len();
            assert_eq!(used, 128, "seven bits from bit {shift}");
        }
    }
}
