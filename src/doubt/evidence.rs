//! What prober threads count for the next review: a few atomic additions a probe.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use crate::model::Outcome;

/// A loop that wakes later than this was not run when it should have been.
const LATE_WAKE: Duration = Duration::from_millis(250);

/// A probe that starts later than this starts late: forty ticks of the scheduler by default.
const LATE_START: Duration = Duration::from_millis(200);

/// Counts since the last review.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    late_wakes: AtomicU32,
    starts: AtomicU32,
    late_starts: AtomicU32,
    results: AtomicU32,
    inconclusive: AtomicU32,
}

/// The counts of the time from one review to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Wakes that were late.
    pub(super) late_wakes: u32,
    /// Probes that started.
    pub(super) starts: u32,
    /// Those that started late.
    pub(super) late_starts: u32,
    /// Probes that ended.
    pub(super) results: u32,
    /// Those that failed by our own fault.
    pub(super) inconclusive: u32,
}

impl Evidence {
    pub(super) fn woke(&self, late: Duration) {
        if late > LATE_WAKE {
            self.late_wakes.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn started(&self, late: Duration) {
        self.starts.fetch_add(1, Relaxed);
        if late > LATE_START {
            self.late_starts.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn learnt(&self, outcome: Outcome) {
        self.results.fetch_add(1, Relaxed);
        if matches!(outcome, Outcome::Inconclusive(_)) {
            self.inconclusive.fetch_add(1, Relaxed);
        }
    }

    /// The counts, which begin anew.
    pub(super) fn take(&self) -> Counts {
        Counts {
            late_wakes: self.late_wakes.swap(0, Relaxed),
            starts: self.starts.swap(0, Relaxed),
            late_starts: self.late_starts.swap(0, Relaxed),
            results: self.results.swap(0, Relaxed),
            inconclusive: self.inconclusive.swap(0, Relaxed),
        }
    }
}
