//! Warns of settings that work and are seldom meant.
//!
//! Checks in our own format and in Consul's are warned of alike, but of Consul's only for what they
//! say themselves: where they say nothing, Consul's defaults hold, which nobody chose.

use std::time::Duration;

use super::{Written, head, runs_per_hang, shown};
use crate::{
    config::{
        diagnostic::{Place, Problem},
        read::{Dialect, Reader},
        tree::Node,
    },
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
    /// Warns of an interval that must be said to be meant.
    pub(super) fn warn_of_load(&self, reader: &mut Reader<'_>, interval: Duration) {
        if interval < FAST && self.check.allow_fast_interval != Some(true) {
            let place = self.place(reader, "interval");
            reader.report(
                Problem::warning("an interval below 1s is much load for a target")
                    .at(place, format!("{:.0} probes a second", 1.0 / interval.as_secs_f64()))
                    .help("if it is meant, say `allow_fast_interval: true`"),
            );
        }
    }
}

/// Warns of the settings of a check, in either dialect.
pub(in crate::config) fn settings(
    reader: &mut Reader<'_>,
    node: &Node,
    spec: &Spec,
    schedule: &Schedule,
    thresholds: &Thresholds,
) {
    warn_of_timeout(reader, node, spec, schedule);
    let slow = if spec.changes_slowly() { Duration::MAX } else { SLOW };
    let interval = schedule.interval;
    warn_of_failures(reader, node, interval, thresholds.failures_before_critical(), slow);
    warn_of_successes(reader, node, interval, thresholds.success_before_passing(), slow);
}

/// Where the first of the keys that is written is. If none is: in our format the check's first key,
/// since `check_defaults` may say it; in Consul's nowhere.
fn place(reader: &Reader<'_>, node: &Node, keys: &[&str]) -> Option<Place> {
    let found = keys.iter().find_map(|key| reader.find(node, key));
    let span = match (found, reader.dialect) {
        (Some(entry), _) => entry.value.span.clone(),
        (None, Dialect::Strict) => head(node),
        (None, Dialect::Consul) => return None,
    };
    Some(reader.place(&span))
}

fn warn_of_timeout(reader: &mut Reader<'_>, node: &Node, spec: &Spec, schedule: &Schedule) {
    let Some(place) = place(reader, node, &["timeout"]) else { return };
    let Schedule { interval, timeout, .. } = *schedule;
    if timeout >= interval {
        let label =
            format!("{} is not less than the interval of {}", shown(timeout), shown(interval));
        reader.report(
            Problem::warning("the timeout should be shorter than the interval")
                .at(place.clone(), label)
                .help(format!(
                    "while a target hangs, as few as one run in {} is made; the others are skipped",
                    runs_per_hang(schedule)
                )),
        );
    }
    if timeout < SHORT_FOR_TLS && spec.uses_tls() {
        let label = format!("{} for name, connection, handshake and answer", shown(timeout));
        reader.report(
            Problem::warning("a timeout below 100ms is short for TLS")
                .at(place, label)
                .help("a full handshake takes two to three round trips and a signature"),
        );
    }
}

fn warn_of_failures(
    reader: &mut Reader<'_>,
    node: &Node,
    interval: Duration,
    failures: u32,
    slow: Duration,
) {
    let key = "failures_before_critical";
    if failures == 1
        && let Some(place) = place(reader, node, &[key])
    {
        reader.report(
            Problem::warning("one failure is enough to make the check critical")
                .at(place, "a single lost packet takes the instance out")
                .help("2 or 3 failures in a row tell trouble from chance"),
        );
    }
    let noticed = interval.saturating_mul(failures);
    if noticed > slow
        && let Some(place) = place(reader, node, &[key, "interval"])
    {
        let label = format!("{failures} × {} = {}", shown(interval), shown(noticed));
        reader.report(
            Problem::warning("a failure is noticed only after more than 5 minutes")
                .at(place, label)
                .help(format!("shorten `interval` or lower `{key}`")),
        );
    }
}

fn warn_of_successes(
    reader: &mut Reader<'_>,
    node: &Node,
    interval: Duration,
    successes: u32,
    slow: Duration,
) {
    let key = "success_before_passing";
    let recovered = interval.saturating_mul(successes);
    // One success is the default, and the interval alone has been warned of with the failures.
    if recovered > slow
        && successes > 1
        && let Some(place) = place(reader, node, &[key])
    {
        reader.report(
            Problem::warning("a recovery is noticed only after more than 5 minutes")
                .at(place, format!("takes {}", shown(recovered)))
                .help(format!("shorten `interval` or lower `{key}`")),
        );
    }
}
