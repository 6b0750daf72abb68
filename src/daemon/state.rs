//! Saving the state: when something has changed, and at the end.

use std::{path::Path, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    metrics,
    registry::{Registry, snapshot},
};

/// How soon a change of status is saved.
const CHANGED: Duration = Duration::from_secs(5);

/// Saving takes at most one part in so many of a processor's time: with a million checks it takes
/// seconds, and what a status is stands in the registry's rows anyway.
const SHARE: u32 = 20;

/// How old what is saved may get without any change: it holds when each check was last asked.
const UNCHANGED: Duration = Duration::from_secs(60);

/// Saves the state of all checks to the data directory.
#[derive(Debug, Clone)]
pub(super) struct Saver {
    directory: PathBuf,
    registry: Arc<Registry>,
    metrics: metrics::Daemon,
    /// Held while saving: there is one file to write.
    saving: Arc<Mutex<()>>,
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
            saving: Arc::default(),
        }
    }

    /// Saves now.
    pub(super) async fn save(&self) -> Result<(), snapshot::Error> {
        let _saving = self.saving.lock().await;
        let (registry, directory) = (Arc::clone(&self.registry), self.directory.clone());
        let saving = tokio::task::spawn_blocking(move || registry.save(&directory));
        let saved = match saving.await {
            Ok(saved) => saved,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        let result = if saved.is_ok() { "success" } else { "failure" };
        self.metrics.state_saves.with_label_values(&[result]).inc();
        saved
    }

    /// Saves soon after a change and once in a while without, until `stop`. A failure is told and
    /// tried again.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut version = self.registry.version();
        let mut ticks = interval(CHANGED);
        let (mut saved, mut not_before) = (Instant::now(), Instant::now());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let is_due = version.has_changed().unwrap_or(false) || saved.elapsed() >= UNCHANGED;
            if !is_due || Instant::now() < not_before {
                continue;
            }
            version.mark_unchanged();
            saved = Instant::now();
            if let Err(error) = self.save().await {
                warn!(error = &error as &dyn std::error::Error, "State not saved");
            }
            not_before = Instant::now() + saved.elapsed() * SHARE;
        }
    }
}
