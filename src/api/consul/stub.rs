//! Parts of Consul that there is nothing of here, as a cluster of one answers for them: raft,
//! autopilot; and ACLs, which are off.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    response::Response,
    routing::{self, MethodRouter},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    DATACENTER,
    agent::own::{leader_address, own_node},
    decode, json as respond,
    read::Asked,
};
use crate::{
    agent::{CONSUL, CONSUL_VERSION},
    api::router::{App, Refusal, get, only, put},
    store::{Tables, Tx, row::Note},
};

/// The note with autopilot's configuration.
const AUTOPILOT: &str = "autopilot";

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/operator/raft/configuration", get(raft))
        .route("/v1/operator/raft/peer", only("OPTIONS,DELETE", routing::delete(alone)))
        .route("/v1/operator/raft/transfer-leader", only("OPTIONS,POST", routing::post(alone)))
        .route("/v1/operator/keyring", keyring())
        .route("/v1/operator/autopilot/configuration", autopilot_routes())
        .route("/v1/operator/autopilot/health", get(autopilot_health))
        .route("/v1/operator/usage", get(usage))
        .route("/v1/acl/{*rest}", routing::any(no_acl))
        .route("/v1/agent/token/{*kind}", put(no_acl))
}

async fn no_acl() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "ACL support disabled")
}

async fn alone() -> Refusal {
    let text = "there is one server and no other that could take its place";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
}

fn keyring() -> MethodRouter<Arc<App>> {
    let routes = routing::get(no_keyring).post(no_keyring).put(no_keyring).delete(no_keyring);
    only("OPTIONS,GET,POST,PUT,DELETE", routes)
}

async fn no_keyring() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "there is no gossip and no keyring")
}

async fn raft(State(app): State<Arc<App>>, asked: Asked) -> Response {
    let node = own_node(&app);
    let server = json!({
        "ID": &*node.id,
        "Node": &*node.name,
        "Address": leader_address(&app),
        "Leader": true,
        "ProtocolVersion": "3",
        "Voter": true,
        "LastIndex": app.view.store.read().index(),
    });
    respond(&asked.params, &json!({ "Servers": [server], "Index": 0 }))
}

fn autopilot_routes() -> MethodRouter<Arc<App>> {
    only("OPTIONS,GET,PUT", routing::get(autopilot).put(set_autopilot))
}

/// Autopilot's configuration, which is kept and obeyed by nobody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
struct Autopilot {
    cleanup_dead_servers: bool,
    last_contact_threshold: String,
    max_trailing_logs: u64,
    min_quorum: u64,
    server_stabilization_time: String,
    redundancy_zone_tag: String,
    disable_upgrade_migration: bool,
    upgrade_version_tag: String,
    create_index: u64,
    modify_index: u64,
}

impl Default for Autopilot {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: "200ms".into(),
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_time: "10s".into(),
            redundancy_zone_tag: String::new(),
            disable_upgrade_migration: false,
            upgrade_version_tag: String::new(),
            create_index: 1,
            modify_index: 1,
        }
    }
}

fn kept_autopilot(tables: &Tables) -> Autopilot {
    let note = tables.note(AUTOPILOT);
    note.and_then(|note| serde_json::from_str(&note.text).ok()).unwrap_or_default()
}

async fn autopilot(State(app): State<Arc<App>>, asked: Asked) -> Response {
    respond(&asked.params, &kept_autopilot(&app.view.store.read()))
}

async fn set_autopilot(
    State(app): State<Arc<App>>,
    asked: Asked,
    body: Bytes,
) -> Result<Response, Refusal> {
    let given: Autopilot = decode(&body)?;
    let cas = asked.params.get("cas").filter(|cas| !cas.is_empty());
    let cas = cas.map(|_| asked.params.number("cas")).transpose()?;
    let change = |tx: &mut Tx<'_>| {
        let held = kept_autopilot(tx);
        if cas.is_some_and(|cas| cas != held.modify_index) {
            return Ok::<_, Refusal>(false);
        }
        let Autopilot { create_index, modify_index, .. } = held;
        let same = Autopilot { create_index, modify_index, ..given.clone() };
        if same != held {
            let text = json!(Autopilot { modify_index: modify_index + 1, ..same }).to_string();
            tx.put(Note { name: AUTOPILOT.into(), text: text.into(), ..Note::default() });
        }
        Ok(true)
    };
    let is_done = app.view.store.write(change).await?;
    Ok(respond(&asked.params, &is_done))
}

async fn autopilot_health(State(app): State<Arc<App>>, asked: Asked) -> Response {
    let node = own_node(&app);
    let server = json!({
        "ID": &*node.id,
        "Name": &*node.name,
        "Address": leader_address(&app),
        "SerfStatus": "alive",
        "Version": CONSUL_VERSION,
        "Leader": true,
        "LastContact": "0s",
        "LastTerm": 1,
        "LastIndex": app.view.store.read().index(),
        "Healthy": true,
        "Voter": true,
        "StableSince": app.view.started.to_string(),
    });
    let health = json!({ "Healthy": true, "FailureTolerance": 0, "Servers": [server] });
    respond(&asked.params, &health)
}

async fn usage(State(app): State<Arc<App>>, asked: Asked) -> Response {
    let tables = app.view.store.read();
    let instances = tables.services().count();
    let own = tables.service(CONSUL).count();
    let usage = json!({
        "Usage": {
            DATACENTER: {
                "Nodes": tables.nodes().count(),
                "Services": tables.service_names().count(),
                "ServiceInstances": instances,
                "ConnectServiceInstances": {},
                "BillableServiceInstances": instances - own,
            },
        },
        "Index": tables.index().max(1),
        "LastContact": 0,
        "KnownLeader": true,
        "ConsistencyLevel": "leader",
        "NotModified": false,
        "Backend": 0,
        "ResultsFilteredByACLs": false,
    });
    drop(tables);
    respond(&asked.params, &usage)
}
