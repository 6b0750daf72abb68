//! What clients write into the catalog.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::consul::Time;

/// Registers a node, and what is on it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Registration {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) node: String,
    pub(super) address: String,
    pub(super) datacenter: String,
    /// Texts, or objects with an address as some clients send them.
    pub(super) tagged_addresses: Option<BTreeMap<String, Value>>,
    pub(super) node_meta: Option<BTreeMap<String, String>>,
    pub(super) service: Option<Service>,
    pub(super) check: Option<Check>,
    pub(super) checks: Vec<Check>,
    pub(super) skip_node_update: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Service {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "Service")]
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) tags: Vec<String>,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) socket_path: String,
    pub(super) tagged_addresses: BTreeMap<String, Place>,
    pub(super) weights: Option<Weights>,
    pub(super) enable_tag_override: bool,
    pub(super) proxy: Option<Value>,
    pub(super) connect: Option<Value>,
    pub(super) locality: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Place {
    pub(super) address: String,
    pub(super) port: u16,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Weights {
    pub(super) passing: u32,
    pub(super) warning: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Check {
    pub(super) node: String,
    #[serde(rename = "CheckID")]
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: String,
    pub(super) notes: String,
    pub(super) output: String,
    #[serde(rename = "ServiceID")]
    pub(super) service_id: String,
    #[serde(rename = "Type")]
    pub(super) kind: String,
    pub(super) interval: String,
    pub(super) timeout: String,
    pub(super) definition: Option<Definition>,
}

/// How a check is asked, by whoever does. Written as it is shown: without what is empty.
#[expect(clippy::struct_excessive_bools, reason = "they are Consul's")]
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Definition {
    #[serde(rename = "HTTP", skip_serializing_if = "is_blank")]
    http: String,
    #[serde(rename = "TLSServerName", skip_serializing_if = "is_blank")]
    tls_server_name: String,
    #[serde(rename = "TLSSkipVerify", skip_serializing_if = "is_blank")]
    tls_skip_verify: bool,
    #[serde(skip_serializing_if = "is_blank")]
    header: BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "is_blank")]
    method: String,
    #[serde(skip_serializing_if = "is_blank")]
    body: String,
    #[serde(skip_serializing_if = "is_blank")]
    disable_redirects: bool,
    #[serde(rename = "TCP", skip_serializing_if = "is_blank")]
    tcp: String,
    #[serde(rename = "TCPUseTLS", skip_serializing_if = "is_blank")]
    tcp_use_tls: bool,
    #[serde(rename = "UDP", skip_serializing_if = "is_blank")]
    udp: String,
    #[serde(rename = "H2PING", skip_serializing_if = "is_blank")]
    h2ping: String,
    #[serde(rename = "H2PingUseTLS", skip_serializing_if = "is_blank")]
    h2ping_use_tls: bool,
    #[serde(rename = "OSService", skip_serializing_if = "is_blank")]
    os_service: String,
    #[serde(alias = "IntervalDuration", skip_serializing_if = "is_blank")]
    interval: Time,
    #[serde(alias = "TimeoutDuration", skip_serializing_if = "is_blank")]
    timeout: Time,
    #[serde(alias = "DeregisterCriticalServiceAfterDuration", skip_serializing_if = "is_blank")]
    deregister_critical_service_after: Time,
    #[serde(skip_serializing_if = "is_blank")]
    output_max_size: u64,
    #[serde(skip_serializing_if = "is_blank")]
    script_args: Vec<String>,
    #[serde(rename = "DockerContainerID", skip_serializing_if = "is_blank")]
    docker_container_id: String,
    #[serde(skip_serializing_if = "is_blank")]
    shell: String,
    #[serde(rename = "GRPC", skip_serializing_if = "is_blank")]
    grpc: String,
    #[serde(rename = "GRPCUseTLS", skip_serializing_if = "is_blank")]
    grpc_use_tls: bool,
    #[serde(skip_serializing_if = "is_blank")]
    alias_node: String,
    #[serde(skip_serializing_if = "is_blank")]
    alias_service: String,
    #[serde(rename = "TTL", skip_serializing_if = "is_blank")]
    ttl: Time,
}

impl Definition {
    /// Consul's word for how the check is asked; empty if it does not say.
    pub(super) fn kind(&self) -> &'static str {
        let kinds = [
            (!is_blank(&self.ttl), "ttl"),
            (!self.http.is_empty(), "http"),
            (!self.tcp.is_empty(), "tcp"),
            (!self.udp.is_empty(), "udp"),
            (!self.grpc.is_empty(), "grpc"),
            (!self.docker_container_id.is_empty(), "docker"),
            (!self.os_service.is_empty(), "os_service"),
            (!self.script_args.is_empty(), "script"),
            (!self.h2ping.is_empty(), "h2ping"),
            (!self.alias_node.is_empty() || !self.alias_service.is_empty(), "alias"),
        ];
        kinds.iter().find(|(holds, _)| *holds).map_or("", |(_, kind)| kind)
    }
}

/// Removes a node, or one thing of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Deregistration {
    pub(super) datacenter: String,
    pub(super) node: String,
    #[serde(rename = "ServiceID")]
    pub(super) service_id: String,
    #[serde(rename = "CheckID")]
    pub(super) check_id: String,
}

fn is_blank<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
