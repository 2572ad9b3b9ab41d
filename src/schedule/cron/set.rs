//! A set of the numbers one cron field can hold.

/// Numbers from 0 to 255 past a base; the widest field, the year, has 230.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    base: u32,
    bits: [u64; 4],
}

impl Set {
    /// The empty set of numbers from `base` to `base + 255`.
    pub(super) fn empty(base: u32) -> Self {
        Self { base, bits: [0; 4] }
    }

    pub(super) fn insert(&mut self, n: u32) {
        let at = n - self.base;
        self.bits[at as usize / 64] |= 1 << (at % 64);
    }

    pub(super) fn contains(&self, n: u32) -> bool {
        let at = n.wrapping_sub(self.base);
        at < 256 && self.bits[at as usize / 64] >> (at % 64) & 1 == 1
    }

    pub(super) fn len(&self) -> u32 {
        self.bits.iter().map(|word| word.count_ones()).sum()
    }

    /// How many of its numbers are below `n`.
    pub(super) fn below(&self, n: u32) -> u32 {
        let at = n.saturating_sub(self.base).min(256) as usize;
        let whole: u32 = self.bits[..at / 64].iter().map(|word| word.count_ones()).sum();
        let part = self.bits.get(at / 64).map_or(0, |word| word & ((1 << (at % 64)) - 1));
        whole + part.count_ones()
    }

    /// Its first 32 numbers as a mask; bit 0 is the base.
    pub(super) fn low_bits(&self) -> u32 {
        self.bits[0] as u32
    }

    /// Its numbers, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let Self { base, bits } = *self;
        (0..256).filter(move |&at| bits[at as usize / 64] >> (at % 64) & 1 == 1).map(move |at| base + at)
    }
}
