//! Random numbers: `SplitMix64` (Steele, Lea, Flood, 2014), which is quick and good enough for
//! moments and losses, and gives the same run for the same seed.

/// A generator.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is small enough for the bias of a remainder not to matter.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}
