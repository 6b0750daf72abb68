//! Who may look: the listeners and what they answer.
//!
//! Everything here reads the [`View`] and answers; nothing probes (whoever asks for a probe gets one by
//! the means that the daemon has put into the view: [`Asking`]), and nothing is changed except
//! through the agent (what is registered here), the store (what others answer for) and the daemon's
//! own ears ([`ReloadHandle`], [`View::leave`]).
//! [`serve::http`] and [`serve::grpc`] run a listener each until they are told to stop.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    agent::Agent, clock::Timestamp, doubt::Doubt, event, leases::Renewer, metrics,
    registry::Registry, store::Store, telemetry::Streams,
};

mod asking;
mod consul;
pub mod exposition;
mod grpc;
mod guard;
mod idempotency;
mod listen;
pub mod native;
mod params;
mod router;
pub mod serve;
#[cfg(test)]
mod tests;

pub use asking::{Asked, Asking};
pub use listen::{Binding, Listen};

/// Limits of the listeners.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most connections open at once on each listener; further ones wait to be accepted. Default: a
    /// quarter of the open-files limit, at most 32,768.
    pub max_connections: Option<NonZeroU32>,
    /// Requests a second one client address may make on average; more are answered with 429.
    pub requests_per_second: NonZeroU32,
    /// Requests one client address may make at once before the average applies.
    pub request_burst: NonZeroU32,
    /// Most blocking queries held at once; further ones are answered with 429.
    pub max_waiters: NonZeroU32,
    /// Most blocking queries of one client address held at once; further ones are answered with
    /// 429.
    pub max_waiters_per_client: NonZeroU32,
}

const fn nonzero(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("written out above zero")
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: None,
            requests_per_second: nonzero(1000),
            request_burst: nonzero(2000),
            max_waiters: nonzero(20_000),
            max_waiters_per_client: nonzero(4096),
        }
    }
}

impl Limits {
    /// Most connections open at once on each listener.
    pub fn connections(&self) -> usize {
        const MOST: u64 = 32_768;
        let configured = self.max_connections.map(|n| u64::from(n.get()));
        let limit = configured.unwrap_or_else(|| {
            let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            (files.unwrap_or(MOST) / 4).clamp(16, MOST)
        });
        usize::try_from(limit).unwrap_or(usize::MAX)
    }
}

/// What the API shows: handles on state that others own.
#[derive(Debug, Clone)]
pub struct View {
    /// The name of this node in the Consul API.
    pub node_name: Arc<str>,
    /// The address of this node in the Consul API; never an unspecified one.
    pub node_address: IpAddr,
    /// What is registered with this daemon.
    pub agent: Arc<Agent>,
    /// What consumers are told.
    pub store: Arc<Store>,
    /// Renews sessions.
    pub leases: Renewer,
    /// Who exists, and how they are.
    pub registry: Arc<Registry>,
    /// The last transitions.
    pub events: event::Log,
    /// Where the daemon's own log can be listened to.
    pub log: Streams,
    /// What the daemon counts of itself.
    pub metrics: metrics::Daemon,
    /// How far the daemon trusts itself.
    pub doubt: Doubt,
    /// Asks a target once, for whoever asks for it.
    pub asking: Asking,
    /// What `/metrics` shows.
    pub metrics_config: metrics::Config,
    /// Whether the daemon is ready.
    pub readiness: watch::Receiver<Readiness>,
    /// Where to ask the daemon to stop.
    pub leave: CancellationToken,
    /// Where to ask for a reload.
    pub reload: ReloadHandle,
    /// When the daemon started.
    pub started: Timestamp,
}

/// How far the daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readiness {
    /// Some source has not delivered its first list of instances yet.
    #[default]
    Starting,
    /// At work.
    Ready,
    /// On its way out: to be taken out of rotation.
    Stopping,
}

/// What came of a reload: what has changed, or what is wrong, for people.
pub type ReloadReport = Result<String, String>;

/// Reloads asked for and not yet begun. One is enough to bring the newest configuration in, so
/// few are kept waiting and further ones wait for their turn.
const RELOAD_DEPTH: usize = 4;

/// Asks the daemon to read its configuration again.
#[derive(Debug, Clone)]
pub struct ReloadHandle {
    requests: mpsc::Sender<ReloadRequest>,
}

/// The daemon's end: what it is asked.
#[derive(Debug)]
pub struct ReloadRequests {
    requests: mpsc::Receiver<ReloadRequest>,
}

/// Somebody asks for a reload and waits for the report.
#[derive(Debug)]
pub struct ReloadRequest {
    answer: oneshot::Sender<ReloadReport>,
}

/// Both ends of the reload channel.
pub fn reload_channel() -> (ReloadHandle, ReloadRequests) {
    let (sender, receiver) = mpsc::channel(RELOAD_DEPTH);
    (ReloadHandle { requests: sender }, ReloadRequests { requests: receiver })
}

impl ReloadHandle {
    /// Asks, and waits for what comes of it.
    pub async fn reload(&self) -> ReloadReport {
        let gone = || "the daemon is stopping".to_owned();
        let (answer, report) = oneshot::channel();
        self.requests.send(ReloadRequest { answer }).await.map_err(|_| gone())?;
        report.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl ReloadRequests {
    /// The next request; nothing once nobody can ask any more.
    pub async fn next(&mut self) -> Option<ReloadRequest> {
        self.requests.recv().await
    }
}

impl ReloadRequest {
    /// Answers it. Whoever asked may have gone away; that is no fault.
    pub fn answer(self, report: ReloadReport) {
        drop(self.answer.send(report));
    }
}
