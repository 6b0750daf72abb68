//! The Consul API's objects, field by field and in Consul's order.
//!
//! Clients with strict models want every field there, also the empty ones, so nothing is skipped
//! except where Consul skips it.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::store::row;

/// A node of the catalog.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Node<'a> {
    #[serde(rename = "ID")]
    pub(super) id: &'a str,
    #[serde(rename = "Node")]
    pub(super) name: &'a str,
    pub(super) address: &'a str,
    pub(super) datacenter: &'static str,
    pub(super) tagged_addresses: Option<&'a row::Map>,
    pub(super) meta: Option<&'a row::Map>,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

/// An address of a service under a name.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceAddress<'a> {
    pub(super) address: &'a str,
    pub(super) port: u16,
}

/// Addresses of a service by name.
pub(super) type ServiceAddresses<'a> = BTreeMap<&'a str, ServiceAddress<'a>>;

/// How much an instance is to be used.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Weights {
    pub(super) passing: u32,
    pub(super) warning: u32,
}

/// The part of a service mesh, of a service that is in none.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Plain {
    mode: &'static str,
    mesh_gateway: Map<String, Value>,
    expose: Map<String, Value>,
}

/// The part of a service mesh.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Proxy {
    Plain(Plain),
    Given(Value),
}

/// An instance as the health endpoints show it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeService<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) kind: &'a str,
    #[serde(rename = "ID")]
    pub(super) id: &'a str,
    pub(super) service: &'a str,
    pub(super) tags: &'a [Arc<str>],
    pub(super) address: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tagged_addresses: ServiceAddresses<'a>,
    pub(super) meta: &'a row::Map,
    pub(super) port: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) socket_path: &'a str,
    pub(super) weights: Weights,
    pub(super) enable_tag_override: bool,
    pub(super) proxy: Proxy,
    pub(super) connect: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) locality: Option<&'a Value>,
    pub(super) peer_name: &'static str,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

/// An instance with what is shown of its node, as the catalog lists it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceNode<'a> {
    #[serde(rename = "ID")]
    pub(super) id: &'a str,
    pub(super) node: &'a str,
    pub(super) address: &'a str,
    pub(super) datacenter: &'static str,
    pub(super) tagged_addresses: Option<&'a row::Map>,
    pub(super) node_meta: Option<&'a row::Map>,
    pub(super) service_kind: &'a str,
    #[serde(rename = "ServiceID")]
    pub(super) service_id: &'a str,
    pub(super) service_name: &'a str,
    pub(super) service_tags: &'a [Arc<str>],
    pub(super) service_address: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) service_tagged_addresses: ServiceAddresses<'a>,
    pub(super) service_weights: Weights,
    pub(super) service_meta: &'a row::Map,
    pub(super) service_port: u16,
    pub(super) service_socket_path: &'a str,
    pub(super) service_enable_tag_override: bool,
    pub(super) service_proxy: Proxy,
    pub(super) service_connect: Value,
    pub(super) service_locality: Option<&'a Value>,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

/// An instance as the agent shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentService<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) kind: &'a str,
    #[serde(rename = "ID")]
    pub(super) id: &'a str,
    pub(super) service: &'a str,
    pub(super) tags: &'a [Arc<str>],
    pub(super) meta: &'a row::Map,
    pub(super) port: u16,
    pub(super) address: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) socket_path: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tagged_addresses: ServiceAddresses<'a>,
    pub(super) weights: Weights,
    pub(super) enable_tag_override: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxy: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connect: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) locality: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_hash: Option<&'a str>,
    pub(super) datacenter: &'static str,
}

/// A check.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HealthCheck<'a> {
    pub(super) node: &'a str,
    #[serde(rename = "CheckID")]
    pub(super) check_id: &'a str,
    pub(super) name: &'a str,
    pub(super) status: &'a str,
    pub(super) notes: &'a str,
    pub(super) output: &'a str,
    #[serde(rename = "ServiceID")]
    pub(super) service_id: &'a str,
    pub(super) service_name: &'a str,
    pub(super) service_tags: &'a [Arc<str>],
    #[serde(rename = "Type")]
    pub(super) kind: &'a str,
    pub(super) interval: &'a str,
    pub(super) timeout: &'a str,
    pub(super) exposed_port: u16,
    pub(super) definition: Value,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

/// An instance with its node and all checks that bear on it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceEntry<'a> {
    pub(super) node: Node<'a>,
    pub(super) service: NodeService<'a>,
    pub(super) checks: Vec<HealthCheck<'a>>,
}

/// An instance with how it is, as the agent sees it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceHealth<'a> {
    pub(super) aggregated_status: &'a str,
    pub(super) service: Option<AgentService<'a>>,
    pub(super) checks: Option<Vec<HealthCheck<'a>>>,
}

/// A node with its instances.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OnNode<'a, S> {
    pub(super) node: Node<'a>,
    pub(super) services: S,
}
