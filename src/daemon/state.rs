//! Saving the state: when something has changed, and at the end.

use std::{path::Path, path::PathBuf, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    metrics,
    registry::{Registry, snapshot},
};

/// What a kill without warning can lose: the transitions of this time.
const EVERY: Duration = Duration::from_secs(5);

/// Saves the state of all checks to the data directory.
#[derive(Debug, Clone)]
pub(super) struct Saver {
    directory: PathBuf,
    registry: Arc<Registry>,
    metrics: metrics::Daemon,
}

impl Saver {
    pub(super) fn new(
        directory: &Path,
        registry: &Arc<Registry>,
        metrics: &metrics::Daemon,
    ) -> Self {
        Self {
            directory: directory.to_owned(),
            registry: Arc::clone(registry),
            metrics: metrics.clone(),
        }
    }

    /// Saves now.
    pub(super) async fn save(&self) -> Result<(), snapshot::Error> {
        let (registry, directory) = (Arc::clone(&self.registry), self.directory.clone());
        let saving = tokio::task::spawn_blocking(move || registry.snapshot().save(&directory));
        let saved = match saving.await {
            Ok(saved) => saved,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        let result = if saved.is_ok() { "success" } else { "failure" };
        self.metrics.state_saves.with_label_values(&[result]).inc();
        saved
    }

    /// Saves every few seconds if something has changed, until `stop`. A failure is told and
    /// tried again with the next change.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut version = self.registry.version();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if !version.has_changed().unwrap_or(false) {
                continue;
            }
            version.mark_unchanged();
            if let Err(error) = self.save().await {
                warn!(error = &error as &dyn std::error::Error, "State not saved");
            }
        }
    }
}
