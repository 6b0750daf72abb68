//! What happens to an observation: it is counted, judged, and told.
//!
//! Called by the prober threads, once per finished probe. It neither waits nor fails: counting is
//! a few stores into the check's slots, and only a change of status, which is rare, goes to the
//! event log and wakes those who watch.

use std::sync::Arc;

use tracing::{debug, info};

use crate::{
    clock,
    event::Log,
    judge::{Change, Machine, Maintenance},
    metrics::{Daemon, Kept},
    model::{Cause, Observation, Outcome, Status, Transition},
    registry::{Check, Registry},
};

/// Takes in observations and operators' words, and tells whoever must know.
#[derive(Debug, Clone)]
pub struct Monitor {
    registry: Arc<Registry>,
    events: Log,
    metrics: Daemon,
    attempts: usize,
}

impl Monitor {
    /// A monitor that tells these, and keeps as many attempts as by default.
    pub fn new(registry: Arc<Registry>, events: Log, metrics: Daemon) -> Self {
        Self { registry, events, metrics, attempts: Kept::default().get() }
    }

    /// The same, but it keeps so many of the last attempts of each check.
    #[must_use]
    pub fn keeping(self, attempts: Kept) -> Self {
        Self { attempts: attempts.get(), ..self }
    }

    /// Takes in a finished probe. One that failed by our own fault is counted, but says nothing
    /// of the target and is not judged.
    pub fn observe(&self, check: &Check, machine: &mut Machine, observation: Observation) {
        let says_otherwise = check.slot.record(&observation, self.attempts);
        check.class.slot.record(&observation);
        debug!(
            check = %check.key,
            outcome = ?observation.outcome,
            duration = ?observation.duration,
            detail = observation.detail.as_deref(),
            "Probe finished"
        );
        if matches!(observation.outcome, Outcome::Inconclusive(_)) {
            return;
        }
        let (verdict, was_wavering) = (machine.verdict(), machine.is_wavering());
        let change = machine.observe(&check.definition.thresholds, observation.outcome);
        check.slot.judged(machine);
        if let Some(change) = change {
            if change.to == Status::Critical
                && let Some(last) = check.slot.last_sign()
            {
                self.metrics.detected(clock::now().since(last));
            }
            let consecutive = machine.streak().len();
            let observation = Box::new(observation);
            self.tell(check, change, Cause::Probe { observation, consecutive });
        }
        // How results stand on their way to a verdict is published too: it must outlive us.
        if machine.verdict() != verdict || was_wavering || machine.is_wavering() {
            self.registry.news().changed(&check.key);
        } else if says_otherwise {
            self.registry.news().said(&check.key);
        }
    }

    /// Lets a check go on in place of another, from what that one has come to: it was copied before,
    /// and since then more may have been found. What is new in it is told.
    pub fn hand_over(&self, before: &Check, check: &Check, machine: &Machine) {
        let copied = check.slot.read();
        check.slot.inherit(&before.slot);
        check.slot.judged(machine);
        let was_wavering =
            Machine::restore(copied.verdict, copied.streak, Maintenance::Off).is_wavering();
        let now = check.slot.read();
        if now.verdict != copied.verdict || was_wavering || machine.is_wavering() {
            self.registry.news().changed(&check.key);
        } else if (now.last_outcome, now.answer) != (copied.last_outcome, copied.answer)
            || now.detail != copied.detail
        {
            self.registry.news().said(&check.key);
        }
    }

    /// Takes in an operator's word.
    pub fn maintain(
        &self,
        check: &Check,
        machine: &mut Machine,
        maintenance: Maintenance,
        reason: Arc<str>,
    ) {
        let change = machine.maintain(maintenance);
        check.slot.judged(machine);
        if let Some(change) = change {
            self.tell(check, change, Cause::Operator { reason });
        }
    }

    fn tell(&self, check: &Check, change: Change, cause: Cause) {
        let at = clock::now();
        check.slot.changed(at);
        self.metrics.transition(change.from, change.to);
        info!(
            service = %check.instance.service,
            check = %check.key,
            from = %change.from,
            to = %change.to,
            reason = cause.word(),
            detail = cause.detail(),
            "Status changed"
        );
        self.events.push(Transition {
            service: check.instance.service.clone(),
            key: check.key.clone(),
            from: change.from,
            to: change.to,
            at,
            cause,
        });
        self.registry.touch();
    }
}
