//! What we know, in Consul's shapes.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    CONSUL_VERSION, DATACENTER,
    wire::{
        AgentService, HealthCheck, Node, NodeService, Proxy, ServiceAddress, ServiceEntry, Weights,
    },
};
use crate::{
    api::{View, params::Params},
    consul::{Time, type_word},
    judge::Verdict,
    metrics::Facts,
    model::Outcome,
    probe::Host,
    registry::{Check, Listed},
};

/// The service that Consul itself is.
pub(super) const CONSUL: &str = "consul";

/// The port of Consul's servers, which we show and do not have.
const SERVER_PORT: u16 = 8300;

/// The indexes of objects until the registry keeps them.
const INDEX: u64 = 1;

const PASSING: &str = "passing";
const CRITICAL: &str = "critical";

const SERVICE_MAINTENANCE: &str = "Maintenance mode is enabled for this service, but no reason \
                                   was provided. This is a default message.";
const NODE_MAINTENANCE: &str = "Maintenance mode is enabled for this node, but no reason was \
                                provided. This is a default message.";

/// The reason shown for an instance taken out without one.
pub(super) fn default_service_reason() -> Arc<str> {
    Arc::from(SERVICE_MAINTENANCE)
}

/// The reason shown for a node taken out without one.
pub(super) fn default_node_reason() -> Arc<str> {
    Arc::from(NODE_MAINTENANCE)
}

/// Puts things into Consul's shapes.
#[derive(Debug)]
pub(super) struct Shape<'a> {
    view: &'a View,
}

impl<'a> Shape<'a> {
    pub(super) fn new(view: &'a View) -> Self {
        Self { view }
    }

    /// `ip:port` of the leader, which we are.
    pub(super) fn leader(&self) -> String {
        std::net::SocketAddr::new(self.view.node_address, SERVER_PORT).to_string()
    }

    pub(super) fn node(&self) -> Node {
        let address = self.view.node_address.to_string();
        let (lan, wan) = families(self.view.node_address);
        Node {
            id: node_id(&self.view.node_name),
            name: self.view.node_name.to_string(),
            tagged_addresses: ["lan", lan, "wan", wan]
                .into_iter()
                .map(|name| (name, address.clone()))
                .collect(),
            address,
            datacenter: DATACENTER,
            meta: node_meta(),
            create_index: INDEX,
            modify_index: INDEX,
        }
    }

    /// The checks of the node itself.
    pub(super) fn node_checks(&self) -> Vec<HealthCheck> {
        let alive = HealthCheck {
            check_id: "serfHealth".to_owned(),
            name: "Serf Health Status".to_owned(),
            status: PASSING,
            output: "Agent alive and reachable".to_owned(),
            ..self.blank()
        };
        self.node_maintenance().into_iter().chain([alive]).collect()
    }

    /// The check that takes the node out, if an operator has.
    pub(super) fn node_maintenance(&self) -> Option<HealthCheck> {
        let reason = self.view.registry.node_maintenance()?;
        Some(HealthCheck {
            check_id: "_node_maintenance".to_owned(),
            name: "Node Maintenance Mode".to_owned(),
            status: CRITICAL,
            notes: reason.to_string(),
            kind: "maintenance",
            ..self.blank()
        })
    }

    /// The checks of an instance.
    pub(super) fn checks(&self, listed: &Listed) -> Vec<HealthCheck> {
        let mut checks: Vec<_> = listed.checks.iter().map(|check| self.check(check)).collect();
        if let Some(reason) = self.view.registry.maintenance(&listed.instance.id) {
            checks.push(HealthCheck {
                check_id: format!("_service_maintenance:{}", listed.instance.id),
                name: "Service Maintenance Mode".to_owned(),
                status: CRITICAL,
                notes: reason.to_string(),
                kind: "maintenance",
                service_id: listed.instance.id.to_string(),
                service_name: listed.instance.service.to_string(),
                service_tags: tags(listed),
                ..self.blank()
            });
        }
        checks
    }

    fn check(&self, check: &Check) -> HealthCheck {
        let (facts, definition) = (check.slot.read(), &check.definition);
        let service = check.instance.service.as_str();
        HealthCheck {
            check_id: check.public_id().into_owned(),
            name: match &definition.name {
                Some(name) => name.to_string(),
                None => format!("Service '{service}' check"),
            },
            status: match facts.verdict {
                Verdict::Passing => PASSING,
                Verdict::Warning => "warning",
                Verdict::Critical | Verdict::Unknown => CRITICAL,
            },
            notes: definition.notes.as_deref().unwrap_or_default().to_owned(),
            output: output(check, &facts),
            service_id: check.instance.id.to_string(),
            service_name: service.to_owned(),
            service_tags: check.instance.tags.iter().map(ToString::to_string).collect(),
            kind: type_word(definition.probe.protocol()),
            interval: Time(definition.schedule.interval).to_string(),
            timeout: Time(definition.schedule.timeout).to_string(),
            ..self.blank()
        }
    }

    fn blank(&self) -> HealthCheck {
        HealthCheck {
            node: self.view.node_name.to_string(),
            create_index: INDEX,
            modify_index: INDEX,
            ..HealthCheck::default()
        }
    }

    /// An instance with all that bears on its health.
    pub(super) fn entry(&self, listed: &Listed) -> ServiceEntry {
        let mut checks = self.node_checks();
        checks.extend(self.checks(listed));
        let AgentService { id, service, tags, meta, port, address, tagged_addresses, .. } =
            Self::agent_service(listed);
        let service = NodeService {
            id,
            service,
            tags,
            address,
            tagged_addresses,
            meta,
            port,
            ..own_service()
        };
        ServiceEntry { node: self.node(), service, checks }
    }

    /// The entry of the service that Consul itself is.
    pub(super) fn own_entry(&self) -> ServiceEntry {
        ServiceEntry { node: self.node(), service: own_service(), checks: self.node_checks() }
    }

    pub(super) fn agent_service(listed: &Listed) -> AgentService {
        let instance = &listed.instance;
        let port = instance.endpoint.port;
        let (address, literal) = match &instance.endpoint.host {
            Host::Ip(ip) => (ip.to_string(), Some(*ip)),
            Host::Name(name) => (name.to_string(), None),
        };
        let tagged = literal.into_iter().flat_map(|ip| {
            let (lan, wan) = families(ip);
            [lan, wan].map(|name| (name, ServiceAddress { address: ip.to_string(), port }))
        });
        AgentService {
            id: instance.id.to_string(),
            service: instance.service.to_string(),
            tags: tags(listed),
            meta: instance.meta.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            port,
            tagged_addresses: tagged.collect(),
            address,
            weights: Weights::default(),
            enable_tag_override: false,
            datacenter: DATACENTER,
        }
    }
}

/// Whether the one node there is, ours, is among those asked for.
pub(super) fn is_our_node_asked_for(params: &Params) -> bool {
    let meta = node_meta();
    let has = |wanted: &str| {
        let (key, value) = wanted.split_once(':').unwrap_or((wanted, ""));
        meta.get(key).is_some_and(|held| held == value)
    };
    params.get("peer").is_none_or(str::is_empty) && params.all("node-meta").all(has)
}

fn own_service() -> NodeService {
    NodeService {
        id: CONSUL.to_owned(),
        service: CONSUL.to_owned(),
        tags: Vec::new(),
        address: String::new(),
        tagged_addresses: BTreeMap::new(),
        meta: BTreeMap::new(),
        port: SERVER_PORT,
        weights: Weights::default(),
        enable_tag_override: false,
        proxy: Proxy::default(),
        connect: serde_json::Map::new(),
        peer_name: "",
        create_index: INDEX,
        modify_index: INDEX,
    }
}

fn tags(listed: &Listed) -> Vec<String> {
    listed.instance.tags.iter().map(ToString::to_string).collect()
}

/// The names under which an address stands as the local and as the wide area's.
fn families(ip: IpAddr) -> (&'static str, &'static str) {
    match ip {
        IpAddr::V4(_) => ("lan_ipv4", "wan_ipv4"),
        IpAddr::V6(_) => ("lan_ipv6", "wan_ipv6"),
    }
}

pub(super) fn node_meta() -> BTreeMap<&'static str, String> {
    [("consul-network-segment", ""), ("consul-version", CONSUL_VERSION)]
        .map(|(key, value)| (key, value.to_owned()))
        .into()
}

/// A UUID (version 8) that is always the same for a node's name: clients tell nodes apart by it,
/// and it must not change when the daemon starts anew. Two FNV-1a hashes of 64 bits.
pub(super) fn node_id(name: &str) -> String {
    let hash = |seed: u64| {
        name.bytes()
            .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let high = (hash(0xcbf2_9ce4_8422_2325) & !0xf000) | 0x8000;
    let low = (hash(0x6c62_272e_07bb_0142) & !(3 << 62)) | (2 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// What Consul writes of the last result.
fn output(check: &Check, facts: &Facts) -> String {
    match facts.last_outcome {
        // The counters survive a restart, the last result does not.
        None if facts.probes > 0 => "No probe has finished since the daemon started.".to_owned(),
        None => "No probe has finished yet.".to_owned(),
        Some(Outcome::Success) => match &facts.detail {
            Some(said) => said.to_string(),
            None => check.target.success(facts.answer),
        },
        Some(Outcome::Warning(reason) | Outcome::Failure(reason)) => {
            facts.detail.as_deref().unwrap_or(reason.as_str()).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_id_is_a_uuid_and_depends_on_its_name_alone() {
        let id = node_id("node-1");
        assert_eq!(id, node_id("node-1"));
        assert_ne!(id, node_id("node-2"));
        let lengths: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(id.as_bytes()[14], b'8');
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
    }
}
