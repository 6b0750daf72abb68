//! The configuration: what was written, what it means, and what is wrong with it.
//!
//! [`load`] reads one YAML file and the Consul service definitions it names, and answers with all
//! problems at once, each with its place. [`File`] is what may be written; the sections are
//! described beside the modules they configure. [`Config`] is what it means. A daemon that reloads
//! calls [`load`] again and keeps what it has if the answer is [`Rejected`].

pub mod diagnostic;
pub mod reference;
pub mod scalar;
pub mod schema;
pub mod tree;

mod brakes;
pub mod budget;
pub mod check;
mod consul;
mod crowd;
mod destination;
pub mod noticed;
mod program;
mod read;
mod series;
pub mod service;
mod vantage;
mod vet;

use std::{
    fmt, fs,
    io::Read,
    net::SocketAddr,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;

use self::{
    check::{Check, CheckDefaults, Common},
    diagnostic::{Place, Problem, Report, Severity, Source},
    read::{Dialect, May, Reader},
    service::{Roll, Service},
    tree::{Node, Value},
};
use crate::{
    api, dns,
    duration::Period,
    metrics,
    probe::{
        egress::{self, Policy},
        exec,
    },
    publish,
    registry::Registration,
    scheduler, telemetry, vantage as own,
};

/// What is written in a file, by hash: there may be a hundred thousand of it.
type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
type HashSet<T> = std::collections::HashSet<T, foldhash::fast::RandomState>;

/// Largest file that is read, in bytes: a hundred times what 10,000 services need.
const MAX_FILE: u64 = 256 << 20;

/// What may be written in the configuration file. Every key has a default.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "The configuration of rollcall")]
pub struct File {
    /// The name of this node in the API. Default: the host's name.
    pub node_name: Option<String>,
    /// The folder for what must survive a restart; made if it does not exist.
    pub data_dir: PathBuf,
    /// Where the daemon listens.
    pub listen: api::Listen,
    /// Says that listening on an address other than loopback, without TLS and without a token, is
    /// meant: whoever reaches the port may read, and change, everything.
    pub insecure: bool,
    /// Limits of the listeners.
    pub limits: api::Limits,
    /// How services are shown by DNS.
    pub dns: dns::Config,
    /// The daemon's own log.
    pub log: telemetry::Config,
    /// How probes are scheduled.
    pub scheduler: scheduler::Config,
    /// How the daemon watches itself.
    pub self_health: own::Config,
    /// Where probes may go.
    pub egress: egress::Config,
    /// What checks may do beyond asking over the network.
    pub checks: exec::Config,
    /// How much may be published as critical at once.
    pub guard: publish::guard::Config,
    /// How checks that come and go are published.
    pub damping: publish::damping::Config,
    /// What `/metrics` shows.
    pub metrics: metrics::Config,
    /// How long the daemon may take to stop after it was told to: to answer what it was asked and
    /// to write down what it knows. At most 1h.
    pub grace_period: Period,
    /// How many of the latest changes of status are kept for the API; at most 1,000,000.
    pub event_history: usize,
    /// How many of the last attempts of each check are kept for `rollcall explain`; at most 32, 0
    /// keeps none.
    pub explain_attempts: metrics::Kept,
    /// Consul service definitions (JSON) to read besides this file: paths, in which `*`, `?`, `[]`
    /// and `**` match, relative to this file's folder.
    pub service_files: Vec<String>,
    /// What all checks below have in common: any key of a check but `id`, `name`, `notes` and the
    /// protocol. Checks read from `service_files` do not take it. Default: none.
    #[schemars(with = "CheckDefaults")]
    pub check_defaults: Option<Check>,
    /// The services, their instances and their checks.
    pub services: Vec<Service>,
    /// Alertmanagers to send alerts to. Not supported yet: the list must be empty. Use the
    /// Prometheus rules in `alerts/`.
    pub alertmanagers: Vec<String>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            node_name: None,
            data_dir: PathBuf::from("./rollcall-data"),
            listen: api::Listen::default(),
            insecure: false,
            limits: api::Limits::default(),
            dns: dns::Config::default(),
            log: telemetry::Config::default(),
            scheduler: scheduler::Config::default(),
            self_health: own::Config::default(),
            egress: egress::Config::default(),
            checks: exec::Config::default(),
            guard: publish::guard::Config::default(),
            damping: publish::damping::Config::default(),
            metrics: metrics::Config::default(),
            grace_period: Period::from_secs(10),
            event_history: 1000,
            explain_attempts: metrics::Kept::default(),
            service_files: Vec::new(),
            check_defaults: None,
            services: Vec::new(),
            alertmanagers: Vec::new(),
        }
    }
}

/// What the configuration means.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The name of this node.
    pub node_name: String,
    /// The folder for what must survive a restart.
    pub data_dir: PathBuf,
    /// Where the daemon listens.
    pub listen: api::Listen,
    /// Whether the operator has said that an open listener is meant.
    pub insecure: bool,
    /// Limits of the listeners.
    pub limits: api::Limits,
    /// How services are shown by DNS.
    pub dns: dns::Config,
    /// The daemon's own log.
    pub log: telemetry::Config,
    /// How probes are scheduled.
    pub scheduler: scheduler::Config,
    /// How the daemon watches itself.
    pub self_health: own::Config,
    /// Where probes may go.
    pub egress: egress::Config,
    /// What checks may do beyond asking over the network.
    pub checks: exec::Config,
    /// How much may be published as critical at once.
    pub guard: publish::guard::Config,
    /// How checks that come and go are published.
    pub damping: publish::damping::Config,
    /// What `/metrics` shows.
    pub metrics: metrics::Config,
    /// How long the daemon may take to stop.
    pub grace_period: Duration,
    /// How many of the latest changes of status are kept.
    pub event_history: usize,
    /// How many of the last attempts of each check are kept.
    pub explain_attempts: metrics::Kept,
    /// The instances and their checks, in the order written; ids are unique.
    pub registrations: Vec<Registration>,
}

impl Config {
    /// The address under which this node is shown: where the HTTP API listens, or the loopback if
    /// that is everywhere.
    pub fn node_address(&self) -> IpAddr {
        match self.listen.http.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        }
    }
}

/// What flags say; goes before the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// Instead of `node_name`.
    pub node_name: Option<String>,
    /// Instead of `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// Instead of `listen.http`.
    pub http: Option<SocketAddr>,
    /// Instead of `listen.grpc`.
    pub grpc: Option<SocketAddr>,
    /// Instead of `listen.dns`.
    pub dns: Option<api::Binding>,
    /// Instead of `insecure`.
    pub insecure: Option<bool>,
    /// Instead of `log.format`.
    pub log_format: Option<telemetry::Format>,
    /// Instead of `log.filter`.
    pub log_filter: Option<String>,
}

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What somebody should look at.
    pub warnings: Report,
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// What is wrong, warnings included; at least one error.
    pub problems: Report,
}

/// The whole report, in plain text.
impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problems.fmt(f)
    }
}

impl std::error::Error for Rejected {}

/// Reads the file, if one is named, and everything it refers to. Without a file everything has its
/// default. Reads files, so it may block, and the host's name; opens no socket and writes nothing.
pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Loaded, Rejected> {
    let mut problems = Vec::new();
    let config = path
        .map_or_else(|| Some(Source::new("", "")), |path| open(path, &mut problems))
        .and_then(|source| {
            let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
            assemble(&source, folder, overrides, &mut problems)
        });
    let report = Report::new(problems);
    match config {
        Some(config) if report.count(Severity::Error) == 0 => {
            Ok(Loaded { config, warnings: report })
        }
        Some(_) | None => Err(Rejected { problems: report }),
    }
}

/// Reads a file; says why if it cannot be.
fn open(path: &Path, problems: &mut Vec<Problem>) -> Option<Arc<Source>> {
    let name = path.display().to_string();
    // Bounded while reading: the file may be a pipe, which has no size.
    let mut bytes = Vec::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())
        .and_then(|size| match u64::try_from(size) {
            Ok(size) if size <= MAX_FILE => Ok(()),
            Ok(_) | Err(_) => Err(format!("it is larger than {} MiB", MAX_FILE >> 20)),
        });
    if let Err(reason) = read {
        problems.push(Problem::error(format!("cannot read `{name}`: {reason}")));
        return None;
    }
    match String::from_utf8(bytes) {
        // The mark some editors put first is not part of the text.
        Ok(text) => Some(Source::new(name, text.strip_prefix('\u{feff}').unwrap_or(&text))),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
            let place = Place::new(&Source::new(name, text), valid..valid);
            problems.push(
                Problem::error("the file is not UTF-8")
                    .at(place, "the first byte that is not is here")
                    .help("save it in UTF-8"),
            );
            None
        }
    }
}

fn assemble(
    source: &Arc<Source>,
    folder: &Path,
    overrides: &Overrides,
    problems: &mut Vec<Problem>,
) -> Option<Config> {
    let (root, faults) = tree::parse(source);
    problems.extend(faults);
    let mut root = root?;
    // Nothing is judged before it is known by what.
    let open = Policy::unrestricted();
    let may = May { egress: &open, exec: exec::Allowed::Api };
    let mut reader = Reader { source, dialect: Dialect::Strict, may, problems };
    let mut roll = Roll::default();
    let services = reader.take_list(&mut root, "services");
    let defaults = check::defaults(&mut reader, &mut root);
    let patterns = root.get("service_files").cloned();
    let file = reader.read::<File>(root.clone()).map(|reading| reading.value);
    let egress = file.as_ref().map_or(open.clone(), |file| Policy::new(&file.egress));
    let exec = file.as_ref().map_or(exec::Allowed::Api, |file| file.checks.exec);
    reader.may = May { egress: &egress, exec };
    let tick =
        file.as_ref().map(|file| file.scheduler.tick.get()).filter(|t| vet::TICKS.contains(t));
    let common = Common { defaults: &[&defaults], tick };
    for node in services {
        service::service(&mut reader, &mut roll, node, common);
    }
    if let Some(file) = &file {
        vet::file(&mut reader, &root, file, overrides);
        consul::read_all(&mut reader, &mut roll, &Globs { folder, patterns: patterns.as_ref() });
        crowd::warn(&mut reader, &roll, &file.scheduler);
        budget::judge(&mut reader, &root, &roll, (&file.scheduler, &budget::Means::read()));
        // What could not be read is not missing.
        if reader.problems.iter().all(|problem| problem.severity == Severity::Warning) {
            crowd::warn_unasked(&mut reader, &roll);
        }
        destination::warn(&mut reader, &root);
    }
    file.map(|file| mean(file, overrides, roll.registrations))
}

/// The patterns of `service_files` with the folder they are relative to.
struct Globs<'a> {
    folder: &'a Path,
    patterns: Option<&'a Node>,
}

/// Puts flags over the file.
fn mean(file: File, overrides: &Overrides, registrations: Vec<Registration>) -> Config {
    let over = overrides.clone();
    Config {
        node_name: over.node_name.or(file.node_name).unwrap_or_else(host_name),
        data_dir: over.data_dir.unwrap_or(file.data_dir),
        listen: api::Listen {
            http: over.http.unwrap_or(file.listen.http),
            grpc: over.grpc.unwrap_or(file.listen.grpc),
            dns: over.dns.unwrap_or(file.listen.dns),
        },
        insecure: over.insecure.unwrap_or(file.insecure),
        limits: file.limits,
        dns: file.dns,
        log: telemetry::Config {
            format: over.log_format.unwrap_or(file.log.format),
            filter: over.log_filter.unwrap_or(file.log.filter),
        },
        scheduler: file.scheduler,
        self_health: file.self_health,
        egress: file.egress,
        checks: file.checks,
        guard: file.guard,
        damping: file.damping,
        metrics: file.metrics,
        grace_period: file.grace_period.get(),
        event_history: file.event_history,
        explain_attempts: file.explain_attempts,
        registrations,
    }
}

fn host_name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    if name.is_empty() { "localhost".to_owned() } else { name.into_owned() }
}

/// Whether a tree is a mapping, or nothing.
fn is_mapping(node: &Node) -> bool {
    matches!(node.value, Value::Map(_) | Value::Null)
}
