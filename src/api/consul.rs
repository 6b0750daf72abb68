//! Consul's HTTP API over the store.
//!
//! Consul's agent shows what is registered with it, its catalog and health views what there is on
//! all nodes; here both are read from the same rows. Our node has the check `serfHealth` in the
//! health views and not in the agent's, and so it is with the service `consul`. Maintenance is a
//! critical check beside those that are run.

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    response::{IntoResponse, Response},
    routing,
};
use http::{HeaderName, HeaderValue, header};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    guard::MAX_VALUE,
    params::Params,
    router::{App, Refusal, get, only, put, put_large},
};

mod agent;
mod catalog;
mod choice;
mod coordinate;
pub(super) mod event;
mod filter;
mod health;
mod kv;
pub(super) mod read;
pub(super) mod register;
mod session;
mod shape;
mod stub;
mod txn;
mod wire;

use filter::{Filter, field::Fields};

/// The one data centre there is.
const DATACENTER: &str = "dc1";

/// The routes of this API.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/agent/service/register", put_large(register::service))
        .route("/v1/agent/service/deregister/", put(missing_service_id))
        .route("/v1/agent/service/deregister/{*id}", put(register::deregister))
        .route("/v1/agent/check/register", put_large(register::check))
        .route("/v1/agent/check/deregister/", put(missing_check_id))
        .route("/v1/agent/check/deregister/{*id}", put(register::deregister_check))
        .route("/v1/agent/check/pass/", put(missing_check_id))
        .route("/v1/agent/check/pass/{*id}", put(register::pass))
        .route("/v1/agent/check/warn/", put(missing_check_id))
        .route("/v1/agent/check/warn/{*id}", put(register::warn))
        .route("/v1/agent/check/fail/", put(missing_check_id))
        .route("/v1/agent/check/fail/{*id}", put(register::fail))
        .route("/v1/agent/check/update/", put(missing_check_id))
        .route("/v1/agent/check/update/{*id}", put_large(register::update))
        .route("/v1/health/state/", get(missing_state))
        .route("/v1/health/state/{*state}", get(health::state))
        .route("/v1/health/service/", get(missing_service))
        .route("/v1/health/service/{*name}", get(health::service))
        .route("/v1/health/connect/", get(missing_service))
        .route("/v1/health/connect/{*name}", get(health::connect))
        .route("/v1/health/ingress/", get(missing_service))
        .route("/v1/health/ingress/{*name}", get(health::ingress))
        .route("/v1/health/checks/", get(missing_service))
        .route("/v1/health/checks/{*name}", get(health::checks))
        .route("/v1/health/node/", get(missing_node))
        .route("/v1/health/node/{*name}", get(health::node))
        .route("/v1/catalog/register", put_large(catalog::register))
        .route("/v1/catalog/deregister", put(catalog::deregister))
        .route("/v1/catalog/datacenters", get(catalog::datacenters))
        .route("/v1/catalog/services", get(catalog::services))
        .route("/v1/catalog/service/", get(missing_service))
        .route("/v1/catalog/service/{*name}", get(catalog::service))
        .route("/v1/catalog/connect/", get(missing_service))
        .route("/v1/catalog/connect/{*name}", get(catalog::connect))
        .route("/v1/catalog/gateway-services/", get(missing_gateway))
        .route("/v1/catalog/gateway-services/{*name}", get(catalog::gateway_services))
        .route("/v1/catalog/nodes", get(catalog::nodes))
        .route("/v1/catalog/node/", get(missing_node))
        .route("/v1/catalog/node/{*name}", get(catalog::node))
        .route("/v1/catalog/node-services/", get(missing_node))
        .route("/v1/catalog/node-services/{*name}", get(catalog::node_services))
        .merge(agent::routes())
        .merge(coordinate::routes())
        .merge(stub::routes())
        .merge(kv_routes())
        .merge(session_routes())
        .merge(event_routes())
}

fn kv_routes() -> Router<Arc<App>> {
    let route = || {
        let methods = routing::get(kv::get).put(kv::put).delete(kv::delete);
        only("OPTIONS,GET,PUT,DELETE", methods).layer(DefaultBodyLimit::max(MAX_VALUE))
    };
    Router::new()
        .route("/v1/kv/", route())
        .route("/v1/kv/{*key}", route())
        .route("/v1/txn", put_large(txn::commit))
}

fn session_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/session/create", put(session::create))
        .route("/v1/session/destroy/", put(session::missing_id))
        .route("/v1/session/destroy/{*id}", put(session::destroy))
        .route("/v1/session/renew/", put(session::missing_id))
        .route("/v1/session/renew/{*id}", put(session::renew))
        .route("/v1/session/info/", get(session::missing_id))
        .route("/v1/session/info/{*id}", get(session::info))
        .route("/v1/session/node/", get(session::missing_node))
        .route("/v1/session/node/{*node}", get(session::of_node))
        .route("/v1/session/list", get(session::list))
}

fn event_routes() -> Router<Arc<App>> {
    // Consul takes PUT alone; Spring Cloud Consul posts.
    let fire = only("OPTIONS,PUT,POST", routing::put(event::fire).post(event::fire));
    Router::new()
        .route("/v1/event/fire/", put(event::missing_name))
        .route("/v1/event/fire/{*name}", fire)
        .route("/v1/event/list", get(event::list))
}

async fn missing_service_id() -> Refusal {
    Refusal::bad("Missing service ID")
}

async fn missing_check_id() -> Refusal {
    Refusal::bad("Missing check ID")
}

async fn missing_service() -> Refusal {
    Refusal::bad("Missing service name")
}

async fn missing_node() -> Refusal {
    Refusal::bad("Missing node name")
}

async fn missing_gateway() -> Refusal {
    Refusal::bad("Missing gateway name")
}

async fn missing_state() -> Refusal {
    Refusal::bad("Missing check state")
}

const DEFAULT_POLICY: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-consul-default-acl-policy"), HeaderValue::from_static("allow"));

/// Which objects of an answer to show.
fn filter_of(params: &Params, fields: Fields) -> Result<Filter, Refusal> {
    let filter = Filter::parse(params.get("filter").unwrap_or_default(), fields);
    filter.map_err(|error| {
        Refusal::bad(format!("Failed to create boolean expression evaluator: {error}"))
    })
}

/// JSON as Consul writes it: compact, or indented by four if `?pretty`.
fn encode(params: &Params, value: &impl Serialize) -> Vec<u8> {
    let mut body = Vec::new();
    let written = if params.has("pretty") {
        let indented = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut body, indented);
        value.serialize(&mut serializer).map(|()| body.push(b'\n'))
    } else {
        serde_json::to_writer(&mut body, value)
    };
    written.expect("texts and numbers under string keys are JSON");
    body
}

/// A body as Consul reads it.
fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    crate::consul::decode_json(body).map_err(|error| Refusal::bad(error.to_string()))
}

/// The same as an answer without an index.
fn json(params: &Params, value: &impl Serialize) -> Response {
    let body = encode(params, value);
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([kind, DEFAULT_POLICY], body).into_response()
}

fn consistency(params: &Params) -> &'static str {
    match (params.has("consistent"), params.has("stale")) {
        (true, _) => "consistent",
        (false, true) => "stale",
        (false, false) => "leader",
    }
}
