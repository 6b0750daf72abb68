//! What is shown of a class of checks: all checks of one id and protocol within a service.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::Out;
use crate::{
    metrics::{
        DURATION_BUCKETS,
        text::{Value, push_label},
    },
    model::{CheckId, Reason, ServiceName, Serving, Status},
    probe::Protocol,
    registry::{Check, Class},
};

/// A state of [`crate::metrics::catalogue::TARGETS`] that no check has in this version: evidence too
/// old.
const STALE: &str = "stale";

/// A class of checks with what its definitions say. They may differ within a class, if instances
/// define the check themselves; then the largest value is shown, as the alerts assume.
#[derive(Debug)]
pub(super) struct Row {
    class: Arc<Class>,
    protocol: Protocol,
    /// A check of the class, for its names.
    example: Arc<Check>,
    /// Whether no class before has the same `check` and `service_name`: two classes may differ in
    /// their protocol alone.
    is_first: bool,
    interval: Duration,
    timeout: Duration,
    slo: f64,
    states: [u64; Status::COUNT],
}

impl Row {
    fn new(check: &Arc<Check>) -> Self {
        Self {
            class: Arc::clone(&check.class),
            protocol: check.definition.probe.protocol(),
            example: Arc::clone(check),
            is_first: true,
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
            slo: 0.0,
            states: [0; Status::COUNT],
        }
    }

    fn take_in(&mut self, check: &Check) {
        let definition = &check.definition;
        self.interval = self.interval.max(definition.schedule.interval);
        self.timeout = self.timeout.max(definition.schedule.timeout);
        self.slo = self.slo.max(definition.slo_objective);
        self.states[check.slot.status().index()] += 1;
    }

    fn name(&self) -> (&ServiceName, &CheckId, Protocol) {
        (&self.example.instance.service, &self.example.key.check, self.protocol)
    }

    fn has_name_of(&self, other: &Self) -> bool {
        let ((service, check, _), (others, its_check, _)) = (self.name(), other.name());
        service == others && check == its_check
    }

    pub(super) fn labels(&self) -> &str {
        &self.class.labels
    }
}

/// The classes of these checks, in the order of services, checks and protocols; and the checks,
/// brought into the order of services. They come in the order of instances, which within a service
/// they keep: sorting the classes, which are few, and dealing out the checks is all there is to do.
pub(super) fn arrange(checks: Vec<Arc<Check>>) -> (Vec<Row>, Vec<Arc<Check>>) {
    let mut known = HashMap::with_hasher(foldhash::fast::RandomState::default());
    let mut rows: Vec<Row> = Vec::new();
    let mut row_of: Vec<u32> = Vec::with_capacity(checks.len());
    for check in &checks {
        let row = *known.entry(Arc::as_ptr(&check.class)).or_insert_with(|| {
            rows.push(Row::new(check));
            rows.len() - 1
        });
        rows[row].take_in(check);
        row_of.push(index(row));
    }
    let mut order: Vec<u32> = (0..index(rows.len())).collect();
    order.sort_by(|a, b| rows[*a as usize].name().cmp(&rows[*b as usize].name()));
    let checks = deal(checks, &row_of, &services(&rows, &order));
    let mut rows: Vec<_> = rows.into_iter().map(Some).collect();
    let mut rows: Vec<Row> = order.iter().filter_map(|row| rows[*row as usize].take()).collect();
    for index in 1..rows.len() {
        rows[index].is_first = !rows[index].has_name_of(&rows[index - 1]);
    }
    (rows, checks)
}

/// By row: the place of its service among the services.
fn services(rows: &[Row], order: &[u32]) -> Vec<u32> {
    let mut services = vec![0; rows.len()];
    let mut service = 0;
    for pair in order.windows(2) {
        let (before, row) = (&rows[pair[0] as usize], &rows[pair[1] as usize]);
        service += u32::from(before.example.instance.service != row.example.instance.service);
        services[pair[1] as usize] = service;
    }
    services
}

/// Puts checks into the order of their services; those of a service keep theirs.
fn deal(checks: Vec<Arc<Check>>, row_of: &[u32], services: &[u32]) -> Vec<Arc<Check>> {
    let is_ordered = row_of.is_sorted_by_key(|row| services[*row as usize]);
    if is_ordered {
        return checks;
    }
    let mut keyed: Vec<_> = row_of.iter().map(|row| services[*row as usize]).zip(checks).collect();
    keyed.sort_by_key(|(service, _)| *service);
    keyed.into_iter().map(|(_, check)| check).collect()
}

fn index(n: usize) -> u32 {
    u32::try_from(n).expect("4 billion checks do not fit in memory")
}

pub(super) fn by_reason(out: &mut Out, row: &Row) {
    let totals = row.class.slot.read();
    for (reason, count) in Reason::ALL.iter().zip(totals.reasons) {
        out.sample(row, ("reason", reason.as_str()), Value::Count(count));
    }
}

/// Few of the reasons ever occur; the first of them is there from the start.
pub(super) fn inconclusive(out: &mut Out, row: &Row) {
    let totals = row.class.slot.read();
    for (reason, count) in Reason::ALL.iter().zip(totals.inconclusive) {
        if count > 0 || *reason == Reason::Internal {
            out.sample(row, ("reason", reason.as_str()), Value::Count(count));
        }
    }
}

pub(super) fn duration(out: &mut Out, row: &Row) {
    const SERIES: u64 = DURATION_BUCKETS.len() as u64 + 3;
    if out.admit(SERIES) {
        let totals = row.class.slot.read();
        let buckets = (&DURATION_BUCKETS[..], &totals.buckets[..]);
        let sum = Value::Took(totals.total);
        out.writer.histogram(out.family.name, row.labels(), buckets, sum);
    }
}

pub(super) fn phases(out: &mut Out, row: &Row) {
    let totals = row.class.slot.read();
    for (phase, name) in row.protocol.phases() {
        out.sample(row, ("phase", name), Value::Took(totals.phases[phase.index()]));
    }
}

pub(super) fn http_responses(out: &mut Out, row: &Row) {
    for (code, count) in row.class.slot.read().codes {
        let code = if code == 0 { "other".to_owned() } else { code.to_string() };
        out.sample(row, ("code", &code), Value::Count(count));
    }
}

pub(super) fn grpc_responses(out: &mut Out, row: &Row) {
    if row.protocol.has_serving_status() {
        let totals = row.class.slot.read();
        for (serving, count) in Serving::ALL.iter().zip(totals.serving) {
            out.sample(row, ("serving_status", serving.as_str()), Value::Count(count));
        }
    }
}

pub(super) fn targets(out: &mut Out, row: &Row) {
    for (status, count) in Status::ALL.iter().zip(row.states) {
        out.sample(row, ("state", status.as_str()), Value::Count(count));
    }
    out.sample(row, ("state", STALE), Value::Count(0));
}

pub(super) fn interval(out: &mut Out, row: &Row) {
    out.plain(row.labels(), Value::Took(row.interval));
}

pub(super) fn timeout(out: &mut Out, row: &Row) {
    out.plain(row.labels(), Value::Took(row.timeout));
}

pub(super) fn slo(out: &mut Out, row: &Row) {
    if row.is_first {
        let mut labels = String::new();
        push_label(&mut labels, "check", row.example.key.check.as_str());
        push_label(&mut labels, "service_name", row.example.instance.service.as_str());
        out.plain(&labels, Value::Number(row.slo));
    }
}
