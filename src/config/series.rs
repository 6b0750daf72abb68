//! Series that alerts need and that are not shown.

use super::{Node, Problem, Reader, vet::Setting};
use crate::metrics::{self, PerTarget};

/// Warns of series that the alerts in `alerts/` need and that are not shown.
pub(super) fn warn(reader: &mut Reader<'_>, root: &Node, metrics: &metrics::Config) {
    let (label, more) = match metrics.per_target {
        PerTarget::Full => return,
        PerTarget::State => ("leaves out all but health and state changes", ""),
        PerTarget::Off => ("leaves them all out", ", RollcallTargetDown, RollcallTargetFlapping"),
    };
    let problem = Problem::warning("without series for every target some alerts cannot fire")
        .help(format!(
            "silent are RollcallErrorBudgetBurn, RollcallCertificateExpiry, \
             RollcallProbesStalled{more}"
        ))
        .help("leave it `full` unless Prometheus cannot bear it, or do without these alerts");
    Setting { root, path: ["metrics", "per_target"], flag: false }.blame(reader, problem, label);
}
