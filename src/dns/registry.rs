//! The directory that the registry of this node is.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{Directory, Health, Instance, Node};
use crate::{
    model::Status,
    probe::Host,
    registry::{Listed, Registry},
};

/// The service that Consul's servers are, and clients look for.
const CONSUL: &str = "consul";

/// The port that Consul's servers have between themselves.
const SERVER_PORT: u16 = 8300;

/// All instances of the registry, on the one node that there is: ours.
#[derive(Debug, Clone)]
pub struct Local {
    registry: Arc<Registry>,
    node: Arc<Node>,
}

impl Local {
    /// The registry of a node with this name and address.
    pub fn new(registry: Arc<Registry>, name: &str, address: IpAddr) -> Self {
        let address = Some(Host::Ip(address));
        let node = Node { name: name.into(), address, meta: BTreeMap::new() };
        Self { registry, node: Arc::new(node) }
    }

    fn instance(&self, listed: &Listed) -> Instance {
        let instance = &listed.instance;
        Instance {
            address: Some(instance.endpoint.host.clone()),
            port: instance.endpoint.port,
            tags: instance.tags.clone(),
            health: match listed.status() {
                Status::Passing => Health::Passing,
                Status::Warning => Health::Warning,
                Status::Critical | Status::Unknown | Status::Maintenance => Health::Critical,
            },
            ..self.server()
        }
    }

    /// Ourselves, as the service `consul`.
    fn server(&self) -> Instance {
        Instance {
            node: Arc::clone(&self.node),
            address: None,
            port: SERVER_PORT,
            tags: Vec::new(),
            health: Health::Passing,
            weight_passing: 1,
            weight_warning: 1,
        }
    }
}

impl Directory for Local {
    fn service(&self, name: &str) -> Vec<Instance> {
        let mut listed = self.registry.service(name);
        if listed.is_empty() {
            // Seldom: its name has capital letters, or there is none.
            let mut names = self.registry.services();
            names.retain(|known| known.as_str().to_lowercase() == name);
            listed = names.iter().flat_map(|known| self.registry.service(known.as_str())).collect();
        }
        let mut instances: Vec<_> = listed.iter().map(|listed| self.instance(listed)).collect();
        if instances.is_empty() && name == CONSUL {
            instances.push(self.server());
        }
        instances
    }

    fn node(&self, name: &str) -> Option<Arc<Node>> {
        (self.node.name.to_lowercase() == name).then(|| Arc::clone(&self.node))
    }

    fn nodes_at(&self, address: IpAddr) -> Vec<Arc<str>> {
        let here = self.node.address == Some(Host::Ip(address));
        here.then(|| Arc::clone(&self.node.name)).into_iter().collect()
    }

    fn services_at(&self, address: IpAddr) -> Vec<Arc<str>> {
        let mut listed = self.registry.list();
        listed.retain(|listed| listed.instance.endpoint.host == Host::Ip(address));
        let mut names: Vec<Arc<str>> =
            listed.iter().map(|listed| listed.instance.service.as_str().into()).collect();
        names.dedup();
        names
    }
}
