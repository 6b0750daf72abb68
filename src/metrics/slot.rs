//! The flat slots that probes write into.
//!
//! A slot has one writer at a time, the prober thread its check is dealt to, and any number of
//! readers. Every field is an atomic of its own, written and read relaxed: a reader may see the
//! counters of one probe and the duration of the one before, which no consumer of metrics minds,
//! and a probe costs a dozen plain stores. What is no number, the text of the last probe and the
//! last attempts, stands behind a lock that is taken once a probe and that nobody contends for but
//! whoever asks about this very check.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
            Ordering::Relaxed,
        },
    },
    time::Duration,
};

use crate::{
    clock::Timestamp,
    judge::{Machine, Streak, Verdict},
    model::{Answer, Observation, Outcome, Reason, Serving, Status, Turn},
};

mod attempts;
mod class;
mod glance;
#[cfg(test)]
mod tests;

use attempts::Attempts;
pub use attempts::Kept;
pub use class::{ClassSlot, ClassTotals, DURATION_BUCKETS};
pub use glance::Glance;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What is known of one check, without its identity.
#[derive(Debug, Default)]
pub struct Slot {
    /// Those that say something of the target: what is shown must never seem to go back.
    conclusive: AtomicU64,
    failures: AtomicU64,
    inconclusive: AtomicU32,
    last_started: AtomicI64,
    last_success: AtomicI64,
    last_hint: AtomicI64,
    last_conclusive: AtomicI64,
    last_nanos: AtomicU64,
    changed: AtomicI64,
    certificate_expiry: AtomicI64,
    chain_expiry: AtomicI64,
    changes: AtomicU32,
    /// Results in a row: as many successes, or failures below zero.
    streak: AtomicI32,
    answer: AtomicU32,
    /// How often it has turned critical or well again since that was taken.
    flips: AtomicU16,
    status: AtomicU8,
    verdict: AtomicU8,
    outcome: AtomicU8,
    stale: AtomicBool,
    next_run: AtomicI64,
    next_turn: AtomicU8,
    /// Whether there is a detail.
    remarked: AtomicBool,
    told: Mutex<Told>,
}

/// What is no number.
#[derive(Debug, Default)]
struct Told {
    /// Few have one, and it is reached through one word.
    detail: Option<Box<Box<str>>>,
    attempts: Attempts,
}

impl Told {
    fn detail(&self) -> Option<&str> {
        self.detail.as_deref().map(|detail| &**detail)
    }

    fn tell(&mut self, detail: Option<&str>) {
        self.detail = detail.map(|detail| Box::new(detail.into()));
    }
}

/// A reading of a [`Slot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Finished probes.
    pub probes: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that say nothing of the target.
    pub inconclusive: u64,
    /// When the last probe started; nothing before the first.
    pub last_started: Option<Timestamp>,
    /// When the last probe started that the target answered as it should; nothing before the first.
    pub last_success: Option<Timestamp>,
    /// When the last probe started that says something of the target; nothing before the first.
    pub last_conclusive: Option<Timestamp>,
    /// How long the last probe took.
    pub last_duration: Duration,
    /// What the last probe found.
    pub last_outcome: Option<Outcome>,
    /// The target's own code in the last answer.
    pub answer: Answer,
    /// What was wrong at the last probe, or what a success had to say, for people.
    pub detail: Option<Box<str>>,
    /// The status.
    pub status: Status,
    /// What the probes alone say.
    pub verdict: Verdict,
    /// Since when; nothing while it has never changed.
    pub changed: Option<Timestamp>,
    /// How often it has changed.
    pub changes: u32,
    /// The latest results that point the same way.
    pub streak: Streak,
    /// When the certificate presented last expires.
    pub certificate_expiry: Option<Timestamp>,
    /// When the first certificate of the chain presented last expires.
    pub chain_expiry: Option<Timestamp>,
    /// Whether the last result that says something was found too old to be relied on.
    pub stale: bool,
    /// When the next probe is to start, if one is planned.
    pub next_run: Option<Timestamp>,
    /// Why then.
    pub next_turn: Turn,
}

impl Default for Facts {
    fn default() -> Self {
        Slot::default().read()
    }
}

/// Whether a verdict has turned critical, or well again; the first of all is no turn.
fn is_flip(before: Verdict, after: Verdict) -> bool {
    let is_known = before != Verdict::Unknown && after != Verdict::Unknown;
    is_known && (before == Verdict::Critical) != (after == Verdict::Critical)
}

/// Zero stands for "never": the epoch itself is no moment a probe can have run at.
fn moment(millis: i64) -> Option<Timestamp> {
    (millis != 0).then(|| Timestamp::from_millis(millis))
}

fn millis(moment: Option<Timestamp>) -> i64 {
    moment.map_or(0, Timestamp::millis)
}

impl Slot {
    /// Puts a whole reading down.
    pub fn overwrite(&self, facts: &Facts) {
        let conclusive = facts.probes.saturating_sub(facts.inconclusive);
        self.conclusive.store(conclusive, Relaxed);
        self.failures.store(facts.failures, Relaxed);
        self.inconclusive.store(u32::try_from(facts.inconclusive).unwrap_or(u32::MAX), Relaxed);
        self.last_started.store(millis(facts.last_started), Relaxed);
        self.last_success.store(millis(facts.last_success), Relaxed);
        self.last_conclusive.store(millis(facts.last_conclusive), Relaxed);
        self.last_nanos.store(nanos(facts.last_duration), Relaxed);
        self.changed.store(millis(facts.changed), Relaxed);
        self.changes.store(facts.changes, Relaxed);
        self.certificate_expiry.store(millis(facts.certificate_expiry), Relaxed);
        self.chain_expiry.store(millis(facts.chain_expiry), Relaxed);
        self.answer.store(encode_answer(facts.answer), Relaxed);
        self.outcome.store(encode_outcome(facts.last_outcome), Relaxed);
        self.remarked.store(facts.detail.is_some(), Relaxed);
        self.told().tell(facts.detail.as_deref());
        self.status.store(facts.status as u8, Relaxed);
        self.verdict.store(facts.verdict as u8, Relaxed);
        self.stale.store(facts.stale, Relaxed);
        self.plan(facts.next_run, facts.next_turn);
        self.set_streak(facts.streak);
    }

    /// Puts down all that is known of the check before, which this one takes the place of.
    pub fn inherit(&self, before: &Self) {
        self.overwrite(&before.read());
        self.last_hint.store(before.last_hint.load(Relaxed), Relaxed);
        self.flips.fetch_add(before.flips.swap(0, Relaxed), Relaxed);
        let attempts = before.told().attempts.clone();
        self.told().attempts = attempts;
    }

    /// Takes in a finished probe, and keeps it as one of the last `attempts`, which is the same
    /// number every time. Says whether it says anything else than the one before.
    pub fn record(&self, observation: &Observation, attempts: usize) -> bool {
        let failed = matches!(observation.outcome, Outcome::Failure(_));
        let mut says_otherwise = false;
        // One writer: a load and a store are cheaper than an atomic addition and as right.
        if matches!(observation.outcome, Outcome::Inconclusive(_)) {
            let count = self.inconclusive.load(Relaxed).saturating_add(1);
            self.inconclusive.store(count, Relaxed);
        } else {
            self.conclusive.store(self.conclusive.load(Relaxed) + 1, Relaxed);
            self.last_conclusive.store(observation.started.millis(), Relaxed);
            says_otherwise = self.stale.swap(false, Relaxed);
        }
        self.failures.store(self.failures.load(Relaxed) + u64::from(failed), Relaxed);
        if matches!(observation.outcome, Outcome::Success | Outcome::Warning(_)) {
            self.last_success.store(observation.started.millis(), Relaxed);
        }
        self.last_started.store(observation.started.millis(), Relaxed);
        self.last_nanos.store(nanos(observation.duration), Relaxed);
        let answer = encode_answer(observation.answer);
        says_otherwise |= self.answer.swap(answer, Relaxed) != answer;
        if observation.certificate.is_some() {
            self.certificate_expiry.store(millis(observation.certificate_expiry()), Relaxed);
            self.chain_expiry.store(millis(observation.chain_expiry()), Relaxed);
        }
        let outcome = encode_outcome(Some(observation.outcome));
        says_otherwise |= self.outcome.swap(outcome, Relaxed) != outcome;
        let has_text = observation.detail.is_some() || self.remarked.load(Relaxed);
        // The lock is taken only when there is something to put down or to wipe away.
        if attempts > 0 || has_text {
            let mut told = self.told();
            told.attempts.push(observation, attempts);
            if has_text {
                self.remarked.store(observation.detail.is_some(), Relaxed);
                if told.detail() != observation.detail.as_deref() {
                    told.tell(observation.detail.as_deref());
                    says_otherwise = true;
                }
            }
        }
        says_otherwise
    }

    /// The last attempts, oldest first: as many as were to be kept. Times are exact to the
    /// microsecond; texts are cut to some hundred bytes, and there are none of successes.
    pub fn attempts(&self) -> Vec<Observation> {
        self.told().attempts.read()
    }

    /// Puts down what the judge made of it.
    pub fn judged(&self, machine: &Machine) {
        self.status.store(machine.status() as u8, Relaxed);
        let before = self.verdict.swap(machine.verdict() as u8, Relaxed);
        let before = Verdict::from_index(usize::from(before)).unwrap_or_default();
        if is_flip(before, machine.verdict()) {
            self.flips.fetch_add(1, Relaxed);
        }
        self.set_streak(machine.streak());
    }

    /// Takes how often the check has turned critical, or well again, since this was asked last.
    pub fn take_flips(&self) -> u32 {
        self.flips.swap(0, Relaxed).into()
    }

    fn set_streak(&self, streak: Streak) {
        let signed = match streak {
            Streak::None => 0,
            Streak::Successes(n) => i32::try_from(n).unwrap_or(i32::MAX),
            Streak::Failures(n) => -i32::try_from(n).unwrap_or(i32::MAX),
        };
        self.streak.store(signed, Relaxed);
    }

    /// Puts down that the last result has grown too old. Says whether that is new.
    pub fn grow_stale(&self) -> bool {
        !self.stale.swap(true, Relaxed)
    }

    /// Puts down when the next probe is to start, and why then.
    pub fn plan(&self, next: Option<Timestamp>, turn: Turn) {
        self.next_turn.store(turn as u8, Relaxed);
        self.next_run.store(millis(next), Relaxed);
    }

    /// Puts down that the status changed.
    pub fn changed(&self, at: Timestamp) {
        self.changed.store(at.millis(), Relaxed);
        self.changes.store(self.changes.load(Relaxed).saturating_add(1), Relaxed);
    }

    /// The status alone.
    pub fn status(&self) -> Status {
        Status::from_index(usize::from(self.status.load(Relaxed))).unwrap_or(Status::Unknown)
    }

    /// Everything.
    pub fn read(&self) -> Facts {
        Facts { detail: self.told().detail().map(Into::into), ..self.read_numbers() }
    }

    /// Everything but the text: takes no lock and allocates nothing.
    pub fn read_numbers(&self) -> Facts {
        let signed = self.streak.load(Relaxed);
        let streak = match signed.signum() {
            0 => Streak::None,
            1 => Streak::Successes(signed.unsigned_abs()),
            _ => Streak::Failures(signed.unsigned_abs()),
        };
        let inconclusive = self.inconclusive.load(Relaxed).into();
        Facts {
            probes: self.conclusive.load(Relaxed) + inconclusive,
            failures: self.failures.load(Relaxed),
            inconclusive,
            last_started: moment(self.last_started.load(Relaxed)),
            last_success: moment(self.last_success.load(Relaxed)),
            last_conclusive: moment(self.last_conclusive.load(Relaxed)),
            last_duration: Duration::from_nanos(self.last_nanos.load(Relaxed)),
            last_outcome: decode_outcome(self.outcome.load(Relaxed)),
            answer: decode_answer(self.answer.load(Relaxed)),
            detail: None,
            status: self.status(),
            verdict: Verdict::from_index(usize::from(self.verdict.load(Relaxed)))
                .unwrap_or_default(),
            changed: moment(self.changed.load(Relaxed)),
            changes: self.changes.load(Relaxed),
            streak,
            certificate_expiry: moment(self.certificate_expiry.load(Relaxed)),
            chain_expiry: moment(self.chain_expiry.load(Relaxed)),
            stale: self.stale.load(Relaxed),
            next_run: moment(self.next_run.load(Relaxed)),
            next_turn: Turn::from_index(usize::from(self.next_turn.load(Relaxed)))
                .unwrap_or_default(),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const WARNING_BASE: u8 = 2;
const INCONCLUSIVE_BASE: u8 = 64;
const FAILURE_BASE: u8 = 128;

fn encode_outcome(outcome: Option<Outcome>) -> u8 {
    match outcome {
        None => 0,
        Some(Outcome::Success) => 1,
        Some(Outcome::Warning(reason)) => WARNING_BASE + reason as u8,
        Some(Outcome::Inconclusive(reason)) => INCONCLUSIVE_BASE + reason as u8,
        Some(Outcome::Failure(reason)) => FAILURE_BASE + reason as u8,
    }
}

fn decode_outcome(code: u8) -> Option<Outcome> {
    let reason = |base: u8| Reason::from_index(usize::from(code - base));
    match code {
        0 => None,
        1 => Some(Outcome::Success),
        WARNING_BASE..INCONCLUSIVE_BASE => reason(WARNING_BASE).map(Outcome::Warning),
        INCONCLUSIVE_BASE..FAILURE_BASE => reason(INCONCLUSIVE_BASE).map(Outcome::Inconclusive),
        FAILURE_BASE..=u8::MAX => reason(FAILURE_BASE).map(Outcome::Failure),
    }
}

const GRPC_BASE: u32 = 1 << 16;

fn encode_answer(answer: Answer) -> u32 {
    match answer {
        Answer::None => 0,
        Answer::Http(code) => u32::from(code),
        Answer::Grpc(serving) => GRPC_BASE + serving as u32,
    }
}

fn decode_answer(code: u32) -> Answer {
    match u16::try_from(code) {
        Ok(0) => Answer::None,
        Ok(code) => Answer::Http(code),
        Err(_) => {
            Serving::from_index((code - GRPC_BASE) as usize).map_or(Answer::None, Answer::Grpc)
        }
    }
}
