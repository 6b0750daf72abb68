//! The store's rows in Consul's shapes.

use std::{net::IpAddr, sync::Arc};

use serde_json::{Map, Value, json};

use super::{
    DATACENTER,
    wire::{
        AgentService, HealthCheck, Node, NodeService, Plain, Proxy, ServiceAddress,
        ServiceAddresses, ServiceEntry, ServiceNode, Weights,
    },
};
use crate::store::row::{self, Extras};

/// A check, and the instance it is of unless it is of a node.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) check: Arc<row::Check>,
    pub(super) service: Option<Arc<row::Service>>,
}

/// An instance, and the node it is on.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) node: Arc<row::Node>,
    pub(super) service: Arc<row::Service>,
}

/// An instance with all that bears on its health.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) placed: Placed,
    pub(super) checks: Vec<Told>,
}

pub(super) fn node(row: &row::Node) -> Node<'_> {
    Node {
        id: &row.id,
        name: &row.name,
        address: &row.address,
        datacenter: DATACENTER,
        tagged_addresses: row.tagged_addresses.as_ref(),
        meta: row.meta.as_ref(),
        create_index: row.stamp.create,
        modify_index: row.stamp.modify,
    }
}

pub(super) fn entry(row: &Entry) -> ServiceEntry<'_> {
    ServiceEntry {
        node: node(&row.placed.node),
        service: node_service(&row.placed.service),
        checks: row.checks.iter().map(check).collect(),
    }
}

pub(super) fn node_service(row: &row::Service) -> NodeService<'_> {
    let extras = row.extras.as_deref();
    NodeService {
        kind: extras.map_or("", |extras| &extras.kind),
        id: &row.id,
        service: &row.name,
        tags: &row.tags,
        address: &row.address,
        tagged_addresses: tagged_addresses(row),
        meta: &row.meta,
        port: row.port,
        socket_path: extras.map_or("", |extras| &extras.socket_path),
        weights: weights(row),
        enable_tag_override: extras.is_some_and(|extras| extras.enable_tag_override),
        proxy: proxy(extras),
        connect: connect(extras),
        locality: extras.and_then(|extras| extras.locality.as_ref()),
        peer_name: "",
        create_index: row.stamp.create,
        modify_index: row.stamp.modify,
    }
}

pub(super) fn service_node(row: &Placed) -> ServiceNode<'_> {
    let (node, row) = (&row.node, &row.service);
    let extras = row.extras.as_deref();
    ServiceNode {
        id: &node.id,
        node: &node.name,
        address: &node.address,
        datacenter: DATACENTER,
        tagged_addresses: node.tagged_addresses.as_ref(),
        node_meta: node.meta.as_ref(),
        service_kind: extras.map_or("", |extras| &extras.kind),
        service_id: &row.id,
        service_name: &row.name,
        service_tags: &row.tags,
        service_address: &row.address,
        service_tagged_addresses: tagged_addresses(row),
        service_weights: weights(row),
        service_meta: &row.meta,
        service_port: row.port,
        service_socket_path: extras.map_or("", |extras| &extras.socket_path),
        service_enable_tag_override: extras.is_some_and(|extras| extras.enable_tag_override),
        service_proxy: proxy(extras),
        service_connect: connect(extras),
        service_locality: extras.and_then(|extras| extras.locality.as_ref()),
        create_index: row.stamp.create,
        modify_index: row.stamp.modify,
    }
}

pub(super) fn agent_service(row: &row::Service) -> AgentService<'_> {
    let extras = row.extras.as_deref();
    AgentService {
        kind: extras.map_or("", |extras| &extras.kind),
        id: &row.id,
        service: &row.name,
        tags: &row.tags,
        meta: &row.meta,
        port: row.port,
        address: &row.address,
        socket_path: extras.map_or("", |extras| &extras.socket_path),
        tagged_addresses: tagged_addresses(row),
        weights: weights(row),
        enable_tag_override: extras.is_some_and(|extras| extras.enable_tag_override),
        proxy: extras.and_then(|extras| extras.proxy.as_ref()),
        connect: extras.and_then(|extras| extras.connect.as_ref()),
        locality: extras.and_then(|extras| extras.locality.as_ref()),
        content_hash: None,
        datacenter: DATACENTER,
    }
}

pub(super) fn check(row: &Told) -> HealthCheck<'_> {
    let Told { check, service } = row;
    HealthCheck {
        node: &check.node,
        check_id: &check.id,
        name: &check.name,
        status: check.status.as_str(),
        notes: &check.notes,
        output: &check.output,
        service_id: &check.service,
        service_name: service.as_ref().map_or("", |row| &row.name),
        service_tags: service.as_ref().map_or(&[], |row| &row.tags),
        kind: &check.kind,
        interval: &check.interval,
        timeout: &check.timeout,
        exposed_port: 0,
        definition: definition(check),
        create_index: check.stamp.create,
        modify_index: check.stamp.modify,
    }
}

/// The same as the agent shows it, which has no indexes.
pub(super) fn agent_check(row: &Told) -> HealthCheck<'_> {
    HealthCheck { create_index: 0, modify_index: 0, ..check(row) }
}

/// What is shown of how a check is asked: of ours nothing.
fn definition(check: &row::Check) -> Value {
    if check.origin.is_local() || check.definition.is_empty() {
        return json!({});
    }
    serde_json::from_str(&check.definition).unwrap_or_else(|_| json!({}))
}

fn weights(row: &row::Service) -> Weights {
    Weights { passing: row.weights.passing, warning: row.weights.warning }
}

/// The mesh's part: what was given over what every service has.
fn proxy(extras: Option<&Extras>) -> Proxy {
    let given = extras.and_then(|extras| extras.proxy.as_ref()).and_then(Value::as_object);
    let Some(given) = given else { return Proxy::Plain(Plain::default()) };
    let mut shown: Map<String, Value> =
        [("Mode".to_owned(), json!("")), ("MeshGateway".to_owned(), json!({}))]
            .into_iter()
            .collect();
    shown.insert("Expose".to_owned(), json!({}));
    shown.extend(given.clone());
    Proxy::Given(Value::Object(shown))
}

fn connect(extras: Option<&Extras>) -> Value {
    let given = extras.and_then(|extras| extras.connect.as_ref());
    given.cloned().unwrap_or_else(|| json!({}))
}

/// The addresses given, and of what is registered here at an IP address also that one.
fn tagged_addresses(row: &row::Service) -> ServiceAddresses<'_> {
    let mut shown = ServiceAddresses::new();
    if row.origin.is_local()
        && let Ok(ip) = row.address.parse::<IpAddr>()
    {
        let place = || ServiceAddress { address: &row.address, port: row.port };
        let (lan, wan) = match ip {
            IpAddr::V4(_) => ("lan_ipv4", "wan_ipv4"),
            IpAddr::V6(_) => ("lan_ipv6", "wan_ipv6"),
        };
        shown.extend([(lan, place()), (wan, place())]);
    }
    if let Some(extras) = &row.extras {
        let given = extras.tagged_addresses.iter();
        shown.extend(given.map(|(name, place)| {
            (&**name, ServiceAddress { address: &place.address, port: place.port })
        }));
    }
    shown
}
