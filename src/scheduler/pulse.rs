//! Whether the prober threads are alive: each loop leaves a mark whenever it comes round.
//!
//! A loop that hangs (a deadlock, a system call that never returns) stops probing without ending,
//! so nobody is told. The watchdog asks here before it tells systemd that all is well.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::plan::{Micros, micros};
use crate::clock::Anchor;

/// A loop comes round at least this often, also when nothing is due.
pub(super) const ROUND: Duration = Duration::from_secs(5);

/// A loop that has not come round for so long hangs.
const HUNG: Duration = Duration::from_secs(15);

/// When a loop came round last.
#[derive(Debug, Clone, Default)]
pub(super) struct Beat(Arc<AtomicI64>);

impl Beat {
    /// Leaves the mark.
    pub(super) fn at(&self, now: Micros) {
        self.0.store(now, Relaxed);
    }
}

/// The marks of all loops.
#[derive(Debug)]
pub struct Pulse {
    anchor: Anchor,
    beats: Vec<Beat>,
}

impl Pulse {
    /// Of as many loops, whose time counts from there.
    pub(super) fn new(anchor: Anchor, loops: usize) -> Self {
        Self { anchor, beats: (0..loops).map(|_| Beat::default()).collect() }
    }

    /// The mark of each loop.
    pub(super) fn beats(&self) -> &[Beat] {
        &self.beats
    }

    /// Whether every loop has come round lately.
    pub fn is_felt(&self) -> bool {
        let now = micros(Instant::now().saturating_duration_since(self.anchor.instant()));
        self.beats.iter().all(|beat| now - beat.0.load(Relaxed) <= micros(HUNG))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[tokio::test(start_paused = true)]
    async fn one_loop_that_hangs_is_enough() {
        let pulse = Pulse::new(Anchor::new(Instant::now(), Timestamp::from_seconds(1)), 2);
        assert!(pulse.is_felt());
        tokio::time::advance(HUNG + ROUND).await;
        assert!(!pulse.is_felt());
        pulse.beats()[0].at(micros(HUNG));
        assert!(!pulse.is_felt());
        pulse.beats()[1].at(micros(HUNG));
        assert!(pulse.is_felt());
    }
}
