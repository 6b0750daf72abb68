//! The numbers of a slot that are shown of each target, read once and packed closely.
//!
//! A scrape goes through all checks once for each family. Slots lie scattered in memory, and waiting
//! for it is most of what a line would cost; so a scrape looks at each of them once, and goes
//! through what it has seen.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{Slot, moment};
use crate::{clock::Timestamp, model::Status};

/// What is shown of a target, as it was at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Glance {
    /// Finished probes that say something of the target.
    pub conclusive: u64,
    /// Probes that failed.
    pub failures: u64,
    started: i64,
    nanos: u64,
    changed: i64,
    certificate_expiry: i64,
    chain_expiry: i64,
    /// How often the status has changed.
    pub changes: u32,
    /// Failures in a row, up to the last result.
    pub consecutive_failures: u32,
    /// The status.
    pub status: Status,
}

impl Slot {
    /// Puts down that the target has made itself heard without being asked: it has ended an idle
    /// connection, or told of its state.
    pub fn hinted(&self, at: Timestamp) {
        self.last_hint.store(at.millis(), Relaxed);
    }

    /// The last moment at which the target is known to have been there: it was asked then and
    /// answered well, or made itself heard. What is wrong with it now began later, or just then.
    pub fn last_sign(&self) -> Option<Timestamp> {
        moment(self.last_success.load(Relaxed).max(self.last_hint.load(Relaxed)))
    }

    /// What is shown of the target: takes no lock and allocates nothing.
    pub fn glance(&self) -> Glance {
        Glance {
            conclusive: self.conclusive.load(Relaxed),
            failures: self.failures.load(Relaxed),
            started: self.last_started.load(Relaxed),
            nanos: self.last_nanos.load(Relaxed),
            changed: self.changed.load(Relaxed),
            certificate_expiry: self.certificate_expiry.load(Relaxed),
            chain_expiry: self.chain_expiry.load(Relaxed),
            changes: self.changes.load(Relaxed),
            consecutive_failures: self.streak.load(Relaxed).min(0).unsigned_abs(),
            status: self.status(),
        }
    }
}

impl Glance {
    /// When the last probe started; nothing before the first.
    pub fn last_started(&self) -> Option<Timestamp> {
        moment(self.started)
    }

    /// How long the last probe took; nothing before the first.
    pub fn last_duration(&self) -> Option<Duration> {
        self.last_started().map(|_| Duration::from_nanos(self.nanos))
    }

    /// When the status changed last; nothing while it never has.
    pub fn last_change(&self) -> Option<Timestamp> {
        moment(self.changed)
    }

    /// When the certificate presented last expires.
    pub fn certificate_expiry(&self) -> Option<Timestamp> {
        moment(self.certificate_expiry)
    }

    /// When the first certificate of the chain presented last expires.
    pub fn chain_expiry(&self) -> Option<Timestamp> {
        moment(self.chain_expiry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Observation, Outcome, Reason};

    /// At 100,000 targets each byte is a tenth of a megabyte, for as long as a scrape takes.
    #[test]
    fn a_glance_is_small() {
        assert!(size_of::<Glance>() <= 72, "{}", size_of::<Glance>());
    }

    #[test]
    fn the_last_sign_of_a_target_is_an_answer_or_a_word_of_its_own() {
        let at = Timestamp::from_seconds;
        let finds = |started, outcome| Observation::new(at(started), Duration::ZERO, outcome);
        let slot = Slot::default();
        assert_eq!(slot.last_sign(), None);
        slot.record(&finds(10, Outcome::Success), 0);
        assert_eq!(slot.last_sign(), Some(at(10)));
        slot.hinted(at(17));
        slot.record(&finds(18, Outcome::Failure(Reason::ConnectionRefused)), 0);
        assert_eq!(slot.last_sign(), Some(at(17)), "the failure is none");
        slot.record(&finds(20, Outcome::Success), 0);
        assert_eq!(slot.last_sign(), Some(at(20)));
    }
}
