//! The agent itself: who it is, and the cluster it is alone in.

use std::sync::Arc;

use axum::{Router, extract::State, response::Response};
use http::{HeaderMap, header};
use serde_json::{Value, json};

use crate::{
    agent::{CONSUL_VERSION, SERVER_PORT},
    api::{
        consul::{DATACENTER, coordinate, filter::field, filter_of, json, read::Asked},
        exposition,
        router::{App, Refusal, get},
    },
    build, clock,
    store::row::{Health, Node},
};

/// The day of Consul's source, which we do not have: clients only read that it is a time.
const BUILD_DATE: &str = "1970-01-01T00:00:00Z";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/agent/self", get(own))
        .route("/v1/agent/members", get(members))
        .route("/v1/agent/metrics", get(metrics))
        .route("/v1/agent/version", get(version))
        .route("/v1/agent/host", get(host))
        .route("/v1/status/leader", get(leader))
        .route("/v1/status/peers", get(peers))
}

/// Where members would gossip. Nothing listens there.
const SERF_PORT: u16 = 8301;

/// `ip:port` of the leader, which we are.
pub(in crate::api::consul) fn leader_address(app: &App) -> String {
    std::net::SocketAddr::new(app.view.node_address, SERVER_PORT).to_string()
}

/// Our node's row.
pub(in crate::api::consul) fn own_node(app: &App) -> Arc<Node> {
    let node = app.view.store.read().node(&app.view.node_name).cloned();
    node.unwrap_or_default()
}

async fn leader(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Refusal> {
    asked.params.vet_read(DATACENTER)?;
    Ok(json(&asked.params, &leader_address(&app)))
}

async fn peers(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Refusal> {
    asked.params.vet_read(DATACENTER)?;
    Ok(json(&asked.params, &[leader_address(&app)]))
}

async fn members(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Refusal> {
    let filter = filter_of(&asked.params, field::MEMBER)?;
    let mut member = member(&own_node(&app));
    if asked.params.get("wan").is_some_and(|wan| !wan.is_empty()) {
        member["Name"] = json!(format!("{}.{DATACENTER}", app.view.node_name));
        member["Port"] = json!(8302);
    }
    let members: Vec<_> = [member].into_iter().filter(|member| filter.matches(member)).collect();
    Ok(json(&asked.params, &members))
}

fn member(node: &Node) -> Value {
    json!({
        "Name": &*node.name,
        "Addr": &*node.address,
        "Port": SERF_PORT,
        "Tags": {
            "acls": "0",
            "bootstrap": "1",
            "build": format!("{CONSUL_VERSION}:{}", build::REVISION),
            "dc": DATACENTER,
            "id": &*node.id,
            "port": SERVER_PORT.to_string(),
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

async fn own(State(app): State<Arc<App>>, asked: Asked) -> Response {
    let node = own_node(&app);
    let own = json!({
        "Config": {
            "Datacenter": DATACENTER,
            "PrimaryDatacenter": DATACENTER,
            "NodeName": &*node.name,
            "NodeID": &*node.id,
            "Revision": build::REVISION,
            "Server": true,
            "Version": CONSUL_VERSION,
            "BuildDate": BUILD_DATE,
        },
        // What clients look for when they have nodes join each other.
        "DebugConfig": { "SerfAdvertiseAddrLAN": format!("tcp://{}:{SERF_PORT}", node.address) },
        "Coord": coordinate::own(&app),
        "Member": member(&node),
        "Stats": stats(&app),
        "Meta": node.meta.clone().unwrap_or_default(),
        "xDS": {},
    });
    json(&asked.params, &own)
}

fn stats(app: &App) -> Value {
    let (mut services, mut monitors, mut ttls, mut checks) = (0_usize, 0_usize, 0_usize, 0_usize);
    {
        let tables = app.view.store.read();
        let local = tables.instances_on(&app.view.node_name);
        services += local.filter(|row| row.origin.is_local()).count();
        let local = tables.checks_on(&app.view.node_name).filter(|row| row.origin.is_local());
        for check in local {
            checks += 1;
            ttls += usize::from(*check.kind == *"ttl");
            monitors += usize::from(*check.kind != *"ttl" && !check.run.is_empty());
        }
    }
    json!({
        "agent": {
            "check_monitors": monitors.to_string(),
            "check_ttls": ttls.to_string(),
            "checks": checks.to_string(),
            "services": services.to_string(),
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
            "leader_addr": leader_address(app),
            "server": "true",
        },
        "raft": { "state": "Leader" },
        "runtime": { "os": std::env::consts::OS, "arch": std::env::consts::ARCH },
        "serf_lan": { "members": "1" },
        "serf_wan": { "members": "1" },
    })
}

async fn version(asked: Asked) -> Response {
    let version = json!({
        "SHA": build::REVISION,
        "BuildDate": BUILD_DATE,
        "HumanVersion": CONSUL_VERSION,
        "FIPS": "",
    });
    json(&asked.params, &version)
}

async fn host(State(app): State<Arc<App>>, asked: Asked) -> Response {
    let host = json!({
        "Memory": {},
        "CPU": [],
        "Host": {
            "hostname": &*app.view.node_name,
            "os": std::env::consts::OS,
            "kernelArch": std::env::consts::ARCH,
        },
        "Disk": {},
        "CollectionTime": clock::now().millis().saturating_mul(1_000_000),
        "Errors": null,
    });
    json(&asked.params, &host)
}

/// What the daemon counts: all of it in Prometheus's format, in Consul's how many there are.
async fn metrics(State(app): State<Arc<App>>, asked: Asked, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let wants_text = |accept: &str| {
        accept.contains("application/openmetrics-text") || accept.contains("text/plain; version=")
    };
    if asked.params.get("format") == Some("prometheus") || accept.is_some_and(wants_text) {
        return exposition::answer(&app.view, &headers);
    }
    let gauge = |name: &str, value: usize, labels: Value| json!({ "Name": name, "Value": value, "Labels": labels });
    let tables = app.view.store.read();
    let of_status = |status: &Health| tables.checks().filter(|row| row.status == *status).count();
    let mut gauges = vec![
        gauge("consul.state.nodes", tables.nodes().count(), json!({})),
        gauge("consul.state.services", tables.service_names().count(), json!({})),
        gauge("consul.state.service_instances", tables.services().count(), json!({})),
    ];
    gauges.extend([Health::Passing, Health::Warning, Health::Critical].map(|status| {
        gauge("rollcall.checks", of_status(&status), json!({ "status": status.as_str() }))
    }));
    drop(tables);
    let moment = jiff::Timestamp::from_millisecond(clock::now().millis()).unwrap_or_default();
    let body = json!({
        "Timestamp": moment.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        "Gauges": gauges,
        "Points": [],
        "Counters": [],
        "Samples": [],
    });
    json(&asked.params, &body)
}
