//! Checks whose last result is too old to be relied on.
//!
//! Their status stays what it was; that it is old is shown beside it. Results grow old when probes
//! are skipped or fail by our own fault, and while the daemon was away.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Agent;
use crate::{
    clock::{self, Ages},
    judge::Verdict,
    metrics::Facts,
    model::Schedule,
};

/// How often it is looked, and how seldom at most.
const EVERY: Duration = Duration::from_secs(5);
const SELDOM: Duration = Duration::from_secs(60);

/// A look takes at most one part in so many of a processor's time: with a million checks it is long.
const SHARE: u32 = 100;

/// How long a result is relied on: three intervals and a timeout, so that two lost probes in a row
/// do not age it. What is critical for long is asked less often.
fn bound(schedule: &Schedule, verdict: Verdict) -> Duration {
    let longest = match verdict {
        Verdict::Critical => u32::from(schedule.pace.max_backoff.max(1)),
        Verdict::Unknown | Verdict::Passing | Verdict::Warning => 1,
    };
    schedule.interval * (longest + 2) + schedule.timeout
}

/// Whether what is known of a check that is asked is too old.
fn is_stale(facts: &Facts, schedule: &Schedule, ages: &Ages) -> bool {
    let last = facts.last_started;
    facts.verdict != Verdict::Unknown
        && last.is_none_or(|last| ages.of(last) > bound(schedule, facts.verdict))
}

impl Agent {
    /// Marks checks that have grown stale until `stop`. A new result takes the mark away.
    pub async fn mark_stale(self: Arc<Self>, stop: CancellationToken) {
        let mut ages = Ages::new(Instant::now(), clock::now());
        loop {
            let began = Instant::now();
            ages.look(began, clock::now());
            self.mark_stale_once(&ages);
            let pause = (began.elapsed() * SHARE).clamp(EVERY, SELDOM);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    pub(super) fn mark_stale_once(&self, ages: &Ages) {
        let mut count = 0;
        self.registry.each_check(|check| {
            // What is pushed grows old by its own time to live, or not at all.
            if check.definition.probe.pushed().is_some() {
                return;
            }
            let facts = check.slot.read_numbers();
            if is_stale(&facts, &check.definition.schedule, ages) {
                count += 1;
                if check.slot.grow_stale() {
                    self.registry.news().said(&check.key);
                }
            }
        });
        self.metrics.checks_stale.set(count);
    }
}
