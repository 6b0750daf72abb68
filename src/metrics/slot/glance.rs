//! Single numbers of a slot, for whoever goes through all checks for one of them.
//!
//! [`Slot::read_numbers`] reads two dozen atomics; a family of metrics wants one, of every check.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{Slot, moment};
use crate::clock::Timestamp;

impl Slot {
    /// Finished probes that say something of the target.
    pub fn conclusive(&self) -> u64 {
        self.conclusive.load(Relaxed)
    }

    /// Probes that failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// When the last probe started; nothing before the first.
    pub fn last_started(&self) -> Option<Timestamp> {
        moment(self.last_started.load(Relaxed))
    }

    /// How long the last probe took.
    pub fn last_duration(&self) -> Duration {
        Duration::from_nanos(self.last_nanos.load(Relaxed))
    }

    /// When the status changed last; nothing while it never has.
    pub fn last_change(&self) -> Option<Timestamp> {
        moment(self.changed.load(Relaxed))
    }

    /// How often the status has changed.
    pub fn changes(&self) -> u32 {
        self.changes.load(Relaxed)
    }

    /// Failures in a row, up to the last result.
    pub fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures.load(Relaxed)
    }

    /// When the certificate presented last expires.
    pub fn certificate_expiry(&self) -> Option<Timestamp> {
        moment(self.certificate_expiry.load(Relaxed))
    }

    /// When the first certificate of the chain presented last expires.
    pub fn chain_expiry(&self) -> Option<Timestamp> {
        moment(self.chain_expiry.load(Relaxed))
    }
}
