//! What is made of results.

use super::{
    Finding, History, Kind, Ms, Outcome, Status, Subject, World, broken, is_failure, is_untroubled,
};
use crate::scheduler::tests::world::{
    history::Changed,
    plan::{Loss, State},
};

/// Longer than this no probe may go unjudged.
const MARGIN: Ms = 100;

pub(super) fn all_is_noted(world: &World, history: &History) -> Finding {
    for subject in &world.subjects {
        let given = history.given.iter().filter(|one| one.port == subject.port);
        let mut noted = history.noted.iter().filter(|one| one.port == subject.port);
        for given in given {
            match noted.next() {
                Some(noted) if noted.began == given.began => {}
                None if given.ended + MARGIN > world.length => {}
                other => {
                    return broken(subject, given.ended, format!("{given:?} became {other:?}"));
                }
            }
        }
    }
    Ok(())
}

/// For how long we were not run between two moments.
fn stopped(world: &World, from: Ms, until: Ms) -> Ms {
    let overlap = |(at, long): &(Ms, Ms)| (at + long).min(until).saturating_sub(*at.max(&from));
    world.stops.iter().map(overlap).sum()
}

pub(super) fn what_is_void(world: &World, history: &History) -> Finding {
    for given in &history.given {
        let subject = &world.subjects[usize::from(given.port) - 1];
        let is_it = |one: &&super::super::history::Noted| {
            one.port == given.port && one.began == given.began
        };
        let Some(noted) = history.noted.iter().find(is_it) else { continue };
        let (lost, is_void) = (
            stopped(world, given.began, given.ended),
            matches!(noted.outcome, Outcome::Inconclusive(_)),
        );
        if !is_failure(given.outcome) {
            if noted.outcome != given.outcome {
                return broken(subject, given.ended, format!("{given:?} noted as {noted:?}"));
            }
            continue;
        }
        let longest =
            world.stops.iter().filter(|(at, long)| at + long >= given.began && *at <= given.ended);
        let longest = longest.map(|(_, long)| *long).max().unwrap_or(0);
        if lost > 400 && longest > 350 && !is_void {
            return broken(subject, given.ended, format!("{given:?} counts; {lost} ms were lost"));
        }
        if is_untroubled(world, given.began, given.ended) && is_void {
            return broken(subject, given.ended, format!("{given:?} is void for nothing"));
        }
    }
    Ok(())
}

/// The rule, written down a second time.
fn reference(subject: &Subject, results: &[(Ms, Outcome)]) -> Vec<Changed> {
    let (mut status, mut well, mut bad, mut is_first) =
        (Status::Unknown, 0, 0, subject.first_at_once);
    let mut changes = Vec::new();
    for (began, outcome) in results {
        let from = status;
        match outcome {
            Outcome::Inconclusive(_) => continue,
            Outcome::Success | Outcome::Warning(_) => {
                (well, bad) = (if is_first { subject.passing } else { well + 1 }, 0);
                let shown =
                    if *outcome == Outcome::Success { Status::Passing } else { Status::Warning };
                status = if well >= subject.passing { shown } else { status };
            }
            Outcome::Failure(_) => {
                (well, bad) = (0, bad + 1);
                if is_first || bad >= subject.critical {
                    status = Status::Critical;
                } else if bad >= subject.warning && status != Status::Critical {
                    status = Status::Warning;
                }
            }
        }
        is_first = false;
        if from != status {
            changes.push(Changed { port: subject.port, began: *began, from, to: status });
        }
    }
    changes
}

pub(super) fn statuses_follow_results(world: &World, history: &History) -> Finding {
    for subject in &world.subjects {
        let noted = history.noted.iter().filter(|one| one.port == subject.port);
        let results: Vec<_> = noted.map(|one| (one.began, one.outcome)).collect();
        let expected = reference(subject, &results);
        let is_of = |one: &&Changed| one.port == subject.port;
        let seen: Vec<_> = history.changes.iter().filter(is_of).copied().collect();
        if seen != expected {
            let differs = seen.iter().zip(&expected).position(|(a, b)| a != b);
            let first = differs.unwrap_or(seen.len().min(expected.len()));
            let (seen, expected) = (seen.get(first), expected.get(first));
            let at = seen.or(expected).map_or(0, |one| one.began);
            return broken(subject, at, format!("{seen:?} instead of {expected:?}"));
        }
    }
    Ok(())
}

pub(super) fn no_harm_by_ourselves(world: &World, history: &History) -> Finding {
    if world.kind != Kind::Healthy {
        return Ok(());
    }
    // One that hangs on our own connection may fail once; where once is enough it is not held.
    match history.changes.iter().find(|change| change.to == Status::Critical) {
        Some(change) => Err((Some(change.port), Some(change.began), format!("{change:?}"))),
        None => Ok(()),
    }
}

pub(super) fn no_harm_while_blind(world: &World, history: &History) -> Finding {
    for blind in world.blind.iter().filter(|blind| blind.loss == Loss::Anchors) {
        let mut looked = history.reviews.iter().filter(|at| (blind.from..blind.until).contains(at));
        let Some(first) = looked.next().copied() else { continue };
        for change in history.changes.iter().filter(|change| change.to == Status::Critical) {
            let ended = history.ended(change.port, change.began).unwrap_or(0);
            if ended > first && ended < blind.until {
                return Err((Some(change.port), Some(ended), format!("{change:?} in {blind:?}")));
            }
        }
    }
    Ok(())
}

/// When one that is dead from `from` on must have been found critical, if it is asked as ever; by
/// its runs alone, and by the probes that confirm if these are enough and there is budget for them.
fn deadline(subject: &Subject, before: &[(Ms, State)], from: Ms, status: Status) -> Ms {
    let run = subject.interval + subject.sway();
    let by_runs = run + subject.interval * u64::from(subject.critical) + 2 * subject.timeout + 1000;
    let wishes = before.iter().any(|(_, state)| matches!(state, State::Wishes(_)));
    let confirms = u64::from(subject.confirm_probes);
    let is_rested = before.last().is_some_and(|(since, state)| {
        *state == State::Well && from - since > (confirms + 2) * subject.interval + 2000
    });
    let is_fast = matches!(status, Status::Passing | Status::Warning)
        && confirms + 1 >= u64::from(subject.critical)
        && is_rested
        && subject.patience.is_none()
        && !subject.serves_one;
    if is_fast {
        let step = subject.confirm_within / confirms.max(1) + subject.timeout;
        run + subject.timeout + 2 * step * u64::from(subject.critical - 1) + MARGIN
    } else {
        by_runs + if wishes { 2 * subject.interval } else { 0 }
    }
}

pub(super) fn the_dead_are_found(world: &World, history: &History) -> Finding {
    for subject in &world.subjects {
        for (n, (from, state)) in
            subject.phases.iter().enumerate().filter(|(_, (_, s))| s.is_dead())
        {
            let until = subject.phases.get(n + 1).map_or(world.length, |(next, _)| *next);
            let before = &subject.phases[..n];
            let due = from + deadline(subject, before, *from, history.status(subject.port, *from));
            if due >= until.min(world.length) || !is_untroubled(world, *from, due) {
                continue;
            }
            let found = history.status(subject.port, due);
            if found != Status::Critical {
                return broken(subject, due, format!("{state:?} since {from}, {found} at {due}"));
            }
        }
    }
    Ok(())
}
