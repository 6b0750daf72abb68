//! How soon a failure is noticed, and how often chance makes one up. Pure arithmetic.
//!
//! A target falls ill at any moment alike. Until its next probe starts, the time that is left of
//! the gap between two runs passes. All runs are on a grid and each is moved by a jitter of its own,
//! so gaps are spread like the sum of two dice (a triangle), and what is left of one follows
//! from renewal theory: the density of the rest is the share of gaps that are longer, divided by the
//! interval (Feller, *An Introduction to Probability Theory* II, XI.4). From the start of the first
//! failing probe on, what happens is fixed: `after_first` walks through it.

use std::time::Duration;

use crate::{judge::Thresholds, model::Schedule};

/// What a probe that confirms may take where the target is known to be quick, as the scheduler has
/// it.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(500);

/// Seconds of a year.
const YEAR: f64 = 365.25 * 86_400.0;

/// How a target fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It says so at once: it refuses, or answers with an error.
    Refusing,
    /// It says nothing, so every probe runs into its timeout.
    Silent,
}

/// The time from the failure of a target until it is observed critical that so many of a hundred
/// failures do not exceed. It is assumed that the target had been well and quick, that nothing
/// else took the budget of probes that confirm, and that no tripwire told before.
pub fn noticed(
    schedule: &Schedule,
    thresholds: &Thresholds,
    manner: Manner,
    percent: u8,
) -> Duration {
    let share = f64::from(percent.min(100)) / 100.0;
    let rest = rest(schedule.jitter.clamp(0.0, 0.5), share);
    // At worst, jitter brings two runs closer to each other by up to twice its share.
    let closer = if percent > 90 { 2.0 * schedule.jitter } else { 0.0 };
    let closer = schedule.interval.mul_f64(closer);
    schedule.interval.mul_f64(rest) + after_first(schedule, thresholds, (manner, closer))
}

/// The false alarms a year that one check is to expect if this share of its probes fails by chance,
/// each independently of the others: a row begins after a success, so `(1 − p) p^k` of all probes
/// end a first row of `k`.
pub fn false_alarms(schedule: &Schedule, thresholds: &Thresholds, share: f64) -> f64 {
    let failures = i32::try_from(thresholds.failures_before_critical()).unwrap_or(i32::MAX);
    let probes = YEAR / schedule.interval.as_secs_f64().max(f64::MIN_POSITIVE);
    probes * (1.0 - share) * share.powi(failures)
}

/// The time until the next run, in intervals, that this share of moments does not exceed.
fn rest(jitter: f64, share: f64) -> f64 {
    // That the rest is longer than 1 + u, with gaps in the triangle of 1 ± a.
    let a = 2.0 * jitter;
    let longer = |rest: f64| {
        let u = rest - 1.0;
        if a == 0.0 || u <= -a {
            -u
        } else if u <= 0.0 {
            -u + (a + u).powi(3) / (6.0 * a * a)
        } else {
            (a - u).max(0.0).powi(3) / (6.0 * a * a)
        }
    };
    let (mut low, mut high) = (0.0, 1.0 + a);
    // A halving a bit, as far as a float can tell.
    for _ in 0..f64::MANTISSA_DIGITS {
        let middle = f64::midpoint(low, high);
        if longer(middle) > 1.0 - share { low = middle } else { high = middle }
    }
    high
}

/// From the start of the first failing probe to the end of the one that decides: each probe that
/// confirms follows the one before, at the spacing that the schedule gives them, if it is over well
/// before the next run; the rest is left to the runs, of which those are lost that come while a
/// probe is under way.
fn after_first(
    schedule: &Schedule,
    thresholds: &Thresholds,
    (manner, closer): (Manner, Duration),
) -> Duration {
    let takes = |most: Duration| match manner {
        Manner::Refusing => Duration::ZERO,
        Manner::Silent => most,
    };
    let pace = &schedule.pace;
    let spacing = pace.confirm_within / u32::from(pace.confirm_probes.max(1));
    let mut start = Duration::ZERO;
    let mut end = takes(schedule.timeout);
    let mut last_run = Duration::ZERO;
    for failures in 1..thresholds.failures_before_critical().min(MOST) {
        let next = next_run(last_run, end.saturating_add(closer), schedule.interval);
        let confirming = end.max(start.saturating_add(spacing));
        let confirms = failures <= u32::from(pace.confirm_probes)
            && confirming.saturating_add(spacing) <= next;
        if confirms {
            start = confirming;
            end = start.saturating_add(takes(schedule.timeout.min(CONFIRMED_WITHIN)));
        } else {
            (start, last_run) = (next, next);
            end = start.saturating_add(takes(schedule.timeout));
        }
    }
    end
}

/// Failures in a row beyond which nobody waits.
const MOST: u32 = 10_000;

/// The first run after the last one that comes after `end`.
fn next_run(last: Duration, end: Duration, interval: Duration) -> Duration {
    let passed = end.saturating_sub(last).as_nanos() / interval.as_nanos().max(1) + 1;
    last.saturating_add(interval.saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::model::Pace;

    fn thresholds(failures: u32) -> Thresholds {
        let failures = NonZeroU32::new(failures).unwrap();
        Thresholds::new(NonZeroU32::MIN, failures, failures).unwrap()
    }

    fn schedule(interval: u64, timeout: u64, jitter: f64, confirm_probes: u8) -> Schedule {
        Schedule {
            interval: Duration::from_millis(interval),
            timeout: Duration::from_millis(timeout),
            jitter,
            initial_delay: Duration::ZERO,
            pace: Pace { confirm_probes, ..Pace::default() },
        }
    }

    #[track_caller]
    fn check(schedule: &Schedule, failures: u32, manner: Manner, expected: [u64; 2]) {
        let at = |percent| noticed(schedule, &thresholds(failures), manner, percent).as_millis();
        assert_eq!([at(50), at(99)], expected.map(u128::from));
    }

    #[test]
    fn polling_alone_takes_an_interval_for_each_further_failure() {
        let steady = schedule(10_000, 2_000, 0.0, 0);
        check(&steady, 1, Manner::Refusing, [5_000, 9_900]);
        check(&steady, 3, Manner::Refusing, [25_000, 29_900]);
        check(&steady, 3, Manner::Silent, [27_000, 31_900]);
    }

    #[test]
    fn confirming_takes_its_own_time() {
        let confirmed = schedule(10_000, 2_000, 0.0, 3);
        check(&confirmed, 3, Manner::Refusing, [5_666, 10_566]);
        check(&confirmed, 3, Manner::Silent, [8_000, 12_900]);
    }

    #[test]
    fn what_too_few_confirm_is_left_to_the_grid() {
        check(&schedule(10_000, 2_000, 0.0, 1), 3, Manner::Refusing, [15_000, 19_900]);
    }

    #[test]
    fn runs_that_come_while_a_probe_waits_are_lost() {
        check(&schedule(10_000, 25_000, 0.0, 0), 2, Manner::Silent, [60_000, 64_900]);
        check(&schedule(10_000, 10_000, 0.0, 0), 2, Manner::Silent, [35_000, 39_900]);
        // Once in a while, jitter brings the next run before the end of this one.
        check(&schedule(10_000, 9_500, 0.05, 0), 2, Manner::Silent, [24_500, 39_656]);
    }

    #[test]
    fn jitter_makes_the_longest_waits_longer_and_half_of_them_no_different() {
        check(&schedule(10_000, 2_000, 0.05, 0), 1, Manner::Refusing, [5_000, 10_156]);
    }

    /// Numbers from 0 to 1 that have nothing to do with each other: the finaliser of `MurmurHash3`.
    fn scattered(n: u32) -> f64 {
        let n = (n ^ n >> 16).wrapping_mul(0x85eb_ca6b);
        let n = (n ^ n >> 13).wrapping_mul(0xc2b2_ae35);
        f64::from(n ^ n >> 16) / 2_f64.powi(32)
    }

    /// Against the obvious: many gaps laid end to end, and moments thrown at them.
    #[test]
    fn the_rest_of_a_gap_is_what_moments_find() {
        for jitter in [0.0, 0.05, 0.2, 0.5] {
            let runs: Vec<f64> = (0..20_000_u32)
                .map(|n| f64::from(n) + jitter * (2.0 * scattered(n) - 1.0))
                .collect();
            let mut rests: Vec<f64> = (0..50_000_u32)
                .map(|n| {
                    let base = 10 + n % 10_000;
                    let moment = f64::from(base) + scattered(!n);
                    let runs = runs.iter().skip(usize::try_from(base - 2).unwrap());
                    runs.copied().find(|run| *run >= moment).unwrap() - moment
                })
                .collect();
            rests.sort_by(f64::total_cmp);
            for (index, share) in [(25_000, 0.5), (45_000, 0.9)] {
                let (found, expected) = (rests[index], rest(jitter, share));
                assert!((found - expected).abs() < 0.03, "{jitter} {share}: {found} {expected}");
            }
        }
    }

    #[test]
    fn chance_makes_a_row_as_often_as_its_length_says() {
        let every = schedule(10_000, 2_000, 0.0, 3);
        let probes = YEAR / 10.0;
        for (failures, share) in [(1, 0.99e-2), (2, 0.99e-4), (3, 0.99e-6)] {
            let found = false_alarms(&every, &thresholds(failures), 0.01);
            assert!((found / probes - share).abs() < 1e-12, "{failures}: {found}");
        }
    }
}
