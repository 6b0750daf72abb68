//! The health of what is registered here, for load balancers that read the status of an answer: as
//! it is published, so that a mass failure does not take everything out at once here, either.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::{local_services, published_checks};
use crate::{
    agent::{NODE_MAINTENANCE, SERVICE_MAINTENANCE},
    api::{
        consul::{
            encode,
            read::Asked,
            shape::{self, Told},
            wire::ServiceHealth,
        },
        router::App,
    },
    store::row::{Health, Service},
};

const MAINTENANCE: &str = "maintenance";

/// Statuses in Consul's words, the best first.
const RANKS: [&str; 4] = ["passing", "warning", "critical", MAINTENANCE];

pub(super) async fn by_id(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: Asked,
    headers: HeaderMap,
) -> Response {
    let is_text = wants_text(&asked, &headers);
    let Some(service) = local_services(&app, |row| *row.id == *id).await.pop() else {
        let health = ServiceHealth { aggregated_status: "critical", service: None, checks: None };
        let reason = format!("ServiceId {id} not found");
        return told(StatusCode::NOT_FOUND, reason, is_text, encode(&asked.params, &health));
    };
    let checks = published_checks(&app, Some(&service)).await;
    let health = health(&service, &checks);
    let status = health.aggregated_status;
    told(code(status), status.to_owned(), is_text, encode(&asked.params, &health))
}

pub(super) async fn by_name(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    asked: Asked,
    headers: HeaderMap,
) -> Response {
    let is_text = wants_text(&asked, &headers);
    let services = local_services(&app, |row| *row.name == *name).await;
    if services.is_empty() {
        let reason = format!("ServiceName {name} Not Found");
        return told(StatusCode::NOT_FOUND, reason, is_text, b"[]".to_vec());
    }
    let mut checks = Vec::with_capacity(services.len());
    for service in &services {
        checks.push(published_checks(&app, Some(service)).await);
    }
    let all = services.iter().zip(&checks);
    let all: Vec<_> = all.map(|(service, checks)| health(service, checks)).collect();
    let worst = all.iter().map(|health| health.aggregated_status).max_by_key(|s| rank(s));
    let worst = worst.unwrap_or(RANKS[0]);
    told(code(worst), worst.to_owned(), is_text, encode(&asked.params, &all))
}

fn health<'a>(service: &'a Service, checks: &'a [Told]) -> ServiceHealth<'a> {
    let status = |told: &Told| match (&*told.check.id, &told.check.status) {
        (id, _) if id == NODE_MAINTENANCE || id.starts_with(SERVICE_MAINTENANCE) => MAINTENANCE,
        (_, Health::Passing) => "passing",
        (_, Health::Warning) => "warning",
        (_, Health::Critical | Health::Other(_)) => "critical",
    };
    ServiceHealth {
        aggregated_status: checks.iter().map(status).max_by_key(|s| rank(s)).unwrap_or(RANKS[0]),
        service: Some(shape::agent_service(service)),
        checks: Some(checks.iter().map(shape::agent_check).collect()),
    }
}

fn rank(status: &str) -> Option<usize> {
    RANKS.iter().position(|other| *other == status)
}

fn code(status: &str) -> StatusCode {
    match status {
        "passing" => StatusCode::OK,
        "warning" => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn wants_text(asked: &Asked, headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    asked.params.get("format") == Some("text")
        || accept.is_some_and(|accept| accept.starts_with("text/plain"))
}

/// The reason as a header, and as the whole body for who wants text.
fn told(status: StatusCode, reason: String, is_text: bool, json: Vec<u8>) -> Response {
    const REASON: HeaderName = HeaderName::from_static("x-consul-reason");
    let kind = if is_text { "text/plain; charset=utf-8" } else { "application/json" };
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
    let header = HeaderValue::from_bytes(reason.as_bytes());
    let body = if is_text { reason.into_bytes() } else { json };
    let mut response = (status, kind, body).into_response();
    if let Ok(header) = header {
        response.headers_mut().insert(REASON, header);
    }
    response
}
