//! How far this daemon trusts its own eyes.
//!
//! Whoever judges by failures asks here first: a daemon that is starved of CPU, out of descriptors
//! or cut off from the network sees every target fail.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use crate::model::closed_set;

closed_set! {
    /// How much a failure seen by this daemon says of the target.
    Confidence {
        /// Nothing: the daemon itself is not well, or has reason to think that its network is not.
        Doubtful = "doubtful",
        /// As much as any: nothing is wrong here as far as the daemon can see by itself.
        Clear = "clear",
        /// More: what is known to be well outside answers too.
        Confirmed = "confirmed",
    }
}

/// A handle on what the daemon thinks of itself; clones share it.
#[derive(Debug, Clone)]
pub struct Doubt {
    confidence: Arc<AtomicU8>,
}

impl Default for Doubt {
    fn default() -> Self {
        Self { confidence: Arc::new(AtomicU8::new(Confidence::Clear as u8)) }
    }
}

impl Doubt {
    /// How much a failure says now. Costs one load.
    pub fn confidence(&self) -> Confidence {
        let index = usize::from(self.confidence.load(Relaxed));
        Confidence::from_index(index).unwrap_or(Confidence::Doubtful)
    }

    /// Puts down how much a failure says from now on.
    pub fn set(&self, confidence: Confidence) {
        self.confidence.store(confidence as u8, Relaxed);
    }
}
