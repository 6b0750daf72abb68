//! What a prober thread did not see because it was not run: the rule by which a failure is void.
//!
//! A thread that is stopped (SIGSTOP, a suspended machine) or starved of CPU finds that its probes
//! have timed out, whatever the targets did. The loop knows when it meant to wake and when it woke;
//! the difference is time lost. A probe that lost too much of it, and one that went on after its own
//! timeout, proves nothing by failing: it becomes inconclusive. What succeeded in spite of that
//! stays a success. The same goes for a failure while the daemon abstains ([`Doubt`]).

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    doubt::Doubt,
    metrics::{Daemon, Void},
    model::{Observation, Outcome},
};

/// While probes are under way the loop wakes at least this often, so that little can be lost
/// unnoticed between.
const PACE: Duration = Duration::from_millis(50);

/// A wake that is no later than this is on time.
const HICCUP: Duration = Duration::from_millis(10);

/// No probe may lose more than this and still fail.
const MOST_LOST: Duration = Duration::from_millis(250);

/// How much time a loop has lost, and when it means to wake.
#[derive(Debug)]
pub(super) struct Stall {
    expected: Instant,
    lost: Duration,
}

/// What is remembered of a probe under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Departure {
    lost: Duration,
    timeout: Duration,
}

impl Departure {
    /// The most it may lose: a quarter of its timeout, for a short one is used up sooner.
    fn bearable(&self) -> Duration {
        MOST_LOST.min(self.timeout / 4).max(HICCUP)
    }
}

impl Stall {
    pub(super) fn new() -> Self {
        Self { expected: Instant::now(), lost: Duration::ZERO }
    }

    /// When the loop, which means to sleep until then, has to wake at the latest.
    pub(super) fn doze(&mut self, until: Instant, flying: bool, doubt: &Doubt) -> Instant {
        self.wake(doubt);
        let paced = Instant::now() + PACE;
        self.expected = if flying { until.min(paced) } else { until };
        self.expected
    }

    /// Notes that the loop is awake.
    pub(super) fn wake(&mut self, doubt: &Doubt) {
        let now = Instant::now();
        let late = now.saturating_duration_since(self.expected);
        if late > HICCUP {
            self.lost += late;
            self.expected = now;
            doubt.woke(late);
        }
    }

    /// Notes that a probe starts that may take so long.
    pub(super) const fn depart(&self, timeout: Duration) -> Departure {
        Departure { lost: self.lost, timeout }
    }

    /// What a probe has found, without what it could not know. The loop must have noted that it is
    /// awake.
    pub(super) fn weigh(
        &self,
        departure: Departure,
        mut found: Observation,
        (doubt, metrics): (&Doubt, &Daemon),
    ) -> Observation {
        doubt.learnt(found.outcome);
        let Outcome::Failure(reason) = found.outcome else { return found };
        let lost = self.lost.saturating_sub(departure.lost);
        let over = found.duration.saturating_sub(departure.timeout);
        let void = if lost.max(over) > departure.bearable() {
            Void::Stalled
        } else if doubt.abstains() {
            Void::Abstaining
        } else {
            return found;
        };
        metrics.doubt.void(void);
        found.outcome = Outcome::Inconclusive(reason);
        let detail = found.detail.as_deref().unwrap_or_default();
        found.detail = Some(format!("{}: {detail}", void.remark()).into());
        found
    }
}
