//! `rollcall run`: the daemon.

use std::{io, io::IsTerminal as _, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{error, warn};

use crate::{
    api::Binding,
    config::{self, Config, Loaded, Overrides},
    daemon::{Daemon, Reloader, Stopped},
    telemetry,
};

use super::{Exit, show};

/// Threads that serve the API; probes have threads of their own.
const API_THREADS: usize = 2;

/// Arguments of `rollcall run`; each overrides what the file says.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file; without one everything has its default.
    #[arg(long, short, value_name = "FILE", env = "ROLLCALL_CONFIG")]
    config: Option<PathBuf>,
    /// The name of this node [default: the host's name].
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Where the state is kept [default: ./rollcall-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the HTTP API listens [default: 127.0.0.1:8500].
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<SocketAddr>,
    /// Where the gRPC health service listens [default: 127.0.0.1:8502].
    #[arg(long, value_name = "ADDR:PORT")]
    grpc: Option<SocketAddr>,
    /// Where DNS listens, by UDP and TCP; `off`: nowhere [default: 127.0.0.1:8600].
    #[arg(long, value_name = "ADDR:PORT")]
    dns: Option<Binding>,
    /// Allow listeners beyond loopback, open to anyone who can reach them.
    #[arg(long)]
    insecure: bool,
    /// The form of the log [default: auto].
    #[arg(long, value_enum, value_name = "FORM")]
    log_format: Option<telemetry::Format>,
    /// What is logged, as `info` or `info,rollcall::probe=debug` [default: info].
    #[arg(long, value_name = "FILTER", env = "ROLLCALL_LOG")]
    log_filter: Option<String>,
}

impl Args {
    fn into_parts(self) -> (Option<PathBuf>, Overrides) {
        let overrides = Overrides {
            node_name: self.node_name,
            data_dir: self.data_dir,
            http: self.http,
            grpc: self.grpc,
            dns: self.dns,
            insecure: self.insecure.then_some(true),
            log_format: self.log_format,
            log_filter: self.log_filter,
        };
        (self.config, overrides)
    }
}

/// Runs the daemon until it is told to stop or fails.
pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let (path, overrides) = args.into_parts();
    let Loaded { config, warnings } = match config::load(path.as_deref(), &overrides) {
        Ok(loaded) => loaded,
        Err(rejected) => {
            show(&rejected.problems)?;
            return Ok(Exit::Usage);
        }
    };
    let (log, flush) = telemetry::init(&config.log)?;
    if io::stderr().is_terminal() {
        show(&warnings)?;
    } else {
        warnings.log();
    }
    raise_open_files_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(API_THREADS)
        .thread_name("api")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let stopped = runtime.block_on(serve(config, Reloader::new(path, overrides, Some(log))));
    // What is left behind at this point was told to end and did not.
    runtime.shutdown_background();
    let exit = match stopped {
        Ok(Stopped::InOrder) => Exit::Ok,
        Ok(Stopped::AtOnce) => Exit::Interrupted,
        Err(error) => {
            error!(error = format!("{error:#}"), "Stopped by a fault");
            Exit::Failure
        }
    };
    drop(flush);
    Ok(exit)
}

/// Takes as many file descriptors as we may have: every probe under way needs one. The soft limit
/// is low only for programs that use select(2).
fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        warn!(limit = limit.current, "The limit on open files cannot be raised");
    }
}

async fn serve(config: Config, reloader: Reloader) -> anyhow::Result<Stopped> {
    Ok(Daemon::bind(config, reloader).await?.run().await?)
}
