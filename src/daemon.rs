//! The composition root: puts the parts together, runs them, and takes them apart in order.
//!
//! [`Daemon::bind`] opens everything that can fail (data directory, listeners) before anything
//! runs; [`Daemon::run`] runs until a signal or a fault. Stopping flows downstream: readiness says
//! no, probes stop starting and those under way finish or are cut at the end of the grace period,
//! the state is saved, and the listeners close last so that readiness can be seen until then.

use std::{
    error::Error,
    fs, io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    api::{self, Binding, Readiness},
    config::Config,
    registry::snapshot::{self, Snapshot},
    store::{self, Keeper, Store, Unwritten},
    tasks::{Ended, How, Tasks},
};

mod core;
mod dns;
mod reload;
mod signal;
mod state;
mod stops;
mod systemd;

use self::core::{Core, Ordered};
pub use reload::Reloader;
use signal::Stop;
use state::Saver;
use stops::Stops;

/// The folder of the store within the data directory.
const REGISTRY: &str = "registry";

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
    /// Another daemon has the data directory.
    #[error("the data directory {0} is in use by another rollcall")]
    InUse(PathBuf),
    /// The state cannot be read.
    #[error("cannot read the saved state")]
    State(#[source] snapshot::Error),
    /// The store cannot be opened.
    #[error("cannot open the registry")]
    Store(#[source] store::OpenError),
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
    /// The store cannot be written to at the start.
    #[error("cannot put this node into the store")]
    Store(#[source] Unwritten),
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
    dns: Option<dns::Sockets>,
    data: DataDir,
    stop: Stop,
    hang_up: tokio::signal::unix::Signal,
}

impl Daemon {
    /// Opens what the daemon needs.
    pub async fn bind(config: Config, reloader: Reloader) -> Result<Self, BindError> {
        Ok(Self {
            data: DataDir::open(&config.data_dir)?,
            stop: Stop::listen().map_err(BindError::Signals)?,
            hang_up: signal::hang_up().map_err(BindError::Signals)?,
            http: listen("the HTTP API", config.listen.http).await?,
            grpc: listen("gRPC", config.listen.grpc).await?,
            dns: dns::Sockets::bind(config.listen.dns).await?,
            config,
            reloader,
        })
    }

    /// The addresses of the HTTP, the gRPC and the DNS listener.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr, Binding)> {
        let dns = self.dns.as_ref().map(dns::Sockets::address).transpose()?;
        let dns = dns.map_or(Binding::Off, Binding::At);
        Ok((self.http.local_addr()?, self.grpc.local_addr()?, dns))
    }

    /// Runs until told to stop or until a part fails.
    pub async fn run(self) -> Result<Stopped, Fault> {
        if let Ok((http, grpc, dns)) = self.addresses() {
            info!(%http, %grpc, %dns, data_dir = %self.config.data_dir.display(), "Listening");
        }
        let Self { config, mut reloader, http, grpc, dns, data, mut stop, hang_up } = self;
        let DataDir { remembered, store, mut keeper, _lock } = data;
        let stops = Stops::default();
        let mut tasks = Tasks::default();
        let (core, orders) = Core::new(&config, store, remembered);
        let Ordered { probed, pushed, heard, sessions } = orders;
        let pulse = core.start_scheduler(&config, probed, &stops, &mut tasks)?;
        core.start_vantage(&config, stops.listening.clone(), &mut tasks)?;
        core.start_agent(&config, (pushed, heard), &mut keeper, (&stops, &mut tasks)).await?;
        let (reload, requests) = api::reload_channel();
        let (view, limits) =
            (core.view(&config, reloader.streams(), reload), config.limits.clone());
        let end = || stops.listening.clone();
        tasks.spawn("http", api::serve::http(http, view.clone(), limits.clone(), end()));
        tasks.spawn("grpc", api::serve::grpc(grpc, view, limits, end()));
        if let Some(sockets) = dns {
            let responder = dns::responder(&config, &core.store, &core.metrics);
            sockets.start(responder, config.limits.connections(), &mut tasks, &end());
        }
        tasks.spawn("sessions", sessions.run(end()));
        let saver = Saver::new(&config.data_dir, &core.registry, &core.metrics);
        tasks.spawn("saver", saver.clone().run(end()));
        tasks.spawn("watchdog", systemd::watchdog(pulse, end()));
        let grace = config.grace_period;
        reloader.begin((&core.agent, &core.registry), &core.metrics, config).await;
        let (agent, metrics) = (Arc::clone(&core.agent), core.metrics.clone());
        tasks.spawn("reloader", reloader.run((agent, metrics), requests, hang_up, end()));
        core.readiness.send_replace(Readiness::Ready);
        systemd::ready();

        let fault = supervise(&mut tasks, &mut stop, &core.leave).await;
        core.readiness.send_replace(Readiness::Stopping);
        systemd::stopping();
        info!(grace = ?grace, "Stopping; a second signal stops at once");
        tokio::select! {
            stopped = wind_up(&stops, &mut tasks, grace, &saver) => match (fault, stopped) {
                (Some(fault), _) => Err(fault),
                (None, Err(error)) => Err(Fault::State(error)),
                (None, Ok(())) => Ok(Stopped::InOrder),
            },
            () = stop.next() => {
                warn!("Second signal: stopping at once");
                Ok(Stopped::AtOnce)
            }
        }
    }
}

/// Waits until told to stop (nothing) or until a part ends (the fault).
async fn supervise(tasks: &mut Tasks, stop: &mut Stop, leave: &CancellationToken) -> Option<Fault> {
    tokio::select! {
        ended = tasks.next_ended() => {
            let fault = fault_of(ended?);
            error!(error = %fault, "A part has failed; stopping");
            Some(fault)
        }
        () = stop.next() => None,
        () = leave.cancelled() => None,
    }
}

/// Lets probes finish, saves the state, closes the listeners.
async fn wind_up(
    stops: &Stops,
    tasks: &mut Tasks,
    grace: Duration,
    saver: &Saver,
) -> Result<(), snapshot::Error> {
    stops.drain(tasks, grace).await;
    let result = saver.finish().await;
    stops.close(tasks).await;
    info!("Stopped");
    result
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

/// The data directory, ours alone as long as this is held.
#[derive(Debug)]
struct DataDir {
    remembered: Snapshot,
    store: Arc<Store>,
    keeper: Keeper,
    _lock: fs::File,
}

impl DataDir {
    /// Makes the directory, takes it for us alone, and reads the state from it. A damaged state is
    /// set aside and told, and the daemon starts without it: it must come up.
    fn open(path: &Path) -> Result<Self, BindError> {
        let refused = |source| BindError::DataDir { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(refused)?;
        let lock = fs::File::create(path.join("lock")).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(BindError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(source)) => return Err(refused(source)),
        }
        let (remembered, opened) = thread::scope(|scope| {
            let opened = scope.spawn(|| Store::open(&path.join(REGISTRY)));
            // Here, for all that it takes is free again soon, and this thread has use for it.
            let remembered = Snapshot::load(path);
            (remembered, opened.join().unwrap_or_else(|panicked| resume_unwind(panicked)))
        });
        let remembered = match remembered {
            Ok(remembered) => remembered,
            Err(damaged @ snapshot::Error::Damaged { .. }) => {
                error!(error = &damaged as &dyn Error, "Starting without the saved state");
                Snapshot::default()
            }
            Err(error @ snapshot::Error::Io { .. }) => return Err(BindError::State(error)),
        };
        let (store, keeper) = opened.map_err(BindError::Store)?;
        Ok(Self { remembered, store, keeper, _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_by_itself_stops_the_daemon_and_is_named() {
        let number = regex::Regex::new("task [0-9]+").unwrap();
        for (fails, said) in [
            (false, "the task \"http\" ended by itself"),
            (true, "the task \"http\" failed: task 1 panicked with message \"oh\""),
        ] {
            let mut tasks = Tasks::default();
            tasks.spawn("grpc", std::future::pending());
            tasks.spawn("http", async move { assert!(!fails, "oh") });
            let fault =
                supervise(&mut tasks, &mut Stop::listen().unwrap(), &CancellationToken::new())
                    .await;
            let told = fault.unwrap().to_string();
            assert_eq!(number.replace(&told, "task 1"), said);
        }
    }

    #[tokio::test]
    async fn a_daemon_that_is_told_to_leave_stops_without_a_fault() {
        let (mut tasks, leave) = (Tasks::default(), CancellationToken::new());
        tasks.spawn("http", std::future::pending());
        leave.cancel();
        let fault = supervise(&mut tasks, &mut Stop::listen().unwrap(), &leave).await;
        assert!(fault.is_none(), "{fault:?}");
    }

    #[test]
    fn a_data_directory_has_one_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataDir::open(folder.path()).unwrap();
        let refused = DataDir::open(folder.path()).unwrap_err().to_string();
        assert!(refused.ends_with("is in use by another rollcall"), "{refused}");
        drop(held);
        assert!(DataDir::open(folder.path()).is_ok());
    }
}
