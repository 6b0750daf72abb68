//! What the agent is told to do with itself and with the cluster it is alone in.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header};
use tracing::Level;

use crate::{
    api::{
        consul::{missing_node, read::Asked},
        router::{App, Refusal, get, put},
    },
    store::{Key, folded},
    telemetry::Form,
};

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

/// A level of Consul's log.
fn level(word: &str) -> Option<Level> {
    Some(match &*word.to_ascii_lowercase() {
        "trace" => Level::TRACE,
        "debug" => Level::DEBUG,
        "info" => Level::INFO,
        "warn" => Level::WARN,
        "err" | "error" => Level::ERROR,
        _ => return None,
    })
}

/// Streams the log until the client goes or the daemon stops.
async fn monitor(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Refusal> {
    let word = asked.params.get("loglevel").filter(|level| !level.is_empty()).unwrap_or("info");
    let Some(level) = level(word) else {
        return Err(Refusal::bad(format!("Unknown log level: {word}")));
    };
    let wants_json = asked.params.get("logjson").is_some_and(|v| !matches!(v, "false" | "0"));
    let form = if wants_json { Form::Json } else { Form::Text };
    let Some(listener) = app.view.log.listen(level, form) else {
        return Err(Refusal::too_many(Duration::from_secs(1)));
    };
    let lines = stream::unfold(listener, async |mut listener| {
        Some((Ok::<_, Infallible>(listener.next().await), listener))
    });
    let lines = lines.take_until(app.stop.clone().cancelled_owned());
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((kind, Body::from_stream(lines)).into_response())
}
