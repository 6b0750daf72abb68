//! The composition root: puts the parts together, runs them, and takes them apart in order.
//!
//! [`Daemon::bind`] opens everything that can fail (data directory, listeners) before anything
//! runs; [`Daemon::run`] runs until a signal or a fault. Stopping flows downstream: readiness says
//! no, probes stop starting and those under way finish or are cut at the end of the grace period,
//! the state is saved, and the listeners close last so that readiness can be seen until then.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tracing::{error, info, warn};

use crate::{
    api::{self, Readiness, ReloadHandle, ReloadRequests, View},
    clock,
    config::Config,
    event, metrics,
    monitor::Monitor,
    probe::Network,
    registry::{
        Order, Registry,
        snapshot::{self, Snapshot},
    },
    scheduler::Scheduler,
    tasks::{Ended, How, Tasks},
};

mod reload;
mod signal;
mod state;
mod stops;
mod systemd;

pub use reload::Reloader;
use signal::{Signal, Signals};
use state::Saver;
use stops::Stops;

/// Batches of orders that may wait between the registry and the scheduler.
const ORDER_DEPTH: usize = 16;

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {path}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state cannot be read.
    #[error("cannot read the saved state")]
    State(#[source] snapshot::Error),
    /// A port cannot be listened on.
    #[error("cannot listen on {address} for {what}")]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] io::Error),
}

/// Why a running daemon stopped, other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A prober thread cannot be started.
    #[error("cannot start a prober thread")]
    Thread(#[source] io::Error),
    /// A task returned that must not.
    #[error("the task {0:?} ended by itself")]
    Returned(&'static str),
    /// A task failed.
    #[error("the task {name:?} failed: {said}")]
    Failed {
        /// Which.
        name: &'static str,
        /// What it said.
        said: String,
    },
    /// The state could not be saved at the end.
    #[error("the state could not be saved")]
    State(#[source] snapshot::Error),
}

/// How a daemon that was told to stop has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// In order.
    InOrder,
    /// At once, by a second signal.
    AtOnce,
}

/// A daemon with everything open and nothing running yet.
#[derive(Debug)]
pub struct Daemon {
    config: Config,
    reloader: Reloader,
    http: TcpListener,
    grpc: TcpListener,
    remembered: Snapshot,
    signals: Signals,
}

impl Daemon {
    /// Opens what the daemon needs.
    pub async fn bind(config: Config, reloader: Reloader) -> Result<Self, BindError> {
        Ok(Self {
            remembered: open_data_dir(&config.data_dir)?,
            signals: Signals::listen().map_err(BindError::Signals)?,
            http: listen("the HTTP API", config.listen.http).await?,
            grpc: listen("gRPC", config.listen.grpc).await?,
            config,
            reloader,
        })
    }

    /// The addresses of the HTTP and the gRPC listener.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.http.local_addr()?, self.grpc.local_addr()?))
    }

    /// Runs until told to stop or until a part fails.
    pub async fn run(self) -> Result<Stopped, Fault> {
        if let Ok((http, grpc)) = self.addresses() {
            info!(%http, %grpc, data_dir = %self.config.data_dir.display(), "Listening");
        }
        let Self { config, mut reloader, http, grpc, remembered, mut signals } = self;
        let stops = Stops::default();
        let mut tasks = Tasks::default();
        let (core, orders) = Core::new(&config, remembered);
        core.start_scheduler(&config, orders, &stops, &mut tasks)?;
        let (reload, requests) = api::reload_channel();
        let (view, stop) = (core.view(&config, reload), &stops.listening);
        tasks.spawn(
            "http",
            api::serve::http(http, view.clone(), config.limits.clone(), stop.clone()),
        );
        tasks.spawn("grpc", api::serve::grpc(grpc, view, config.limits.clone(), stop.clone()));
        let saver = Saver::new(&config.data_dir, &core.registry, &core.metrics);
        tasks.spawn("saver", saver.clone().run(stop.clone()));
        tasks.spawn("watchdog", systemd::watchdog(stop.clone()));
        let grace = config.grace_period;
        reloader.begin(&core.registry, &core.metrics, config).await;
        core.readiness.send_replace(Readiness::Ready);
        systemd::ready();

        let fault = core.supervise(&mut tasks, &mut signals, requests, &mut reloader).await;
        core.readiness.send_replace(Readiness::Stopping);
        systemd::stopping();
        info!(grace = ?grace, "Stopping; a second signal stops at once");
        tokio::select! {
            () = stops.drain(&mut tasks, grace) => {}
            () = signals.stop() => {
                warn!("Second signal: stopping at once");
                return Ok(Stopped::AtOnce);
            }
        }
        let at_the_end = saver.save().await;
        stops.close(&mut tasks).await;
        match (fault, at_the_end) {
            (Some(fault), _) => Err(fault),
            (None, Err(error)) => Err(Fault::State(error)),
            (None, Ok(())) => {
                info!("Stopped");
                Ok(Stopped::InOrder)
            }
        }
    }
}

/// What the parts share.
#[derive(Debug)]
struct Core {
    registry: Arc<Registry>,
    events: event::Log,
    metrics: metrics::Daemon,
    readiness: watch::Sender<Readiness>,
}

impl Core {
    fn new(config: &Config, remembered: Snapshot) -> (Self, mpsc::Receiver<Vec<Order>>) {
        let (sender, orders) = mpsc::channel(ORDER_DEPTH);
        let core = Self {
            registry: Arc::new(Registry::new(remembered, sender)),
            events: event::Log::new(config.event_history),
            metrics: metrics::Daemon::new(),
            readiness: watch::Sender::new(Readiness::Starting),
        };
        (core, orders)
    }

    fn start_scheduler(
        &self,
        config: &Config,
        orders: mpsc::Receiver<Vec<Order>>,
        stops: &Stops,
        tasks: &mut Tasks,
    ) -> Result<(), Fault> {
        let (events, metrics) = (self.events.clone(), self.metrics.clone());
        let monitor = Monitor::new(Arc::clone(&self.registry), events, metrics.clone());
        Scheduler { prober: Network::default(), monitor, metrics }
            .start(&config.scheduler, orders, (stops.probing.clone(), &stops.cut), tasks)
            .map_err(Fault::Thread)
    }

    fn view(&self, config: &Config, reload: ReloadHandle) -> View {
        let bound = config.listen.http.ip();
        View {
            node_name: config.node_name.as_str().into(),
            node_address: if bound.is_unspecified() {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            } else {
                bound
            },
            registry: Arc::clone(&self.registry),
            events: self.events.clone(),
            metrics: self.metrics.clone(),
            metrics_config: config.metrics.clone(),
            readiness: self.readiness.subscribe(),
            reload,
            started: clock::now(),
        }
    }

    /// Reloads when asked to, until told to stop (nothing) or until a part ends (the fault).
    async fn supervise(
        &self,
        tasks: &mut Tasks,
        signals: &mut Signals,
        mut requests: ReloadRequests,
        reloader: &mut Reloader,
    ) -> Option<Fault> {
        loop {
            tokio::select! {
                ended = tasks.next_ended() => {
                    let fault = fault_of(ended?);
                    error!(error = %fault, "A part has failed; stopping");
                    return Some(fault);
                }
                signal = signals.next() => match signal {
                    Signal::Stop => return None,
                    Signal::Reload => drop(reloader.reload(&self.registry, &self.metrics).await),
                },
                Some(request) = requests.next() => {
                    request.answer(reloader.reload(&self.registry, &self.metrics).await);
                }
            }
        }
    }
}

fn fault_of(ended: Ended) -> Fault {
    match ended.how {
        How::Returned => Fault::Returned(ended.name),
        How::Failed(said) => Fault::Failed { name: ended.name, said },
    }
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError::Listen { what, address, source })
}

/// Makes the data directory, for us alone, and reads the state from it. A damaged state is set
/// aside and told, and the daemon starts without it: it must come up.
fn open_data_dir(path: &Path) -> Result<Snapshot, BindError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let refused = |source| BindError::DataDir { path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(refused)?;
    match Snapshot::load(path) {
        Ok(snapshot) => Ok(snapshot),
        Err(damaged @ snapshot::Error::Damaged { .. }) => {
            error!(error = %damaged, "Starting without the saved state");
            Ok(Snapshot::default())
        }
        Err(error @ snapshot::Error::Io { .. }) => Err(BindError::State(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    #[tokio::test]
    async fn a_part_that_ends_by_itself_stops_the_daemon_and_is_named() {
        let config = crate::config::load(None, &Overrides::default()).unwrap().config;
        let (core, _orders) = Core::new(&config, Snapshot::default());
        let mut reloader = Reloader::new(None, Overrides::default(), None);
        let number = regex::Regex::new("task [0-9]+").unwrap();
        for (fails, said) in [
            (false, "the task \"http\" ended by itself"),
            (true, "the task \"http\" failed: task 1 panicked with message \"oh\""),
        ] {
            let mut tasks = Tasks::default();
            tasks.spawn("grpc", std::future::pending());
            tasks.spawn("http", async move { assert!(!fails, "oh") });
            let mut signals = Signals::listen().unwrap();
            let (_handle, requests) = api::reload_channel();
            let fault = core.supervise(&mut tasks, &mut signals, requests, &mut reloader).await;
            let told = fault.unwrap().to_string();
            assert_eq!(number.replace(&told, "task 1"), said);
        }
    }
}
