//! Health as consumers are told it: of services, of nodes, and by status.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};

use serde_json::json;

use super::{
    choice::{Choice, in_mesh},
    filter::field,
    read::{Answer, Asked, read},
    shape::{self, Entry, Told},
};
use crate::{
    api::router::{App, Refusal},
    store::{Tables, Topic, folded, row::Health},
};

pub(super) async fn service(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let choice = Choice::of(&app, &asked, field::SERVICE_ENTRY)?;
    let only_passing = asked.params.flag("passing")?;
    let topics = [Topic::Service(folded(&name).into())];
    let gather = |tables: &Tables| Ok(choice.entries(tables, tables.service(&name)));
    let shape = |rows| Ok(entries(&asked, &choice, only_passing, rows));
    read(&app, &asked, &topics, gather, shape).await
}

/// A service's instances in a mesh; of plain services there are none.
pub(super) async fn connect(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let choice = Choice::of(&app, &asked, field::SERVICE_ENTRY)?;
    let only_passing = asked.params.flag("passing")?;
    let gather = |tables: &Tables| Ok(choice.entries(tables, in_mesh(tables, &name)));
    let shape = |rows| Ok(entries(&asked, &choice, only_passing, rows));
    read(&app, &asked, &[Topic::Catalog, Topic::Checks], gather, shape).await
}

/// Gateways into a mesh, of which there are none.
pub(super) async fn ingress(
    State(app): State<Arc<App>>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let shape = |()| Ok(Answer::json(&asked.params, &json!([])).absent());
    read(&app, &asked, &[Topic::Catalog], |_| Ok(()), shape).await
}

fn entries(asked: &Asked, choice: &Choice, only_passing: bool, mut rows: Vec<Entry>) -> Answer {
    let is_absent = rows.is_empty();
    rows.retain(|row| choice.has_tags(&row.placed.service));
    if only_passing {
        rows.retain(|row| row.checks.iter().all(|told| told.check.status == Health::Passing));
    }
    choice.order(&mut rows, |row| &row.placed.node.name);
    let entries = rows.iter().map(shape::entry);
    let entries: Vec<_> = entries.filter(|entry| choice.filter.matches(entry)).collect();
    let answer = Answer::json(&asked.params, &entries);
    if is_absent { answer.absent() } else { answer }
}

pub(super) async fn checks(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let choice = Choice::of(&app, &asked, field::CHECK)?;
    let topics = choice.with_nodes(Topic::ServiceChecks(folded(&name).into()));
    let gather = |tables: &Tables| {
        let rows = tables.service(&name);
        let checks = rows.flat_map(|row| tables.instance_checks(&row.node, &row.id));
        Ok((tables.service(&name).next().is_some(), choice.checks(tables, checks)))
    };
    read(&app, &asked, &topics, gather, |(exists, mut rows)| {
        rows.sort_by(|a, b| a.check.id.cmp(&b.check.id));
        let answer = list(&asked, &choice, rows);
        Ok(if exists { answer } else { answer.absent() })
    })
    .await
}

pub(super) async fn node(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let choice = Choice::of(&app, &asked, field::CHECK)?;
    let topics = choice.with_nodes(Topic::NodeChecks(folded(&name).into()));
    let gather = |tables: &Tables| {
        Ok((tables.node(&name).is_some(), choice.checks(tables, tables.checks_on(&name))))
    };
    read(&app, &asked, &topics, gather, |(exists, rows)| {
        let answer = list(&asked, &choice, rows);
        Ok(if exists { answer } else { answer.absent() })
    })
    .await
}

pub(super) async fn state(
    State(app): State<Arc<App>>,
    Path(state): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    let choice = Choice::of(&app, &asked, field::CHECK)?;
    let topics = choice.with_nodes(Topic::Checks);
    let gather = |tables: &Tables| {
        let checks = tables.checks();
        let checks = checks.filter(|check| state == "any" || check.status.as_str() == state);
        Ok(choice.checks(tables, checks))
    };
    read(&app, &asked, &topics, gather, |rows| Ok(list(&asked, &choice, rows))).await
}

fn list(asked: &Asked, choice: &Choice, mut rows: Vec<Told>) -> Answer {
    choice.order(&mut rows, |row| &row.check.node);
    let checks = rows.iter().map(shape::check);
    let checks: Vec<_> = checks.filter(|check| choice.filter.matches(check)).collect();
    Answer::json(&asked.params, &checks)
}
