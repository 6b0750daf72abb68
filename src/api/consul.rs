//! The part of Consul's HTTP API that shows health.
//!
//! Consul knows three statuses. A check without a verdict is shown critical, as Consul shows its
//! own before their first run, and maintenance is a check of its own beside those probed, whose
//! status goes on to be shown. Our node has the check `serfHealth` in the health views and not in
//! the agent's, and so it is with the service `consul`.
//!
//! Blocking queries wait for any change of the registry: clients are woken more often than Consul
//! wakes them, which its documentation allows, and never too late.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, Path, RawQuery, State},
    response::{IntoResponse, Response},
    routing,
};
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::{
    guard::{MAX_BODY, MAX_VALUE},
    params::Params,
    router::{App, Refusal, get, only, put},
};
use crate::{clock, registry::Listed};

mod agent;
mod case;
pub(super) mod event;
mod filter;
mod kv;
pub(super) mod read;
pub(super) mod register;
mod session;
mod shape;
mod txn;
mod wire;

use filter::{
    Filter,
    field::{self, Fields},
};
use shape::Shape;
use wire::{HealthCheck, ServiceEntry};

/// The one data centre there is.
const DATACENTER: &str = "dc1";

/// The version of Consul whose behaviour this is: clients turn features on by it.
const CONSUL_VERSION: &str = "1.21.5";

/// Changes that follow each other quicker than this are shown together, so that many waiting
/// clients and many changes do not multiply.
const SETTLE: Duration = Duration::from_millis(20);

/// The routes of this API.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/agent/checks", get(agent::checks))
        .route("/v1/agent/services", get(agent::services))
        .route("/v1/agent/self", get(agent::own))
        .route("/v1/agent/service/register", put(register::service))
        .route("/v1/agent/service/deregister/", put(missing_service_id))
        .route("/v1/agent/service/deregister/{*id}", put(register::deregister))
        .route("/v1/agent/check/register", put(register::check))
        .route("/v1/agent/check/deregister/", put(missing_check_id))
        .route("/v1/agent/check/deregister/{*id}", put(register::deregister_check))
        .route("/v1/agent/check/pass/{*id}", put(register::pass))
        .route("/v1/agent/check/warn/{*id}", put(register::warn))
        .route("/v1/agent/check/fail/{*id}", put(register::fail))
        .route("/v1/agent/check/update/{*id}", put(register::update))
        .route("/v1/agent/maintenance", put(agent::maintain_node))
        .route("/v1/agent/service/maintenance/", put(missing_service_id))
        .route("/v1/agent/service/maintenance/{*id}", put(agent::maintain))
        .route("/v1/health/state/", get(missing_state))
        .route("/v1/health/state/{state}", get(health_state))
        .route("/v1/health/service/", get(missing_service))
        .route("/v1/health/service/{*name}", get(health_service))
        .route("/v1/health/checks/", get(missing_service))
        .route("/v1/health/checks/{*name}", get(health_checks))
        .route("/v1/status/leader", get(agent::leader))
        .merge(kv_routes())
        .merge(session_routes())
        .merge(event_routes())
}

fn kv_routes() -> Router<Arc<App>> {
    let route = || {
        let methods = routing::get(kv::get).put(kv::put).delete(kv::delete);
        only("OPTIONS,GET,PUT,DELETE", methods).layer(DefaultBodyLimit::max(MAX_VALUE))
    };
    let txn = put(txn::commit).layer(DefaultBodyLimit::max(MAX_VALUE));
    Router::new().route("/v1/kv/", route()).route("/v1/kv/{*key}", route()).route("/v1/txn", txn)
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
        .layer(DefaultBodyLimit::max(MAX_BODY))
}

fn event_routes() -> Router<Arc<App>> {
    // Consul takes PUT alone; Spring Cloud Consul posts.
    let fire = only("OPTIONS,PUT,POST", routing::put(event::fire).post(event::fire));
    Router::new()
        .route("/v1/event/fire/", put(event::missing_name))
        .route("/v1/event/fire/{*name}", fire)
        .route("/v1/event/list", get(event::list))
        .layer(DefaultBodyLimit::max(MAX_BODY))
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

async fn missing_state() -> Refusal {
    Refusal::bad("Missing check state")
}

const DEFAULT_POLICY: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-consul-default-acl-policy"), HeaderValue::from_static("allow"));

/// The parameters of a read, and which of its objects to show. A filter that cannot be read is
/// refused at once and not after the wait of a blocking query.
fn asked(query: Option<&str>, fields: Fields) -> Result<(Params, Filter), Refusal> {
    let params = Params::parse(query);
    let filter = Filter::parse(params.get("filter").unwrap_or_default(), fields);
    let filter = filter.map_err(|error| {
        Refusal::bad(format!("Failed to create boolean expression evaluator: {error}"))
    })?;
    Ok((params, filter))
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

/// The same as an answer without an index.
fn json(params: &Params, value: &impl Serialize) -> Response {
    let body = encode(params, value);
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([kind, DEFAULT_POLICY], body).into_response()
}

/// A read of the catalog: vetted, held as long as the client asked for, and then shown with the
/// index it is of.
async fn read<T: Serialize>(
    app: &App,
    params: &Params,
    result: impl FnOnce(&Shape<'_>) -> Result<T, Refusal>,
) -> Result<Response, Refusal> {
    params.vet_read(DATACENTER)?;
    let index = hold(app, params).await?;
    let shape = Shape::new(&app.view);
    let mut response = json(params, &result(&shape)?);
    let headers = response.headers_mut();
    let fixed = [
        ("x-consul-knownleader", "true"),
        ("x-consul-lastcontact", "0"),
        ("x-consul-effective-consistency", consistency(params)),
    ];
    for (name, value) in fixed {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(HeaderName::from_static("x-consul-index"), HeaderValue::from(index));
    Ok(response)
}

fn consistency(params: &Params) -> &'static str {
    match (params.has("consistent"), params.has("stale")) {
        (true, _) => "consistent",
        (false, true) => "stale",
        (false, false) => "leader",
    }
}

/// Waits until something has changed since the index the client knows, if it asked for that.
/// Returns the index that the state read next is at least of.
async fn hold(app: &App, params: &Params) -> Result<u64, Refusal> {
    let known = params.number("index")?;
    let wait = params.wait(clock::now().millis().unsigned_abs())?;
    let mut version = app.view.registry.version();
    let current = *version.borrow_and_update();
    // An index from the future is of a process before this one.
    if known == 0 || known != current {
        return Ok(current);
    }
    let changed = async {
        if timeout(wait, version.wait_for(|version| *version != known)).await.is_ok() {
            sleep(SETTLE).await;
        }
    };
    tokio::select! {
        () = changed => {}
        () = app.stop.cancelled() => {}
    }
    Ok(*app.view.registry.version().borrow())
}

async fn health_state(
    State(app): State<Arc<App>>,
    Path(state): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (params, filter) = asked(query.as_deref(), field::CHECK)?;
    read(&app, &params, |shape| {
        if !shape::is_our_node_asked_for(&params) {
            return Ok(Vec::new());
        }
        let mut checks = shape.node_checks();
        for listed in &app.view.registry.list() {
            checks.extend(shape.checks(listed));
        }
        checks.retain(|check| state == "any" || check.status == state);
        checks.retain(|check| filter.matches(check));
        Ok(sorted(checks))
    })
    .await
}

async fn health_checks(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (params, filter) = asked(query.as_deref(), field::CHECK)?;
    read(&app, &params, |shape| {
        if !shape::is_our_node_asked_for(&params) {
            return Ok(Vec::new());
        }
        let listed = app.view.registry.service(&name);
        let checks = listed.iter().flat_map(|listed| shape.checks(listed));
        Ok(sorted(checks.filter(|check| filter.matches(check)).collect()))
    })
    .await
}

fn sorted(mut checks: Vec<HealthCheck>) -> Vec<HealthCheck> {
    checks.sort_by(|a, b| a.check_id.cmp(&b.check_id));
    checks
}

async fn health_service(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (params, filter) = asked(query.as_deref(), field::SERVICE_ENTRY)?;
    let passing = params.flag("passing")?;
    read(&app, &params, |shape| {
        if !shape::is_our_node_asked_for(&params) {
            return Ok(Vec::new());
        }
        let listed = app.view.registry.service(&name);
        let mut entries: Vec<ServiceEntry> = listed
            .iter()
            .filter(|listed| has_tags(listed, &params))
            .map(|l| shape.entry(l))
            .collect();
        if listed.is_empty() && name == shape::CONSUL && !params.has("tag") {
            entries.push(shape.own_entry());
        }
        let is_passing = |entry: &ServiceEntry| entry.checks.iter().all(|c| c.status == "passing");
        entries.retain(|entry| !passing || is_passing(entry));
        entries.retain(|entry| filter.matches(entry));
        Ok(entries)
    })
    .await
}

/// Whether an instance has all tags asked for, in any case of letters.
fn has_tags(listed: &Listed, params: &Params) -> bool {
    params.all("tag").filter(|tag| !tag.is_empty()).all(|wanted| {
        let wanted = wanted.to_lowercase();
        listed.instance.tags.iter().any(|tag| tag.to_lowercase() == wanted)
    })
}
