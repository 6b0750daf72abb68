//! The directory that the store is.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{Directory, Health, Instance, Node};
use crate::{
    probe::Host,
    store::{Store, Tables, row},
};

/// All instances of all nodes in the store, as consumers are told of them.
#[derive(Debug, Clone)]
pub struct Registered(pub Arc<Store>);

impl Directory for Registered {
    fn service(&self, name: &str) -> Vec<Instance> {
        let tables = self.0.read();
        let rows = tables.service(name);
        rows.filter_map(|row| instance(&tables, row)).collect()
    }

    fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.0.read().node(name).map(|row| node(row))
    }

    fn nodes_at(&self, address: IpAddr) -> Vec<Arc<str>> {
        let tables = self.0.read();
        let here = tables.nodes().filter(|row| row.address.parse() == Ok(address));
        here.map(|row| Arc::clone(&row.name)).collect()
    }

    fn services_at(&self, address: IpAddr) -> Vec<Arc<str>> {
        let tables = self.0.read();
        let here = tables.services().filter(|row| row.address.parse() == Ok(address));
        let names: BTreeSet<_> = here.map(|row| Arc::clone(&row.name)).collect();
        names.into_iter().collect()
    }
}

fn instance(tables: &Tables, row: &row::Service) -> Option<Instance> {
    let checks = tables.node_checks(&row.node).chain(tables.instance_checks(&row.node, &row.id));
    let health = checks.map(|check| health(&check.status)).max_by_key(|health| *health as u8);
    // What has an address that DNS cannot say is not at its node's.
    let address = match &*row.address {
        "" => None,
        text => Some(text.parse().ok()?),
    };
    Some(Instance {
        node: node(tables.node(&row.node)?),
        address,
        port: row.port,
        tags: Arc::clone(&row.tags),
        health: health.unwrap_or(Health::Passing),
        weight_passing: weight(row.weights.passing),
        weight_warning: weight(row.weights.warning),
    })
}

const fn health(status: &row::Health) -> Health {
    match status {
        row::Health::Passing => Health::Passing,
        row::Health::Warning => Health::Warning,
        row::Health::Critical | row::Health::Other(_) => Health::Critical,
    }
}

fn weight(weight: u32) -> u16 {
    u16::try_from(weight).unwrap_or(u16::MAX)
}

fn node(row: &row::Node) -> Arc<Node> {
    let address: Option<Host> = row.address.parse().ok();
    Arc::new(Node {
        name: Arc::clone(&row.name),
        address,
        meta: row.meta.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Unwritten;

    #[tokio::test]
    async fn what_has_an_address_that_is_none_is_not_told_of() {
        let store = Arc::new(Store::in_memory());
        for (id, address) in [("none", ""), ("ip", "10.0.0.1"), ("zone", "fe80::1%eth0")] {
            let shape =
                row::ServiceShape { node: "n".into(), name: "web".into(), ..Default::default() };
            let service = row::Service {
                id: id.into(),
                address: address.into(),
                shape: shape.into(),
                ..row::Service::default()
            };
            let node = row::Node { name: "n".into(), ..row::Node::default() };
            let written = store.write(|tx| {
                tx.put(node);
                tx.put(service);
                Ok::<_, Unwritten>(())
            });
            written.await.unwrap();
        }
        let found = Registered(store).service("web");
        let addresses: Vec<_> = found.into_iter().map(|instance| instance.address).collect();
        assert_eq!(addresses, ["10.0.0.1".parse().ok(), None]);
    }
}
