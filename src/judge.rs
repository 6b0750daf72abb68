//! What an answer means: the state machine that turns outcomes into a status. Pure.
//!
//! ```text
//!                 failures_before_warning in a row       failures_before_critical in a row
//!    passing ────────────────────────────────▶ warning ─────────────────────────▶ critical
//!       ▲                                         │                                  │
//!       └──────────── success_before_passing in a row ───────────────────────────────┘
//! ```
//!
//! No I/O, no clock, no log, no async: outcomes in, changes out. Results are counted exactly once
//! and strictly consecutively: one of the other kind sets the count back to nothing. A probe that
//! found the target struggling ([`Outcome::Warning`], HTTP 429) answers, so it counts with the
//! successes, and it is the last of them that says whether the status is passing or warning: this
//! is Consul's rule. A probe that failed by our own fault ([`Outcome::Inconclusive`]) is no result
//! at all: it neither counts nor ends a row. Before the first verdict the status is unknown, and the same counts lead out of
//! it, unless the thresholds say that [the first result](Thresholds::first_at_once) decides alone.
//!
//! Maintenance lies over all this: while it lasts the status is maintenance, results go on being
//! counted below it, and what they amount to shows when it ends.

use std::{fmt, num::NonZeroU32};

use crate::model::{Outcome, Status, closed_set};

mod ahead;
#[cfg(test)]
mod tests;

pub use ahead::{Step, Turn};

/// How many results in a row it takes to change a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Thresholds {
    success_before_passing: NonZeroU32,
    failures_before_warning: NonZeroU32,
    failures_before_critical: NonZeroU32,
    first: First,
}

/// What the first result of all is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum First {
    /// As much as any other.
    Counted,
    /// As much as a whole row.
    AtOnce,
}

/// Thresholds that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("failures_before_warning ({warning}) is higher than failures_before_critical ({critical})")]
pub struct ThresholdError {
    warning: NonZeroU32,
    critical: NonZeroU32,
}

impl Thresholds {
    /// Successes in a row before passing, failures in a row before warning and before critical.
    /// With `warning` equal to `critical` failures never lead to a warning.
    pub fn new(
        passing: NonZeroU32,
        warning: NonZeroU32,
        critical: NonZeroU32,
    ) -> Result<Self, ThresholdError> {
        if warning > critical {
            return Err(ThresholdError { warning, critical });
        }
        Ok(Self {
            success_before_passing: passing,
            failures_before_warning: warning,
            failures_before_critical: critical,
            first: First::Counted,
        })
    }

    /// These, but the first result of all takes effect at once, whatever the counts: Consul's
    /// counters start at their thresholds. Where it is a success it counts for as many as it
    /// takes, so that in the row it begins the last answer always says how it is.
    #[must_use]
    pub const fn first_at_once(self) -> Self {
        Self { first: First::AtOnce, ..self }
    }

    /// Successes in a row before passing.
    pub const fn success_before_passing(&self) -> u32 {
        self.success_before_passing.get()
    }

    /// Failures in a row before warning.
    pub const fn failures_before_warning(&self) -> u32 {
        self.failures_before_warning.get()
    }

    /// Failures in a row before critical.
    pub const fn failures_before_critical(&self) -> u32 {
        self.failures_before_critical.get()
    }
}

closed_set! {
    /// What the probes alone say of a target.
    #[derive(Default)]
    Verdict {
        /// Not enough results yet.
        #[default]
        Unknown = "unknown",
        /// Well.
        Passing = "passing",
        /// Answering, but struggling.
        Warning = "warning",
        /// Not well.
        Critical = "critical",
    }
}

/// The latest results that point the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Streak {
    /// No result yet.
    #[default]
    None,
    /// So many answers in a row (successes and warnings).
    Successes(u32),
    /// So many failures in a row.
    Failures(u32),
}

/// Whether an operator has taken the instance out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Maintenance {
    /// In service.
    #[default]
    Off,
    /// Taken out.
    On,
}

/// A change of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Change {
    /// The status before.
    pub from: Status,
    /// The status now; never equal to `from`.
    pub to: Status,
}

/// The state of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Machine {
    verdict: Verdict,
    streak: Streak,
    maintenance: Maintenance,
}

impl Machine {
    /// A machine in a state written down earlier.
    pub const fn restore(verdict: Verdict, streak: Streak, maintenance: Maintenance) -> Self {
        Self { verdict, streak, maintenance }
    }

    /// A machine that has seen nothing yet.
    pub const fn new(maintenance: Maintenance) -> Self {
        Self { verdict: Verdict::Unknown, streak: Streak::None, maintenance }
    }

    /// What the probes alone say.
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The latest results that point the same way.
    pub const fn streak(&self) -> Streak {
        self.streak
    }

    /// The status: the verdict, unless an operator has taken the instance out.
    pub const fn status(&self) -> Status {
        match (self.maintenance, self.verdict) {
            (Maintenance::On, _) => Status::Maintenance,
            (Maintenance::Off, Verdict::Unknown) => Status::Unknown,
            (Maintenance::Off, Verdict::Passing) => Status::Passing,
            (Maintenance::Off, Verdict::Warning) => Status::Warning,
            (Maintenance::Off, Verdict::Critical) => Status::Critical,
        }
    }

    /// Whether the latest results point away from the verdict, or to a first one.
    pub const fn is_wavering(&self) -> bool {
        match (self.verdict, self.streak) {
            (_, Streak::None)
            | (Verdict::Passing | Verdict::Warning, Streak::Successes(_))
            | (Verdict::Critical, Streak::Failures(_)) => false,
            (Verdict::Unknown | Verdict::Critical, Streak::Successes(_))
            | (Verdict::Unknown | Verdict::Passing | Verdict::Warning, Streak::Failures(_)) => true,
        }
    }

    /// Takes in one result. Says what changed, if the status did.
    pub fn observe(&mut self, thresholds: &Thresholds, outcome: Outcome) -> Option<Change> {
        if matches!(outcome, Outcome::Inconclusive(_)) {
            return None;
        }
        let from = self.status();
        let first = self.streak.is_empty() && thresholds.first == First::AtOnce;
        self.streak = self.streak.extended(outcome);
        if first {
            self.decide(thresholds, outcome);
        } else {
            self.verdict = self.judged(thresholds, outcome);
        }
        self.change_since(from)
    }

    /// Takes in an operator's word. Says what changed, if the status did.
    pub fn maintain(&mut self, maintenance: Maintenance) -> Option<Change> {
        let from = self.status();
        self.maintenance = maintenance;
        self.change_since(from)
    }

    /// Takes in the first result of all where it takes effect at once.
    fn decide(&mut self, thresholds: &Thresholds, outcome: Outcome) {
        self.verdict = match outcome {
            Outcome::Success => Verdict::Passing,
            Outcome::Warning(_) => Verdict::Warning,
            Outcome::Failure(_) => Verdict::Critical,
            Outcome::Inconclusive(_) => self.verdict,
        };
        match outcome {
            Outcome::Success | Outcome::Warning(_) => {
                self.streak = Streak::Successes(thresholds.success_before_passing());
            }
            // One is enough: critical stays critical until the row ends.
            Outcome::Failure(_) | Outcome::Inconclusive(_) => {}
        }
    }

    fn judged(&self, thresholds: &Thresholds, outcome: Outcome) -> Verdict {
        match (self.streak, outcome) {
            (Streak::Successes(n), Outcome::Success)
                if n >= thresholds.success_before_passing() =>
            {
                Verdict::Passing
            }
            (Streak::Successes(n), Outcome::Warning(_))
                if n >= thresholds.success_before_passing() =>
            {
                Verdict::Warning
            }
            (Streak::Failures(n), _) if n >= thresholds.failures_before_critical() => {
                Verdict::Critical
            }
            // One more failure is no news of recovery: critical stays critical.
            (Streak::Failures(n), _)
                if n >= thresholds.failures_before_warning()
                    && self.verdict != Verdict::Critical =>
            {
                Verdict::Warning
            }
            (Streak::None | Streak::Successes(_) | Streak::Failures(_), _) => self.verdict,
        }
    }

    fn change_since(&self, from: Status) -> Option<Change> {
        let to = self.status();
        (from != to).then_some(Change { from, to })
    }
}

impl Streak {
    /// How many results the streak holds.
    pub const fn len(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Successes(n) | Self::Failures(n) => n,
        }
    }

    /// Whether there has been no result at all.
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None)
    }

    /// How many failures in a row the streak holds.
    pub const fn failures(self) -> u32 {
        match self {
            Self::None | Self::Successes(_) => 0,
            Self::Failures(n) => n,
        }
    }

    /// How many answers in a row the streak holds.
    pub const fn successes(self) -> u32 {
        match self {
            Self::None | Self::Failures(_) => 0,
            Self::Successes(n) => n,
        }
    }

    const fn extended(self, outcome: Outcome) -> Self {
        match (self, outcome) {
            (Self::Successes(n), Outcome::Success | Outcome::Warning(_)) => {
                Self::Successes(n.saturating_add(1))
            }
            (Self::None | Self::Failures(_), Outcome::Success | Outcome::Warning(_)) => {
                Self::Successes(1)
            }
            (Self::Failures(n), Outcome::Failure(_)) => Self::Failures(n.saturating_add(1)),
            (Self::None | Self::Successes(_), Outcome::Failure(_)) => Self::Failures(1),
            (held, Outcome::Inconclusive(_)) => held,
        }
    }
}

/// The worst of several statuses: maintenance, critical, unknown, warning, passing, in this order;
/// passing if there are none.
pub fn worst(statuses: impl IntoIterator<Item = Status>) -> Status {
    const fn weight(status: Status) -> u8 {
        match status {
            Status::Passing => 0,
            Status::Warning => 1,
            Status::Unknown => 2,
            Status::Critical => 3,
            Status::Maintenance => 4,
        }
    }
    statuses.into_iter().max_by_key(|status| weight(*status)).unwrap_or(Status::Passing)
}
