//! When each run is due: phase, jitter, fixed rate. Pure.
//!
//! A check's runs lie on a grid of its interval. Where the grid lies within the interval (its
//! phase) follows from the hash of the check's id and from the wall clock, so checks are spread
//! evenly whatever their number, and a restart, a reload or another daemon finds the same grid.
//! Each run is moved from its place on the grid by a jitter of its own; the grid itself never
//! moves, so a slow target or a late run does not shift what follows.
//!
//! All times here are microseconds since the schedule's anchor.

use crate::{
    clock::Anchor,
    model::{CheckKey, Schedule},
};

/// Microseconds since the anchor; 292,000 years fit.
pub(super) type Micros = i64;

/// The grid of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    interval: Micros,
    /// The first place of the grid at or after the anchor; less than an interval.
    offset: Micros,
    /// Most that a run may be moved either way.
    jitter: Micros,
    seed: u64,
}

impl Grid {
    /// The grid of a check on a schedule anchored there.
    pub(super) fn new(hash: u64, schedule: &Schedule, anchor: &Anchor) -> Self {
        let interval = micros(schedule.interval).max(1);
        let phase = Micros::try_from(hash % interval.unsigned_abs()).unwrap_or(0);
        let wall = anchor.wall().millis().saturating_mul(1000);
        #[expect(clippy::cast_possible_truncation, reason = "a share of an i64 is an i64")]
        #[expect(clippy::cast_precision_loss, reason = "jitter need not be exact")]
        let jitter = (interval as f64 * schedule.jitter.clamp(0.0, 0.5)) as Micros;
        Self { interval, offset: (phase - wall).rem_euclid(interval), jitter, seed: hash }
    }

    /// The first run due at or after `now`, and when: within one interval of `now`.
    ///
    /// A run that its jitter has carried just past that bound is drawn from the second half of the
    /// interval instead. Those are few and end up spread out, so neither a start nor a mass
    /// registration makes a burst, at once or an interval later.
    pub(super) fn first_from(&self, now: Micros) -> (i64, Micros) {
        let mut number = (now - self.jitter - self.offset).div_euclid(self.interval);
        while self.due(number) < now {
            number += 1;
        }
        let due = self.due(number);
        if due < now + self.interval {
            return (number, due);
        }
        let half = self.interval / 2;
        let draw = mix(!self.seed) % half.max(1).unsigned_abs();
        (number, now + half + Micros::try_from(draw).unwrap_or(0))
    }

    /// The place on the grid of run `number`, without its jitter.
    pub(super) fn place(&self, number: i64) -> Micros {
        self.offset + number * self.interval
    }

    /// When run `number` is due: its place, moved by its own jitter. The same at every call.
    pub(super) fn due(&self, number: i64) -> Micros {
        if self.jitter == 0 {
            return self.place(number);
        }
        let width = self.jitter.unsigned_abs() * 2 + 1;
        let draw = mix(self.seed ^ mix(number.unsigned_abs())) % width;
        self.place(number) - self.jitter + Micros::try_from(draw).unwrap_or(0)
    }

    /// What runs are counted from: differs from check to check.
    pub(super) fn lot(&self) -> i64 {
        (self.seed >> 32 & 0xffff).cast_signed()
    }

    /// From one place to the next.
    pub(super) fn interval(&self) -> Micros {
        self.interval
    }
}

/// A duration in microseconds, so many at most that two of them can be added.
pub(super) fn micros(duration: std::time::Duration) -> Micros {
    const MOST: Micros = Micros::MAX / 4;
    Micros::try_from(duration.as_micros()).map_or(MOST, |micros| micros.min(MOST))
}

/// The hash that phases and shards follow from. It must be the same in every version and on every
/// machine, so it is written out: FNV-1a over instance, a zero byte and check
/// (<http://www.isthe.com/chongo/tech/comp/fnv/>), then mixed, because FNV alone leaves ids that
/// differ in their last digit close together.
pub(super) fn hash(key: &CheckKey) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let parts = [key.instance.as_str().as_bytes(), &[0], key.check.as_str().as_bytes()];
    for byte in parts.into_iter().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    mix(hash)
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood, 2014): every input bit reaches every output
/// bit.
const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::{clock::Timestamp, model::Pace};

    fn key(n: usize) -> CheckKey {
        CheckKey { instance: format!("web-{n}").parse().unwrap(), check: "http".parse().unwrap() }
    }

    fn schedule(interval: Duration, jitter: f64) -> Schedule {
        Schedule {
            interval,
            timeout: interval,
            jitter,
            initial_delay: Duration::ZERO,
            pace: Pace::default(),
        }
    }

    fn grid(n: usize, interval: Duration, wall_millis: i64) -> Grid {
        let anchor = Anchor::new(Instant::now(), Timestamp::from_millis(wall_millis));
        Grid::new(hash(&key(n)), &schedule(interval, 0.05), &anchor)
    }

    #[test]
    fn the_hash_is_the_same_in_every_version() {
        assert_eq!(hash(&key(1)), 5_107_195_449_857_343_752);
    }

    #[test]
    fn a_restart_finds_the_same_grid() {
        let interval = Duration::from_secs(10);
        let start = 1_795_183_200_000;
        let before = grid(7, interval, start);
        let after = grid(7, interval, start + 123_456);
        let wall = |grid: &Grid, anchor: i64| grid.place(3) + anchor * 1000;
        let apart = wall(&after, start + 123_456) - wall(&before, start);
        assert_eq!(apart.rem_euclid(10_000_000), 0);
    }

    #[test]
    fn the_first_run_lies_within_one_interval() {
        for n in 0..1000 {
            let grid = grid(n, Duration::from_secs(10), 1_795_183_200_000);
            for now in [0, 1, 5_000_000, 123_456_789] {
                let (_, first) = grid.first_from(now);
                assert!((now..now + 10_000_000).contains(&first), "{first} from {now}");
            }
        }
    }

    /// S6: starts in any 100 ms window stay under mean + 6·sqrt(mean) + 1.
    #[test]
    fn phases_are_spread_evenly() {
        for (count, seconds) in [(10_000, 10), (1000, 10), (100_000, 30), (50, 1)] {
            let interval = Duration::from_secs(seconds);
            let width = 100_000;
            let mut starts: Vec<Micros> = (0..count)
                .flat_map(|n| {
                    let grid = grid(n, interval, 1_795_183_200_000);
                    let (number, first) = grid.first_from(0);
                    [first, grid.due(number + 1), grid.due(number + 2)]
                })
                .collect();
            starts.sort_unstable();
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let mean = count as f64 * 0.1 / seconds as f64;
            let bound = mean + 6.0 * mean.sqrt() + 1.0;
            for (index, start) in starts.iter().enumerate() {
                let within = starts[index..].partition_point(|other| other - start < width);
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let within = within as f64;
                assert!(within <= bound, "{within} starts of {count} in {seconds} s, {bound}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_run_stays_within_its_jitter(n in 0usize..1000, number in 0i64..1_000_000) {
            let grid = grid(n, Duration::from_secs(10), 1_795_183_200_000);
            let moved = grid.due(number) - grid.place(number);
            prop_assert!(moved.abs() <= 500_000);
            prop_assert_eq!(grid.due(number), grid.due(number));
        }
    }
}
