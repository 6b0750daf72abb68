//! One instance, held until it is another than the one the client knows.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::time::{Instant, sleep_until};

use super::settled;
use crate::{
    api::{
        consul::{encode, json, read::Asked, shape},
        router::{App, Refusal},
    },
    clock,
    store::{Topic, folded},
};

pub(super) async fn service(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let known = asked.params.get("hash").unwrap_or_default();
    let deadline = Instant::now() + asked.params.wait(clock::now().millis().unsigned_abs())?;
    let node = &app.view.node_name;
    let mut listener = app.view.store.listen(&[Topic::Node(folded(node).into())]);
    let mut place = None;
    loop {
        let row = settled(&app, |tables| tables.instance(node, &id).cloned()).await;
        let Some(row) = row.filter(|row| row.origin.is_local()) else {
            let text = format!("unknown service ID: {id}");
            return Err(Refusal::new(StatusCode::NOT_FOUND, text));
        };
        let mut shown = shape::agent_service(&row);
        let hash = hash(&encode(&asked.params, &shown));
        let is_over = Instant::now() >= deadline || app.stop.is_cancelled();
        if known.is_empty() || known != hash || is_over {
            shown.content_hash = Some(&hash);
            let mut response = json(&asked.params, &shown);
            if let Ok(hash) = HeaderValue::from_str(&hash) {
                let name = HeaderName::from_static("x-consul-contenthash");
                response.headers_mut().insert(name, hash);
            }
            return Ok(response);
        }
        if place.is_none() {
            place = Some(app.waiters.enter(asked.client())?);
        }
        tokio::select! {
            () = listener.changed() => {}
            () = sleep_until(deadline) => {}
            () = app.stop.cancelled() => {}
        }
    }
}

/// FNV-1a of 64 bits: the same after a restart.
fn hash(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
