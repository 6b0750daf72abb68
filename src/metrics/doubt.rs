//! What is counted of the daemon's doubt about itself.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge, IntGaugeVec, Registry};

use crate::doubt::{Report, Sight, Symptom};

use super::{
    catalogue,
    daemon::{add, buckets, counters, opts},
};

const CANARY_BUCKETS: [f64; 8] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5];

/// Why a failure counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Void {
    /// The daemon was held up while the probe was under way.
    Stalled,
    /// The daemon does not trust itself.
    Abstaining,
}

impl Void {
    const ALL: [Self; 2] = [Self::Stalled, Self::Abstaining];

    /// The word of the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::Abstaining => "abstaining",
        }
    }

    /// The same for people, to be put before what was found.
    pub const fn remark(self) -> &'static str {
        match self {
            Self::Stalled => "not counted, rollcall was held up meanwhile",
            Self::Abstaining => "not counted, rollcall is not well or cut off",
        }
    }
}

/// The metrics of the daemon's doubt.
#[derive(Debug, Clone)]
pub struct Doubts {
    score: IntGauge,
    abstaining: IntGauge,
    symptoms: [IntGauge; Symptom::COUNT],
    anchors: [IntGauge; Sight::COUNT],
    canary: Histogram,
    canary_failures: IntCounter,
    voids: [IntCounter; Void::ALL.len()],
}

impl Doubts {
    pub(super) fn try_new(r: &Registry) -> prometheus::Result<Self> {
        let gauge = |family| add(r, IntGauge::with_opts(opts(family)));
        let gauges =
            |family: &catalogue::Family| add(r, IntGaugeVec::new(opts(family), family.labels));
        let symptoms = gauges(&catalogue::SELF_SYMPTOMS)?;
        let anchors = gauges(&catalogue::ANCHORS)?;
        let voids = counters(r, &catalogue::PROBE_FAILURES_VOID)?;
        let canary = buckets(&catalogue::CANARY_DURATION, &CANARY_BUCKETS);
        let failures = opts(&catalogue::CANARY_FAILURES);
        Ok(Self {
            score: gauge(&catalogue::LOCAL_HEALTH_SCORE)?,
            abstaining: gauge(&catalogue::ABSTAINING)?,
            symptoms: std::array::from_fn(|index| {
                symptoms.with_label_values(&[Symptom::ALL[index].as_str()])
            }),
            anchors: std::array::from_fn(|index| {
                anchors.with_label_values(&[Sight::ALL[index].as_str()])
            }),
            canary: add(r, Histogram::with_opts(canary))?,
            canary_failures: add(r, IntCounter::with_opts(failures))?,
            voids: Void::ALL.map(|void| voids.with_label_values(&[void.as_str()])),
        })
    }

    /// Counts a failure that counts for nothing.
    pub fn void(&self, void: Void) {
        self.voids[void as usize].inc();
    }

    /// Failures that counted for nothing so far.
    pub fn voided(&self, void: Void) -> u64 {
        self.voids[void as usize].get()
    }

    /// Counts a probe of the canary, by what was seen of it.
    pub fn canary(&self, sight: Sight, took: Duration) {
        match sight {
            Sight::Answers => self.canary.observe(took.as_secs_f64()),
            Sight::Fails => self.canary_failures.inc(),
            Sight::Unknown => {}
        }
    }

    /// Shows what the daemon thinks of itself.
    pub fn show(&self, report: &Report) {
        self.score.set(i64::from(report.score));
        self.abstaining.set(i64::from(report.abstaining.is_some()));
        for symptom in Symptom::ALL {
            self.symptoms[symptom.index()].set(i64::from(report.symptoms.has(*symptom)));
        }
        for sight in Sight::ALL {
            let count = report.anchors.iter().filter(|seen| seen.sight == *sight).count();
            self.anchors[sight.index()].set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voids_are_indexed_by_their_position() {
        for (index, void) in Void::ALL.iter().enumerate() {
            assert_eq!(*void as usize, index);
        }
    }
}
