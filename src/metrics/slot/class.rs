//! What is counted over all instances of a check: the duration histogram, reasons, phases, codes.

use std::{
    sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::nanos;
use crate::model::{Answer, Observation, Outcome, Phase, Reason, Serving};

/// Upper bounds of the duration histogram, in seconds; the last bucket, to infinity, is implied.
/// They are those of the metric catalogue: one at each usual latency objective, the last finite
/// one above any usual timeout.
pub const DURATION_BUCKETS: [f64; 12] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

pub(super) const BOUNDS_NANOS: [u64; 12] = [
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// Most distinct HTTP status codes counted one by one for a check; further ones are counted as
/// code 0, shown as `other`.
const MAX_CODES: usize = 20;

/// What is counted for a check definition, over all its instances.
#[derive(Debug, Default)]
pub struct ClassSlot {
    buckets: [AtomicU64; DURATION_BUCKETS.len() + 1],
    total_nanos: AtomicU64,
    reasons: [AtomicU64; Reason::COUNT],
    inconclusive: [AtomicU64; Reason::COUNT],
    phases: [AtomicU64; Phase::COUNT],
    codes: [(AtomicU16, AtomicU64); MAX_CODES],
    other_codes: AtomicU64,
    serving: [AtomicU64; Serving::COUNT],
}

/// A reading of a [`ClassSlot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassTotals {
    /// Probes by duration: how many fell into each bucket, not cumulated; the last is infinity's.
    pub buckets: [u64; DURATION_BUCKETS.len() + 1],
    /// The time of all probes together.
    pub total: Duration,
    /// Failures by [`Reason::index`].
    pub reasons: [u64; Reason::COUNT],
    /// Probes that say nothing of their target, by [`Reason::index`].
    pub inconclusive: [u64; Reason::COUNT],
    /// Time by [`Phase::index`].
    pub phases: [Duration; Phase::COUNT],
    /// Answers by HTTP status code, in order; 0 stands for those beyond the first distinct twenty.
    pub codes: Vec<(u16, u64)>,
    /// Answers by [`Serving::index`].
    pub serving: [u64; Serving::COUNT],
}

impl ClassSlot {
    /// Takes in a finished probe.
    pub fn record(&self, observation: &Observation) {
        let took = nanos(observation.duration);
        self.buckets[BOUNDS_NANOS.partition_point(|bound| *bound < took)].fetch_add(1, Relaxed);
        self.total_nanos.fetch_add(took, Relaxed);
        let by_reason = match observation.outcome {
            Outcome::Failure(reason) => Some(&self.reasons[reason.index()]),
            Outcome::Inconclusive(reason) => Some(&self.inconclusive[reason.index()]),
            Outcome::Success | Outcome::Warning(_) => None,
        };
        if let Some(count) = by_reason {
            count.fetch_add(1, Relaxed);
        }
        for phase in Phase::ALL {
            let spent = nanos(observation.phases.get(*phase));
            if spent > 0 {
                self.phases[phase.index()].fetch_add(spent, Relaxed);
            }
        }
        match observation.answer {
            Answer::None => {}
            Answer::Http(code) => self.count_code(code),
            Answer::Grpc(serving) => {
                self.serving[serving.index()].fetch_add(1, Relaxed);
            }
        }
    }

    fn count_code(&self, code: u16) {
        for (slot, count) in &self.codes {
            let held = match slot.compare_exchange(0, code, Relaxed, Relaxed) {
                Ok(_) => code,
                Err(held) => held,
            };
            if held == code {
                count.fetch_add(1, Relaxed);
                return;
            }
        }
        self.other_codes.fetch_add(1, Relaxed);
    }

    /// Everything.
    pub fn read(&self) -> ClassTotals {
        let mut codes: Vec<(u16, u64)> = self
            .codes
            .iter()
            .map(|(code, count)| (code.load(Relaxed), count.load(Relaxed)))
            .chain([(0, self.other_codes.load(Relaxed))])
            .filter(|(_, count)| *count > 0)
            .collect();
        codes.sort_unstable();
        ClassTotals {
            buckets: self.buckets.each_ref().map(|n| n.load(Relaxed)),
            total: Duration::from_nanos(self.total_nanos.load(Relaxed)),
            reasons: self.reasons.each_ref().map(|n| n.load(Relaxed)),
            inconclusive: self.inconclusive.each_ref().map(|n| n.load(Relaxed)),
            phases: self.phases.each_ref().map(|n| Duration::from_nanos(n.load(Relaxed))),
            codes,
            serving: self.serving.each_ref().map(|n| n.load(Relaxed)),
        }
    }
}
