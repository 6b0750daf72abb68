//! When a check is to run, and how that answers to its results.

use std::{fmt, time::Duration};

use crate::duration::Period;

/// When a check runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// From one start to the next; more than zero.
    pub interval: Duration,
    /// The longest a probe may take, name resolution included; more than zero.
    pub timeout: Duration,
    /// How far a run may move from its place, as a share of the interval: 0.05 is ±5 %.
    pub jitter: f64,
    /// How long after registration the first run may start at the earliest.
    pub initial_delay: Duration,
    /// How it answers to the check's own results.
    pub pace: Pace,
}

/// How a check's schedule answers to its own results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Most probes that confirm the first failure of a check that was well; with zero it waits for
    /// its next run.
    pub confirm_probes: u8,
    /// The time over which those are spread.
    pub confirm_within: Duration,
    /// Most intervals from one probe to the next of a target that has been critical for long.
    pub max_backoff: u8,
    /// Whether an idle connection to the target is held, to hear at once when it closes.
    pub tripwire: Tripwire,
    /// Whether a target that says when it wants to be asked again is heard.
    pub heeds_wishes: bool,
}

/// Whether an idle connection is held to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tripwire {
    /// If a single failure does not decide, so that a target that cannot bear it is not found ill
    /// because of it.
    #[default]
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

impl Pace {
    /// Most probes that may confirm a failure.
    pub const MOST_CONFIRM_PROBES: u8 = 10;

    /// One that nothing changes: every run at its time, and none beyond.
    pub const STEADY: Self = Self {
        confirm_probes: 0,
        confirm_within: Duration::from_secs(1),
        max_backoff: 1,
        tripwire: Tripwire::Off,
        heeds_wishes: false,
    };
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            confirm_probes: 3,
            confirm_within: Duration::from_secs(1),
            max_backoff: 4,
            tripwire: Tripwire::Auto,
            heeds_wishes: true,
        }
    }
}

closed_set! {
    /// Why a probe was made beyond the schedule.
    Extra {
        /// To confirm a failure.
        Confirm = "confirm",
        /// The target wanted to be asked again so soon.
        Asked = "asked",
        /// An idle connection to the target was closed, or it told of a change by itself.
        Tripwire = "tripwire",
        /// An operator wanted to know.
        Operator = "operator",
    }
}

impl Schedule {
    /// Shortest interval and timeout: the shortest tick of the scheduler.
    pub const SHORTEST: Duration = Duration::from_millis(1);

    /// Longest interval, timeout and delay. Clocks can add it without overflow, and what is asked
    /// less than once a week is not watched.
    pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);

    /// How far a run moves from its place if nothing is said of it.
    pub const DEFAULT_JITTER: f64 = 0.05;

    /// Refuses a time that no interval and no timeout can be.
    pub fn vet(time: Duration) -> Result<(), TimeError> {
        if time < Self::SHORTEST {
            return Err(TimeError::Short);
        }
        if time > Self::LONGEST {
            return Err(TimeError::Long);
        }
        Ok(())
    }
}

/// A time that no schedule can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Too short.
    #[error("must be at least {}", Period::from(Schedule::SHORTEST))]
    Short,
    /// Too long.
    #[error("must be at most {}", Period::from(Schedule::LONGEST))]
    Long,
}

closed_set! {
    /// Why the next probe is to start when it is.
    #[derive(Default)]
    Turn {
        /// The schedule says so.
        #[default]
        Schedule = "schedule",
        /// So does the schedule, of which runs are left out because the target has been critical
        /// for long, or wants to be left alone.
        BackOff = "back_off",
        /// A failure is to be confirmed.
        Confirm = "confirm",
        /// The target wants to be asked again then.
        Asked = "asked",
        /// An idle connection to the target was closed, or it told of a change by itself.
        Tripwire = "tripwire",
        /// An operator wants to know.
        Operator = "operator",
    }
}

impl From<Extra> for Turn {
    fn from(extra: Extra) -> Self {
        match extra {
            Extra::Confirm => Self::Confirm,
            Extra::Asked => Self::Asked,
            Extra::Tripwire => Self::Tripwire,
            Extra::Operator => Self::Operator,
        }
    }
}
