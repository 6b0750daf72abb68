//! Warns of settings that work and are seldom meant.

use std::time::Duration;

use super::{Written, shown};
use crate::{
    config::{diagnostic::Problem, read::Reader},
    judge::Thresholds,
    model::Schedule,
    probe::Spec,
};

/// Below this, probes are load of their own; a check says so in as many words.
const FAST: Duration = Duration::from_secs(1);

/// Longer than this and a dead target is noticed too late to matter.
const SLOW: Duration = Duration::from_secs(300);

/// A TLS handshake across a region takes three round trips of some 20 ms and a signature.
const SHORT_FOR_TLS: Duration = Duration::from_millis(100);

impl Written<'_> {
    /// Warns of settings that work and are seldom meant.
    pub(super) fn warn(
        &self,
        reader: &mut Reader<'_>,
        spec: &Spec,
        schedule: &Schedule,
        thresholds: &Thresholds,
    ) {
        let Schedule { interval, timeout, .. } = *schedule;
        if self.check.timeout.is_some() && timeout >= interval {
            let label = format!("not less than the interval of {}", shown(interval));
            let place = self.place(reader, "timeout");
            reader.report(
                Problem::warning("the timeout should be shorter than the interval")
                    .at(place, label)
                    .help("while a target hangs, every second probe is skipped"),
            );
        }
        if interval < FAST && self.check.allow_fast_interval != Some(true) {
            let place = self.place(reader, "interval");
            reader.report(
                Problem::warning("an interval below 1s is much load for a target")
                    .at(place, format!("{:.0} probes a second", 1.0 / interval.as_secs_f64()))
                    .help("if it is meant, say `allow_fast_interval: true`"),
            );
        }
        if timeout < SHORT_FOR_TLS && spec.uses_tls() {
            let place = self.place(reader, "timeout");
            reader.report(
                Problem::warning("a timeout below 100ms is short for TLS")
                    .at(
                        place,
                        format!("{} for name, connection, handshake and answer", shown(timeout)),
                    )
                    .help("a full handshake takes two to three round trips and a signature"),
            );
        }
        self.warn_of_thresholds(reader, interval, thresholds);
    }

    fn warn_of_thresholds(
        &self,
        reader: &mut Reader<'_>,
        interval: Duration,
        thresholds: &Thresholds,
    ) {
        let key = "failures_before_critical";
        if thresholds.failures_before_critical() == 1 {
            let place = self.place(reader, key);
            reader.report(
                Problem::warning("one failure is enough to make the check critical")
                    .at(place, "a single lost packet takes the instance out")
                    .help("2 or 3 failures in a row tell trouble from chance"),
            );
        }
        let noticed = interval.saturating_mul(thresholds.failures_before_critical());
        if noticed > SLOW {
            let place =
                self.place(reader, if self.node.get(key).is_some() { key } else { "interval" });
            reader.report(
                Problem::warning("a failure is noticed only after more than 5 minutes")
                    .at(
                        place,
                        format!(
                            "{} × {} = {}",
                            thresholds.failures_before_critical(),
                            shown(interval),
                            shown(noticed)
                        ),
                    )
                    .help(format!("shorten `interval` or lower `{key}`")),
            );
        }
        let key = "success_before_passing";
        let recovered = interval.saturating_mul(thresholds.success_before_passing());
        if recovered > SLOW && self.check.success_before_passing.is_some() {
            let place = self.place(reader, key);
            reader.report(
                Problem::warning("a recovery is noticed only after more than 5 minutes")
                    .at(place, format!("takes {}", shown(recovered)))
                    .help(format!("shorten `interval` or lower `{key}`")),
            );
        }
    }
}
