//! Consul's service definition files, as they are.
//!
//! `{"service": {…}}`, `{"services": […]}`, and `check` or `checks` within a service or beside it.
//! Keys may be written in snake case or camel case; keys that are not known are passed over, since
//! Consul's format grows; `null` is absent. Defaults are Consul's. Kinds of check that are not run
//! here are named in a warning: the service is loaded without them.

mod probe;

use std::{collections::BTreeMap, fmt, num::NonZeroU32, path::Path, sync::Arc, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use super::{
    Globs,
    check::head,
    diagnostic::{Place, Problem, floor},
    open,
    read::{Dialect, Fidelity, Reader, Reading},
    scalar::{Address, CheckIdText, InstanceIdText, ServiceNameText},
    service::Roll,
    tree::{self, Entry, Node, Value},
};
use crate::{
    duration::Period,
    judge::Thresholds,
    model::{CheckId, InstanceId, MAX_ID_LEN, Schedule},
    probe::{Endpoint, Host, Probe},
    registry::{Assigned, Definition, Instance, Registration},
};

/// Consul's own; ours is shorter.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Consul raises shorter intervals to this.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

const DEFAULT_JITTER: f64 = 0.05;
const DEFAULT_OBJECTIVE: f64 = 0.99;

/// Keys of the kinds of check that are not run, with the kind's name, in the order in which Consul
/// prefers them. A check that has `http`, `tcp` or `grpc` besides is run as that, as in Consul.
const NOT_RUN: &[(&str, &str)] = &[
    ("ttl", "TTL"),
    ("udp", "UDP"),
    ("docker_container_id", "Docker"),
    ("os_service", "OS service"),
    ("args", "script"),
    ("script_args", "script"),
    ("script", "script"),
    ("h2ping", "H2PING"),
    ("alias_service", "alias"),
    ("alias_node", "alias"),
];

/// A service as Consul defines it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    id: Option<InstanceIdText>,
    name: Option<ServiceNameText>,
    tags: Vec<String>,
    meta: BTreeMap<String, String>,
    address: Text,
    port: u16,
}

/// An address, where Consul takes an empty text for none.
#[derive(Debug, Default)]
struct Text(Option<Address>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(D::Error::custom)
    }
}

/// A check as Consul defines it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the fields are Consul's")]
struct Check {
    #[serde(alias = "check_id")]
    id: Option<CheckIdText>,
    name: Option<String>,
    notes: Option<String>,
    service_id: Option<InstanceIdText>,
    status: Option<Status>,
    http: Option<String>,
    method: Option<String>,
    header: BTreeMap<String, Vec<String>>,
    body: Option<String>,
    disable_redirects: bool,
    tcp: Option<String>,
    tcp_use_tls: bool,
    grpc: Option<String>,
    grpc_use_tls: bool,
    tls_server_name: Option<String>,
    tls_skip_verify: bool,
    interval: Option<Time>,
    timeout: Option<Time>,
    success_before_passing: u32,
    failures_before_warning: u32,
    failures_before_critical: u32,
    deregister_critical_service_after: Option<Time>,
}

/// The status a check starts with. It is read and not used: a check has no status here before the
/// first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    #[serde(alias = "")]
    Passing,
    Warning,
    Critical,
}

/// A duration as Go writes it, or a number of nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Go;

        impl Visitor<'_> for Go {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"10s\"")
            }

            fn visit_u64<E: Error>(self, nanos: u64) -> Result<Time, E> {
                Ok(Time(Duration::from_nanos(nanos)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map(|period: Period| Time(period.get())).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Go)
    }
}

/// A check beside the services, which may belong to one that is read later.
struct Loose {
    service: InstanceId,
    assigned: Assigned,
    place: Place,
}

/// Reads every file that the patterns match, in the order of patterns and names.
pub(super) fn read_all(reader: &mut Reader<'_>, roll: &mut Roll, globs: &Globs<'_>) {
    let mut loose = Vec::new();
    for node in globs.patterns.map(Node::items).unwrap_or_default() {
        let Some(pattern) = node.as_str() else { continue };
        let full = globs.folder.join(pattern);
        let paths = match glob::glob(&full.to_string_lossy()) {
            Ok(paths) => paths.filter_map(Result::ok).filter(|path| path.is_file()),
            Err(error) => {
                let problem = Problem::error(format!("this pattern cannot be used: {}", error.msg));
                reader.report(problem.at(reader.place(&node.span), ""));
                continue;
            }
        };
        let mut found = 0;
        for path in paths {
            found += 1;
            read_file(&path, reader.problems, roll, &mut loose);
        }
        if found == 0 {
            let place = reader.place(&node.span);
            reader.report(
                Problem::warning("no file matches the pattern")
                    .at(place, format!("looked for `{}`", full.display())),
            );
        }
    }
    attach(reader, roll, loose);
}

fn read_file(path: &Path, problems: &mut Vec<Problem>, roll: &mut Roll, loose: &mut Vec<Loose>) {
    if path.extension().is_some_and(|extension| extension == "hcl") {
        problems.push(
            Problem::error(format!("`{}` is HCL, which is not read", path.display()))
                .help("convert it to JSON, or let the pattern match `*.json` only"),
        );
        return;
    }
    let Some(source) = open(path, problems) else { return };
    let (root, faults) = tree::parse(&source);
    problems.extend(faults);
    let Some(mut root) = root else { return };
    let mut reader = Reader { source: &source, dialect: Dialect::Consul, problems };
    if !super::is_mapping(&root) {
        let place = reader.place(&root.span);
        reader.report(Problem::error("a service file is a mapping").at(place, "is something else"));
        return;
    }
    for node in reader.take_items(&mut root, &["service", "services"]) {
        service(&mut reader, roll, node);
    }
    for node in reader.take_items(&mut root, &["check", "checks"]) {
        loose.extend(loose_check(&mut reader, &node));
    }
}

impl Reader<'_> {
    /// Takes out keys that hold one thing or a list of things.
    fn take_items(&mut self, node: &mut Node, keys: &[&str]) -> Vec<Node> {
        let mut all = Vec::new();
        for key in keys {
            match self.take(node, key) {
                Some(Entry { value: Node { value: Value::Seq(items), .. }, .. }) => {
                    all.extend(items);
                }
                Some(Entry { value: Node { value: Value::Null, .. }, .. }) | None => {}
                Some(entry) => all.push(entry.value),
            }
        }
        all
    }
}

fn service(reader: &mut Reader<'_>, roll: &mut Roll, mut node: Node) {
    let checks = reader.take_items(&mut node, &["check", "checks"]);
    let place_of = |node: &Node| {
        let entry = reader.find(node, "id").or_else(|| reader.find(node, "name"));
        reader.place(&entry.map_or_else(|| head(node), |entry| entry.value.span.clone()))
    };
    let place = place_of(&node);
    let Some(Reading { value, .. }) = reader.read::<Service>(node) else { return };
    let Some(name) = value.name else {
        let problem = Problem::error("a service needs a name").at(place, "has no `name`");
        reader.report(problem);
        return;
    };
    let name = name.get().clone();
    let id = match &value.id {
        Some(id) => id.get().clone(),
        None => match name.as_str().parse() {
            Ok(id) => id,
            Err(_) => return,
        },
    };
    let host = value.address.0.map_or_else(loopback, |address| address.get().clone());
    let instance = Instance {
        id,
        service: name,
        endpoint: Endpoint { host, port: value.port },
        tags: roll.interner.tags(&value.tags),
        meta: roll.interner.meta(&value.meta),
    };
    let checks = checks_of(reader, &instance, &checks);
    roll.add(reader, Registration { instance, checks }, place);
}

/// Where a service without an address is: Consul's agent runs on the same host.
fn loopback() -> Host {
    Host::Ip(std::net::Ipv4Addr::LOCALHOST.into())
}

fn checks_of(reader: &mut Reader<'_>, instance: &Instance, nodes: &[Node]) -> Vec<Assigned> {
    let nodes: Vec<&Node> = nodes.iter().filter(|node| !is_empty(node)).collect();
    let mut all: Vec<Assigned> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let default_id = match nodes.len() {
            1 => format!("service:{}", instance.id),
            _ => format!("service:{}:{}", instance.id, index + 1),
        };
        let default_name = format!("Service '{}' check", instance.service);
        if let Some((_, assigned)) = check(reader, node, &default_id, &default_name) {
            add(&mut all, assigned);
        }
    }
    all
}

/// Consul takes `"check": {}` for no check.
fn is_empty(node: &Node) -> bool {
    matches!(&node.value, Value::Map(entries) if entries.is_empty())
}

/// Adds a check under an id that the instance does not have yet: Consul's ids need not be unique
/// where they come from names, ours are labels of metrics.
fn add(all: &mut Vec<Assigned>, mut assigned: Assigned) {
    let base = assigned.definition.id.to_string();
    // One more number than there are ids: one of them is free.
    for n in 2..=all.len() + 1 {
        if all.iter().all(|other| other.definition.id != assigned.definition.id) {
            break;
        }
        if let Some(definition) = Arc::get_mut(&mut assigned.definition)
            && let Ok(id) = numbered(&base, n).parse()
        {
            definition.id = id;
        }
    }
    all.push(assigned);
}

/// An id with a number, cut to the length an id may have.
fn numbered(base: &str, n: usize) -> String {
    let suffix = format!("-{n}");
    let end = floor(base, MAX_ID_LEN - suffix.len());
    format!("{}{suffix}", &base[..end])
}

fn loose_check(reader: &mut Reader<'_>, node: &Node) -> Option<Loose> {
    let place = reader.place(&head(node));
    let name = reader.find(node, "name").and_then(|entry| entry.value.as_str()).unwrap_or_default();
    let (check, assigned) = check(reader, node, name, name)?;
    let Some(service) = check.service_id else {
        reader.report(
            Problem::warning("a check of the node itself is not run")
                .at(place, "has no `service_id`")
                .help("put it into the service it tells of, or name that with `service_id`"),
        );
        return None;
    };
    Some(Loose { service: service.get().clone(), assigned, place })
}

/// Gives loose checks to the instances they name.
fn attach(reader: &mut Reader<'_>, roll: &mut Roll, loose: Vec<Loose>) {
    for Loose { service, assigned, place } in loose {
        match roll.checks_of(&service) {
            Some(checks) => add(checks, assigned),
            None => reader.report(
                Problem::warning(format!("no instance has the id `{service}`"))
                    .at(place, "the check is not run"),
            ),
        }
    }
}

/// Reads one check; none if it cannot be read or is of a kind that is not run.
fn check(
    reader: &mut Reader<'_>,
    node: &Node,
    default_id: &str,
    default_name: &str,
) -> Option<(Check, Assigned)> {
    let runs = ["http", "tcp", "grpc"].iter().any(|key| reader.find(node, key).is_some());
    let ttl = reader.find(node, "ttl").is_some();
    let Reading { value: check, fidelity } = reader.read::<Check>(node.clone())?;
    if !runs || ttl {
        refuse(reader, node);
        return None;
    }
    if fidelity == Fidelity::Lossy {
        return None;
    }
    let written = Written { check: &check, node };
    let schedule = written.schedule(reader)?;
    let thresholds = written.thresholds(reader)?;
    let (spec, endpoint) = probe::spec(reader, &written)?;
    written.warn(reader);
    let probe = match Probe::prepare(&spec) {
        Ok(probe) => probe,
        Err(error) => {
            let place = reader.place(&head(node));
            let problem = Problem::error(super::check::chain(&error));
            reader.report(problem.at(place, "cannot be made ready"));
            return None;
        }
    };
    let given = check.id.as_ref().map(|id| id.get().clone());
    let named = check.name.as_ref().and_then(|name| name.parse().ok());
    let id = given.clone().or(named).or_else(|| probe.protocol().as_str().parse().ok())?;
    let definition = Definition {
        id,
        name: Some(check.name.as_deref().unwrap_or(default_name).into()),
        notes: check.notes.as_deref().map(Into::into),
        probe: Arc::new(probe),
        schedule,
        thresholds,
        slo_objective: DEFAULT_OBJECTIVE,
    };
    let consul_id = given.as_ref().map_or(default_id, CheckId::as_str);
    let assigned = Assigned {
        definition: Arc::new(definition),
        endpoint: Some(endpoint),
        consul_id: Some(consul_id.into()),
    };
    Some((check, assigned))
}

/// Says that a check is not run, or that it is no check.
fn refuse(reader: &mut Reader<'_>, node: &Node) {
    let found = NOT_RUN.iter().find_map(|&(key, kind)| Some((reader.find(node, key)?, kind)));
    let problem = match found {
        Some((entry, kind)) => {
            Problem::warning(format!("checks of the kind {kind} are not run in this version"))
                .at(reader.place(&entry.key_span), "the service is loaded without this check")
        }
        None => Problem::error("a check asks by one of `http`, `tcp` and `grpc`")
            .at(reader.place(&head(node)), "asks by none of them"),
    };
    reader.report(problem);
}

/// A check with the tree it was read from, which knows the places.
struct Written<'a> {
    check: &'a Check,
    node: &'a Node,
}

impl Written<'_> {
    fn place(&self, reader: &Reader<'_>, key: &str) -> Place {
        let entry = reader.find(self.node, key);
        reader.place(&entry.map_or_else(|| head(self.node), |entry| entry.value.span.clone()))
    }

    fn schedule(&self, reader: &mut Reader<'_>) -> Option<Schedule> {
        let Some(Time(mut interval)) = self.check.interval.filter(|time| !time.0.is_zero()) else {
            let problem = Problem::error("a check needs an `interval` above zero")
                .at(self.place(reader, "interval"), "has none");
            reader.report(problem);
            return None;
        };
        if interval < MIN_INTERVAL {
            let problem = Problem::warning("an interval below 1s is raised to 1s")
                .at(self.place(reader, "interval"), Period::from(interval).to_string())
                .help("Consul does the same; checks in our own format may ask faster");
            reader.report(problem);
            interval = MIN_INTERVAL;
        }
        let timeout = self.check.timeout.map(|time| time.0).filter(|time| !time.is_zero());
        Some(Schedule {
            interval,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            jitter: DEFAULT_JITTER,
            initial_delay: Duration::ZERO,
        })
    }

    /// Consul counts from zero where we count from one: 0 and 1 both mean "at once".
    fn thresholds(&self, reader: &mut Reader<'_>) -> Option<Thresholds> {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let critical = at_least_one(self.check.failures_before_critical);
        let warning = match self.check.failures_before_warning {
            0 => critical,
            n => at_least_one(n),
        };
        let passing = at_least_one(self.check.success_before_passing);
        Thresholds::new(passing, warning, critical)
            .map_err(|error| {
                let place = self.place(reader, "failures_before_warning");
                reader.report(Problem::error(error.to_string()).at(place, ""));
            })
            .ok()
    }

    fn warn(&self, reader: &mut Reader<'_>) {
        if self.check.deregister_critical_service_after.is_some_and(|time| !time.0.is_zero()) {
            let place = self.place(reader, "deregister_critical_service_after");
            reader.report(
                Problem::warning("services are not deregistered for being critical")
                    .at(place, "is not acted on in this version"),
            );
        }
    }
}
