//! Asking a target once, for whoever asks the API to.
//!
//! The API knows no network code: the daemon gives it the means, and what comes back is shown and
//! nothing else. Neither the check's slot, nor its judge, nor its schedule hears of it.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use crate::{model::Observation, probe::Target};

/// Most probes of this kind under way at once.
const MOST: usize = 4;

/// One probe under way.
pub type Asked = Pin<Box<dyn Future<Output = Observation> + Send>>;

/// Asks a target, at the latest after the timeout given to it.
type Ask = dyn Fn(Target, Duration) -> Asked + Send + Sync;

/// The means to ask a target once. Clones share the bound on probes under way.
#[derive(Clone)]
pub struct Asking {
    ask: Arc<Ask>,
    places: Arc<Semaphore>,
}

/// As many probes as may be are under way already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy;

impl Asking {
    /// Asks by this means.
    pub fn new(ask: impl Fn(Target, Duration) -> Asked + Send + Sync + 'static) -> Self {
        Self { ask: Arc::new(ask), places: Arc::new(Semaphore::new(MOST)) }
    }

    /// Asks what `probe` asks of the endpoint of `target`, over connections of its own.
    pub(super) async fn ask(
        &self,
        target: &Target,
        timeout: Duration,
    ) -> Result<Observation, Busy> {
        let _place = self.places.try_acquire().map_err(|_| Busy)?;
        // A target of its own: the kept connection of the other belongs to its prober thread, and
        // what one look is compared with is none of the other's business.
        let target = Target::new(target.probe().aside(), target.endpoint().clone());
        Ok((self.ask)(target, timeout).await)
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").field("places", &self.places).finish_non_exhaustive()
    }
}
