//! How many instances there are, and how many of a service are published as critical: what the limits
//! of the guard are shares of.

use std::{collections::HashMap, sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::rows;
use crate::{
    judge::Verdict,
    publish::{Crowd, Place},
    store::{
        Tables,
        row::{Check, Service},
    },
};

/// How long nothing is counted anew.
const CENSUS: Duration = Duration::from_secs(1);

/// Counting takes at most one part in so many of the time: with a million instances it is long.
const SHARE: u32 = 50;

/// Most services whose counts are kept; then they begin anew.
const MAX_SERVICES: usize = 4096;

/// The keys of an instance's metadata that name its zone; the first that is there does.
const ZONE: [&str; 2] = ["zone", "availability_zone"];

/// The instances of this node that are run checks for, as they were counted last.
#[derive(Debug, Default)]
pub(super) struct Census {
    all: Option<Counted<All>>,
    services: HashMap<Arc<str>, Counted<OfService>, RandomState>,
}

/// A count, when it was made, and how long that took.
#[derive(Debug, Clone, Copy)]
struct Counted<T> {
    at: Instant,
    took: Duration,
    count: T,
}

/// How many instances there are, and how many in each zone.
#[derive(Debug, Default)]
struct All {
    all: usize,
    zones: HashMap<Arc<str>, usize, RandomState>,
}

/// How many instances one service has, and how many of them are published as critical.
#[derive(Debug, Clone, Copy, Default)]
struct OfService {
    all: usize,
    critical: usize,
}

impl<T> Counted<T> {
    fn make(count: impl FnOnce() -> T) -> Self {
        let at = Instant::now();
        let count = count();
        Self { at, took: at.elapsed(), count }
    }

    fn is_old(&self) -> bool {
        self.at.elapsed() >= CENSUS.max(self.took * SHARE)
    }
}

impl Census {
    /// How many there are where an instance belongs, as of a moment ago.
    pub(super) fn crowd(&mut self, place: &Place, tables: &Tables, node: &str) -> Crowd {
        let OfService { all: service, critical: service_out } = place
            .service
            .as_ref()
            .map(|name| self.of(name.as_str(), tables, node))
            .unwrap_or_default();
        let All { all, zones } = &self.all(tables, node).count;
        let zone = place.zone.as_ref().and_then(|zone| zones.get(zone)).copied();
        Crowd { all: *all, service, service_out, zone: zone.unwrap_or_default() }
    }

    fn all(&mut self, tables: &Tables, node: &str) -> &Counted<All> {
        if self.all.as_ref().is_some_and(Counted::is_old) {
            self.all = None;
        }
        self.all.get_or_insert_with(|| Counted::make(|| All::count(tables, node)))
    }

    fn of(&mut self, service: &str, tables: &Tables, node: &str) -> OfService {
        if let Some(counted) = self.services.get(service).filter(|counted| !counted.is_old()) {
            return counted.count;
        }
        if self.services.len() >= MAX_SERVICES {
            self.services.clear();
        }
        let counted = Counted::make(|| OfService::count(service, tables, node));
        self.services.insert(service.into(), counted);
        counted.count
    }
}

impl All {
    fn count(tables: &Tables, node: &str) -> Self {
        let mut counted = Self::default();
        for (row, checks) in tables.each_checked_on(node) {
            if is_watched(checks) {
                counted.all += 1;
                if let Some(zone) = zone(&row.meta) {
                    *counted.zones.entry(Arc::clone(zone)).or_default() += 1;
                }
            }
        }
        counted
    }
}

impl OfService {
    fn count(service: &str, tables: &Tables, node: &str) -> Self {
        let mut counted = Self::default();
        // The store looks names up in any case of letters; to those who are told they differ.
        let here =
            |row: &&Arc<Service>| row.node.eq_ignore_ascii_case(node) && *row.name == *service;
        for row in tables.service(service).filter(here) {
            let checks = || tables.instance_checks(node, &row.id);
            if is_watched(checks()) {
                let is_critical = |check: &Arc<Check>| rows::told(check) == Verdict::Critical;
                counted.all += 1;
                counted.critical += usize::from(checks().any(is_critical));
            }
        }
        counted
    }
}

/// Whether any of an instance's checks is run here.
fn is_watched<'a>(checks: impl IntoIterator<Item = &'a Arc<Check>>) -> bool {
    checks.into_iter().any(|check| !check.run.is_empty())
}

/// The zone that the metadata of an instance names.
pub(super) fn zone(meta: &crate::compact::Pairs) -> Option<&Arc<str>> {
    ZONE.iter().find_map(|key| meta.get(key))
}
