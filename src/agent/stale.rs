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
    model::Schedule,
    registry::Check,
};

/// How long after a look the next one begins.
const EVERY: Duration = Duration::from_secs(5);

/// Looking takes at most one part in so many of a processor's time, evenly: with a million checks it
/// is long.
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

/// Whether what is known of a check is too old. What is pushed grows old by its own time to live, or
/// not at all.
pub(super) fn is_stale(check: &Check, ages: &Ages) -> bool {
    if check.definition.probe.pushed().is_some() {
        return false;
    }
    let facts = check.slot.read_numbers();
    let bound = bound(&check.definition.schedule, facts.verdict);
    let is_old = facts.last_conclusive.is_none_or(|last| ages.of(last) > bound);
    facts.verdict != Verdict::Unknown && is_old
}

impl Agent {
    /// Marks checks that have grown stale until `stop`. A new result takes the mark away.
    pub async fn mark_stale(self: Arc<Self>, stop: CancellationToken) {
        let mut ages = Ages::new(Instant::now(), clock::now());
        let all = async {
            loop {
                ages.look(Instant::now(), clock::now());
                self.mark_stale_once(&ages).await;
                sleep(EVERY).await;
            }
        };
        stop.run_until_cancelled(all).await;
    }

    pub(super) async fn mark_stale_once(&self, ages: &Ages) {
        let mut count = 0;
        let mut began = Instant::now();
        for part in self.registry.walk() {
            for check in part {
                if is_stale(&check, ages) {
                    count += 1;
                    if check.slot.grow_stale() {
                        self.registry.news().said(&check.key);
                    }
                }
            }
            sleep(began.elapsed() * SHARE).await;
            began = Instant::now();
        }
        self.metrics.checks_stale.set(count);
    }
}
