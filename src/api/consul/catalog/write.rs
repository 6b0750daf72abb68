//! Writes into the catalog: nodes, instances and checks that somebody else answers for.
//!
//! On our own node the agent answers: what is registered with it cannot be changed or removed
//! from here, except for tags that it leaves to the catalog, and what it does not know goes at its
//! next sweep.

use std::{net::IpAddr, sync::Arc};

use axum::{body::Bytes, extract::State, response::Response};
use http::StatusCode;
use serde_json::Value;

use super::{
    body::{self, Deregistration, Registration},
    kept,
};
use crate::{
    api::{
        consul::{DATACENTER, decode, json, read::Asked},
        router::{App, Refusal},
    },
    store::{
        Key, Tables, Tx, folded,
        row::{
            Check, CheckShape, Extras, Map, Node, Origin, Place, Service, ServiceShape, Weights,
        },
    },
};

pub(in crate::api::consul) async fn register(
    State(app): State<Arc<App>>,
    asked: Asked,
    body: Bytes,
) -> Result<Response, Refusal> {
    let registration: Registration = decode(&body)?;
    vet_datacenter(asked.params.get("dc").unwrap_or_default())?;
    let registration = vetted(registration)?;
    let own = &app.view.node_name;
    app.view.store.write(|tx| put(tx, own, &registration)).await?;
    Ok(json(&asked.params, &true))
}

pub(in crate::api::consul) async fn deregister(
    State(app): State<Arc<App>>,
    asked: Asked,
    body: Bytes,
) -> Result<Response, Refusal> {
    let wanted: Deregistration = decode(&body)?;
    vet_datacenter(asked.params.get("dc").unwrap_or_default())?;
    vet_datacenter(&wanted.datacenter)?;
    if wanted.node.is_empty() {
        return Err(refused("Must provide node"));
    }
    let own = &app.view.node_name;
    let written = app.view.store.write(|tx| {
        if let Some(key) = removable(tx, own, &wanted) {
            tx.delete(key);
        }
        Ok::<_, Refusal>(())
    });
    written.await?;
    Ok(json(&asked.params, &true))
}

/// Consul answers all that its catalog does not take with 500.
fn refused(text: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
}

fn vet_datacenter(datacenter: &str) -> Result<(), Refusal> {
    match datacenter {
        "" | DATACENTER => Ok(()),
        _ => Err(refused("No path to datacenter")),
    }
}

/// A registration that can be made, with its defaults filled in.
fn vetted(mut registration: Registration) -> Result<Registration, Refusal> {
    vet_datacenter(&registration.datacenter)?;
    if registration.node.is_empty() {
        return Err(refused("Must provide node"));
    }
    if registration.address.is_empty() && !registration.skip_node_update {
        return Err(refused("Must provide address if SkipNodeUpdate is not set"));
    }
    let id = &registration.id;
    if !id.is_empty() && uuid::Uuid::try_parse(id).is_err() {
        return Err(refused(format!("Bad node ID: {id:?} is not a UUID")));
    }
    registration.service.take_if(|service| service.id.is_empty() && service.name.is_empty());
    if let Some(service) = &mut registration.service {
        if service.name.is_empty() {
            let text = "Must provide service name (Service.Service) when service ID is provided";
            return Err(refused(text));
        }
        if service.id.is_empty() {
            service.id.clone_from(&service.name);
        }
        if service.address.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified()) {
            return Err(refused("Invalid service address"));
        }
    }
    registration.checks.extend(registration.check.take());
    for check in &mut registration.checks {
        if check.id.is_empty() {
            check.id.clone_from(&check.name);
        }
    }
    registration.checks.retain(|check| !check.id.is_empty());
    Ok(registration)
}

fn put(tx: &mut Tx<'_>, own: &str, registration: &Registration) -> Result<(), Refusal> {
    let Registration { service, checks, .. } = registration;
    let name = put_node(tx, own, registration)?;
    if let Some(service) = service {
        put_service(tx, own, &name, service);
    }
    for check in checks {
        if !check.node.is_empty() && folded(&check.node) != folded(&name) {
            let text = format!("check node {:?} does not match node {name:?}", check.node);
            return Err(refused(text));
        }
        put_check(tx, own, &name, check)?;
    }
    Ok(())
}

/// Puts a node unless it is ours, which stays as it is, or is to be left as it is; one that is not
/// there is put also then, without an address, as Consul has it. Returns its name as it is kept.
fn put_node(tx: &mut Tx<'_>, own: &str, registration: &Registration) -> Result<Arc<str>, Refusal> {
    let Registration { id, node: name, address, .. } = registration;
    let held = tx.node(name).cloned();
    if let Some(held) = &held
        && (registration.skip_node_update || folded(name) == folded(own))
    {
        return Ok(Arc::clone(&held.name));
    }
    // Another name for the same id: the node has been renamed.
    let namesake = tx.node_by_id(id).filter(|node| folded(&node.name) != folded(name)).cloned();
    if let Some(namesake) = namesake {
        if folded(&namesake.name) == folded(own) {
            let text = format!("Node ID {id} for node {name:?} aliases existing node {own:?}");
            return Err(refused(text));
        }
        tx.delete(Key::Node(Arc::clone(&namesake.name)));
    }
    let held_id = held.as_ref().map(|held| Arc::clone(&held.id)).unwrap_or_default();
    let name = held.map_or_else(|| name.as_str().into(), |held| Arc::clone(&held.name));
    let tagged = registration.tagged_addresses.as_ref();
    tx.put(Node {
        name: Arc::clone(&name),
        id: if id.is_empty() { held_id } else { id.to_lowercase().into() },
        address: address.as_str().into(),
        tagged_addresses: tagged.map(|tagged| tagged.iter().map(address_of).collect()),
        meta: registration.node_meta.as_ref().map(map),
        ..Node::default()
    });
    Ok(name)
}

/// An address under a name: a text, or an object that holds one.
fn address_of((name, address): (&String, &Value)) -> (Arc<str>, Arc<str>) {
    let held = address.as_object().and_then(|object| {
        object.iter().find(|(key, _)| key.eq_ignore_ascii_case("address")).map(|(_, value)| value)
    });
    let address = held.unwrap_or(address).as_str().unwrap_or_default();
    (name.as_str().into(), address.into())
}

fn map(given: &std::collections::BTreeMap<String, String>) -> Map {
    given.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

/// Puts an instance. Of one that the agent answers for only the tags are taken, if it lets them.
fn put_service(tx: &mut Tx<'_>, own: &str, node: &Arc<str>, given: &body::Service) {
    let tags: Arc<[Arc<str>]> = given.tags.iter().map(|tag| tag.as_str().into()).collect();
    if let Some(held) = kept::service(tx, own, node, &given.id) {
        tx.put(kept::tagged(&held, tags));
        return;
    }
    let places = given.tagged_addresses.iter().map(|(name, place)| {
        let address = place.address.as_str().into();
        (name.as_str().into(), Place { address, port: place.port })
    });
    let extras = Extras {
        tagged_addresses: places.collect(),
        kind: given.kind.as_str().into(),
        socket_path: given.socket_path.as_str().into(),
        proxy: something(given.proxy.as_ref()),
        connect: something(given.connect.as_ref()),
        locality: given.locality.clone(),
        enable_tag_override: given.enable_tag_override,
        token: 0,
    };
    // Go's client sends zeros for weights that nobody set.
    let weights = given.weights.as_ref().filter(|weights| weights.passing > 0);
    let shape = ServiceShape {
        node: Arc::clone(node),
        name: given.name.as_str().into(),
        tags,
        weights: weights.map_or_else(Weights::default, |weights| Weights {
            passing: weights.passing,
            warning: weights.warning,
        }),
        origin: Origin::Catalog,
    };
    tx.put(Service {
        id: given.id.as_str().into(),
        address: given.address.as_str().into(),
        port: given.port,
        meta: map(&given.meta).into(),
        shape: shape.into(),
        extras: (extras != Extras::default()).then(|| Box::new(extras)),
        ..Service::default()
    });
}

fn something(given: Option<&Value>) -> Option<Value> {
    given.filter(|value| value.as_object().is_some_and(|object| !object.is_empty())).cloned()
}

fn put_check(
    tx: &mut Tx<'_>,
    own: &str,
    node: &Arc<str>,
    given: &body::Check,
) -> Result<(), Refusal> {
    if kept::check(tx, own, node, &given.id).is_some() {
        return Ok(());
    }
    if !given.service_id.is_empty() && tx.instance(node, &given.service_id).is_none() {
        return Err(refused("Missing service registration"));
    }
    let definition = given.definition.as_ref();
    let kind = definition.map(body::Definition::kind).filter(|kind| !kind.is_empty());
    let text = definition.map(serde_json::to_string).transpose();
    let text = text.map_err(|error| refused(error.to_string()))?;
    let status = given.status.as_str().into();
    let held = tx.check(node, &given.id).filter(|held| held.status == status);
    let since = held.map_or_else(|| tx.now().millis(), |held| held.since);
    let shape = CheckShape {
        node: Arc::clone(node),
        name: given.name.as_str().into(),
        notes: given.notes.as_str().into(),
        kind: kind.unwrap_or(&given.kind).into(),
        interval: given.interval.as_str().into(),
        timeout: given.timeout.as_str().into(),
        origin: Origin::Catalog,
        ..CheckShape::default()
    };
    tx.put(Check {
        id: given.id.as_str().into(),
        service: given.service_id.as_str().into(),
        status,
        judged: true,
        since,
        output: given.output.as_str().into(),
        definition: text.filter(|text| text != "{}").unwrap_or_default().into(),
        shape: shape.into(),
        ..Check::default()
    });
    Ok(())
}

/// What is to be deleted; nothing if the agent would put it back.
fn removable(tables: &Tables, own: &str, wanted: &Deregistration) -> Option<Key> {
    let Deregistration { node, service_id, check_id, .. } = wanted;
    let name = Arc::clone(&tables.node(node)?.name);
    match (&**service_id, &**check_id) {
        ("", "") => (folded(node) != folded(own)).then_some(Key::Node(name)),
        ("", id) => {
            let held = kept::check(tables, own, node, id);
            held.is_none().then(|| Key::Check(name, id.into()))
        }
        (id, _) => {
            let held = kept::service(tables, own, node, id);
            held.is_none().then(|| Key::Service(name, id.into()))
        }
    }
}
