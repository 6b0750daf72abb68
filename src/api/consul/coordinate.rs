//! Where nodes are among others, as they say themselves (`consul-esm` does for what it watches). It is
//! kept and shown, and bears on nothing else. Our own node is at the origin until it is said elsewhere.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    DATACENTER, decode, json as respond, missing_node,
    read::{Answer, Asked, read},
};
use crate::{
    api::router::{App, Refusal, get, put},
    store::{
        Tables, Topic, folded,
        row::{Coordinate, Stamp},
    },
};

/// Dimensions of the Euclidean part, as Serf has them.
const DIMENSIONS: usize = 8;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/coordinate/datacenters", get(of_datacenters))
        .route("/v1/coordinate/nodes", get(of_nodes))
        .route("/v1/coordinate/node/", get(missing_node))
        .route("/v1/coordinate/node/{*name}", get(of_node))
        .route("/v1/coordinate/update", put(update))
}

/// Where a node is that nothing is known of.
fn origin(node: &Arc<str>) -> Arc<Coordinate> {
    let (vec, error, height) = (vec![0.0; DIMENSIONS], 1.5, 1e-5);
    Coordinate { node: Arc::clone(node), vec, error, height, ..Coordinate::default() }.into()
}

/// All that is known, by node, with our own node among them.
fn all(tables: &Tables, own: &Arc<str>) -> Vec<Arc<Coordinate>> {
    let mut all: Vec<_> = tables.coordinates().cloned().collect();
    if tables.coordinates_of(own).next().is_none() && tables.node(own).is_some() {
        let place = all.partition_point(|held| folded(&held.node) < folded(own));
        all.insert(place, origin(own));
    }
    all
}

/// The same of one node.
fn of(tables: &Tables, node: &str, own: &Arc<str>) -> Vec<Arc<Coordinate>> {
    all(tables, own).into_iter().filter(|held| folded(&held.node) == folded(node)).collect()
}

/// A number as Go writes it: whole ones without a fraction.
fn number(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "it is compared with what it was")]
    let whole = value as i32;
    if f64::from(whole).to_bits() == value.to_bits() { json!(whole) } else { json!(value) }
}

fn place(held: &Coordinate) -> Value {
    json!({
        "Vec": held.vec.iter().copied().map(number).collect::<Vec<_>>(),
        "Error": number(held.error),
        "Adjustment": number(held.adjustment),
        "Height": number(held.height),
    })
}

fn shown<'a>(all: impl IntoIterator<Item = &'a Arc<Coordinate>>) -> Vec<Value> {
    let one = |held: &Arc<Coordinate>| json!({ "Node": &*held.node, "Segment": &*held.segment, "Coord": place(held) });
    all.into_iter().map(one).collect()
}

/// Where our own node is.
pub(super) fn own(app: &App) -> Value {
    let own = &app.view.node_name;
    let held = app.view.store.read().coordinates_of(own).next().cloned();
    place(&held.unwrap_or_else(|| origin(own)))
}

/// The servers of all datacenters: our own node.
async fn of_datacenters(State(app): State<Arc<App>>, asked: Asked) -> Response {
    let own = &app.view.node_name;
    let coordinates = shown(&of(&app.view.store.read(), own, own));
    let area = json!({ "Datacenter": DATACENTER, "AreaID": "wan", "Coordinates": coordinates });
    respond(&asked.params, &[area])
}

async fn of_nodes(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Refusal> {
    let own = &app.view.node_name;
    let segment = asked.params.get("segment").unwrap_or_default();
    let topics = [Topic::Coordinates, Topic::Node(folded(own).into())];
    let gather = |tables: &Tables| Ok(all(tables, own));
    read(&app, &asked, &topics, gather, |all| {
        let shown = shown(all.iter().filter(|held| &*held.segment == segment));
        Ok(Answer::json(&asked.params, &shown))
    })
    .await
}

async fn of_node(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let topics = [Topic::Coordinates, Topic::Node(folded(&name).into())];
    let gather = |tables: &Tables| Ok(of(tables, &name, &app.view.node_name));
    read(&app, &asked, &topics, gather, |all| {
        let answer = Answer::json(&asked.params, &shown(&all));
        let status = StatusCode::NOT_FOUND;
        Ok(if all.is_empty() { Answer { status, ..answer }.absent() } else { answer })
    })
    .await
}

/// What a node says of where it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Update {
    node: String,
    segment: String,
    coord: Coord,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Coord {
    vec: Vec<f64>,
    error: f64,
    adjustment: f64,
    height: f64,
}

/// Keeps where a node is, until it says otherwise or goes.
async fn update(State(app): State<Arc<App>>, body: Bytes) -> Result<(), Refusal> {
    let Update { node, segment, coord } = decode(&body)?;
    let Coord { vec, error, adjustment, height } = coord;
    if vec.len() != DIMENSIONS {
        let text = format!("incompatible coordinate: Coord.Vec must have {DIMENSIONS} numbers");
        return Err(Refusal::bad(text));
    }
    let written = app.view.store.write(|tx| {
        let Some(held) = tx.node(&node) else {
            let text = format!("unknown node {node:?}");
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text));
        };
        let (node, segment, stamp) = (Arc::clone(&held.name), segment.into(), Stamp::default());
        tx.put(Coordinate { node, segment, vec, error, adjustment, height, stamp });
        Ok(())
    });
    written.await
}
