//! When targets are asked.

use super::{
    Finding, History, Ms, Outcome, Status, Subject, World, broken, is_failure, is_untroubled,
};
use crate::scheduler::tests::world::plan::State;

/// What a start may be late by itself: ticks of 5 ms, and rounding.
const TICKS: Ms = 20;

/// Not even a daemon that is slow gives a probe more than its timeout, or three quarters of the
/// interval.
pub(super) fn probes_have_an_end(world: &World, history: &History) -> Finding {
    for given in &history.given {
        let subject = &world.subjects[usize::from(given.port) - 1];
        if given.limit > subject.timeout.max(subject.interval * 3 / 4) {
            return broken(subject, given.began, format!("{given:?}"));
        }
    }
    Ok(())
}

/// In any window of n intervals at most 2n + 1 probes, and those that confirm once.
pub(super) fn load_is_bounded(world: &World, history: &History) -> Finding {
    for subject in &world.subjects {
        let starts = history.starts(subject.port);
        let burst = usize::from(subject.confirm_probes.max(1));
        let wishes = usize::from(wishes(subject));
        for (n, first) in starts.iter().enumerate() {
            for (m, last) in starts.iter().enumerate().skip(n).take(60) {
                let intervals = usize::try_from((last - first).div_ceil(subject.interval)).unwrap();
                if m - n + 1 > 2 * intervals.max(1) + 1 + burst + wishes {
                    let how = format!("{} probes in {intervals} intervals", m - n + 1);
                    return broken(subject, *last, how);
                }
            }
        }
    }
    Ok(())
}

fn wishes(subject: &Subject) -> bool {
    subject.phases.iter().any(|(_, state)| matches!(state, State::Wishes(_)))
}

/// Pairs of starts that follow each other, in times in which nothing befell us.
fn gaps<'a>(world: &'a World, starts: &'a [Ms]) -> impl Iterator<Item = (Ms, Ms)> + 'a {
    let pairs = starts.windows(2).map(|pair| (pair[0], pair[1]));
    pairs.filter(|(before, after)| is_untroubled(world, *before, *after))
}

pub(super) fn runs_take_place(world: &World, history: &History) -> Finding {
    for subject in &world.subjects {
        let mut starts = history.starts(subject.port);
        // The end counts as a start: whoever is not asked any more is found.
        if starts.last().is_none_or(|last| *last < world.length) {
            starts.push(world.length);
        }
        let usual = subject.interval + subject.sway() + subject.timeout + 2 * TICKS;
        let usual = usual + if wishes(subject) { subject.interval } else { 0 };
        for (before, after) in gaps(world, &starts) {
            let ended = history.ended(subject.port, before).unwrap_or(after);
            let is_eased = history.status(subject.port, ended) == Status::Critical;
            let stretch = if is_eased { u64::from(subject.max_backoff) } else { 1 };
            // The first of all may be drawn from the half before its place.
            let drawn = if before == starts[0] { subject.interval / 2 } else { 0 };
            let most = usual + drawn + subject.interval * (stretch - 1);
            if after - before > most {
                return broken(subject, after, format!("not asked for {} ms", after - before));
            }
        }
    }
    Ok(())
}

/// Eleven failures after those that made it critical, runs are left out.
pub(super) fn the_dead_are_asked_less(world: &World, history: &History) -> Finding {
    for subject in world.subjects.iter().filter(|one| one.max_backoff > 1 && !wishes(one)) {
        let starts = history.starts(subject.port);
        let mut failures = 0;
        for noted in history.noted.iter().filter(|one| one.port == subject.port) {
            failures = match noted.outcome {
                outcome if is_failure(outcome) => failures + 1,
                Outcome::Inconclusive(_) => failures,
                Outcome::Success | Outcome::Warning(_) | Outcome::Failure(_) => 0,
            };
            let next = starts.iter().find(|at| **at > noted.began);
            if failures > subject.critical + 11
                && let Some(next) = next
                && next - noted.began + subject.sway() + TICKS < 2 * subject.interval
                && is_untroubled(world, noted.began, *next)
            {
                let how = format!("asked again after {failures} failures as ever");
                return broken(subject, *next, how);
            }
        }
    }
    Ok(())
}

/// Who is always well, and asked without jitter, is asked at equal times, whatever others do.
pub(super) fn nobody_is_late(world: &World, history: &History) -> Finding {
    let is_even = |one: &&Subject| one.is_always_well() && one.patience.is_none();
    for subject in world.subjects.iter().filter(is_even) {
        let starts = history.starts(subject.port);
        for (before, after) in gaps(world, starts.get(1..).unwrap_or_default()) {
            let off = (after - before).abs_diff(subject.interval);
            if off > subject.sway() + TICKS {
                return broken(subject, after, format!("{off} ms off its time"));
            }
        }
    }
    Ok(())
}

/// Starts of those that are well, in any 100 ms: the mean, six deviations, and three more than
/// chance brings together in a world so small. Of fewer than ten nothing can be said.
pub(super) fn starts_are_spread(world: &World, history: &History) -> Finding {
    const WINDOW: Ms = 100;
    let is_even = |one: &&Subject| one.is_always_well() && one.patience.is_none();
    let even: Vec<&Subject> = world.subjects.iter().filter(is_even).collect();
    let is_even = |port| even.iter().any(|one| one.port == port);
    let starts: Vec<Ms> =
        history.starts.iter().filter(|one| is_even(one.port)).map(|one| one.at).collect();
    for (n, first) in starts.iter().enumerate() {
        // What fell due while we were not run, but is not too late yet, is due now.
        let is_late = |(at, long): &&(Ms, Ms)| at + long + 1200 > *first && *at <= first + WINDOW;
        let missed = world.stops.iter().filter(is_late).map(|(_, long)| (*long).min(1000));
        let window = WINDOW + missed.sum::<Ms>();
        let share = |one: &&Subject| {
            let millis = |ms: Ms| std::time::Duration::from_millis(ms).as_secs_f64();
            (millis(window) / millis(one.interval)).min(1.0)
        };
        let mean: f64 = even.iter().map(share).sum();
        let within = starts[n..].iter().take_while(|at| **at < first + WINDOW).count();
        let bound = mean + 6.0 * mean.sqrt() + 3.0;
        if even.len() >= 10 && f64::from(u32::try_from(within).unwrap()) > bound {
            return Err((None, Some(*first), format!("{within} at once, of {}", even.len())));
        }
    }
    Ok(())
}
