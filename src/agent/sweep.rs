//! What others put onto our own node through the catalog does not stay.
//!
//! The agent answers for its node: what it does not know there goes at the next sweep, as Consul's
//! agent removes it when it next brings the catalog in step.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{ALIVE, Agent, CONSUL};
use crate::store::{Key, Tables, Tx, Unwritten, row::Origin};

/// How often.
pub const SWEEP_EVERY: Duration = Duration::from_secs(60);

impl Agent {
    /// Sweeps once in a while until `stop`.
    pub async fn sweep(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match self.sweep_foreign().await {
                Ok(0) => {}
                Ok(removed) => info!(removed, "Removed from our node what is not registered here"),
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "Own node not swept");
                }
            }
        }
    }

    /// Removes from our node the instances and checks that others put there. Says how many.
    pub async fn sweep_foreign(&self) -> Result<usize, Unwritten> {
        if self.foreign(&self.store.read()).is_empty() {
            return Ok(0);
        }
        // Looked for again: some of it may have been registered here meanwhile.
        let remove = |tx: &mut Tx<'_>| {
            Ok(self.foreign(tx).into_iter().filter(|key| tx.delete(key.clone())).count())
        };
        self.store.write(remove).await
    }

    fn foreign(&self, tables: &Tables) -> Vec<Key> {
        let services = tables.each_instance_on(&self.node);
        let services = services.filter(|row| row.origin == Origin::Catalog && *row.id != *CONSUL);
        let checks = tables.each_check_on(&self.node);
        let checks = checks.filter(|row| row.origin == Origin::Catalog && *row.id != *ALIVE);
        let services =
            services.map(|row| Key::Service(Arc::clone(&self.node), Arc::clone(&row.id)));
        services
            .chain(checks.map(|row| Key::Check(Arc::clone(&self.node), Arc::clone(&row.id))))
            .collect()
    }
}
