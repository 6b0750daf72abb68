//! What there is in the store, and what it has done.

use crate::{
    metrics::{
        catalogue::{self, Family},
        text::{Value, Writer, push_label},
    },
    store::{COMMIT_BUCKETS, Rows, Store, Totals},
};

/// Writes all families of the registry.
pub(super) fn write(writer: &mut Writer, store: &Store) {
    let (index, rows) = {
        let tables = store.read();
        (tables.index(), tables.count())
    };
    let Rows { nodes, services, checks, pairs, sessions } = rows;
    let Totals { changes, commits, failures, snapshots, snapshot_failures, log_bytes } =
        store.totals();
    one(writer, &catalogue::REGISTRY_INDEX, index);
    let kinds = [
        ("node", nodes),
        ("service", services),
        ("check", checks),
        ("pair", pairs),
        ("session", sessions),
    ];
    let kinds = kinds.map(|(kind, rows)| (kind, rows as u64));
    each(writer, &catalogue::REGISTRY_ROWS, &kinds);
    one(writer, &catalogue::REGISTRY_CHANGES, changes);
    let duration = &catalogue::REGISTRY_COMMIT_DURATION;
    writer.family(duration);
    let sum = Value::Number(commits.seconds);
    writer.histogram(duration.name, "", (&COMMIT_BUCKETS, &commits.counts), sum);
    one(writer, &catalogue::REGISTRY_COMMIT_FAILURES, failures);
    one(writer, &catalogue::REGISTRY_LOG_BYTES, log_bytes);
    let results = [("success", snapshots), ("failure", snapshot_failures)];
    each(writer, &catalogue::REGISTRY_SNAPSHOTS, &results);
}

fn one(writer: &mut Writer, family: &'static Family, value: u64) {
    writer.family(family);
    writer.count(family.name, &[], value);
}

/// One sample for each value of the family's label.
fn each(writer: &mut Writer, family: &'static Family, values: &[(&str, u64)]) {
    writer.family(family);
    for (value, count) in values {
        let mut label = String::new();
        push_label(&mut label, family.labels[0], value);
        writer.count(family.name, &[&label], *count);
    }
}
