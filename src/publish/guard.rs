//! The guard against mass removal.
//!
//! The failure to fear most is not an outage that is missed, but a healthy fleet that is told to
//! be dead because the network of whoever looks is. So only so many instances may be published as
//! critical at once; what goes beyond is held as it was, and let go when the failure is confirmed
//! otherwise, or after a bound whatever happens. What is counted are instances that went out within
//! the window. While something is held none of them is counted out by the mere passing of time:
//! a failure that lasts must not empty a service window by window.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Crowd, Evidence, Place, Sight};
use crate::{
    doubt::Confidence,
    duration::Period,
    model::{CheckKey, InstanceId, ServiceName, closed_set},
    share::Share,
};

/// Of fewer instances a service or a zone has no share of its own.
const SMALLEST_CROWD: usize = 3;

/// How many instances may be published as critical at once: a failure of this daemon, or of its
/// network, must not take out what is well. What is observed is shown, counted and alerted on at
/// once all the same.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether there is a guard. Without it whatever is found critical is published at once.
    pub enabled: bool,
    /// What turns critical within this time counts as turning critical at once.
    pub window: Period,
    /// The largest share of all instances that may be published as critical at once; one instance
    /// always may.
    pub max_share: Share,
    /// The largest share of a service, and of a zone (the key `zone` or `availability_zone` of an
    /// instance's metadata), that may be published as critical at once, if it has three instances
    /// at least.
    pub max_service_share: Share,
    /// How long what is held must go on failing, while either what is known to be well outside
    /// answers, or the target itself answers that it is not well (refuses, resets, or answers
    /// otherwise than expected) and the daemon has no doubt of itself, before it is published.
    pub release_after: Period,
    /// The longest that a failure which goes on is held, whatever its kind; then it is published. The
    /// time begins anew when the daemon has doubted itself: until then nothing was known.
    pub hold_at_most: Period,
    /// Services that are never held and do not count.
    pub exempt_services: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Period::from_secs(60),
            max_share: Share::percent(15),
            max_service_share: Share::percent(50),
            release_after: Period::from_secs(30),
            hold_at_most: Period::from_secs(600),
            exempt_services: Vec::new(),
        }
    }
}

closed_set! {
    /// Why a failure is held.
    Limit {
        /// Too many of all instances are out.
        All = "all",
        /// Too many of the service are out.
        Service = "service",
        /// Too many of the zone are out.
        Zone = "zone",
        /// The daemon doubts itself, and the failure may be its own.
        Doubt = "doubt",
    }
}

closed_set! {
    /// Why a failure is not held any longer, though it goes on.
    Release {
        /// What is known to be well outside answers.
        Confirmed = "confirmed",
        /// The target itself answers that it is not well.
        Answered = "answered",
        /// It was held for as long as may be.
        Bound = "bound",
        /// The daemon has not doubted itself for a while, and there is room for it.
        Room = "room",
        /// Nothing is taken from consumers by it any more: its instance is out already, its client
        /// has spoken, or the guard was told to let it go.
        Free = "free",
    }
}

/// A failure that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) limit: Limit,
    pub(super) since: Duration,
    /// Since when the target itself has been answering that it is not well.
    answers_since: Option<Duration>,
}

/// What the guard says to a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It is published; if it was held before, for this reason.
    Pass(Option<Release>),
    /// It is held.
    Hold {
        /// Why.
        limit: Limit,
        /// Whether it was not held before.
        is_new: bool,
    },
}

/// An instance that went out.
#[derive(Debug)]
struct Out {
    since: Duration,
    place: Place,
    weight: usize,
    /// It is back, and counts only until the window has passed.
    is_back: bool,
    /// So many of its checks are well and kept critical.
    damped: usize,
}

/// How many instances are counted.
#[derive(Debug, Default)]
struct Tally {
    all: usize,
    services: HashMap<ServiceName, usize>,
    zones: HashMap<Arc<str>, usize>,
}

/// Since when the daemon has had no doubt of itself, and since when it has been confirmed.
#[derive(Debug)]
struct Trust {
    confidence: Confidence,
    clear_since: Option<Duration>,
    confirmed_since: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Guard {
    pub(super) config: Config,
    trust: Trust,
    outs: HashMap<InstanceId, Out>,
    tally: Tally,
    holds: BTreeMap<CheckKey, Hold>,
}

impl Guard {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            trust: Trust {
                confidence: Confidence::Clear,
                clear_since: Some(Duration::ZERO),
                confirmed_since: None,
            },
            outs: HashMap::new(),
            tally: Tally::default(),
            holds: BTreeMap::new(),
        }
    }

    /// Takes in how the daemon trusts itself, and forgets what has gone out long ago.
    pub(super) fn begin(&mut self, now: Duration, confidence: Confidence) {
        self.trust.update(now, confidence);
        let (window, is_holding) = (self.config.window.get(), !self.holds.is_empty());
        let tally = &mut self.tally;
        self.outs.retain(|_, out| {
            let counts = now.saturating_sub(out.since) < window
                || out.damped > 0
                || (is_holding && !out.is_back);
            if !counts {
                tally.change(out, |count| *count -= out.weight);
            }
            counts
        });
    }

    pub(super) fn holds(&self) -> &BTreeMap<CheckKey, Hold> {
        &self.holds
    }

    /// What becomes of a failure that consumers have not been told of.
    pub(super) fn rule(
        &mut self,
        now: Duration,
        sight: &Sight<'_>,
        crowd: impl FnOnce() -> Crowd,
    ) -> Ruling {
        if self.lets_by(sight) {
            return Ruling::Pass(self.drop_hold(sight.key, Release::Free));
        }
        // One that is back goes out anew; for it its own place is free.
        if let Some(out) = self.outs.get_mut(&sight.key.instance).filter(|out| !out.is_back) {
            out.since = now;
            return Ruling::Pass(self.drop_hold(sight.key, Release::Free));
        }
        let Some(hold) = self.holds.get_mut(sight.key) else {
            let is_doubted = self.trust.confidence == Confidence::Doubtful
                && sight.evidence == Evidence::Silence;
            return self.admit(now, sight, crowd, is_doubted.then_some(Limit::Doubt));
        };
        hold.note(now, sight.evidence);
        let hold = *hold;
        if let Some(release) = self.due(now, &hold) {
            self.holds.remove(sight.key);
            self.count(now, sight, &crowd());
            return Ruling::Pass(Some(release));
        }
        let after = self.config.release_after.get();
        // Who begins to be well again is not taken out on the way there.
        if sight.evidence == Evidence::Nothing || !self.trust.clear_for(now, hold.since, after) {
            return Ruling::Hold { limit: hold.limit, is_new: false };
        }
        // Others that are back and no longer count may have left their places to it.
        self.admit(now, sight, crowd, None)
    }

    /// Whether a failure is none of the guard's business.
    fn lets_by(&self, sight: &Sight<'_>) -> bool {
        let is_exempt = |service: &ServiceName| {
            self.config.exempt_services.iter().any(|name| name == service.as_str())
        };
        !self.config.enabled
            || sight.is_out
            || sight.evidence == Evidence::Word
            || sight.place.service.as_ref().is_some_and(is_exempt)
    }

    /// Publishes a failure if there is room for it and nothing else is against it; else holds it.
    fn admit(
        &mut self,
        now: Duration,
        sight: &Sight<'_>,
        crowd: impl FnOnce() -> Crowd,
        limit: Option<Limit>,
    ) -> Ruling {
        let crowd = crowd();
        if let Some(limit) = limit.or_else(|| self.exceeded(sight, &crowd)) {
            let fresh = Hold { limit, since: now, answers_since: None };
            let is_new = !self.holds.contains_key(sight.key);
            let held = self.holds.entry(sight.key.clone()).or_insert(fresh);
            held.limit = limit;
            held.note(now, sight.evidence);
            return Ruling::Hold { limit, is_new };
        }
        self.count(now, sight, &crowd);
        Ruling::Pass(self.drop_hold(sight.key, Release::Room))
    }

    /// The limit that would be exceeded with this instance out.
    fn exceeded(&self, sight: &Sight<'_>, crowd: &Crowd) -> Option<Limit> {
        let place = sight.place;
        let own = self.outs.get(&sight.key.instance).map_or(0, |out| out.weight);
        let of = |crowd, count: Option<&usize>| {
            let others = count.map_or(0, |count| count.saturating_sub(own));
            crowd >= SMALLEST_CROWD && others + 1 > self.config.max_service_share.of(crowd)
        };
        let service = place.service.as_ref().and_then(|name| self.tally.services.get(name));
        let zone = place.zone.as_ref().and_then(|name| self.tally.zones.get(name));
        if self.tally.all.saturating_sub(own) + weight(place, crowd) > self.most(crowd) {
            Some(Limit::All)
        } else if place.service.is_some() && of(crowd.service, service) {
            Some(Limit::Service)
        } else if place.zone.is_some() && of(crowd.zone, zone) {
            Some(Limit::Zone)
        } else {
            None
        }
    }

    /// How many of all instances may be out at once.
    fn most(&self, crowd: &Crowd) -> usize {
        self.config.max_share.of(crowd.all).max(1)
    }

    fn due(&self, now: Duration, hold: &Hold) -> Option<Release> {
        let after = self.config.release_after.get();
        if self.trust.confirmed_for(now, hold.since, after) {
            Some(Release::Confirmed)
        } else if hold.answers_since.is_some_and(|since| self.trust.clear_for(now, since, after)) {
            Some(Release::Answered)
        } else if self.trust.clear_for(now, hold.since, self.config.hold_at_most.get()) {
            Some(Release::Bound)
        } else {
            None
        }
    }

    /// Until when a hold lasts at the longest, if the daemon trusts itself from now on.
    pub(super) fn until(&self, now: Duration, hold: &Hold) -> Duration {
        let trusted = self.trust.clear_since.unwrap_or(now);
        hold.since.max(trusted) + self.config.hold_at_most.get()
    }

    /// Instances that are gone count only until the window has passed, as if they were back.
    pub(super) fn bury(&mut self, is_gone: impl Fn(&InstanceId) -> bool) {
        let outs = self.outs.iter_mut().filter(|(id, out)| !out.is_back && is_gone(id));
        for (_, out) in outs {
            out.is_back = true;
            out.damped = 0;
        }
    }

    fn count(&mut self, now: Duration, sight: &Sight<'_>, crowd: &Crowd) {
        let out = Out {
            since: now,
            place: sight.place.clone(),
            weight: weight(sight.place, crowd),
            is_back: false,
            damped: 0,
        };
        self.tally.change(&out, |count| *count += out.weight);
        if let Some(before) = self.outs.insert(sight.key.instance.clone(), out) {
            self.tally.change(&before, |count| *count -= before.weight);
        }
    }

    /// A check is well: it is held no more. With it its instance is back, unless something else of
    /// it is published as critical.
    pub(super) fn recovered(&mut self, sight: &Sight<'_>) {
        self.holds.remove(sight.key);
        if !sight.is_out
            && let Some(out) = self.outs.get_mut(&sight.key.instance)
        {
            out.is_back = true;
        }
    }

    /// Whether an instance may be kept out that is well: neither too many of all, nor more than the
    /// share of its service, however small that is. The last one of a service never is.
    pub(super) fn lets_damp(&self, sight: &Sight<'_>, crowd: &Crowd) -> bool {
        let share = self.config.max_service_share;
        let is_counted = self.outs.contains_key(&sight.key.instance);
        let more = if is_counted { 0 } else { weight(sight.place, crowd) };
        self.tally.all + more <= self.most(crowd)
            && (sight.place.service.is_none() || crowd.service_out <= share.of(crowd.service))
    }

    /// A check of an instance is kept critical from now on, though it is well: that counts as out.
    pub(super) fn damped(&mut self, now: Duration, sight: &Sight<'_>, crowd: &Crowd) {
        if !self.outs.contains_key(&sight.key.instance) {
            self.count(now, sight, crowd);
        }
        if let Some(out) = self.outs.get_mut(&sight.key.instance) {
            out.damped += 1;
        }
    }

    /// A check is not kept critical against what is observed any more.
    pub(super) fn undamped(&mut self, now: Duration, instance: &InstanceId) {
        if let Some(out) = self.outs.get_mut(instance) {
            out.damped = out.damped.saturating_sub(1);
            out.since = now;
        }
    }

    /// A check is gone.
    pub(super) fn forget(&mut self, key: &CheckKey) {
        self.holds.remove(key);
    }

    fn drop_hold(&mut self, key: &CheckKey, release: Release) -> Option<Release> {
        self.holds.remove(key).map(|_| release)
    }
}

/// How many instances a place stands for: a check of the node itself takes all of them out.
fn weight(place: &Place, crowd: &Crowd) -> usize {
    if place.service.is_some() { 1 } else { crowd.all }
}

impl Hold {
    fn note(&mut self, now: Duration, evidence: Evidence) {
        self.answers_since = match evidence {
            Evidence::Silence | Evidence::Nothing => None,
            Evidence::Answer | Evidence::Word => self.answers_since.or(Some(now)),
        };
    }
}

impl Tally {
    fn change(&mut self, out: &Out, by: impl Fn(&mut usize)) {
        by(&mut self.all);
        if let Some(service) = &out.place.service {
            let count = self.services.entry(service.clone()).or_default();
            by(count);
            if *count == 0 {
                self.services.remove(service);
            }
        }
        if let Some(zone) = &out.place.zone {
            let count = self.zones.entry(Arc::clone(zone)).or_default();
            by(count);
            if *count == 0 {
                self.zones.remove(zone);
            }
        }
    }
}

impl Trust {
    fn update(&mut self, now: Duration, confidence: Confidence) {
        self.confidence = confidence;
        let since =
            |is_so, before: Option<Duration>| if is_so { before.or(Some(now)) } else { None };
        self.clear_since = since(confidence != Confidence::Doubtful, self.clear_since);
        self.confirmed_since = since(confidence == Confidence::Confirmed, self.confirmed_since);
    }

    fn clear_for(&self, now: Duration, begin: Duration, time: Duration) -> bool {
        self.clear_since.is_some_and(|since| now.saturating_sub(since.max(begin)) >= time)
    }

    fn confirmed_for(&self, now: Duration, begin: Duration, time: Duration) -> bool {
        self.confirmed_since.is_some_and(|since| now.saturating_sub(since.max(begin)) >= time)
    }
}
