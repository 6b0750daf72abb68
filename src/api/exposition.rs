//! `/metrics`: written piece by piece, straight from the slots.
//!
//! A scrape of 100,000 targets is a million lines. They are written family by family in chunks
//! that the connection takes at its own pace, so memory is bounded by a chunk and a hundred
//! bytes a target, and other work gets its turn between two chunks. Lines of a family stand together, in
//! the order of service, instance and check. Removed targets are gone from the next scrape on.
//!
//! What a line costs is what a scrape costs: all of it up to the target's name is written out once
//! for the targets of a class that follow each other, what is shown of targets is read once and
//! lies close together (`target`), and numbers are written without floats where they have none.

use std::sync::Arc;

mod answer;
mod class;
mod registry;
mod target;

use self::{class::Row, target::Targets};
use crate::{
    metrics::{
        Config, Daemon, Glance, PerTarget,
        catalogue::{self, Family},
        text::{Value, Writer, push_label, push_label_of},
    },
    model::Status,
    registry::{Check, Class, Registry},
    store::Store,
};
pub(super) use answer::answer;

/// A chunk is passed on once it is as long as this; one more target or class may be in it.
const CHUNK: usize = 48 * 1024;

/// The longest metadata value shown as a label, in characters.
const MAX_LABEL_VALUE: usize = 256;

/// One family, or what ends the answer.
enum Section {
    /// One sample at most for each target.
    Target(&'static Family, fn(&Glance) -> Option<Value>),
    /// One sample for each target, with labels of its own.
    Info(&'static Family),
    /// The same samples for each class of checks.
    Class(&'static Family, fn(&mut Out, &Row)),
    /// How many series there were, what the store has done, and what the daemon counts of itself.
    Tail,
}

/// The whole answer, in order.
const SECTIONS: &[Section] = &[
    Section::Target(&catalogue::PROBES, |seen| Some(Value::Count(seen.conclusive))),
    Section::Target(&catalogue::PROBE_FAILURES, |seen| Some(Value::Count(seen.failures))),
    Section::Target(&catalogue::TARGET_HEALTHY, |seen| match seen.status {
        Status::Passing | Status::Warning => Some(Value::Count(1)),
        Status::Critical => Some(Value::Count(0)),
        Status::Unknown | Status::Maintenance => None,
    }),
    Section::Target(&catalogue::TARGET_LAST_DURATION, |seen| seen.last_duration().map(Value::Took)),
    Section::Target(&catalogue::TARGET_LAST_PROBE, |seen| seen.last_started().map(Value::At)),
    Section::Target(&catalogue::TARGET_LAST_CHANGE, |seen| seen.last_change().map(Value::At)),
    Section::Target(&catalogue::TARGET_CHANGES, |seen| Some(Value::Count(u64::from(seen.changes)))),
    Section::Target(&catalogue::TARGET_CONSECUTIVE_FAILURES, |seen| {
        Some(Value::Count(u64::from(seen.consecutive_failures)))
    }),
    Section::Target(&catalogue::TARGET_CERT_EXPIRY, |seen| {
        seen.certificate_expiry().map(Value::At)
    }),
    Section::Target(&catalogue::TARGET_CERT_CHAIN_EXPIRY, |seen| {
        seen.chain_expiry().map(Value::At)
    }),
    Section::Info(&catalogue::TARGET_INFO),
    Section::Class(&catalogue::PROBE_FAILURES_BY_REASON, class::by_reason),
    Section::Class(&catalogue::PROBE_INCONCLUSIVE, class::inconclusive),
    Section::Class(&catalogue::PROBE_DURATION, class::duration),
    Section::Class(&catalogue::PROBE_PHASES, class::phases),
    Section::Class(&catalogue::PROBE_HTTP_RESPONSES, class::http_responses),
    Section::Class(&catalogue::PROBE_GRPC_RESPONSES, class::grpc_responses),
    Section::Class(&catalogue::TARGETS, class::targets),
    Section::Class(&catalogue::CHECK_INTERVAL, class::interval),
    Section::Class(&catalogue::CHECK_TIMEOUT, class::timeout),
    Section::Class(&catalogue::CHECK_SLO, class::slo),
    Section::Tail,
];

/// A scrape under way.
#[derive(Debug)]
pub struct Scrape {
    targets: Targets,
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
#[derive(Debug)]
struct Out {
    writer: Writer,
    family: &'static Family,
    series: u64,
    max_series: u64,
    dropped: u64,
    shown: Vec<(&'static Family, u64)>,
    opened: Opened,
    scratch: String,
}

/// A line of a target as far as it is the same for all of a class.
#[derive(Debug, Default)]
struct Opened {
    class: Option<Arc<Class>>,
    text: String,
}

impl Scrape {
    /// A scrape of what there is now.
    pub fn new(registry: &Registry, store: Arc<Store>, daemon: Daemon, config: &Config) -> Self {
        let (rows, checks) = class::arrange(registry.checks());
        Self {
            rows,
            targets: Targets::new(checks, config.per_target),
            info_labels: info_labels(&config.metadata_labels),
            per_target: config.per_target,
            store,
            daemon,
            out: Out::new(config.max_series),
            section: 0,
            item: 0,
        }
    }

    /// The next chunk; nothing at the end.
    pub fn next_chunk(&mut self) -> Option<String> {
        self.write_on().then(|| self.out.writer.take())
    }

    /// Writes the next chunk in place of the one before. Says whether there was one.
    pub fn refill(&mut self) -> bool {
        self.out.writer.clear();
        self.write_on()
    }

    /// The chunk that [`Scrape::refill`] has written.
    pub fn chunk(&self) -> &str {
        self.out.writer.text()
    }

    fn write_on(&mut self) -> bool {
        while self.out.writer.len() < CHUNK {
            let Some(section) = SECTIONS.get(self.section) else { break };
            if self.item == 0 {
                self.out.begin(section);
            }
            if self.item < self.items(section) {
                self.write(section);
            } else {
                self.out.end(section, &self.daemon);
                (self.section, self.item) = (self.section + 1, 0);
            }
        }
        !self.out.writer.is_empty()
    }

    fn items(&self, section: &Section) -> usize {
        let is_state = |family: &Family| {
            [catalogue::TARGET_HEALTHY.name, catalogue::TARGET_CHANGES.name].contains(&family.name)
        };
        match (section, self.per_target) {
            (Section::Target(..) | Section::Info(_), PerTarget::Full) => self.targets.len(),
            (Section::Target(family, _), PerTarget::State) if is_state(family) => {
                self.targets.len()
            }
            (Section::Target(..) | Section::Info(_), PerTarget::State | PerTarget::Off) => 0,
            (Section::Class(..), _) => self.rows.len(),
            (Section::Tail, _) => 1,
        }
    }

    /// Writes the next item of a section, or as many as the chunk takes.
    fn write(&mut self, section: &Section) {
        match section {
            Section::Target(_, value) => return self.write_targets(*value),
            Section::Info(_) => self.out.info(self.targets.check(self.item), &self.info_labels),
            Section::Class(_, write) => write(&mut self.out, &self.rows[self.item]),
            Section::Tail => self.tail(),
        }
        self.item += 1;
    }

    fn write_targets(&mut self, value: fn(&Glance) -> Option<Value>) {
        for (seen, class, name) in self.targets.starting_at(self.item) {
            if self.out.writer.len() >= CHUNK {
                return;
            }
            if let Some(value) = value(seen) {
                self.out.target(class, name, value);
            }
            self.item += 1;
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
            opened: Opened::default(),
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
        self.opened.class = None;
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

    fn target(&mut self, class: &Arc<Class>, name: &str, value: Value) {
        if self.admit(1) {
            let opened = self.opened.of(self.family, class);
            self.writer.close(opened, name, value);
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
        push_label_of(labels, "address", address);
        for (name, key) in metadata {
            if let Some(value) = check.instance.meta.get(key.as_str()) {
                let value: String = value.chars().take(MAX_LABEL_VALUE).collect();
                push_label(labels, name, &value);
            }
        }
        self.writer.count(self.family.name, &[&check.class.labels, labels], 1);
    }

    fn plain(&mut self, labels: &str, value: Value) {
        if self.admit(1) {
            self.writer.sample(self.family.name, &[labels], value);
        }
    }

    /// One sample of a class with one label more.
    fn sample(&mut self, row: &Row, label: (&str, &str), value: Value) {
        if self.admit(1) {
            self.scratch.clear();
            push_label(&mut self.scratch, label.0, label.1);
            self.writer.sample(self.family.name, &[row.labels(), &self.scratch], value);
        }
    }
}

impl Opened {
    /// A line of the family and class, up to the target's name.
    fn of(&mut self, family: &Family, class: &Arc<Class>) -> &str {
        if self.class.as_ref().is_none_or(|held| !Arc::ptr_eq(held, class)) {
            self.class = Some(Arc::clone(class));
            self.text.clear();
            for part in [family.name, "{", &class.labels, ",target=\""] {
                self.text.push_str(part);
            }
        }
        &self.text
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
