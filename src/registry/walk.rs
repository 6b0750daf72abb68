//! Going through all checks, some at a time.
//!
//! With a million checks a look at all of them takes a good part of a second. Whoever takes it in
//! one piece keeps everybody from registering for as long, and takes a processor from the probes.

use std::sync::Arc;

use super::{Check, Instance, Registry};
use crate::compact::ByKey;

/// Instances that are looked up at once: some tenths of a millisecond.
const PART: usize = 512;

/// All checks, by service name, instance and id, in parts. What is there from the first part to the
/// last is seen once; what comes, goes or changes its service meanwhile may be seen or not.
#[derive(Debug)]
pub struct Walk<'a> {
    registry: &'a Registry,
    last: Option<ByKey<Instance>>,
}

impl<'a> Walk<'a> {
    pub(super) const fn new(registry: &'a Registry) -> Self {
        Self { registry, last: None }
    }
}

impl Iterator for Walk<'_> {
    type Item = Vec<Arc<Check>>;

    fn next(&mut self) -> Option<Self::Item> {
        let state = self.registry.read();
        let mut checks = Vec::with_capacity(PART);
        let mut last = None;
        for instance in state.instances_after(self.last.as_ref()).take(PART) {
            let held = state.instances.get(instance);
            checks.extend(held.into_iter().flat_map(|held| &held.checks).cloned());
            last = Some(instance);
        }
        self.last = Some(last?.clone());
        Some(checks)
    }
}
