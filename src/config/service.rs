//! Services as our own files describe them, and the registrations they amount to.

use std::{collections::BTreeMap, iter, num::NonZeroU16, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    HashMap, HashSet,
    check::{self, Check, CheckDefaults, Common, Defined, head},
    destination,
    diagnostic::{Place, Problem},
    read::{Reader, Reading},
    scalar::{Address, InstanceIdText, ServiceNameText},
    tree::Node,
};
use crate::{
    compact::Pairs,
    judge::Verdict,
    model::{CheckId, InstanceId, ServiceName},
    probe::Endpoint,
    registry::{Assigned, Instance, Registration},
};

/// A service: a name, where its instances are, and what is asked of each.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The name under which its instances are found. Required.
    pub name: ServiceNameText,
    /// Tags of every instance, before the instance's own.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Metadata of every instance; an instance's own values go before these.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    /// Where the service runs.
    #[serde(default)]
    pub instances: Vec<Endpointed>,
    /// What is asked of every instance.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// What the checks of this service have in common; goes before the file's `check_defaults`.
    /// Default: none.
    #[serde(default)]
    #[schemars(with = "CheckDefaults")]
    pub check_defaults: Option<Check>,
}

/// One place where a service runs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Instance")]
pub struct Endpointed {
    /// Unique on this node over all services and files. Default: `<service>-<address>-<port>`.
    pub id: Option<InstanceIdText>,
    /// An IP address, or a DNS name that is resolved for every connection; one that is kept between
    /// probes serves for ten minutes at most. Required.
    pub address: Address,
    /// The port, 1 to 65535. Required.
    pub port: NonZeroU16,
    /// Tags, after those of the service.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Metadata; goes before that of the service.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    /// Checks of this instance only, besides those of the service.
    #[serde(default)]
    pub checks: Vec<Check>,
}

/// Texts that occur again and again, kept once.
#[derive(Debug, Default)]
pub(super) struct Interner(HashSet<Arc<str>>);

impl Interner {
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.0.insert(Arc::clone(&text));
        text
    }

    pub(super) fn tags(&mut self, tags: &[String]) -> Vec<Arc<str>> {
        tags.iter().map(|tag| self.get(tag)).collect()
    }

    pub(super) fn meta(&mut self, meta: &BTreeMap<String, String>) -> Meta {
        meta.iter().map(|(key, value)| (self.get(key), self.get(value))).collect()
    }
}

type Meta = BTreeMap<Arc<str>, Arc<str>>;

/// Everything registered so far, over all files.
#[derive(Debug, Default)]
pub(super) struct Roll {
    pub registrations: Vec<Registration>,
    pub interner: Interner,
    /// Where each instance is, beside [`Roll::registrations`].
    pub places: Vec<Place>,
    /// Services without an instance.
    pub empty: Vec<(ServiceName, Place)>,
    instances: HashMap<InstanceId, usize>,
    services: HashMap<ServiceName, Place>,
}

impl Roll {
    /// Adds an instance unless its id is taken.
    pub(super) fn add(
        &mut self,
        reader: &mut Reader<'_>,
        registration: Registration,
        place: Place,
    ) {
        let id = registration.instance.id.clone();
        if let Some(&first) = self.instances.get(&id) {
            let first = self.places[first].clone();
            reader.report(
                Problem::error(format!("the instance id `{id}` is used twice"))
                    .at(place, "used again")
                    .related(first, "it is used first here")
                    .help("ids are unique on a node, over all services and files; give one `id`"),
            );
            return;
        }
        self.instances.insert(id, self.registrations.len());
        self.registrations.push(registration);
        self.places.push(place);
    }

    /// The checks of an instance, to add to them.
    pub(super) fn checks_of(&mut self, id: &InstanceId) -> Option<&mut Vec<Assigned>> {
        let index = *self.instances.get(id)?;
        Some(&mut self.registrations[index].checks)
    }

    fn claim(&mut self, reader: &mut Reader<'_>, name: &ServiceName, place: Place) {
        match self.services.get(name) {
            None => {
                self.services.insert(name.clone(), place);
            }
            Some(first) => reader.report(
                Problem::error(format!("the service `{name}` is defined twice"))
                    .at(place, "defined again")
                    .related(first.clone(), "it is defined first here")
                    .help("put all its instances under one name"),
            ),
        }
    }
}

/// Reads one service with its instances and checks.
pub(super) fn service(
    reader: &mut Reader<'_>,
    roll: &mut Roll,
    mut node: Node,
    common: Common<'_>,
) {
    let instances = reader.take_list(&mut node, "instances");
    let checks = reader.take_list(&mut node, "checks");
    let own = check::defaults(reader, &mut node);
    let defaults: Vec<_> = iter::once(&own).chain(common.defaults.iter().copied()).collect();
    let common = Common { defaults: &defaults, ..common };
    let name_place =
        reader.place(&node.get("name").map_or_else(|| head(&node), |n| n.span.clone()));
    let service = reader.read::<Service>(node);
    let shared = define(reader, &Checks::default(), &checks, common);
    let service = service.map(|reading| reading.value);
    let name = service.as_ref().map(|service| service.name.get().clone());
    if let Some(name) = &name {
        if instances.is_empty() {
            roll.empty.push((name.clone(), name_place.clone()));
        }
        roll.claim(reader, name, name_place);
    }
    let template = Template {
        name,
        tags: service.as_ref().map(|s| roll.interner.tags(&s.tags).into()).unwrap_or_default(),
        meta: service
            .as_ref()
            .map(|s| Arc::new(roll.interner.meta(&s.meta).into()))
            .unwrap_or_default(),
        checks: shared,
        common,
    };
    for node in instances {
        template.instance(reader, roll, node);
    }
}

/// Checks whose ids differ.
#[derive(Debug, Default)]
struct Checks {
    all: Vec<Defined>,
    index: HashMap<CheckId, usize>,
}

impl Checks {
    fn get(&self, id: &CheckId) -> Option<&Defined> {
        self.index.get(id).map(|&index| &self.all[index])
    }

    fn push(&mut self, defined: Defined) {
        self.index.insert(defined.definition.id.clone(), self.all.len());
        self.all.push(defined);
    }
}

/// Reads a list of checks whose ids must differ from each other and from those of `known`.
fn define(reader: &mut Reader<'_>, known: &Checks, nodes: &[Node], common: Common<'_>) -> Checks {
    let mut checks = Checks::default();
    for node in nodes {
        let Some(defined) = check::check(reader, node, common) else { continue };
        let id = &defined.definition.id;
        match known.get(id).or_else(|| checks.get(id)) {
            None => checks.push(defined),
            Some(first) => {
                let problem = Problem::error(format!("the check id `{id}` is used twice"))
                    .at(defined.place.clone(), "used again")
                    .related(first.place.clone(), "it is used first here")
                    .help("give each check of a service an `id` of its own");
                reader.report(problem);
            }
        }
    }
    checks
}

/// What all instances of a service have in common.
struct Template<'a> {
    /// None if it could not be read; instances are then read for their own problems only.
    name: Option<ServiceName>,
    tags: Arc<[Arc<str>]>,
    meta: Arc<Pairs>,
    checks: Checks,
    common: Common<'a>,
}

impl Template<'_> {
    fn instance(&self, reader: &mut Reader<'_>, roll: &mut Roll, mut node: Node) {
        let checks = reader.take_list(&mut node, "checks");
        let own = define(reader, &self.checks, &checks, self.common);
        let address = reader.place(&node.get("address").unwrap_or(&node).span);
        let key = ["id", "address"].into_iter().find_map(|key| node.get(key));
        let span = key.map_or_else(|| head(&node), |node| node.span.clone());
        let Some(Reading { value, .. }) = reader.read::<Endpointed>(node) else { return };
        let Some(service) = &self.name else { return };
        let place = reader.place(&span);
        let Some(id) = id_of(reader, service, &value, &place) else { return };
        let mut tags = Arc::clone(&self.tags);
        for tag in roll.interner.tags(&value.tags) {
            if !tags.contains(&tag) {
                tags = tags.iter().cloned().chain([tag]).collect();
            }
        }
        let mut meta = Arc::clone(&self.meta);
        if !value.meta.is_empty() {
            let held = meta.iter().map(|(key, value)| (Arc::clone(key), Arc::clone(value)));
            meta = Arc::new(held.chain(roll.interner.meta(&value.meta)).collect());
        }
        let endpoint = Endpoint { host: value.address.get().clone(), port: value.port.get() };
        let instance = Instance { id, service: service.clone(), endpoint, tags, meta };
        let checks: Vec<_> = self.checks.all.iter().chain(&own.all).map(assigned).collect();
        let asked = |check: &Assigned| {
            let probe = &check.definition.probe;
            probe.protocol().uses_network() && probe.url_endpoint().is_none()
        };
        // One that nothing asks, or only elsewhere, may be anywhere.
        if checks.iter().any(asked) {
            destination::vet(reader, &instance.endpoint.host, address);
        }
        roll.add(reader, Registration { instance, checks }, place);
    }
}

fn assigned(defined: &Defined) -> Assigned {
    Assigned {
        definition: Arc::clone(&defined.definition),
        endpoint: None,
        consul_id: None,
        initial: Verdict::Unknown,
    }
}

/// The id given, or one made of service, address and port.
fn id_of(
    reader: &mut Reader<'_>,
    service: &ServiceName,
    instance: &Endpointed,
    place: &Place,
) -> Option<InstanceId> {
    if let Some(id) = &instance.id {
        return Some(id.get().clone());
    }
    let text = format!("{service}-{}-{}", instance.address.get(), instance.port);
    match text.parse() {
        Ok(id) => Some(id),
        Err(error) => {
            let problem = Problem::error(format!("the id `{text}` cannot be used: {error}"));
            reader
                .report(problem.at(place.clone(), "has no `id`").help("give the instance an `id`"));
            None
        }
    }
}
