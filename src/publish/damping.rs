//! Damping of checks that come and go.
//!
//! As RFC 2439 damps routes: every change into or out of critical costs a check a penalty, which
//! halves with every half-life. Above one figure the check is flapping, and its recoveries are not
//! believed until the penalty has fallen below another. What is suppressed is always the better
//! news: a check that is critical is critical, so no outage is hidden, however often it flaps.
//!
//! The penalty is capped so that it always falls below `reuse` within `hold_at_most` (RFC 2439,
//! 4.2: the ceiling follows from the longest time of suppression). A check that did not change for
//! long is forgotten, so that memory is held for those alone that do.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{duration::Period, model::CheckKey};

/// What a change costs: RFC 2439's figure for a withdrawal.
const PER_CHANGE: f64 = 1000.0;

/// A penalty that is as good as none: a hundredth of that of one change.
const NOTHING: f64 = PER_CHANGE / 100.0;

/// How checks that come and go are kept from coming back too soon. Every change into or out of
/// critical costs a check 1000 points, which decay; above `suppress` it is flapping, and stays
/// published as critical until it has been steady.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether recoveries of checks that flap are held. They are marked and counted in any case.
    pub enabled: bool,
    /// The time in which points become half as many. A longer one remembers longer: with 2m, and
    /// the other figures as they are, a check flaps that fails and recovers every minute and a half
    /// or quicker.
    pub half_life: Period,
    /// Points above which a check is flapping. 5000 are the sixth change within a short time: a
    /// deployment that restarts an instance twice does not reach it.
    pub suppress: u32,
    /// Points below which it is not flapping any more; fewer than `suppress`.
    pub reuse: u32,
    /// The longest that a check which has become steady is kept critical.
    pub hold_at_most: Period,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            half_life: Period::from_secs(120),
            suppress: 5000,
            reuse: 2000,
            hold_at_most: Period::from_secs(300),
        }
    }
}

impl Config {
    /// The most points a check can have: as many as fall below `reuse` within `hold_at_most`.
    pub fn ceiling(&self) -> f64 {
        let halvings = self.hold_at_most.get().as_secs_f64() / self.half_life.get().as_secs_f64();
        f64::from(self.reuse) * halvings.exp2()
    }

    /// Whether the figures allow a check to be found flapping, and to be found steady after that.
    pub fn is_consistent(&self) -> bool {
        self.reuse < self.suppress
            && !self.half_life.get().is_zero()
            && self.ceiling() > f64::from(self.suppress)
    }
}

/// A change of the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Flapping,
    Steady,
}

/// What is known of a check that has changed lately.
#[derive(Debug, Clone, Copy)]
struct Flap {
    penalty: f64,
    at: Duration,
    is_flapping: bool,
    /// Since when it has been well without a change.
    well_since: Option<Duration>,
    /// Since when it is kept critical though it is well.
    held_since: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Damper {
    pub(super) config: Config,
    flaps: BTreeMap<CheckKey, Flap>,
}

impl Damper {
    pub(super) const fn new(config: Config) -> Self {
        Self { config, flaps: BTreeMap::new() }
    }

    /// Takes in how often a check has changed since it was looked at last, and how it is. Says
    /// whether it has begun or ended to flap.
    pub(super) fn observe(
        &mut self,
        now: Duration,
        key: &CheckKey,
        (flips, is_critical): (u32, bool),
    ) -> Option<Mark> {
        if flips == 0 && !self.flaps.contains_key(key) {
            return None;
        }
        let flap = self.flaps.entry(key.clone()).or_insert(Flap {
            penalty: 0.0,
            at: now,
            is_flapping: false,
            well_since: None,
            held_since: None,
        });
        let penalty = decayed(&self.config, flap, now) + f64::from(flips) * PER_CHANGE;
        flap.penalty = penalty.min(self.config.ceiling());
        flap.at = now;
        flap.well_since = match flap.well_since {
            Some(since) if !is_critical && flips == 0 => Some(since),
            Some(_) | None => (!is_critical).then_some(now),
        };
        let steady = flap.well_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        if !flap.is_flapping && flips > 0 && flap.penalty > f64::from(self.config.suppress) {
            flap.is_flapping = true;
            Some(Mark::Flapping)
        } else if flap.is_flapping
            && (flap.penalty < f64::from(self.config.reuse)
                || steady >= self.config.hold_at_most.get())
        {
            flap.is_flapping = false;
            Some(Mark::Steady)
        } else {
            None
        }
    }

    pub(super) fn is_flapping(&self, key: &CheckKey) -> bool {
        self.flaps.get(key).is_some_and(|flap| flap.is_flapping)
    }

    /// Keeps a check critical. Says whether it was not before.
    pub(super) fn hold(&mut self, now: Duration, key: &CheckKey) -> bool {
        let Some(flap) = self.flaps.get_mut(key) else { return false };
        let is_new = flap.held_since.is_none();
        flap.held_since.get_or_insert(now);
        is_new
    }

    /// Keeps it no more. Says whether it was kept.
    pub(super) fn release(&mut self, key: &CheckKey) -> bool {
        self.flaps.get_mut(key).is_some_and(|flap| flap.held_since.take().is_some())
    }

    /// Since when a check is kept critical though it is well, and until when at most.
    pub(super) fn held(&self, key: &CheckKey) -> Option<(Duration, Duration)> {
        let flap = self.flaps.get(key)?;
        let well = flap.well_since.unwrap_or(flap.at);
        Some((flap.held_since?, well + self.config.hold_at_most.get()))
    }

    /// The points of a check.
    pub(super) fn penalty(&self, key: &CheckKey, now: Duration) -> f64 {
        self.flaps.get(key).map_or(0.0, |flap| decayed(&self.config, flap, now))
    }

    /// The checks that flap.
    pub(super) fn flapping(&self) -> impl Iterator<Item = &CheckKey> {
        self.flaps.iter().filter(|(_, flap)| flap.is_flapping).map(|(key, _)| key)
    }

    /// How many checks are kept critical though they are well.
    pub(super) fn count_held(&self) -> usize {
        self.flaps.values().filter(|flap| flap.held_since.is_some()).count()
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.flaps.is_empty()
    }

    /// Forgets checks that have not changed for long.
    pub(super) fn begin(&mut self, now: Duration) {
        let config = &self.config;
        self.flaps.retain(|_, flap| flap.is_flapping || decayed(config, flap, now) >= NOTHING);
    }

    /// A check is gone.
    pub(super) fn forget(&mut self, key: &CheckKey) {
        self.flaps.remove(key);
    }
}

fn decayed(config: &Config, flap: &Flap, now: Duration) -> f64 {
    let passed = now.saturating_sub(flap.at).as_secs_f64();
    flap.penalty * (-passed / config.half_life.get().as_secs_f64()).exp2()
}
