//! The catalog: who exists, without how they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    extract::{Path, State},
    response::Response,
};
use serde_json::json;

use super::{
    DATACENTER,
    choice::{Choice, in_mesh},
    filter::field,
    read::{Answer, Asked, read},
    shape::{self, Placed},
    wire::OnNode,
};
use crate::{
    api::router::{App, Refusal},
    store::{
        Tables, Topic, folded,
        row::{Node, Service},
    },
};

mod body;
pub(super) mod kept;
mod write;

pub(super) use write::{deregister, register};

pub(super) async fn datacenters(asked: Asked) -> Response {
    super::json(&asked.params, &[DATACENTER])
}

/// All services with their tags.
pub(super) async fn services(
    State(app): State<Arc<App>>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let choice = Choice::of(&app, &asked, field::SERVICE_NODE)?;
    let topics = [if choice.is_whole() { Topic::Services } else { Topic::Catalog }];
    let gather = |tables: &Tables| Ok(choice.placed(tables, tables.services()));
    read(&app, &asked, &topics, gather, |rows| {
        let mut services = BTreeMap::<&str, BTreeSet<&str>>::new();
        for row in rows.iter().filter(|row| choice.filter.matches(&shape::service_node(row))) {
            let tags = services.entry(&row.service.name).or_default();
            tags.extend(row.service.tags.iter().map(|tag| &**tag));
        }
        Ok(Answer::json(&asked.params, &services))
    })
    .await
}

/// The instances of a service.
pub(super) async fn service(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let choice = Choice::of(&app, &asked, field::SERVICE_NODE)?;
    let topics = [Topic::Service(folded(&name).into())];
    let gather = |tables: &Tables| Ok(choice.placed(tables, tables.service(&name)));
    read(&app, &asked, &topics, gather, |rows| Ok(instances(&asked, &choice, rows))).await
}

/// A service's instances in a mesh; of plain services there are none.
pub(super) async fn connect(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let choice = Choice::of(&app, &asked, field::SERVICE_NODE)?;
    let gather = |tables: &Tables| Ok(choice.placed(tables, in_mesh(tables, &name)));
    let shape = |rows| Ok(instances(&asked, &choice, rows));
    read(&app, &asked, &[Topic::Catalog], gather, shape).await
}

/// The services behind a gateway into a mesh, of which there are none.
pub(super) async fn gateway_services(
    State(app): State<Arc<App>>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let shape = |()| Ok(Answer::json(&asked.params, &json!([])).absent());
    read(&app, &asked, &[Topic::Catalog], |_| Ok(()), shape).await
}

fn instances(asked: &Asked, choice: &Choice, mut rows: Vec<Placed>) -> Answer {
    let is_absent = rows.is_empty();
    rows.retain(|row| choice.has_tags(&row.service));
    choice.order(&mut rows, |row| &row.node.name);
    let shown = rows.iter().map(shape::service_node);
    let shown: Vec<_> = shown.filter(|row| choice.filter.matches(row)).collect();
    let answer = Answer::json(&asked.params, &shown);
    if is_absent { answer.absent() } else { answer }
}

pub(super) async fn nodes(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Refusal> {
    let choice = Choice::of(&app, &asked, field::NODE)?;
    let gather = |tables: &Tables| {
        let nodes = tables.nodes().filter(|node| choice.has_node(node));
        Ok(nodes.cloned().collect::<Vec<_>>())
    };
    read(&app, &asked, &[Topic::Nodes], gather, |mut rows| {
        choice.order(&mut rows, |row| &row.name);
        let nodes = rows.iter().map(|row| shape::node(row));
        let nodes: Vec<_> = nodes.filter(|node| choice.filter.matches(node)).collect();
        Ok(Answer::json(&asked.params, &nodes))
    })
    .await
}

/// A node with its instances by id.
pub(super) async fn node(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let choice = Choice::of(&app, &asked, field::SERVICE)?;
    on_node(&app, &asked, &name, |node, services| {
        let services = services.iter().map(|row| shape::node_service(row));
        let services = services.filter(|service| choice.filter.matches(service));
        let services: BTreeMap<_, _> = services.map(|service| (service.id, service)).collect();
        Answer::json(&asked.params, &OnNode { node: shape::node(node), services })
    })
    .await
}

/// A node with its instances in a list.
pub(super) async fn node_services(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let choice = Choice::of(&app, &asked, field::SERVICE)?;
    on_node(&app, &asked, &name, |node, services| {
        let services = services.iter().map(|row| shape::node_service(row));
        let services: Vec<_> = services.filter(|service| choice.filter.matches(service)).collect();
        Answer::json(&asked.params, &OnNode { node: shape::node(node), services })
    })
    .await
}

/// Reads a node, named by its name or its id, with its instances; `null` if there is none.
async fn on_node(
    app: &App,
    asked: &Asked,
    name: &str,
    shape: impl Fn(&Node, &[Arc<Service>]) -> Answer,
) -> Result<Response, Refusal> {
    let find = |tables: &Tables| tables.node(name).or_else(|| tables.node_by_id(name)).cloned();
    let found = find(&app.view.store.read());
    let topic = Topic::Node(folded(found.as_ref().map_or(name, |node| &node.name)).into());
    // Whoever names a node by its id that is not there yet learns of it as of any node.
    let topics = if found.is_some() { vec![topic] } else { vec![topic, Topic::Nodes] };
    let gather = |tables: &Tables| {
        let node = find(tables);
        let services = node.iter().flat_map(|node| tables.instances_on(&node.name));
        let services: Vec<_> = services.cloned().collect();
        Ok((node, services))
    };
    read(app, asked, &topics, gather, |(node, services)| {
        Ok(match node {
            Some(node) => shape(&node, &services),
            None => Answer::json(&asked.params, &json!(null)).absent(),
        })
    })
    .await
}
