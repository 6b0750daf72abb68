//! What the agent is told to do with itself and with the cluster it is alone in.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Router,
    extract::{Path, State},
};
use http::StatusCode;

use crate::{
    api::{
        consul::{missing_node, read::Asked},
        router::{App, Refusal, get, put},
    },
    store::{Key, folded},
};

/// The levels of Consul's log.
const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "err", "error"];

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/agent/leave", put(leave))
        .route("/v1/agent/reload", put(reload))
        .route("/v1/agent/join/{*address}", put(join))
        .route("/v1/agent/force-leave/", put(missing_node))
        .route("/v1/agent/force-leave/{*node}", put(force_leave))
        .route("/v1/agent/monitor", get(monitor))
}

fn failed(text: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
}

/// Stops the daemon as a signal does.
async fn leave(State(app): State<Arc<App>>) {
    app.view.leave.cancel();
}

async fn reload(State(app): State<Arc<App>>) -> Result<(), Refusal> {
    app.view.reload.reload().await.map(drop).map_err(failed)
}

/// There is nobody to join but ourselves.
async fn join(State(app): State<Arc<App>>, Path(address): Path<String>) -> Result<(), Refusal> {
    let own = app.view.node_address;
    let is_own = address.parse() == Ok(own)
        || address.parse().is_ok_and(|address: std::net::SocketAddr| address.ip() == own)
        || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback() && own.is_loopback());
    if is_own { Ok(()) } else { Err(failed("join is not supported")) }
}

/// Removes another node from the catalog. Our own stays.
async fn force_leave(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<(), Refusal> {
    let own = &app.view.node_name;
    let written = app.view.store.write(|tx| {
        let Some(node) = tx.node(&name).map(|node| Arc::clone(&node.name)) else {
            return Err(failed(format!("agent: No node found with name '{name}'")));
        };
        if folded(&node) != folded(own) {
            tx.delete(Key::Node(node));
        }
        Ok(())
    });
    written.await
}

/// The log is where the daemon was told to write it.
async fn monitor(asked: Asked) -> Result<(), Refusal> {
    let level = asked.params.get("loglevel").filter(|level| !level.is_empty()).unwrap_or("info");
    if !LEVELS.contains(&&*level.to_ascii_lowercase()) {
        return Err(Refusal::bad(format!("Unknown log level: {level}")));
    }
    let text = "the log is not streamed; it is on the daemon's standard error";
    Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, text))
}
