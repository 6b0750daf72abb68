//! Registering services and checks with the agent, and speaking for checks.

use std::{
    convert::Infallible,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::Arc,
};

use axum::extract::{FromRequestParts, Path, State};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header, request::Parts};
use serde::Deserialize;

use super::read::Asked;
use crate::{
    agent::register::{Refused, Terms},
    api::{
        params::Params,
        router::{App, Refusal},
    },
    consul::{self, CheckDefinition, DecodeError, ServiceDefinition},
    store::row::Health,
};

/// The header of a client's token.
static TOKEN: HeaderName = HeaderName::from_static("x-consul-token");

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let status = match &refused {
            Refused::Invalid(_) => StatusCode::BAD_REQUEST,
            Refused::UnknownService(_)
            | Refused::NoSuchService(_)
            | Refused::UnknownCheck(_)
            | Refused::NoTombstone(_) => StatusCode::NOT_FOUND,
            Refused::Denied(_) | Refused::Improper(_) => StatusCode::FORBIDDEN,
            Refused::Scripts | Refused::NoTtl(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Refused::Owned { .. } | Refused::Exists(_) => StatusCode::CONFLICT,
            Refused::Unwritten(unwritten) => return unwritten.clone().into(),
        };
        Self::new(status, refused.to_string())
    }
}

/// What is wrong with a body; a strange status in Consul's own words.
fn undecodable(error: &DecodeError, status: &str) -> Refusal {
    if error.field().ends_with("status") {
        return Refusal::bad(status);
    }
    Refusal::bad(error.to_string())
}

/// A hash of the token a request comes with; zero for none. It tells owners apart, and is no more
/// than that: the token itself is not kept.
pub(in crate::api) fn token(params: &Params, headers: &HeaderMap) -> u64 {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = header(&header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let given = params.get("token").or_else(|| header(&TOKEN)).or(bearer);
    given
        .filter(|token| !token.is_empty())
        .map_or(0, |token| BuildHasherDefault::<DefaultHasher>::default().hash_one(token).max(1))
}

/// What the query and the headers of a registration say of how it is to be taken.
#[derive(Debug)]
pub(in crate::api) struct Wishes {
    replaces_checks: bool,
    token: u64,
}

impl<S: Sync> FromRequestParts<S> for Wishes {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let params = Params::parse(parts.uri.query());
        let replaces = params.get("replace-existing-checks");
        let replaces_checks = replaces.is_some_and(|v| v.is_empty() || v == "true");
        Ok(Self { replaces_checks, token: token(&params, &parts.headers) })
    }
}

/// `PUT /v1/agent/service/register`.
pub(super) async fn service(
    State(app): State<Arc<App>>,
    Wishes { replaces_checks, token }: Wishes,
    body: Bytes,
) -> Result<(), Refusal> {
    register(&app, &body, Terms { replaces_checks, respects_owner: false, token }).await
}

/// `PUT /v1/rollcall/register`: the same, but another owner's instance is left alone.
pub(in crate::api) async fn owned(
    State(app): State<Arc<App>>,
    Wishes { token, .. }: Wishes,
    body: Bytes,
) -> Result<(), Refusal> {
    register(&app, &body, Terms { replaces_checks: true, respects_owner: true, token }).await
}

/// `PUT /v1/rollcall/undo/:id`: brings an instance back that was deregistered for being critical.
pub(in crate::api) async fn undo(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<(), Refusal> {
    Ok(app.view.agent.undo(&id).await?)
}

async fn register(app: &App, body: &[u8], terms: Terms) -> Result<(), Refusal> {
    const STATUS: &str = "Status for checks must 'passing', 'warning', 'critical'";
    let definition: ServiceDefinition =
        consul::decode_json(body).map_err(|error| undecodable(&error, STATUS))?;
    Ok(app.view.agent.register(&definition, terms).await?)
}

/// `PUT /v1/agent/service/deregister/:id`.
pub(super) async fn deregister(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<(), Refusal> {
    Ok(app.view.agent.deregister(&id).await?)
}

/// `PUT /v1/agent/check/register`.
pub(super) async fn check(State(app): State<Arc<App>>, body: Bytes) -> Result<(), Refusal> {
    let definition: CheckDefinition =
        consul::decode_json(&body).map_err(|error| undecodable(&error, "Bad check status"))?;
    Ok(app.view.agent.register_check(&definition).await?)
}

/// `PUT /v1/agent/check/deregister/:id`.
pub(super) async fn deregister_check(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<(), Refusal> {
    Ok(app.view.agent.deregister_check(&id).await?)
}

/// `PUT /v1/agent/check/pass/:id`.
pub(super) async fn pass(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<(), Refusal> {
    speak(&app, &id, &asked, Health::Passing).await
}

/// `PUT /v1/agent/check/warn/:id`.
pub(super) async fn warn(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<(), Refusal> {
    speak(&app, &id, &asked, Health::Warning).await
}

/// `PUT /v1/agent/check/fail/:id`.
pub(super) async fn fail(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<(), Refusal> {
    speak(&app, &id, &asked, Health::Critical).await
}

async fn speak(app: &App, id: &str, asked: &Asked, status: Health) -> Result<(), Refusal> {
    let note = asked.params.get("note").unwrap_or_default();
    Ok(app.view.agent.hear(id, status, note).await?)
}

/// What somebody says of a check.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    status: String,
    output: String,
}

/// `PUT /v1/agent/check/update/:id`.
pub(super) async fn update(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(), Refusal> {
    let said: Said = consul::decode_json(&body).map_err(|error| Refusal::bad(error.to_string()))?;
    let status = match Health::from(&*said.status) {
        Health::Other(word) => return Err(strange(&word)),
        Health::Critical if said.status.is_empty() => return Err(strange("")),
        status @ (Health::Passing | Health::Warning | Health::Critical) => status,
    };
    Ok(app.view.agent.hear(&id, status, &said.output).await?)
}

fn strange(status: &str) -> Refusal {
    Refusal::bad(format!("Invalid check status: '{status}'"))
}
