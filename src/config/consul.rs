//! Consul's service definition files, as they are.
//!
//! `{"service": {…}}`, `{"services": […]}`, and `check` or `checks` within a service or beside it.
//! Keys may be written in snake case or camel case; keys that are not known are passed over, since
//! Consul's format grows; `null` is absent. Defaults are Consul's. Kinds of check that are not run
//! here are named in a warning: the service is loaded without them.

mod check;
mod probe;

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, de::Error};

use self::check::check;
use super::{
    Globs,
    check::head,
    diagnostic::{Place, Problem, floor},
    open,
    read::{Dialect, Reader, Reading},
    scalar::{Address, InstanceIdText, ServiceNameText},
    service::Roll,
    tree::{self, Entry, Node, Value},
};
use crate::{
    model::{InstanceId, MAX_ID_LEN},
    probe::{Endpoint, Host},
    registry::{Assigned, Instance, Registration},
};

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
            Ok(paths) => paths,
            Err(error) => {
                let problem = Problem::error(format!("this pattern cannot be used: {}", error.msg));
                reader.report(problem.at(reader.place(&node.span), ""));
                continue;
            }
        };
        let mut found = 0;
        for path in paths {
            match path {
                Ok(path) if path.is_dir() => continue,
                Ok(path) => read_file(&path, reader, roll, &mut loose),
                Err(error) => reader.report(Problem::error(error.to_string())),
            }
            found += 1;
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

fn read_file(path: &Path, outer: &mut Reader<'_>, roll: &mut Roll, loose: &mut Vec<Loose>) {
    let (may, problems) = (outer.may, &mut *outer.problems);
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
    let mut reader = Reader { source: &source, dialect: Dialect::Consul, may, problems };
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
    let taken: HashSet<_> = all.iter().map(|other| other.definition.id.clone()).collect();
    let base = assigned.definition.id.to_string();
    // One more number than there are ids: one of them is free.
    for n in 2..=taken.len() + 1 {
        if !taken.contains(&assigned.definition.id) {
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
