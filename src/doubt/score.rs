//! The score: what symptoms there are, and what they add up to. No clock and no I/O.
//!
//! | a second with | adds |
//! |---|---|
//! | late wakes, late starts | 1 each |
//! | inconclusive probes, few descriptors left, few ports left | 1 together |
//! | the canary failing; most anchors failing, when they are asked | 2 each |
//! | no symptom | −1 |
//!
//! At most 2 are added in a second, so that no single hiccup leads to abstention. Probes that are
//! inconclusive count for nothing by themselves already, and may be so for good (a host without
//! IPv6 that is to ask for it): they alone never lead to abstention, nor make it last, or what fails
//! beside them would be hidden for ever. Nor does it where little is left but enough: a probe for
//! which nothing is left is inconclusive.

use super::{Confidence, Room, Seen, Sight, Symptom, evidence::Counts};

/// The worst score, as in memberlist, which multiplies its timeouts by up to eight.
pub const MAX_SCORE: u8 = 8;

/// The score from which on the daemon abstains if nothing is said of it: three seconds of trouble
/// of the gravest kind, five of the lightest.
pub const DEFAULT_ABSTAIN_AT: u8 = 5;

/// Most that one second may add.
const MAX_GAIN: u8 = 2;

/// Seconds over which the share of inconclusive probes is taken: checks may be few.
const WINDOW: usize = 10;

/// Fewer inconclusive probes than this within the window are no symptom.
const FEWEST: u32 = 3;

/// What never leads to abstention by itself.
const LIGHT: [Symptom; 3] = [Symptom::Inconclusive, Symptom::Descriptors, Symptom::Ports];

/// Which symptoms there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Symptoms([bool; Symptom::COUNT]);

impl Symptoms {
    /// Whether this one is there.
    pub const fn has(self, symptom: Symptom) -> bool {
        self.0[symptom.index()]
    }

    /// Those that are there.
    pub fn iter(self) -> impl Iterator<Item = Symptom> {
        Symptom::ALL.iter().copied().filter(move |symptom| self.has(*symptom))
    }

    /// Whether there are some of these, and no others.
    fn are_of(self, symptoms: [Symptom; 3]) -> bool {
        self != Self::default() && self.iter().all(|symptom| symptoms.contains(&symptom))
    }

    fn set(&mut self, symptom: Symptom, there: bool) {
        self.0[symptom.index()] = there;
    }
}

/// What was seen at one review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sights {
    canary: Sight,
    anchors: usize,
    answering: usize,
    failing: usize,
    /// Whether the anchors have been asked since the last review.
    asked: bool,
    room: Room,
}

impl Sights {
    pub(super) fn new(canary: &Seen, anchors: &[Seen], asked: bool, room: Room) -> Self {
        let count = |sight| anchors.iter().filter(|seen| seen.sight == sight).count();
        Self {
            canary: canary.sight,
            anchors: anchors.len(),
            answering: count(Sight::Answers),
            failing: count(Sight::Fails),
            asked,
            room,
        }
    }

    const fn all_fail(&self) -> bool {
        self.anchors > 0 && self.failing == self.anchors
    }

    const fn most_fail(&self) -> bool {
        self.failing * 2 > self.anchors
    }

    const fn most_answer(&self) -> bool {
        self.answering * 2 > self.anchors
    }
}

/// The score and what it is made from.
#[derive(Debug)]
pub(super) struct Score {
    value: u8,
    abstain_at: u8,
    abstains: bool,
    symptoms: Symptoms,
    /// Results and inconclusive ones of the last seconds, in a ring.
    window: [(u32, u32); WINDOW],
    next: usize,
}

impl Score {
    pub(super) fn new(abstain_at: u8) -> Self {
        Self {
            value: 0,
            abstain_at: abstain_at.clamp(1, MAX_SCORE),
            abstains: false,
            symptoms: Symptoms::default(),
            window: [(0, 0); WINDOW],
            next: 0,
        }
    }

    /// Takes in one second.
    pub(super) fn step(&mut self, counts: Counts, sights: &Sights) {
        self.window[self.next] = (counts.results, counts.inconclusive);
        self.next = (self.next + 1) % WINDOW;
        self.symptoms = self.diagnose(counts, sights);
        let is_over = self.abstains && self.symptoms.are_of(LIGHT);
        if self.symptoms == Symptoms::default() || is_over {
            self.value = self.value.saturating_sub(1);
        } else {
            self.value = self.worse(sights.asked);
        }
        // It goes on abstaining until it is well below the bound, so as not to come and go.
        let bound = if self.abstains { self.abstain_at / 2 + 1 } else { self.abstain_at };
        self.abstains = sights.all_fail() || self.value >= bound;
    }

    fn diagnose(&self, counts: Counts, sights: &Sights) -> Symptoms {
        let (results, inconclusive) = self
            .window
            .iter()
            .fold((0, 0), |(all, some), (results, ours)| (all + results, some + ours));
        let share = u64::from(inconclusive) * 10 > u64::from(results);
        let mut symptoms = Symptoms::default();
        symptoms.set(Symptom::LateWakes, counts.late_wakes > 0);
        let late = u64::from(counts.late_starts) * 100 > u64::from(counts.starts);
        symptoms.set(Symptom::LateStarts, late);
        let fresh = counts.inconclusive > 0;
        symptoms.set(Symptom::Inconclusive, fresh && inconclusive >= FEWEST && share);
        symptoms.set(Symptom::Descriptors, sights.room.descriptors.is_scarce());
        symptoms.set(Symptom::Ports, inconclusive > 0 && sights.room.ports.is_scarce());
        symptoms.set(Symptom::Canary, sights.canary == Sight::Fails);
        symptoms.set(Symptom::MostAnchors, sights.most_fail());
        symptoms.set(Symptom::AllAnchors, sights.all_fail());
        symptoms
    }

    /// The score with what the symptoms add. Anchors add to it only when they have been asked anew.
    fn worse(&self, asked: bool) -> u8 {
        let gain = |symptom| match symptom {
            Symptom::LateWakes | Symptom::LateStarts => 1,
            Symptom::Canary => MAX_GAIN,
            Symptom::MostAnchors if asked => MAX_GAIN,
            Symptom::MostAnchors
            | Symptom::AllAnchors
            | Symptom::Inconclusive
            | Symptom::Descriptors
            | Symptom::Ports => 0,
        };
        let gained = self.symptoms.iter().map(gain).sum::<u8>();
        let is_light = LIGHT.iter().any(|symptom| self.symptoms.has(*symptom));
        let gained = gained + u8::from(is_light && self.value + gained + 1 < self.abstain_at);
        (self.value + gained.min(MAX_GAIN)).min(MAX_SCORE)
    }

    pub(super) const fn get(&self) -> u8 {
        self.value
    }

    pub(super) const fn abstain_at(&self) -> u8 {
        self.abstain_at
    }

    pub(super) const fn abstains(&self) -> bool {
        self.abstains
    }

    pub(super) const fn symptoms(&self) -> Symptoms {
        self.symptoms
    }

    /// What timeouts are multiplied by. More time helps a daemon that is slow. One that is short of
    /// descriptors or ports would only hold more of them, and one without a network as well.
    pub(super) fn factor(&self) -> u8 {
        let slow = |symptom| matches!(symptom, Symptom::LateWakes | Symptom::LateStarts);
        if self.symptoms.iter().all(slow) { self.value + 1 } else { 1 }
    }

    pub(super) const fn confidence(&self, sights: &Sights) -> Confidence {
        if self.abstains || matches!(sights.canary, Sight::Fails) || sights.all_fail() {
            Confidence::Doubtful
        } else if sights.anchors > 0 && sights.most_answer() {
            Confidence::Confirmed
        } else {
            Confidence::Clear
        }
    }
}
