//! What the agent shows of what is registered with it, and its maintenance mode.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::StatusCode;

use super::{
    Params,
    choice::with_instance,
    filter::field,
    read::Asked,
    shape::{self, Told},
};
use crate::{
    agent::maintain::{NO_NODE_REASON, NO_SERVICE_REASON, Unmaintained},
    api::router::{App, Refusal, get, put},
    store::{Tables, row::Service},
};

mod control;
mod health;
pub(super) mod own;
mod service;

/// Longest reason for maintenance that is kept, in characters: it stands in every view.
const MAX_REASON: usize = 512;

/// The routes of the agent, and those that tell of the cluster it is alone in.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/agent/checks", get(checks))
        .route("/v1/agent/services", get(services))
        .route("/v1/agent/service/", get(missing_service_id))
        .route("/v1/agent/service/{*id}", get(service::service))
        .route("/v1/agent/health/service/id/", get(missing_service_id))
        .route("/v1/agent/health/service/id/{*id}", get(health::by_id))
        .route("/v1/agent/health/service/name/", get(missing_service_name))
        .route("/v1/agent/health/service/name/{*name}", get(health::by_name))
        .route("/v1/agent/maintenance", put(maintain_node))
        .route("/v1/agent/service/maintenance/", put(missing_service_id))
        .route("/v1/agent/service/maintenance/{*id}", put(maintain))
        .merge(own::routes())
        .merge(control::routes())
}

async fn missing_service_id() -> Refusal {
    Refusal::bad("Missing service ID")
}

async fn missing_service_name() -> Refusal {
    Refusal::bad("Missing service Name")
}

/// Takes something out of the tables that is on disk.
async fn settled<T>(app: &App, take: impl Fn(&Tables) -> T) -> T {
    loop {
        let (seen, taken) = {
            let tables = app.view.store.read();
            (tables.seen(), take(&tables))
        };
        if app.view.store.settled(seen).await {
            return taken;
        }
    }
}

/// The instances registered here for which `is_wanted` holds.
async fn local_services(app: &App, is_wanted: impl Fn(&Service) -> bool) -> Vec<Arc<Service>> {
    settled(app, |tables| {
        let rows = tables.instances_on(&app.view.node_name);
        rows.filter(|row| row.origin.is_local() && is_wanted(row)).cloned().collect()
    })
    .await
}

/// The checks registered here, as their last results have them.
async fn local_checks(app: &App) -> Vec<Told> {
    let mut checks = published_checks(app, None).await;
    for told in &mut checks {
        told.check = app.view.agent.freshest(&told.check);
    }
    checks
}

/// The checks registered here, or those of them that bear on an instance: its node's, and its own;
/// as consumers are told of them.
async fn published_checks(app: &App, bearing_on: Option<&Service>) -> Vec<Told> {
    let node = &app.view.node_name;
    settled(app, |tables| {
        let rows: Vec<_> = match bearing_on {
            None => tables.checks_on(node).collect(),
            Some(service) => {
                let own = tables.instance_checks(node, &service.id);
                tables.node_checks(node).chain(own).collect()
            }
        };
        let rows = rows.into_iter().filter(|row| row.origin.is_local());
        rows.map(|row| with_instance(tables, row)).collect()
    })
    .await
}

async fn checks(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Refusal> {
    let filter = super::filter_of(&asked.params, field::CHECK)?;
    let rows = local_checks(&app).await;
    let checks = rows.iter().map(shape::agent_check);
    let checks = checks.filter(|check| filter.matches(check));
    let checks: BTreeMap<_, _> = checks.map(|check| (check.check_id, check)).collect();
    Ok(super::json(&asked.params, &checks))
}

async fn services(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Refusal> {
    let filter = super::filter_of(&asked.params, field::SERVICE)?;
    let rows = local_services(&app, |_| true).await;
    let services = rows.iter().map(|row| shape::agent_service(row));
    let services = services.filter(|service| filter.matches(service));
    let services: BTreeMap<_, _> = services.map(|service| (service.id, service)).collect();
    Ok(super::json(&asked.params, &services))
}

async fn maintain(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<(), Refusal> {
    let params = Params::parse(query.as_deref());
    let reason = reason(&params, NO_SERVICE_REASON)?;
    app.view.agent.maintain(&id, reason).await.map_err(|error| match error {
        Unmaintained::Unwritten(unwritten) => unwritten.into(),
        Unmaintained::Unknown(_) => {
            let hint = "Ensure that the service ID is passed, not the service name.";
            Refusal::new(StatusCode::NOT_FOUND, format!("Unknown service ID {id:?}. {hint}"))
        }
    })
}

async fn maintain_node(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<(), Refusal> {
    let params = Params::parse(query.as_deref());
    let reason = reason(&params, NO_NODE_REASON)?;
    Ok(app.view.agent.maintain_node(reason).await?)
}

/// Why it is to be taken out; nothing if it is to be put back.
fn reason(params: &Params, default: &str) -> Result<Option<Arc<str>>, Refusal> {
    if !params.enable()? {
        return Ok(None);
    }
    let given = params.get("reason").unwrap_or_default();
    let given: String = given.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    Ok(Some(if given.is_empty() { default.into() } else { given.into() }))
}
