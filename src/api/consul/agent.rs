//! What the agent shows of itself and of what is registered with it, and its maintenance mode.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    CONSUL_VERSION, DATACENTER, Params, field,
    shape::{self, Shape},
};
use crate::{
    api::router::{App, Refusal},
    build,
};

/// Longest reason for maintenance that is kept, in characters: it stands in every view.
const MAX_REASON: usize = 512;

pub(super) async fn checks(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (params, filter) = super::asked(query.as_deref(), field::CHECK)?;
    let shape = Shape::new(&app.view);
    let listed = app.view.registry.list();
    let checks = listed.iter().flat_map(|listed| shape.checks(listed));
    let checks: BTreeMap<_, _> = checks
        .chain(shape.node_maintenance())
        .filter(|check| filter.matches(check))
        .map(|mut check| {
            (check.create_index, check.modify_index) = (0, 0);
            (check.check_id.clone(), check)
        })
        .collect();
    Ok(super::json(&params, &checks))
}

pub(super) async fn services(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (params, filter) = super::asked(query.as_deref(), field::SERVICE)?;
    let listed = app.view.registry.list();
    let services: BTreeMap<_, _> = listed
        .iter()
        .map(Shape::agent_service)
        .filter(|service| filter.matches(service))
        .map(|service| (service.id.clone(), service))
        .collect();
    Ok(super::json(&params, &services))
}

pub(super) async fn leader(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    super::json(&Params::parse(query.as_deref()), &Shape::new(&app.view).leader())
}

pub(super) async fn own(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let (view, shape) = (&app.view, Shape::new(&app.view));
    let listed = view.registry.list();
    let checks: usize = listed.iter().map(|listed| listed.checks.len()).sum();
    let id = shape::node_id(&view.node_name);
    let own = json!({
        "Config": {
            "Datacenter": DATACENTER,
            "PrimaryDatacenter": DATACENTER,
            "NodeName": &*view.node_name,
            "NodeID": id,
            "Revision": build::REVISION,
            "Server": true,
            "Version": CONSUL_VERSION,
            "BuildDate": "1970-01-01T00:00:00Z",
        },
        "DebugConfig": {},
        "Coord": { "Vec": [0, 0, 0, 0, 0, 0, 0, 0], "Error": 1.5, "Adjustment": 0, "Height": 1e-5 },
        "Member": member(&view.node_name, &view.node_address.to_string(), &id),
        "Stats": {
            "agent": {
                "check_monitors": checks.to_string(),
                "check_ttls": "0",
                "checks": checks.to_string(),
                "services": listed.len().to_string(),
            },
            "build": {
                "version": CONSUL_VERSION,
                "revision": build::REVISION,
                "prerelease": "",
                "version_metadata": "",
            },
            "consul": {
                "bootstrap": "true",
                "known_datacenters": "1",
                "leader": "true",
                "leader_addr": shape.leader(),
                "server": "true",
            },
            "raft": { "state": "Leader" },
            "runtime": { "os": std::env::consts::OS, "arch": std::env::consts::ARCH },
            "serf_lan": { "members": "1" },
            "serf_wan": { "members": "1" },
        },
        "Meta": shape::node_meta(),
        "xDS": {},
    });
    super::json(&Params::parse(query.as_deref()), &own)
}

fn member(name: &str, address: &str, id: &str) -> Value {
    json!({
        "Name": name,
        "Addr": address,
        "Port": 8301,
        "Tags": {
            "acls": "0",
            "bootstrap": "1",
            "build": format!("{CONSUL_VERSION}:{}", build::REVISION),
            "dc": DATACENTER,
            "id": id,
            "port": "8300",
            "raft_vsn": "3",
            "role": "consul",
            "segment": "",
            "vsn": "2",
            "vsn_max": "3",
            "vsn_min": "2",
        },
        "Status": 1,
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    })
}

pub(super) async fn maintain(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<(), Refusal> {
    let params = Params::parse(query.as_deref());
    let reason = reason(&params, shape::default_service_reason)?;
    app.view.registry.maintain(&id, reason).await.map_err(|_| {
        let hint = "Ensure that the service ID is passed, not the service name.";
        Refusal::new(StatusCode::NOT_FOUND, format!("Unknown service ID {id:?}. {hint}"))
    })
}

pub(super) async fn maintain_node(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<(), Refusal> {
    let params = Params::parse(query.as_deref());
    let reason = reason(&params, shape::default_node_reason)?;
    app.view.registry.maintain_node(reason).await;
    Ok(())
}

/// Why it is to be taken out; nothing if it is to be put back.
fn reason(params: &Params, default: fn() -> Arc<str>) -> Result<Option<Arc<str>>, Refusal> {
    if !params.enable()? {
        return Ok(None);
    }
    let given = params.get("reason").unwrap_or_default();
    let given: String = given.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    Ok(Some(if given.is_empty() { default() } else { given.into() }))
}
