//! The stage: everything that runs, started in order, ended with the test.

use std::path::PathBuf;

use crate::{
    daemon::{self, Daemon},
    monitoring::Monitoring,
    naming,
    rig::{empty_folder, missing, own_python},
    targets::Targets,
};

/// The programs that the stage runs, all of them packages of Debian, or always there.
const PROGRAMS: &[&str] = &[
    "/usr/sbin/nginx",
    "redis-server",
    "etcd",
    "prometheus",
    "promtool",
    "prometheus-alertmanager",
    "prometheus-blackbox-exporter",
    "dig",
    "setpriv",
];

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) daemon: Daemon,
    /// A daemon for DNS, whose instances nothing asks.
    pub(crate) names: Daemon,
    pub(crate) monitoring: Monitoring,
    pub(crate) targets: Targets,
    /// A Python that has gRPC.
    pub(crate) python: PathBuf,
    /// Configurations, data and logs, left behind for whoever wants to look.
    pub(crate) folder: PathBuf,
}

impl Stage {
    /// Starts everything.
    pub(crate) fn start() -> Self {
        let python = own_python();
        let mut programs = PROGRAMS.to_vec();
        programs.push(python.to_str().unwrap());
        let missing = missing(&programs);
        assert!(
            missing.is_empty(),
            "the live stage lacks {}; tests/run.sh installs what it needs and runs it",
            missing.join(", ")
        );
        let folder = empty_folder("live");
        let targets = Targets::start(&folder, &python);
        let services = daemon::services(&targets);
        let daemon = Daemon::start(&folder, "rollcall", &daemon::settings(), &services);
        let names = Daemon::start(&folder, "names", "", &naming::services());
        let ports = &targets.ports;
        let pages = [
            format!("http://127.0.0.1:{}/ok", ports.web),
            format!("http://127.0.0.1:{}/fail", ports.web),
            format!("https://127.0.0.1:{}/", ports.tls_good),
        ];
        let monitoring = Monitoring::start(&folder, daemon.http, &pages);
        Self { daemon, names, monitoring, targets, python, folder }
    }
}
