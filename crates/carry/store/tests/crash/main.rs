//! Whatever happens to the process, the power or the disk: acknowledged writes are there afterwards, no other is
//! there by half, and watchers see each revision once and in order.
//!
//! `PLIMSOLL_CRASH_POINTS` is the number of crash points of the model (`power`), `PLIMSOLL_CRASH_STOPS` that of a
//! working process (`stops`), `PLIMSOLL_CRASH_SEED` the seed to begin with; a failure names the seed that shows it
//! again. docs/store.md says what each of them may do, and what they have found.
#![expect(clippy::unwrap_used, reason = "tests")]

mod child;
mod failing;
mod folder;
mod kill;
mod power;
mod reference;
mod stops;

/// The same sequence for the same seed (splitmix64).
pub(crate) struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit.max(1) as u64) as usize
    }

    /// Letters that do not compress.
    fn noise(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
