//! How far this daemon trusts its own eyes.
//!
//! A daemon that is starved of CPU, out of descriptors or cut off from the network sees every target
//! fail. So it keeps a score of its own health after Lifeguard's local health multiplier
//! ([arXiv:1707.00788](https://arxiv.org/abs/1707.00788)): symptoms raise it, a second without any
//! lowers it. A high score lengthens timeouts, and past a bound the daemon abstains: what fails then
//! counts for nothing, what answers counts as ever. It can only withhold a failure, never make one.
//!
//! ```text
//!  prober threads ──evidence──▶ Doubt ◀──review, every second── vantage (canary, anchors)
//!                                 │
//!             confidence, abstains, stretch, report ──▶ prober threads · whoever judges · api
//! ```

mod evidence;
mod room;
mod score;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::model::{Outcome, closed_set};
use evidence::Evidence;
pub use room::{Room, Taken};
pub use score::{DEFAULT_ABSTAIN_AT, MAX_SCORE, Symptoms};
use score::{Score, Sights};

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

closed_set! {
    /// What makes the daemon doubt itself.
    Symptom {
        /// A prober thread, or the one that looks at all this, woke much later than it meant to.
        LateWakes = "late_wakes",
        /// Of the probes of the last second more than one in a hundred started late.
        LateStarts = "late_starts",
        /// More than a tenth of the latest probes failed by our own fault.
        Inconclusive = "inconclusive_probes",
        /// Less than a twentieth is left of the files that the daemon may open.
        Descriptors = "descriptors",
        /// Less than a twentieth is left of the ports for connections, and probes fail by our own fault.
        Ports = "ports",
        /// The daemon cannot reach itself: it is out of descriptors, ports or the like.
        Canary = "canary",
        /// More than half of the anchors do not answer.
        MostAnchors = "most_anchors",
        /// No anchor answers.
        AllAnchors = "all_anchors",
    }
}

closed_set! {
    /// Whether what must always answer does.
    #[derive(Default)]
    Sight {
        /// Not known: not asked yet, or not to be asked by our own fault.
        #[default]
        Unknown = "unknown",
        /// It answers.
        Answers = "answers",
        /// It does not.
        Fails = "fails",
    }
}

/// What was seen of the canary, or of an anchor, when it was asked last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// What was asked, for people.
    pub what: Arc<str>,
    /// What was seen.
    pub sight: Sight,
    /// How long it took.
    pub took: Duration,
    /// What was wrong, for people.
    pub detail: Option<Arc<str>>,
}

/// What the daemon thinks of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// From 0, well, to [`MAX_SCORE`].
    pub score: u8,
    /// The score from which on it abstains.
    pub abstain_at: u8,
    /// For how long it has abstained, if it does.
    pub abstaining: Option<Duration>,
    /// How much a failure says.
    pub confidence: Confidence,
    /// What is wrong now.
    pub symptoms: Symptoms,
    /// What is left of what every probe takes.
    pub room: Room,
    /// How it sees itself.
    pub canary: Seen,
    /// How it sees what it was told is always there.
    pub anchors: Vec<Seen>,
}

/// What a review has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// From now on failures count for nothing.
    Abstains,
    /// They count again, after so long.
    Resumes(Duration),
}

/// A handle on what the daemon thinks of itself; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Doubt {
    shared: Arc<Shared>,
}

/// What prober threads read at every probe is in atomics, the rest behind a lock.
#[derive(Debug)]
struct Shared {
    confidence: AtomicU8,
    abstains: AtomicBool,
    /// What timeouts are multiplied by.
    factor: AtomicU8,
    evidence: Evidence,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    score: Score,
    since: Option<Instant>,
    room: Room,
    canary: Seen,
    anchors: Vec<Seen>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            confidence: AtomicU8::new(Confidence::Clear as u8),
            abstains: AtomicBool::new(false),
            factor: AtomicU8::new(1),
            evidence: Evidence::default(),
            state: Mutex::new(State {
                score: Score::new(DEFAULT_ABSTAIN_AT),
                since: None,
                room: Room::default(),
                canary: Seen::default(),
                anchors: Vec::new(),
            }),
        }
    }
}

impl Doubt {
    /// One that abstains from this score on, 1 to [`MAX_SCORE`].
    pub fn new(abstain_at: u8) -> Self {
        let doubt = Self::default();
        doubt.state().score = Score::new(abstain_at);
        doubt
    }

    /// How much a failure says now. Costs one load.
    pub fn confidence(&self) -> Confidence {
        let index = usize::from(self.shared.confidence.load(Relaxed));
        Confidence::from_index(index).unwrap_or(Confidence::Doubtful)
    }

    /// Puts down how much a failure says until the next review.
    pub fn set(&self, confidence: Confidence) {
        self.shared.confidence.store(confidence as u8, Relaxed);
    }

    /// Whether failures count for nothing now. Costs one load.
    pub fn abstains(&self) -> bool {
        self.shared.abstains.load(Relaxed)
    }

    /// How long a probe may take that starts now, if the next run is due after `room`: its timeout,
    /// times the score and one while the daemon is slow. What is added is never in the way of that
    /// run, and such a daemon is late itself: at most three quarters of the room, unless the timeout
    /// itself is longer.
    pub fn stretch(&self, timeout: Duration, room: Duration) -> Duration {
        let factor = self.shared.factor.load(Relaxed);
        timeout.saturating_mul(u32::from(factor)).min(timeout.max(room / 4 * 3))
    }

    /// Takes in how late a loop woke that has to be on time.
    pub fn woke(&self, late: Duration) {
        self.shared.evidence.woke(late);
    }

    /// Takes in how late a probe started, or was found too late to start.
    pub fn started(&self, late: Duration) {
        self.shared.evidence.started(late);
    }

    /// Takes in what a probe found, as it came: neither stalls nor abstention have changed it.
    pub fn learnt(&self, outcome: Outcome) {
        self.shared.evidence.learnt(outcome);
    }

    /// Takes in what is left, for the next review.
    pub fn has(&self, room: Room) {
        self.state().room = room;
    }

    /// Thinks again; to be called every second. `anchors` tells whether they have been asked since
    /// the last review.
    pub fn review(&self, now: Instant, canary: Seen, anchors: (Vec<Seen>, bool)) -> Option<Change> {
        let evidence = self.shared.evidence.take();
        let mut state = self.state();
        let (anchors, asked) = anchors;
        let sights = Sights::new(&canary, &anchors, asked, state.room);
        state.score.step(evidence, &sights);
        (state.canary, state.anchors) = (canary, anchors);
        let (abstains, confidence) = (state.score.abstains(), state.score.confidence(&sights));
        self.shared.factor.store(state.score.factor(), Relaxed);
        self.shared.abstains.store(abstains, Relaxed);
        self.set(confidence);
        match (abstains, state.since) {
            (true, None) => {
                state.since = Some(now);
                Some(Change::Abstains)
            }
            (false, Some(since)) => {
                state.since = None;
                Some(Change::Resumes(now.saturating_duration_since(since)))
            }
            (true, Some(_)) | (false, None) => None,
        }
    }

    /// What the daemon thinks of itself, as of the last review.
    pub fn report(&self, now: Instant) -> Report {
        let state = self.state();
        Report {
            score: state.score.get(),
            abstain_at: state.score.abstain_at(),
            abstaining: state.since.map(|since| now.saturating_duration_since(since)),
            confidence: self.confidence(),
            symptoms: state.score.symptoms(),
            room: state.room,
            canary: state.canary.clone(),
            anchors: state.anchors.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
