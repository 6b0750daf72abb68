//! What a check's own results do to its schedule: probes beyond the grid, and runs of the grid
//! that are left out. Pure.
//!
//! - A passing check that fails is asked again at once, a few times at a short spacing, so that a
//!   dead target is found out within about a second of the first failure instead of some intervals
//!   later, and a lost packet is forgiven as soon.
//! - A target that has been critical for long is asked less and less often.
//! - A target that says when it wants to be asked again is heard, within bounds.
//!
//! The grid itself never moves. Probes beyond it have a budget: over any length of time no more
//! than one for each interval, with a burst of as many as confirm one failure, so a target is never
//! asked more than twice as often as its interval says. The budget is a generic cell rate algorithm
//! (ITU-T I.371): all it remembers is when it will be whole again.

use std::time::Duration;

use super::plan::{Micros, micros};
use crate::{
    judge::{Machine, Streak, Thresholds, Verdict},
    model::{Extra, Outcome, Pace, Schedule, Status},
};

/// Failures in a row, beyond those that made it critical, after which a target is asked half as
/// often as before.
const EASE_AFTER: u32 = 10;

/// A probe that confirms may take so many times as long as a success has lately...
const PATIENCE: u32 = 4;

/// ...but at least this: a packet that is lost is sent again after 200 ms (the least that Linux
/// waits, `TCP_RTO_MIN`), and scheduling takes its time.
const LEAST_TIMEOUT: Duration = Duration::from_millis(500);

/// Who wishes to be asked again sooner than this is asked then.
const SOONEST: Duration = Duration::from_millis(100);

/// What one check remembers of its own results beside its status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rhythm {
    /// When the budget is whole again.
    whole: Micros,
    /// How long successes have taken lately, in microseconds: falls slowly, rises at once. Zero
    /// before the first.
    usual: u32,
    /// Failures in a row that no longer count for easing off.
    forgiven: u32,
    /// Whether the target wants the next run of the grid left out.
    rests: bool,
}

/// A probe that has ended, and what was made of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended<'a> {
    pub(super) started: Micros,
    pub(super) now: Micros,
    /// When the next run of the grid is due.
    pub(super) next: Micros,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
    pub(super) ask_again: Option<Duration>,
    /// As it is now.
    pub(super) machine: &'a Machine,
}

impl Rhythm {
    /// Takes in a finished probe. Says when another one is to start beyond the grid, and why.
    pub(super) fn after(
        &mut self,
        ended: &Ended<'_>,
        (schedule, thresholds): (&Schedule, &Thresholds),
    ) -> Option<(Micros, Extra)> {
        if ended.outcome == Outcome::Success {
            let took = u32::try_from(ended.took.as_micros()).unwrap_or(u32::MAX).max(1);
            self.usual = took.max(self.usual - self.usual / 8);
        }
        if !matches!(ended.machine.streak(), Streak::Failures(_)) {
            self.forgiven = 0;
        }
        let wish = ended.ask_again.filter(|_| schedule.pace.heeds_wishes);
        let (start, why) = match wish {
            Some(wish) => return self.heed(wish, ended, schedule),
            None => confirmation(ended, &schedule.pace, thresholds)?,
        };
        let is_worth_it = start + spacing(&schedule.pace) <= ended.next;
        (is_worth_it && self.spend(start, schedule)).then_some((start, why))
    }

    /// What the target wishes. If that is later than the next run of the grid, this one is left
    /// out, and the probe takes place when it is wished, or by the run after that if this comes
    /// first: so a target is asked again two intervals later at the latest.
    fn heed(
        &mut self,
        wish: Duration,
        ended: &Ended<'_>,
        schedule: &Schedule,
    ) -> Option<(Micros, Extra)> {
        let start = ended.now.max(ended.started + micros(wish.max(SOONEST)));
        let near = spacing(&schedule.pace);
        self.rests = start > ended.next;
        let takes_place = if self.rests {
            // It stands for the run that is left out.
            start + near <= ended.next + micros(schedule.interval)
        } else {
            // What the grid brings soon anyway needs no probe of its own.
            start + near <= ended.next && self.spend(start, schedule)
        };
        takes_place.then_some((start, Extra::Asked))
    }

    /// The tripwire has told that something happened there. Says when to look, if that is within
    /// the budget.
    pub(super) fn tripped(&mut self, now: Micros, schedule: &Schedule) -> Option<(Micros, Extra)> {
        self.spend(now, schedule).then_some((now, Extra::Tripwire))
    }

    /// An operator wants to know now; begins anew with easing off.
    pub(super) fn recheck(&mut self, now: Micros, machine: &Machine) -> (Micros, Extra) {
        self.forgive(machine);
        (now, Extra::Operator)
    }

    /// Begins anew with easing off.
    pub(super) fn forgive(&mut self, machine: &Machine) {
        self.forgiven = machine.streak().failures();
        self.rests = false;
    }

    /// Takes one probe out of the budget, if there is one in it.
    fn spend(&mut self, start: Micros, schedule: &Schedule) -> bool {
        let interval = micros(schedule.interval);
        let burst = Micros::from(schedule.pace.confirm_probes.max(1));
        if self.whole - start > (burst - 1) * interval {
            return false;
        }
        self.whole = self.whole.max(start) + interval;
        true
    }

    /// Every how many runs of the grid a check is asked now: one, or more while it has been
    /// critical for long.
    pub(super) fn stretch(
        &self,
        machine: &Machine,
        (schedule, thresholds): (&Schedule, &Thresholds),
    ) -> u32 {
        if machine.verdict() != Verdict::Critical {
            return 1;
        }
        let counted = self.forgiven.max(thresholds.failures_before_critical());
        let beyond = machine.streak().failures().saturating_sub(counted);
        let doubled = 1_u32.checked_shl(beyond / EASE_AFTER).unwrap_or(u32::MAX);
        doubled.clamp(1, u32::from(schedule.pace.max_backoff.max(1)))
    }

    /// Whether run `number` of the grid is left out, once. Numbers differ from check to check, so
    /// that those that are asked every fourth time do not all come at once.
    pub(super) fn leaves_out(
        &mut self,
        number: i64,
        machine: &Machine,
        rules: (&Schedule, &Thresholds),
    ) -> bool {
        std::mem::take(&mut self.rests) || !is_taken(number, self.stretch(machine, rules))
    }

    /// How many runs of the grid from `number` on are left out.
    pub(super) fn left_out(
        &self,
        number: i64,
        machine: &Machine,
        rules: (&Schedule, &Thresholds),
    ) -> i64 {
        let stretch = i64::from(self.stretch(machine, rules));
        let rests = i64::from(self.rests);
        rests + (-(number + rests)).rem_euclid(stretch)
    }

    /// How long a probe may take. One that confirms is given less where the target is known to be
    /// quick, so that a target that says nothing is found out as soon as one that refuses.
    pub(super) fn timeout(&self, why: Option<Extra>, schedule: &Schedule) -> Duration {
        if why != Some(Extra::Confirm) || self.usual == 0 {
            return schedule.timeout;
        }
        let usual = Duration::from_micros(u64::from(self.usual));
        schedule.timeout.min(LEAST_TIMEOUT.max(usual * PATIENCE))
    }
}

/// Whether a run of this number is one in `stretch`.
fn is_taken(number: i64, stretch: u32) -> bool {
    number.rem_euclid(i64::from(stretch.max(1))) == 0
}

/// From the start of one probe that confirms to the next.
fn spacing(pace: &Pace) -> Micros {
    micros(pace.confirm_within) / Micros::from(pace.confirm_probes.max(1))
}

/// When a failure is to be confirmed: the check was well, and one failure does not decide.
fn confirmation(
    ended: &Ended<'_>,
    pace: &Pace,
    thresholds: &Thresholds,
) -> Option<(Micros, Extra)> {
    let failures = ended.machine.streak().failures();
    let decides = failures >= thresholds.failures_before_critical();
    let is_due = matches!(ended.outcome, Outcome::Failure(_))
        && matches!(ended.machine.status(), Status::Passing | Status::Warning)
        && failures <= u32::from(pace.confirm_probes)
        && !decides;
    is_due.then(|| (ended.now.max(ended.started + spacing(pace)), Extra::Confirm))
}
