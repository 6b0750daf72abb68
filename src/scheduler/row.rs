//! What a prober thread knows of one check on its schedule.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    num::NonZeroU64,
    sync::Arc,
};

use super::{
    plan::{Grid, Micros},
    rhythm::Rhythm,
};
use crate::{
    judge::Machine,
    model::{CheckKey, Extra, Turn},
    registry::Check,
};

/// One check on the schedule. While its row is not free it waits in the wheel, exactly once.
#[derive(Debug)]
pub(super) struct Row {
    /// Nothing once the check is stopped; the row is free when it has fired.
    pub(super) check: Option<Arc<Check>>,
    pub(super) machine: Machine,
    pub(super) grid: Grid,
    pub(super) number: i64,
    pub(super) due: Micros,
    pub(super) rhythm: Rhythm,
    /// A probe beyond the grid, which waits in the queue of those.
    pub(super) extra: Option<(Micros, Extra)>,
    pub(super) flight: Option<FlightId>,
}

impl Row {
    pub(super) fn new(grid: Grid, (number, due): (i64, Micros)) -> Self {
        Self {
            check: None,
            machine: Machine::default(),
            grid,
            number,
            due,
            rhythm: Rhythm::default(),
            extra: None,
            flight: None,
        }
    }

    /// When it is asked next, and why: beyond the grid, or by the first run that is not left out.
    pub(super) fn next(&self, check: &Check) -> (Micros, Turn) {
        let rules = (&check.definition.schedule, &check.definition.thresholds);
        let left_out = self.rhythm.left_out(self.number + self.grid.lot(), &self.machine, rules);
        let run = match left_out {
            0 => (self.due, Turn::Schedule),
            _ => (self.grid.due(self.number + left_out), Turn::BackOff),
        };
        match self.extra {
            Some((due, why)) if due <= run.0 => (due, why.into()),
            Some(_) | None => run,
        }
    }
}

/// A check by its name, which it holds itself.
#[derive(Debug)]
pub(super) struct Named(pub(super) Arc<Check>);

impl Borrow<CheckKey> for Named {
    fn borrow(&self) -> &CheckKey {
        &self.0.key
    }
}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Named {}

/// Tells probes apart, so that one that lands finds out whether it is still waited for.
pub(super) type FlightId = NonZeroU64;
