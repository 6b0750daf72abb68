//! `/metrics`: written piece by piece, straight from the slots.
//!
//! A scrape of 100,000 targets is a million lines. They are written family by family in chunks
//! that the connection takes at its own pace, so memory is bounded by a chunk and the list of
//! checks, and other work gets its turn between two chunks. Lines of a family stand together, in
//! the order of service, instance and check. Removed targets are gone from the next scrape on.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use axum::body::{Body, Bytes};
use futures_util::stream;

use super::View;
use crate::{
    metrics::{
        Config, DURATION_BUCKETS, Daemon, Facts, PerTarget,
        catalogue::{self, Family},
        text::{Writer, push_label},
    },
    model::{Protocol, Reason, Serving, Status},
    registry::{Check, Class, Registry},
};

/// A chunk is passed on once it is as long as this; one more target or class may be in it.
const CHUNK: usize = 48 * 1024;

/// The longest metadata value shown as a label, in characters.
const MAX_LABEL_VALUE: usize = 256;

/// A state of [`catalogue::TARGETS`] that no check has in this version: evidence too old.
const STALE: &str = "stale";

/// The exposition as a body that is written while it is sent.
pub(super) fn body(view: &View) -> Body {
    let scrape = Scrape::new(&view.registry, &view.metrics, &view.metrics_config);
    Body::from_stream(stream::unfold(scrape, async |mut scrape| {
        tokio::task::yield_now().await;
        let chunk = scrape.next()?;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), scrape))
    }))
}

/// A value of a sample.
enum Value {
    Count(u64),
    Number(f64),
}

type OfTarget = fn(&Facts) -> Option<Value>;

/// The families that have one sample for each target at most.
const TARGET_FAMILIES: [(&Family, OfTarget); 9] = [
    (&catalogue::PROBES, |facts| Some(Value::Count(facts.probes))),
    (&catalogue::PROBE_FAILURES, |facts| Some(Value::Count(facts.failures))),
    (&catalogue::TARGET_HEALTHY, |facts| match facts.status {
        Status::Passing | Status::Warning => Some(Value::Count(1)),
        Status::Critical => Some(Value::Count(0)),
        Status::Unknown | Status::Maintenance => None,
    }),
    (&catalogue::TARGET_LAST_DURATION, |facts| {
        facts.last_started.map(|_| Value::Number(facts.last_duration.as_secs_f64()))
    }),
    (&catalogue::TARGET_LAST_PROBE, |facts| {
        facts.last_started.map(|at| Value::Number(at.seconds()))
    }),
    (&catalogue::TARGET_LAST_CHANGE, |facts| facts.changed.map(|at| Value::Number(at.seconds()))),
    (&catalogue::TARGET_CHANGES, |facts| Some(Value::Count(u64::from(facts.changes)))),
    (&catalogue::TARGET_CONSECUTIVE_FAILURES, |facts| {
        Some(Value::Count(u64::from(facts.streak.failures())))
    }),
    (&catalogue::TARGET_CERT_EXPIRY, |facts| {
        facts.certificate_expiry.map(|at| Value::Number(at.seconds()))
    }),
];

type OfClass = fn(&mut Out, &Row);

/// The families that have the same samples for each class of checks.
const CLASS_FAMILIES: [(&Family, OfClass); 10] = [
    (&catalogue::PROBE_FAILURES_BY_REASON, by_reason),
    (&catalogue::PROBE_DURATION, duration),
    (&catalogue::PROBE_PHASES, phases),
    (&catalogue::PROBE_HTTP_RESPONSES, http_responses),
    (&catalogue::PROBE_GRPC_RESPONSES, grpc_responses),
    (&catalogue::TARGETS, targets),
    (&catalogue::CHECK_INTERVAL, |out, row| out.number(row, "", row.interval)),
    (&catalogue::CHECK_TIMEOUT, |out, row| out.number(row, "", row.timeout)),
    (&catalogue::CHECK_SLO, slo),
    // The last: the count of series by family, once they are all written.
    (&catalogue::SERIES, |_, _| {}),
];

/// A class of checks with what is known of its definitions.
struct Row {
    class: Arc<Class>,
    protocol: Protocol,
    /// The labels `check` and `service_name`, if no class before has them: two classes may differ
    /// in their protocol alone.
    slo_labels: Option<String>,
    interval: f64,
    timeout: f64,
    slo: f64,
    states: [u64; Status::COUNT],
}

/// Where the writing is.
#[derive(Clone, Copy)]
enum Place {
    Targets { family: usize, target: usize },
    Info { target: usize },
    Classes { family: usize, class: usize },
    Daemon,
    End,
}

struct Scrape {
    checks: Vec<Arc<Check>>,
    rows: Vec<Row>,
    info_labels: Vec<(String, Arc<str>)>,
    per_target: PerTarget,
    daemon: Daemon,
    out: Out,
    place: Place,
}
