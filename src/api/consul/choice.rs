//! Which nodes a read asks for and in which order, and what it takes out of the tables.

use std::sync::Arc;

use super::{
    filter::{Filter, field::Fields},
    read::Asked,
    shape::{Entry, Placed, Told},
};
use crate::{
    api::router::{App, Refusal},
    store::{
        Tables, Topic, folded,
        row::{Check, Node, Service},
    },
};

/// What a read asks for, beside what its path names.
#[derive(Debug)]
pub(super) struct Choice {
    /// Metadata that nodes must have, all of it.
    meta: Vec<(String, String)>,
    /// Tags that instances must have, all of them; in lower case.
    tags: Vec<String>,
    /// The node that comes first.
    near: Option<String>,
    /// Another cluster is asked for, of which we know nothing.
    is_of_peer: bool,
    pub(super) filter: Filter,
}

impl Choice {
    /// Reads the parameters. A filter that cannot be read is refused at once and not after the
    /// wait of a blocking query.
    pub(super) fn of(app: &App, asked: &Asked, fields: Fields) -> Result<Self, Refusal> {
        let params = &asked.params;
        let pair = |text: &str| {
            let (key, value) = text.split_once(':').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        };
        let near = params.get("near").filter(|near| !near.is_empty());
        let near = near.map(|near| if near == "_agent" { &*app.view.node_name } else { near });
        Ok(Self {
            filter: super::filter_of(params, fields)?,
            meta: params.all("node-meta").map(pair).collect(),
            tags: params.all("tag").filter(|tag| !tag.is_empty()).map(str::to_lowercase).collect(),
            near: near.map(str::to_owned),
            is_of_peer: params.get("peer").is_some_and(|peer| !peer.is_empty()),
        })
    }

    /// Whether a node is among those asked for.
    pub(super) fn has_node(&self, node: &Node) -> bool {
        let held = |(key, value): &(String, String)| {
            let held = node.meta.as_ref().and_then(|meta| meta.get(key));
            held.is_some_and(|held| **held == **value)
        };
        !self.is_of_peer && self.meta.iter().all(held)
    }

    /// Whether an instance has all tags asked for, in any case of letters.
    pub(super) fn has_tags(&self, service: &Service) -> bool {
        self.tags.iter().all(|wanted| service.tags.iter().any(|tag| tag.to_lowercase() == *wanted))
    }

    /// Whether all that is there is asked for.
    pub(super) fn is_whole(&self) -> bool {
        self.meta.is_empty() && !self.is_of_peer && self.filter.is_blank()
    }

    /// What a read that shows no nodes depends on further if it chooses by them.
    pub(super) fn with_nodes(&self, topic: Topic) -> Vec<Topic> {
        if self.meta.is_empty() { vec![topic] } else { vec![topic, Topic::Nodes] }
    }

    /// Puts what is on the near node first; the rest keeps its order.
    pub(super) fn order<T>(&self, items: &mut [T], node: impl Fn(&T) -> &str) {
        if let Some(near) = &self.near {
            let near = folded(near);
            items.sort_by_key(|item| folded(node(item)) != near);
        }
    }

    /// Instances with their nodes, those on nodes asked for.
    pub(super) fn placed<'a>(
        &self,
        tables: &Tables,
        services: impl Iterator<Item = &'a Arc<Service>>,
    ) -> Vec<Placed> {
        let placed = |service: &Arc<Service>| {
            let node = tables.node(&service.node).filter(|node| self.has_node(node))?;
            Some(Placed { node: Arc::clone(node), service: Arc::clone(service) })
        };
        services.filter_map(placed).collect()
    }

    /// The same, each with all checks that bear on it.
    pub(super) fn entries<'a>(
        &self,
        tables: &Tables,
        services: impl Iterator<Item = &'a Arc<Service>>,
    ) -> Vec<Entry> {
        let entry = |placed: Placed| {
            let (node, service) = (&placed.node.name, &placed.service);
            let of_node = tables.node_checks(node).map(|check| told(check, None));
            let own = tables.instance_checks(node, &service.id);
            let own = own.map(|check| told(check, Some(service)));
            Entry { checks: of_node.chain(own).collect(), placed }
        };
        self.placed(tables, services).into_iter().map(entry).collect()
    }

    /// Checks, those of nodes asked for, with the instances they are of.
    pub(super) fn checks<'a>(
        &self,
        tables: &Tables,
        checks: impl Iterator<Item = &'a Arc<Check>>,
    ) -> Vec<Told> {
        let mut told = Vec::new();
        let mut last: Option<(&str, bool)> = None;
        for check in checks {
            let is_asked_for = match last {
                Some((node, is_asked_for)) if *node == *check.node => is_asked_for,
                _ => tables.node(&check.node).is_some_and(|node| self.has_node(node)),
            };
            last = Some((&check.node, is_asked_for));
            if is_asked_for {
                told.push(with_instance(tables, check));
            }
        }
        told
    }
}

/// A check with the instance it is of.
pub(super) fn with_instance(tables: &Tables, check: &Arc<Check>) -> Told {
    let of = (!check.service.is_empty()).then(|| tables.instance(&check.node, &check.service));
    told(check, of.flatten())
}

fn told(check: &Arc<Check>, service: Option<&Arc<Service>>) -> Told {
    Told { check: Arc::clone(check), service: service.cloned() }
}

/// The instances through which a mesh reaches a service: its proxies, and its own if they are
/// native to the mesh.
pub(super) fn in_mesh<'a>(
    tables: &'a Tables,
    name: &'a str,
) -> impl Iterator<Item = &'a Arc<Service>> {
    let name = folded(name);
    tables.services().filter(move |service| {
        let Some(extras) = &service.extras else { return false };
        let native = extras.connect.as_ref().and_then(|connect| connect.get("Native"));
        let proxied = extras.proxy.as_ref().and_then(|p| p.get("DestinationServiceName")?.as_str());
        (native == Some(&true.into()) && folded(&service.name) == name)
            || (*extras.kind == *"connect-proxy" && proxied.is_some_and(|of| folded(of) == name))
    })
}
