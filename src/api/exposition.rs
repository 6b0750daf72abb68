//! `/metrics`: written piece by piece, straight from the slots.
//!
//! A scrape of 100,000 targets is a million lines. They are written family by family in chunks
//! that the connection takes at its own pace, so memory is bounded by a chunk and the list of
//! checks, and other work gets its turn between two chunks. Lines of a family stand together, in
//! the order of service, instance and check. Removed targets are gone from the next scrape on.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use axum::body::{Body, Bytes};
use futures_util::stream;

mod registry;

use super::View;
use crate::{
    metrics::{
        DURATION_BUCKETS, Daemon, Facts, PerTarget,
        catalogue::{self, Family},
        text::{Writer, push_label},
    },
    model::{Reason, Serving, Status},
    probe::Protocol,
    registry::{Check, Class},
    store::Store,
};

/// A chunk is passed on once it is as long as this; one more target or class may be in it.
const CHUNK: usize = 48 * 1024;

/// The longest metadata value shown as a label, in characters.
const MAX_LABEL_VALUE: usize = 256;

/// A state of [`catalogue::TARGETS`] that no check has in this version: evidence too old.
const STALE: &str = "stale";

/// The exposition as a body that is written while it is sent.
pub(super) fn body(view: &View) -> Body {
    let scrape = Scrape::new(view);
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

/// One family, or what ends the answer.
enum Section {
    /// One sample at most for each target.
    Target(&'static Family, fn(&Facts) -> Option<Value>),
    /// One sample for each target, with labels of its own.
    Info(&'static Family),
    /// The same samples for each class of checks.
    Class(&'static Family, fn(&mut Out, &Row)),
    /// How many series there were, what the store has done, and what the daemon counts of itself.
    Tail,
}

/// The whole answer, in order.
const SECTIONS: &[Section] = &[
    Section::Target(&catalogue::PROBES, |facts| {
        Some(Value::Count(facts.probes - facts.inconclusive))
    }),
    Section::Target(&catalogue::PROBE_FAILURES, |facts| Some(Value::Count(facts.failures))),
    Section::Target(&catalogue::TARGET_HEALTHY, |facts| match facts.status {
        Status::Passing | Status::Warning => Some(Value::Count(1)),
        Status::Critical => Some(Value::Count(0)),
        Status::Unknown | Status::Maintenance => None,
    }),
    Section::Target(&catalogue::TARGET_LAST_DURATION, |facts| {
        facts.last_started.map(|_| Value::Number(facts.last_duration.as_secs_f64()))
    }),
    Section::Target(&catalogue::TARGET_LAST_PROBE, |facts| {
        facts.last_started.map(|at| Value::Number(at.seconds()))
    }),
    Section::Target(&catalogue::TARGET_LAST_CHANGE, |facts| {
        facts.changed.map(|at| Value::Number(at.seconds()))
    }),
    Section::Target(&catalogue::TARGET_CHANGES, |facts| {
        Some(Value::Count(u64::from(facts.changes)))
    }),
    Section::Target(&catalogue::TARGET_CONSECUTIVE_FAILURES, |facts| {
        Some(Value::Count(u64::from(facts.streak.failures())))
    }),
    Section::Target(&catalogue::TARGET_CERT_EXPIRY, |facts| {
        facts.certificate_expiry.map(|at| Value::Number(at.seconds()))
    }),
    Section::Target(&catalogue::TARGET_CERT_CHAIN_EXPIRY, |facts| {
        facts.chain_expiry.map(|at| Value::Number(at.seconds()))
    }),
    Section::Info(&catalogue::TARGET_INFO),
    Section::Class(&catalogue::PROBE_FAILURES_BY_REASON, by_reason),
    Section::Class(&catalogue::PROBE_INCONCLUSIVE, inconclusive),
    Section::Class(&catalogue::PROBE_DURATION, duration),
    Section::Class(&catalogue::PROBE_PHASES, phases),
    Section::Class(&catalogue::PROBE_HTTP_RESPONSES, http_responses),
    Section::Class(&catalogue::PROBE_GRPC_RESPONSES, grpc_responses),
    Section::Class(&catalogue::TARGETS, targets),
    Section::Class(&catalogue::CHECK_INTERVAL, interval),
    Section::Class(&catalogue::CHECK_TIMEOUT, timeout),
    Section::Class(&catalogue::CHECK_SLO, slo),
    Section::Tail,
];

/// A class of checks with what its definitions say. They may differ within a class, if instances
/// define the check themselves; then the largest value is shown, as the alerts assume.
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

/// An answer in the making.
struct Scrape {
    checks: Vec<Arc<Check>>,
    rows: Vec<Row>,
    info_labels: Vec<(String, String)>,
    per_target: PerTarget,
    store: Arc<Store>,
    daemon: Daemon,
    out: Out,
    section: usize,
    item: usize,
}

/// Writes samples of one family after another and counts them.
struct Out {
    writer: Writer,
    family: &'static Family,
    series: u64,
    max_series: u64,
    dropped: u64,
    shown: Vec<(&'static Family, u64)>,
    scratch: String,
}

impl Scrape {
    fn new(view: &View) -> Self {
        let View { registry, metrics, metrics_config: config, .. } = view;
        let checks: Vec<_> = registry.list().into_iter().flat_map(|listed| listed.checks).collect();
        Self {
            rows: rows(&checks),
            checks,
            info_labels: info_labels(&config.metadata_labels),
            per_target: config.per_target,
            store: Arc::clone(&view.store),
            daemon: metrics.clone(),
            out: Out::new(config.max_series),
            section: 0,
            item: 0,
        }
    }

    /// The next chunk; nothing at the end.
    fn next(&mut self) -> Option<String> {
        while self.out.writer.len() < CHUNK {
            let Some(section) = SECTIONS.get(self.section) else { break };
            if self.item == 0 {
                self.out.begin(section);
            }
            if self.item < self.items(section) {
                self.write(section);
                self.item += 1;
            } else {
                self.out.end(section, &self.daemon);
                (self.section, self.item) = (self.section + 1, 0);
            }
        }
        (!self.out.writer.is_empty()).then(|| self.out.writer.take())
    }

    fn items(&self, section: &Section) -> usize {
        let is_state = |family: &Family| {
            [catalogue::TARGET_HEALTHY.name, catalogue::TARGET_CHANGES.name].contains(&family.name)
        };
        match (section, self.per_target) {
            (Section::Target(..) | Section::Info(_), PerTarget::Full) => self.checks.len(),
            (Section::Target(family, _), PerTarget::State) if is_state(family) => self.checks.len(),
            (Section::Target(..) | Section::Info(_), PerTarget::State | PerTarget::Off) => 0,
            (Section::Class(..), _) => self.rows.len(),
            (Section::Tail, _) => 1,
        }
    }

    fn write(&mut self, section: &Section) {
        match section {
            Section::Target(_, value) => {
                let check = &self.checks[self.item];
                match value(&check.slot.read_numbers()) {
                    Some(Value::Count(count)) => self.out.target(check, |w, name, labels| {
                        w.count(name, labels, count);
                    }),
                    Some(Value::Number(number)) => self.out.target(check, |w, name, labels| {
                        w.sample(name, labels, number);
                    }),
                    None => {}
                }
            }
            Section::Info(_) => self.out.info(&self.checks[self.item], &self.info_labels),
            Section::Class(_, write) => write(&mut self.out, &self.rows[self.item]),
            Section::Tail => self.tail(),
        }
    }

    fn tail(&mut self) {
        let Out { writer, shown, .. } = &mut self.out;
        writer.family(&catalogue::SERIES);
        for (family, series) in shown {
            let mut label = String::new();
            push_label(&mut label, "metric", family.name);
            writer.count(catalogue::SERIES.name, &[&label], *series);
        }
        registry::write(writer, &self.store);
        self.daemon.write(writer);
    }
}

impl Out {
    fn new(max_series: u64) -> Self {
        Self {
            writer: Writer::default(),
            family: &catalogue::SERIES,
            series: 0,
            max_series,
            dropped: 0,
            shown: Vec::new(),
            scratch: String::new(),
        }
    }

    fn begin(&mut self, section: &Section) {
        match section {
            Section::Target(family, _) | Section::Info(family) | Section::Class(family, _) => {
                self.family = family;
            }
            Section::Tail => {}
        }
        (self.series, self.dropped) = (0, 0);
    }

    fn end(&mut self, section: &Section, daemon: &Daemon) {
        match section {
            Section::Target(..) | Section::Info(_) | Section::Class(..) => {
                self.shown.push((self.family, self.series));
                let dropped = daemon.series_dropped.with_label_values(&[self.family.name]);
                dropped.inc_by(self.dropped);
            }
            Section::Tail => {}
        }
    }

    /// Makes room for so many series, if the family may have them, and writes its head before the
    /// first.
    fn admit(&mut self, series: u64) -> bool {
        if self.series + series > self.max_series {
            self.dropped += series;
            return false;
        }
        if self.series == 0 {
            self.writer.family(self.family);
        }
        self.series += series;
        true
    }

    fn target(&mut self, check: &Check, write: impl FnOnce(&mut Writer, &str, &[&str])) {
        if self.admit(1) {
            self.scratch.clear();
            push_label(&mut self.scratch, "target", check.key.instance.as_str());
            write(&mut self.writer, self.family.name, &[&check.class.labels, &self.scratch]);
        }
    }

    fn info(&mut self, check: &Check, metadata: &[(String, String)]) {
        if !self.admit(1) {
            return;
        }
        let labels = &mut self.scratch;
        labels.clear();
        push_label(labels, "target", check.key.instance.as_str());
        let address = check.target.destination().unwrap_or(check.target.endpoint());
        push_label(labels, "address", &address.to_string());
        for (name, key) in metadata {
            if let Some(value) = check.instance.meta.get(key.as_str()) {
                let value: String = value.chars().take(MAX_LABEL_VALUE).collect();
                push_label(labels, name, &value);
            }
        }
        self.writer.count(self.family.name, &[&check.class.labels, labels], 1);
    }

    fn number(&mut self, labels: &[&str], value: f64) {
        if self.admit(1) {
            self.writer.sample(self.family.name, labels, value);
        }
    }

    /// One sample of a class with one label more.
    fn count(&mut self, row: &Row, label: (&str, &str), value: u64) {
        if self.admit(1) {
            self.scratch.clear();
            push_label(&mut self.scratch, label.0, label.1);
            self.writer.count(self.family.name, &[row.labels(), &self.scratch], value);
        }
    }
}

impl Row {
    fn labels(&self) -> &str {
        &self.class.labels
    }
}

fn rows(checks: &[Arc<Check>]) -> Vec<Row> {
    let mut rows = BTreeMap::new();
    for check in checks {
        let protocol = check.definition.probe.protocol();
        let name = (&check.instance.service, &check.key.check);
        let row = rows.entry((name, protocol)).or_insert_with(|| Row::new(check, protocol));
        let definition = &check.definition;
        row.interval = row.interval.max(definition.schedule.interval.as_secs_f64());
        row.timeout = row.timeout.max(definition.schedule.timeout.as_secs_f64());
        row.slo = row.slo.max(definition.slo_objective);
        row.states[check.slot.status().index()] += 1;
    }
    let mut last = None;
    for ((name, _), row) in &mut rows {
        if last == Some(*name) {
            row.slo_labels = None;
        }
        last = Some(*name);
    }
    rows.into_values().collect()
}

impl Row {
    fn new(check: &Check, protocol: Protocol) -> Self {
        let mut labels = String::new();
        push_label(&mut labels, "check", check.key.check.as_str());
        push_label(&mut labels, "service_name", check.instance.service.as_str());
        Self {
            class: Arc::clone(&check.class),
            protocol,
            slo_labels: Some(labels),
            interval: 0.0,
            timeout: 0.0,
            slo: 0.0,
            states: [0; Status::COUNT],
        }
    }
}

fn by_reason(out: &mut Out, row: &Row) {
    let totals = row.class.slot.read();
    for (reason, count) in Reason::ALL.iter().zip(totals.reasons) {
        out.count(row, ("reason", reason.as_str()), count);
    }
}

/// Few of the reasons ever occur; the first of them is there from the start.
fn inconclusive(out: &mut Out, row: &Row) {
    let totals = row.class.slot.read();
    for (reason, count) in Reason::ALL.iter().zip(totals.inconclusive) {
        if count > 0 || *reason == Reason::Internal {
            out.count(row, ("reason", reason.as_str()), count);
        }
    }
}

fn duration(out: &mut Out, row: &Row) {
    const SERIES: u64 = DURATION_BUCKETS.len() as u64 + 3;
    if out.admit(SERIES) {
        let totals = row.class.slot.read();
        let buckets = (&DURATION_BUCKETS[..], &totals.buckets[..]);
        let sum = totals.total.as_secs_f64();
        out.writer.histogram(out.family.name, row.labels(), buckets, sum);
    }
}

fn phases(out: &mut Out, row: &Row) {
    let totals = row.class.slot.read();
    for (phase, name) in row.protocol.phases() {
        let mut label = String::new();
        push_label(&mut label, "phase", name);
        out.number(&[row.labels(), &label], totals.phases[phase.index()].as_secs_f64());
    }
}

fn http_responses(out: &mut Out, row: &Row) {
    for (code, count) in row.class.slot.read().codes {
        let code = if code == 0 { "other".to_owned() } else { code.to_string() };
        out.count(row, ("code", &code), count);
    }
}

fn grpc_responses(out: &mut Out, row: &Row) {
    if row.protocol.has_serving_status() {
        let totals = row.class.slot.read();
        for (serving, count) in Serving::ALL.iter().zip(totals.serving) {
            out.count(row, ("serving_status", serving.as_str()), count);
        }
    }
}

fn targets(out: &mut Out, row: &Row) {
    for (status, count) in Status::ALL.iter().zip(row.states) {
        out.count(row, ("state", status.as_str()), count);
    }
    out.count(row, ("state", STALE), 0);
}

fn interval(out: &mut Out, row: &Row) {
    out.number(&[row.labels()], row.interval);
}

fn timeout(out: &mut Out, row: &Row) {
    out.number(&[row.labels()], row.timeout);
}

fn slo(out: &mut Out, row: &Row) {
    if let Some(labels) = &row.slo_labels {
        out.number(&[labels], row.slo);
    }
}

/// The metadata keys to show with the label names they are shown under. Characters that a label
/// name cannot have become `_`; a name that is taken, or has a meaning of its own, is left out.
fn info_labels(keys: &[String]) -> Vec<(String, String)> {
    const RESERVED: [&str; 4] = ["job", "instance", "le", "quantile"];
    let mut labels: Vec<(String, String)> = Vec::new();
    for key in keys {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut name: String = key.chars().map(|c| if fits(c) { c } else { '_' }).collect();
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            name.insert(0, '_');
        }
        let taken = name.is_empty()
            || name.starts_with("__")
            || RESERVED.contains(&name.as_str())
            || catalogue::TARGET_INFO.labels.contains(&name.as_str())
            || labels.iter().any(|(held, _)| *held == name);
        if !taken {
            labels.push((name, key.clone()));
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_keys_become_label_names_and_collisions_are_left_out() {
        let keys = ["team", "app.kubernetes.io/name", "7up", "le", "target", "te am", "te-am", ""];
        let shown = info_labels(&keys.map(str::to_owned));
        let names: Vec<_> = shown.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["team", "app_kubernetes_io_name", "_7up", "te_am"]);
    }
}
