//! Consul's service definition files, as they are.
//!
//! `{"service": {…}}`, `{"services": […]}`, and `check` or `checks` within a service or beside it.
//! Keys may be written in snake case or camel case; keys that are not known are passed over, since
//! Consul's format grows; `null` is absent. Defaults are Consul's. Kinds of check that are not run
//! here are named in a warning: the service is loaded without them.

mod check;

use std::path::Path;

use self::check::check;
use super::{
    Globs,
    check::head,
    diagnostic::{Place, Problem},
    open,
    read::{Dialect, Reader, Reading},
    service::Roll,
    tree::{self, Entry, Node, Value},
};
use crate::{
    compact::Pairs,
    consul::{Naming, ServiceDefinition, add},
    model::InstanceId,
    probe::Host,
    registry::{Assigned, Instance, Registration},
};

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
    let Some(Reading { value, .. }) = reader.read::<ServiceDefinition>(node) else { return };
    let (Some(name), Some(id)) = (value.name.clone(), value.instance_id()) else {
        let problem = Problem::error("a service needs a name").at(place, "has no `name`");
        reader.report(problem);
        return;
    };
    if let Some(Host::Name(text)) = &value.address
        && let Err(error) = text.parse::<Host>()
    {
        let problem = Problem::warning(format!("the address can only be shown: {error}"));
        reader.report(problem.at(place.clone(), "is at an address that nothing can ask"));
    }
    let instance = Instance {
        id,
        service: name,
        endpoint: value.endpoint(),
        tags: roll.interner.tags(&value.tags).into(),
        meta: Pairs::from(roll.interner.meta(&value.meta)).into(),
    };
    let checks = checks_of(reader, &instance, &checks);
    roll.add(reader, Registration { instance, checks }, place);
}

fn checks_of(reader: &mut Reader<'_>, instance: &Instance, nodes: &[Node]) -> Vec<Assigned> {
    let nodes: Vec<&Node> = nodes.iter().filter(|node| !is_empty(node)).collect();
    let mut all: Vec<Assigned> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let naming = Naming::within(&instance.id, &instance.service, index, nodes.len());
        if let Some((_, assigned)) = check(reader, node, &naming) {
            add(&mut all, assigned);
        }
    }
    all
}

/// Consul takes `"check": {}` for no check.
fn is_empty(node: &Node) -> bool {
    matches!(&node.value, Value::Map(entries) if entries.is_empty())
}

fn loose_check(reader: &mut Reader<'_>, node: &Node) -> Option<Loose> {
    let place = reader.place(&head(node));
    let name = reader.find(node, "name").and_then(|entry| entry.value.as_str()).unwrap_or_default();
    let naming = Naming { id: name.to_owned(), name: name.to_owned() };
    let (check, assigned) = check(reader, node, &naming)?;
    let Some(service) = check.service_id else {
        reader.report(
            Problem::warning("a check of the node itself is not run")
                .at(place, "has no `service_id`")
                .help("put it into the service it tells of, or name that with `service_id`"),
        );
        return None;
    };
    Some(Loose { service, assigned, place })
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
