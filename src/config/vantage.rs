//! Checks what single keys of `self_health` cannot tell.

use std::{ops::RangeInclusive, time::Duration};

use super::{destination, diagnostic::Problem, read::Reader, tree::Node, vet::Setting};
use crate::{doubt::MAX_SCORE, duration::Period, vantage::Config};

/// How often anchors may be asked.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(60);

/// Reports numbers out of bounds, and anchors that every probe would be denied.
pub(super) fn vet(reader: &mut Reader<'_>, root: &Node, config: &Config) {
    let setting = |key| Setting { root, path: ["self_health", key], flag: false };
    let mut blame = |key, given: String, problem: &str| {
        setting(key).blame(reader, Problem::error(problem), &given);
    };
    let (interval, timeout) = (config.interval.get(), config.timeout.get());
    let given = |period: Period| format!("{period} is given");
    if !INTERVALS.contains(&interval) {
        blame("interval", given(config.interval), "`interval` must be between 500ms and 1m");
    }
    if timeout.is_zero() || timeout > interval {
        let problem = "`timeout` must be above zero and at most the `interval`";
        blame("timeout", given(config.timeout), problem);
    }
    if !(1..=MAX_SCORE).contains(&config.abstain_at) {
        let given = format!("{} is given", config.abstain_at);
        blame("abstain_at", given, "`abstain_at` must be between 1 and 8");
    }
    if config.anchors.len() > Config::MOST_ANCHORS {
        let given = format!("{} are given", config.anchors.len());
        blame("anchors", given, "there may be at most 16 `anchors`");
    }
    let nodes = root.get("self_health").and_then(|section| section.get("anchors"));
    for (anchor, node) in config.anchors.iter().zip(nodes.map(Node::items).unwrap_or_default()) {
        destination::vet(reader, &anchor.endpoint().host, reader.place(&node.span));
    }
}
