//! Sessions: the leases that locks hang on.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, State},
    response::Response,
};
use bytes::Bytes;
use http::StatusCode;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Visitor},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    DATACENTER, decode,
    read::{Answer, Asked, read},
};
use crate::{
    api::router::{App, Refusal},
    duration::Period,
    leases::Stopping,
    store::{
        Topic, folded,
        row::{self, Behavior},
        session::Untenable,
    },
};

/// What a client asks for; what it leaves out is Consul's default.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Wanted {
    name: Arc<str>,
    node: Arc<str>,
    lock_delay: LockDelay,
    checks: Option<Vec<Arc<str>>>,
    node_checks: Option<Vec<Arc<str>>>,
    service_checks: Vec<ServiceCheck>,
    behavior: String,
    #[serde(rename = "TTL")]
    ttl: Arc<str>,
}

/// A check of an instance, as a session names it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ServiceCheck {
    #[serde(rename = "ID")]
    id: Arc<str>,
    namespace: String,
}

#[derive(Debug)]
struct LockDelay(Duration);

impl Default for LockDelay {
    fn default() -> Self {
        Self(Duration::from_secs(15))
    }
}

/// A text as Go writes durations, or a number of nanoseconds; below a thousand, of seconds.
impl<'de> Deserialize<'de> for LockDelay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Go;

        impl Visitor<'_> for Go {
            type Value = LockDelay;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration such as \"15s\"")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<LockDelay, E> {
                Ok(LockDelay(match number {
                    0..1000 => Duration::from_secs(number),
                    nanos => Duration::from_nanos(nanos),
                }))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<LockDelay, E> {
                let number = u64::try_from(number);
                self.visit_u64(number.map_err(|_| E::custom("a duration is not negative"))?)
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<LockDelay, E> {
                let scale = if number < 1000.0 { 1.0 } else { 1e9 };
                Duration::try_from_secs_f64(number / scale).map(LockDelay).map_err(E::custom)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<LockDelay, E> {
                let period: Period = text.parse().map_err(E::custom)?;
                self.visit_u64(u64::try_from(period.get().as_nanos()).map_err(E::custom)?)
            }
        }

        deserializer.deserialize_any(Go)
    }
}

/// A session as Consul shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    node: &'a str,
    lock_delay: u64,
    behavior: &'static str,
    #[serde(rename = "TTL")]
    ttl: &'a str,
    node_checks: &'a [Arc<str>],
    service_checks: Option<Vec<ServiceCheck>>,
    create_index: u64,
    modify_index: u64,
}

impl<'a> From<&'a row::Session> for Shown<'a> {
    fn from(session: &'a row::Session) -> Self {
        let check = |id: &Arc<str>| ServiceCheck { id: Arc::clone(id), ..ServiceCheck::default() };
        let checks: Vec<_> = session.service_checks.iter().map(check).collect();
        Self {
            id: &session.id,
            name: &session.name,
            node: &session.node,
            lock_delay: session.lock_delay,
            behavior: session.behavior.as_str(),
            ttl: &session.ttl,
            node_checks: &session.node_checks,
            service_checks: Some(checks).filter(|checks| !checks.is_empty()),
            create_index: session.stamp.create,
            modify_index: session.stamp.modify,
        }
    }
}

impl From<Untenable> for Refusal {
    fn from(untenable: Untenable) -> Self {
        Self::failed(&untenable)
    }
}

impl Wanted {
    fn into_row(self, own_node: &Arc<str>) -> Result<row::Session, Refusal> {
        let behavior = match &*self.behavior {
            "" | "release" => Behavior::Release,
            "delete" => Behavior::Delete,
            other => {
                let text = format!("Invalid Behavior setting '{other}'");
                return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text));
            }
        };
        let checks = self.node_checks.or(self.checks);
        Ok(row::Session {
            id: Uuid::new_v4().to_string().into(),
            name: self.name,
            node: if self.node.is_empty() { Arc::clone(own_node) } else { self.node },
            node_checks: checks.unwrap_or_else(|| vec!["serfHealth".into()]),
            service_checks: self.service_checks.into_iter().map(|check| check.id).collect(),
            lock_delay: u64::try_from(self.lock_delay.0.as_nanos()).unwrap_or(u64::MAX),
            behavior,
            ttl: self.ttl,
            stamp: row::Stamp::default(),
        })
    }
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    asked: Asked,
    body: Bytes,
) -> Result<Response, Refusal> {
    asked.params.vet_read(DATACENTER)?;
    let is_blank = body.trim_ascii().is_empty();
    let wanted: Wanted = if is_blank { Wanted::default() } else { decode(&body)? };
    let session = wanted.into_row(&app.view.node_name)?;
    let id = Arc::clone(&session.id);
    app.view.store.write(|tx| tx.create_session(session).map_err(Refusal::from)).await?;
    Ok(super::json(&asked.params, &json!({ "ID": id })))
}

fn missing() -> Refusal {
    Refusal::bad("Missing session")
}

pub(super) async fn missing_id() -> Refusal {
    missing()
}

pub(super) async fn missing_node() -> Refusal {
    Refusal::bad("Missing node name")
}

pub(super) async fn destroy(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    asked.params.vet_read(DATACENTER)?;
    let destroy = |tx: &mut crate::store::Tx<'_>| {
        tx.destroy_session(&id);
        Ok::<_, Refusal>(true)
    };
    let done = app.view.store.write(destroy).await?;
    Ok(super::json(&asked.params, &done))
}

pub(super) async fn renew(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    asked.params.vet_read(DATACENTER)?;
    // Not 404, which would say that the locks are lost.
    let stopping = |why: Stopping| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string());
    match app.view.leases.renew(&id).await.map_err(stopping)? {
        Some(session) => Ok(super::json(&asked.params, &[Shown::from(&*session)])),
        None => Err(Refusal::new(StatusCode::NOT_FOUND, format!("Session id '{id}' not found"))),
    }
}

pub(super) async fn info(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    shown(&app, &asked, |session| *session.id == *id).await
}

pub(super) async fn of_node(
    State(app): State<Arc<App>>,
    Path(node): Path<String>,
    asked: Asked,
) -> Result<Response, Refusal> {
    shown(&app, &asked, |session| folded(&session.node) == folded(&node)).await
}

pub(super) async fn list(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Refusal> {
    shown(&app, &asked, |_| true).await
}

async fn shown(
    app: &App,
    asked: &Asked,
    wanted: impl Fn(&row::Session) -> bool,
) -> Result<Response, Refusal> {
    read(
        app,
        asked,
        &[Topic::Sessions],
        |tables| Ok(tables.sessions().filter(|session| wanted(session)).cloned().collect()),
        |sessions: Vec<Arc<row::Session>>| {
            let shown: Vec<_> = sessions.iter().map(|session| Shown::from(&**session)).collect();
            let answer = Answer::json(&asked.params, &shown);
            Ok(if shown.is_empty() { answer.absent() } else { answer })
        },
    )
    .await
}
