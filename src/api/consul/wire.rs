//! The Consul API's objects, field by field and in Consul's order.
//!
//! Clients with strict models want every field there, also the empty ones, so nothing is skipped
//! except where Consul skips it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

/// A node of the catalog.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Node {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "Node")]
    pub(super) name: String,
    pub(super) address: String,
    pub(super) datacenter: &'static str,
    pub(super) tagged_addresses: BTreeMap<&'static str, String>,
    pub(super) meta: BTreeMap<&'static str, String>,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

/// An address of a service under a name.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceAddress {
    pub(super) address: String,
    pub(super) port: u16,
}

/// How much an instance is to be used.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Weights {
    pub(super) passing: u32,
    pub(super) warning: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// The part of a service mesh, which we have none of.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Proxy {
    mode: &'static str,
    mesh_gateway: Map<String, Value>,
    expose: Map<String, Value>,
}

/// An instance as the health endpoints show it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeService {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) service: String,
    pub(super) tags: Vec<String>,
    pub(super) address: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tagged_addresses: BTreeMap<&'static str, ServiceAddress>,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) port: u16,
    pub(super) weights: Weights,
    pub(super) enable_tag_override: bool,
    pub(super) proxy: Proxy,
    pub(super) connect: Map<String, Value>,
    pub(super) peer_name: &'static str,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

/// An instance as the agent shows it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AgentService {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) service: String,
    pub(super) tags: Vec<String>,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) port: u16,
    pub(super) address: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tagged_addresses: BTreeMap<&'static str, ServiceAddress>,
    pub(super) weights: Weights,
    pub(super) enable_tag_override: bool,
    pub(super) datacenter: &'static str,
}

/// A check.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HealthCheck {
    pub(super) node: String,
    #[serde(rename = "CheckID")]
    pub(super) check_id: String,
    pub(super) name: String,
    pub(super) status: &'static str,
    pub(super) notes: String,
    pub(super) output: String,
    #[serde(rename = "ServiceID")]
    pub(super) service_id: String,
    pub(super) service_name: String,
    pub(super) service_tags: Vec<String>,
    #[serde(rename = "Type")]
    pub(super) kind: &'static str,
    pub(super) interval: String,
    pub(super) timeout: String,
    pub(super) exposed_port: u16,
    pub(super) definition: Map<String, Value>,
    pub(super) create_index: u64,
    pub(super) modify_index: u64,
}

/// An instance with its node and all checks that bear on it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceEntry {
    pub(super) node: Node,
    pub(super) service: NodeService,
    pub(super) checks: Vec<HealthCheck>,
}
