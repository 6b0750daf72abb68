//! The probes under way on a thread: plain ones in the table they share, all others as tasks.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{task::JoinSet, time::Instant};
use tracing::error;

use crate::{
    model::Observation,
    probe::{Plain, Prober, Target, Ticket},
    registry::Check,
};

use super::{
    super::{plan::Micros, row::FlightId},
    Departure,
};

/// A probe under way.
#[derive(Debug)]
pub(super) struct Flight {
    /// Where the check was when the probe started; it may have moved.
    pub(super) row: u32,
    pub(super) id: FlightId,
    pub(super) check: Arc<Check>,
    pub(super) started: Micros,
    pub(super) departure: Departure,
}

impl Ticket for Flight {
    fn target(&self) -> &Target {
        &self.check.target
    }
}

/// A probe has ended; there is nothing that it observed if it panicked.
pub(super) type Landing = (Flight, Option<Observation>);

/// The probes under way.
#[derive(Debug)]
pub(super) struct Flights {
    plain: Option<Plain<Flight>>,
    tasks: JoinSet<Landing>,
    /// Whether there may be news of plain ones.
    has_news: bool,
    landed: Vec<Landing>,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self { plain: None, tasks: JoinSet::new(), has_news: false, landed: Vec::new() }
    }

    /// Gets ready for plain probes. To be called on the thread, within its runtime.
    pub(super) fn open<P: Prober>(&mut self, prober: &P) {
        self.plain = prober.plain().and_then(|plain| {
            plain.inspect_err(|error| error!(%error, "No poller; each probe takes a task")).ok()
        });
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.tasks.len() + self.landed.len() + self.plain.as_ref().map_or(0, Plain::len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When to call [`Flights::take_landed`] at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.plain.as_ref().and_then(Plain::next_deadline)
    }

    pub(super) fn start<P: Prober>(&mut self, prober: &P, flight: Flight, timeout: Duration) {
        let flight = match &mut self.plain {
            Some(plain) => match plain.start(flight, timeout) {
                Ok(()) => return,
                Err(flight) => flight,
            },
            None => flight,
        };
        let prober = prober.clone();
        self.tasks.spawn(async move {
            let probe = AssertUnwindSafe(prober.probe(flight.target(), timeout)).catch_unwind();
            let observation = probe.await.ok();
            (flight, observation)
        });
    }

    /// Waits until some may have ended. May be dropped at any time.
    pub(super) async fn news(&mut self) {
        tokio::select! {
            () = ready(self.plain.as_ref()) => self.has_news = true,
            // Panics are caught within the task, and tasks are cut only with the whole shard.
            Some(landed) = self.tasks.join_next() => self.landed.extend(landed.ok()),
        }
    }

    /// Those that have ended.
    pub(super) fn take_landed(&mut self) -> Vec<Landing> {
        while let Some(landed) = self.tasks.try_join_next() {
            self.landed.extend(landed.ok());
        }
        let has_news = std::mem::take(&mut self.has_news);
        if let Some(plain) = &mut self.plain
            && (has_news || plain.wants_a_turn())
        {
            self.landed.extend(plain.turn());
        }
        std::mem::take(&mut self.landed)
    }
}

/// Waits until there may be news of plain probes; for ever if there are none.
async fn ready(plain: Option<&Plain<Flight>>) {
    match plain {
        Some(plain) => plain.ready().await,
        None => std::future::pending().await,
    }
}
