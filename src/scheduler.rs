//! When to ask.
//!
//! Checks are dealt among prober threads by the hash of their ids. Each thread has a runtime of
//! its own with one loop on it (`shard`) that owns a due-queue (`wheel`), so neither the API nor a
//! scrape delays a probe, nor probes the API. When a run is due is arithmetic (`plan`).

use std::num::{NonZeroU32, NonZeroUsize};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    clock::Anchor,
    doubt::Doubt,
    duration::Period,
    metrics::Daemon,
    model::CheckKey,
    monitor::Monitor,
    probe::Prober,
    registry::Order,
    tasks::{self, Tasks},
};

mod plan;
mod pulse;
mod rhythm;
mod row;
mod shard;
mod stall;
#[cfg(test)]
mod tests;
mod tripwire;
mod wheel;

pub use pulse::Pulse;
use shard::{Partners, Settings, Shard};

/// Batches of orders that may wait for a prober thread before the registry is made to wait.
const ORDER_DEPTH: usize = 64;

/// Orders a prober thread takes in one go: it starts no probe meanwhile.
const ORDER_BATCH: usize = 1024;

/// How probes are scheduled.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Threads that probe; checks are dealt among them by the hash of their ids. One thread makes
    /// tens of thousands of probes a second.
    pub threads: NonZeroUsize,
    /// Checks due within one tick start together. A longer tick costs less CPU, a shorter one
    /// starts probes closer to their time; 1ms to 100ms.
    pub tick: Period,
    /// Most probes under way at once over all targets; a quarter of it is kept for checks that do
    /// not fail. Default: half of the open-files limit.
    pub max_in_flight: Option<NonZeroU32>,
    /// Most probes under way at once to one host, so that a host that has gone dark, or holds very
    /// many instances, is not flooded.
    pub max_in_flight_per_host: NonZeroU32,
    /// Most idle connections held to targets as tripwires, over all. They take a file descriptor
    /// each: never more than an eighth of the open-files limit. 0 holds none.
    pub max_tripwires: u32,
}

const DEFAULT_PER_HOST: NonZeroU32 = NonZeroU32::new(64).expect("not zero");

impl Default for Config {
    fn default() -> Self {
        Self {
            threads: NonZeroUsize::MIN,
            tick: Period::from_millis(5),
            max_in_flight: None,
            max_in_flight_per_host: DEFAULT_PER_HOST,
            max_tripwires: 4096,
        }
    }
}

impl Config {
    /// Most probes under way at once: as configured, else half of the open-files limit, because
    /// each takes a file descriptor and the API needs some too.
    pub fn in_flight_limit(&self) -> usize {
        self.in_flight_limit_of(open_files())
    }

    /// The same where so many files may be open.
    pub fn in_flight_limit_of(&self, files: u64) -> usize {
        let configured = self.max_in_flight.map(|n| u64::from(n.get()));
        let limit = configured.unwrap_or_else(|| (files / 2).clamp(16, MOST_FILES));
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// Most idle connections held to targets: as configured, within an eighth of the open-files
    /// limit.
    pub fn tripwire_limit(&self) -> usize {
        let limit = u64::from(self.max_tripwires).min(open_files() / 8);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }
}

/// Taken for the open-files limit where there is none.
const MOST_FILES: u64 = 100_000;

fn open_files() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.unwrap_or(MOST_FILES)
}

/// Whom the scheduler works with.
#[derive(Debug, Clone)]
pub struct Scheduler<P> {
    /// Who asks.
    pub prober: P,
    /// Who is given the answers.
    pub monitor: Monitor,
    /// What is counted.
    pub metrics: Daemon,
    /// How far the daemon trusts itself.
    pub doubt: Doubt,
}

impl<P: Prober> Scheduler<P> {
    /// Starts the prober threads and the task that deals them the orders. They end when `orders`
    /// ends or `stop` is cancelled: no probe starts any more, those under way may finish until
    /// `cut` is cancelled. The pulse tells whether the threads are alive.
    pub fn start(
        self,
        config: &Config,
        orders: mpsc::Receiver<Vec<Order>>,
        (stop, cut): (CancellationToken, &CancellationToken),
        tasks: &mut Tasks,
    ) -> std::io::Result<Pulse> {
        let threads = config.threads.get();
        let limit = config.in_flight_limit();
        self.metrics.in_flight_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
        let settings = Settings {
            tick: config.tick.get(),
            max_in_flight: limit.div_ceil(threads),
            max_tripwires: config.tripwire_limit().div_ceil(threads),
            max_per_host: config
                .max_in_flight_per_host
                .get()
                .div_ceil(u32::try_from(threads).unwrap_or(u32::MAX)),
        };
        let anchor = Anchor::read();
        let pulse = Pulse::new(anchor, threads);
        let mut shards = Vec::new();
        for beat in pulse.beats().iter().cloned() {
            let (sender, receiver) = mpsc::channel(ORDER_DEPTH);
            let partners = Partners {
                prober: self.prober.clone(),
                monitor: self.monitor.clone(),
                metrics: self.metrics.clone(),
                doubt: self.doubt.clone(),
                beat,
            };
            let cut = cut.clone();
            tasks.spawn_thread("prober", move || {
                let ahead = tasks::step_ahead();
                debug!(ahead, "Prober thread started");
                Shard::new(settings, partners, anchor).run(receiver, cut)
            })?;
            shards.push(sender);
        }
        tasks.spawn("dealer", deal(orders, shards, stop));
        Ok(pulse)
    }
}

/// Hands every order to the prober thread of its check, in batches of bounded size.
async fn deal(
    mut orders: mpsc::Receiver<Vec<Order>>,
    shards: Vec<mpsc::Sender<Vec<Order>>>,
    stop: CancellationToken,
) {
    loop {
        let batch = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            batch = orders.recv() => match batch {
                Some(batch) => batch,
                None => return,
            },
        };
        let mut dealt: Vec<Vec<Order>> = shards.iter().map(|_| Vec::new()).collect();
        for order in batch {
            let shard = shard_of(key_of(&order), shards.len());
            dealt[shard].push(order);
            if dealt[shard].len() >= ORDER_BATCH {
                hand_over(&shards[shard], &mut dealt[shard]).await;
            }
        }
        for (shard, rest) in shards.iter().zip(&mut dealt) {
            hand_over(shard, rest).await;
        }
    }
}

async fn hand_over(shard: &mpsc::Sender<Vec<Order>>, orders: &mut Vec<Order>) {
    if !orders.is_empty() {
        // A prober thread that has ended is the supervisor's business.
        drop(shard.send(std::mem::take(orders)).await);
    }
}

fn key_of(order: &Order) -> &CheckKey {
    match order {
        Order::Run(check, _) => &check.key,
        Order::Stop(key) | Order::Maintain { key, .. } | Order::Recheck(key) => key,
    }
}

fn shard_of(key: &CheckKey, shards: usize) -> usize {
    // The high half of the hash: the low half makes the phase.
    usize::try_from(plan::hash(key) >> 32).unwrap_or(0) % shards
}
