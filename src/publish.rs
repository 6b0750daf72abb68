//! From what is observed to what is published. Pure.
//!
//! ```text
//!                     critical               too many at once, or we doubt ourselves
//!    observed ───────────────────────▶ guard ───────────────────────────────────────▶ held as it was
//!        │                               └──────────────▶ published
//!        │ passing, warning
//!        └───────────────────────▶ damping ───────────▶ published
//!                                        └────────────▶ held critical, as long as it flaps
//! ```
//!
//! Observed status is always the truth and goes its own way, to metrics, events and alerts. What
//! consumers are told, in the catalog, by DNS and by gRPC, passes here. A status is only ever held as
//! it is; none is made up. Every hold has an end: a check that has been critical for
//! [`guard::Config::hold_at_most`] is published so, and one that has been well for
//! [`damping::Config::hold_at_most`] likewise, whatever else is the case.
//!
//! No I/O, no clock, no log: time comes in as the time since some beginning. The same may be asked
//! twice, and is answered the same, so that what could not be written is simply asked again.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    doubt::Confidence,
    duration::Period,
    judge::Verdict,
    model::{CheckKey, InstanceId, Publication, Reason, ServiceName, closed_set},
};

pub mod damping;
pub mod guard;
#[cfg(test)]
mod tests;

use damping::{Damper, Mark};
use guard::{Guard, Limit, Release, Ruling};

/// Where an instance belongs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its service; nothing for the node itself, which carries all instances.
    pub service: Option<ServiceName>,
    /// Its zone, if it is known.
    pub zone: Option<Arc<str>>,
}

/// How many instances there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crowd {
    /// In all.
    pub all: usize,
    /// Of the service.
    pub service: usize,
    /// Those of them that are published as critical.
    pub service_out: usize,
    /// In the zone.
    pub zone: usize,
}

closed_set! {
    /// What the last result of a check rests on.
    Evidence {
        /// A client said it, or it follows what is published of another: none of our seeing.
        Word = "word",
        /// The target answered, so the way to it works.
        Answer = "answer",
        /// Nothing came back: so it looks, too, if the fault is with us or the network.
        Silence = "silence",
        /// Nothing any more: the last probe was a success, if there are too few of them yet.
        Nothing = "nothing",
    }
}

impl Evidence {
    /// What a verdict rests on whose last probe had this reason, or was a success.
    pub fn of_last(reason: Option<Reason>) -> Self {
        reason.map_or(Self::Nothing, Self::of)
    }

    /// What a failed probe rests on.
    pub const fn of(reason: Reason) -> Self {
        match reason {
            Reason::ConnectionRefused
            | Reason::ConnectionReset
            | Reason::TlsUntrusted
            | Reason::TlsExpired
            | Reason::TlsName
            | Reason::TlsOther
            | Reason::Protocol
            | Reason::Status
            | Reason::Body
            | Reason::Header
            | Reason::NotServing => Self::Answer,
            Reason::Dns
            | Reason::Unreachable
            | Reason::TimeoutConnect
            | Reason::TimeoutTls
            | Reason::TimeoutResponse
            | Reason::Denied
            | Reason::Internal => Self::Silence,
        }
    }
}

/// What is known of a check whose status is to be published.
#[derive(Debug)]
pub struct Sight<'a> {
    /// Which.
    pub key: &'a CheckKey,
    /// Where its instance belongs.
    pub place: &'a Place,
    /// What is observed; not unknown.
    pub observed: Verdict,
    /// What is published now.
    pub published: Verdict,
    /// How often it has turned critical, or well again, since it was looked at last.
    pub flips: u32,
    /// What the last result rests on.
    pub evidence: Evidence,
    /// Whether the instance is published as critical for another reason.
    pub is_out: bool,
}

closed_set! {
    /// What holds a status.
    Brake {
        /// The guard: it is critical, and published as it was.
        Guard = "guard",
        /// Damping: it is well, and published as critical.
        Damping = "damping",
    }
}

/// What becomes of a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is to be published.
    pub status: Verdict,
    /// What holds it, if it differs from what is observed.
    pub held: Option<Brake>,
    /// What has happened to it that must be told, with the words for people.
    pub told: Vec<(Publication, String)>,
}

/// What holds a status, since when, and until when at the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// What.
    pub by: Brake,
    /// Since when.
    pub since: Duration,
    /// Until when at the latest, if it stays as it is.
    pub until: Duration,
    /// Which limit, if it is the guard.
    pub limit: Option<Limit>,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// What holds its status, if anything does.
    pub held: Option<Held>,
    /// Its points for coming and going.
    pub penalty: f64,
    /// Whether it is flapping.
    pub is_flapping: bool,
}

/// How much is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Checks held by the guard.
    pub guarded: usize,
    /// Checks kept critical for flapping.
    pub damped: usize,
    /// Checks that flap.
    pub flapping: usize,
}

/// Decides what is published, for all checks of a daemon.
#[derive(Debug)]
pub struct Board {
    guard: Guard,
    damper: Damper,
}

impl Board {
    /// A board that has seen nothing.
    pub fn new(guard: guard::Config, damping: damping::Config) -> Self {
        Self { guard: Guard::new(guard), damper: Damper::new(damping) }
    }

    /// Goes by other figures from now on. What is held stays so until it is looked at again.
    pub fn configure(&mut self, guard: guard::Config, damping: damping::Config) {
        self.guard.config = guard;
        self.damper.config = damping;
    }

    /// Time has passed, and this is how the daemon trusts itself: to be said before statuses are
    /// decided, and once in a while in between.
    pub fn begin(&mut self, now: Duration, confidence: Confidence) {
        self.guard.begin(now, confidence);
        self.damper.begin(now);
    }

    /// Decides what is to be published of a check. The crowd is asked for only when it matters.
    pub fn decide(
        &mut self,
        now: Duration,
        sight: &Sight<'_>,
        crowd: impl FnOnce() -> Crowd,
    ) -> Decision {
        let mut told = Vec::new();
        let is_critical = sight.observed == Verdict::Critical;
        match self.damper.observe(now, sight.key, (sight.flips, is_critical)) {
            Some(Mark::Flapping) => {
                let points = self.damper.penalty(sight.key, now);
                told.push((
                    Publication::Flapping,
                    format!("it comes and goes: {points:.0} points"),
                ));
            }
            Some(Mark::Steady) => told.push((Publication::Steady, "it has settled".to_owned())),
            None => {}
        }
        let held = if is_critical {
            self.fail(now, sight, crowd, &mut told)
        } else {
            self.recover(now, sight, crowd, &mut told)
        };
        let status = if held.is_some() { sight.published } else { sight.observed };
        Decision { status, held, told }
    }

    fn fail(
        &mut self,
        now: Duration,
        sight: &Sight<'_>,
        crowd: impl FnOnce() -> Crowd,
        told: &mut Vec<(Publication, String)>,
    ) -> Option<Brake> {
        if self.damper.release(sight.key) {
            self.guard.undamped(now, &sight.key.instance);
        }
        if sight.published == Verdict::Critical {
            self.guard.forget(sight.key);
            return None;
        }
        match self.guard.rule(now, sight, crowd) {
            Ruling::Pass(release) => {
                let release = release.map(|release| (Publication::Released, release_text(release)));
                told.extend(release);
                None
            }
            Ruling::Hold { limit, is_new } => {
                if is_new {
                    told.push((Publication::Held, self.hold_text(limit)));
                }
                Some(Brake::Guard)
            }
        }
    }

    fn recover(
        &mut self,
        now: Duration,
        sight: &Sight<'_>,
        crowd: impl FnOnce() -> Crowd,
        told: &mut Vec<(Publication, String)>,
    ) -> Option<Brake> {
        let may_damp = self.damper.config.enabled
            && sight.published == Verdict::Critical
            && sight.evidence != Evidence::Word
            && self.damper.is_flapping(sight.key);
        if may_damp {
            let crowd = crowd();
            if self.guard.lets_damp(sight, &crowd) {
                if self.damper.hold(now, sight.key) {
                    self.guard.damped(now, sight, &crowd);
                    told.push((Publication::Damped, self.damp_text()));
                }
                return Some(Brake::Damping);
            }
        }
        if self.damper.release(sight.key) {
            self.guard.undamped(now, &sight.key.instance);
            told.push((Publication::Released, "published as it is".to_owned()));
        }
        self.guard.recovered(sight);
        None
    }

    fn hold_text(&self, limit: Limit) -> String {
        let config = &self.guard.config;
        let why = match limit {
            Limit::All => format!("more than {} of all instances", config.max_share),
            Limit::Service => format!("more than {} of the service", config.max_service_share),
            Limit::Zone => format!("more than {} of the zone", config.max_service_share),
            Limit::Doubt => {
                return format!("the daemon doubts itself; at most {}", config.hold_at_most);
            }
        };
        format!("{why} at once; published as before for {} at most", config.hold_at_most)
    }

    fn damp_text(&self) -> String {
        let at_most = Period::from(self.damper.config.hold_at_most.get());
        format!("kept critical until it has settled, for {at_most} at most")
    }

    /// The checks to be decided again as time goes by: those that are held, and those that flap.
    pub fn pending(&self) -> Vec<CheckKey> {
        self.guard.holds().keys().chain(self.damper.flapping()).cloned().collect()
    }

    /// Whether nothing is held and nothing flaps or has flapped lately.
    pub fn is_idle(&self) -> bool {
        self.guard.holds().is_empty() && self.damper.is_empty()
    }

    /// Whether the guard holds anything.
    pub fn is_guarding(&self) -> bool {
        !self.guard.holds().is_empty()
    }

    /// Which limit holds a check, if the guard holds it.
    pub fn limit(&self, key: &CheckKey) -> Option<Limit> {
        self.guard.holds().get(key).map(|hold| hold.limit)
    }

    /// A check is gone.
    pub fn forget(&mut self, now: Duration, key: &CheckKey) {
        self.guard.forget(key);
        if self.damper.release(key) {
            self.guard.undamped(now, &key.instance);
        }
        self.damper.forget(key);
    }

    /// Takes in which instances are gone: their places are free when the window has passed.
    pub fn bury(&mut self, is_gone: impl Fn(&InstanceId) -> bool) {
        self.guard.bury(is_gone);
    }

    /// How a check stands.
    pub fn standing(&self, now: Duration, key: &CheckKey) -> Standing {
        let guarded = self.guard.holds().get(key).map(|hold| Held {
            by: Brake::Guard,
            since: hold.since,
            until: self.guard.until(now, hold),
            limit: Some(hold.limit),
        });
        let damped = self.damper.held(key).map(|(since, until)| Held {
            by: Brake::Damping,
            since,
            until,
            limit: None,
        });
        Standing {
            held: guarded.or(damped),
            penalty: self.damper.penalty(key, now),
            is_flapping: self.damper.is_flapping(key),
        }
    }

    /// How much is held.
    pub fn counts(&self) -> Counts {
        Counts {
            guarded: self.guard.holds().len(),
            damped: self.damper.count_held(),
            flapping: self.damper.flapping().count(),
        }
    }
}

fn release_text(release: Release) -> String {
    match release {
        Release::Confirmed => "it goes on failing while what is well outside answers",
        Release::Answered => "it goes on answering that it is not well",
        Release::Bound => "it was held for as long as may be",
        Release::Room => "there is room for it, and the daemon trusts itself",
        Release::Free => "nothing is to be held any more",
    }
    .to_owned()
}
