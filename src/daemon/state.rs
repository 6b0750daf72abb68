//! Saving the state: when something has changed, and at the end.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

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

/// Saving takes at most one part in so many of a processor's time, evenly: with a million checks it is
/// seconds of work, and what a status is stands in the registry's rows anyway.
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
    /// Whether somebody waits for it.
    is_waited_for: Arc<AtomicBool>,
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
            is_waited_for: Arc::default(),
        }
    }

    /// Saves for the last time, as fast as can be.
    pub(super) async fn finish(&self) -> Result<(), snapshot::Error> {
        self.is_waited_for.store(true, Relaxed);
        self.save().await
    }

    async fn save(&self) -> Result<(), snapshot::Error> {
        let _saving = self.saving.lock().await;
        let (registry, directory) = (Arc::clone(&self.registry), self.directory.clone());
        let is_waited_for = Arc::clone(&self.is_waited_for);
        let saving = tokio::task::spawn_blocking(move || {
            let mut since = Instant::now();
            registry.save(&directory, || {
                if !is_waited_for.load(Relaxed) {
                    std::thread::sleep(since.elapsed() * SHARE);
                }
                since = Instant::now();
            })
        });
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
        let mut saved = Instant::now();
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if !version.has_changed().unwrap_or(false) && saved.elapsed() < UNCHANGED {
                continue;
            }
            version.mark_unchanged();
            saved = Instant::now();
            if let Err(error) = self.save().await {
                warn!(error = &error as &dyn std::error::Error, "State not saved");
            }
        }
    }
}
