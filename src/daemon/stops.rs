//! The order of stopping.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::tasks::Tasks;

/// How long tasks may take to end once nothing holds them any more.
const WIND_UP: Duration = Duration::from_secs(2);

/// The tasks that make probes; all others serve or save.
const PROBING: &[&str] = &["prober", "dealer"];

/// What tells the parts to stop.
#[derive(Debug, Default)]
pub(super) struct Stops {
    /// No probe starts any more.
    pub(super) probing: CancellationToken,
    /// Probes under way are cut.
    pub(super) cut: CancellationToken,
    /// Listeners, and all that only waits, end.
    pub(super) listening: CancellationToken,
}

impl Stops {
    /// Stops probing: probes under way may finish within the grace period, then they are cut.
    pub(super) async fn drain(&self, tasks: &mut Tasks, grace: Duration) {
        self.probing.cancel();
        let probing = |name: &str| PROBING.contains(&name);
        if timeout(grace, end_of(tasks, probing)).await.is_err() {
            warn!(grace = ?grace, "Cutting probes that are still under way");
            self.cut.cancel();
            if timeout(WIND_UP, end_of(tasks, probing)).await.is_err() {
                warn!("A prober thread does not end; leaving it behind");
            }
        }
    }

    /// Stops everything else.
    pub(super) async fn close(&self, tasks: &mut Tasks) {
        self.listening.cancel();
        if timeout(WIND_UP, end_of(tasks, |_| true)).await.is_err() {
            warn!(tasks = ?tasks.running(), "Leaving behind tasks that do not end");
        }
    }
}

async fn end_of(tasks: &mut Tasks, which: impl Fn(&str) -> bool) {
    while tasks.running().into_iter().any(&which) {
        if tasks.next_ended().await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn probes_have_the_grace_period_and_no_more() {
        let stops = Stops::default();
        let mut tasks = Tasks::default();
        let cut = stops.cut.clone();
        tasks.spawn("prober", async move { cut.cancelled().await });
        let listening = stops.listening.clone();
        tasks.spawn("http", async move { listening.cancelled().await });
        let start = tokio::time::Instant::now();
        stops.drain(&mut tasks, Duration::from_secs(10)).await;
        assert_eq!(start.elapsed().as_secs(), 10);
        assert_eq!(tasks.running(), ["http"]);
        stops.close(&mut tasks).await;
        assert!(tasks.running().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_when_nothing_is_under_way() {
        let stops = Stops::default();
        let mut tasks = Tasks::default();
        let probing = stops.probing.clone();
        tasks.spawn("prober", async move { probing.cancelled().await });
        let start = tokio::time::Instant::now();
        stops.drain(&mut tasks, Duration::from_secs(10)).await;
        assert!(start.elapsed().is_zero());
        assert!(!stops.cut.is_cancelled());
    }
}
