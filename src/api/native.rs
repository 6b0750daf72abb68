//! Our own JSON: services with all that is known of them, why a check is as it is, and the events.
//!
//! The types are the wire's, read back by our own command line; the domain's types are not
//! serialisable on purpose. Fields may be added; none is renamed or dropped without a new path.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    response::{IntoResponse as _, Response},
    routing,
};
use serde::{Deserialize, Serialize};

use super::{
    consul,
    params::Params,
    router::{App, Refusal, get, only, put, put_large},
};
use crate::{
    agent::Standing,
    judge,
    model::{CheckKey, Outcome, Status},
    registry::{self, Listed},
};

mod doubt;
mod events;
mod explain;
mod probe;

pub use events::{Event, Missed};
pub use explain::{Ahead, Explanation, Holding, Observed, Published, Thresholds};
use probe::code;
pub use probe::{Attempt, Certificate, Probe, Report};

/// How checks stand with consumers that are held, or flap.
type Standings = HashMap<CheckKey, Standing>;

/// The path of all services.
pub const SERVICES: &str = "/v1/rollcall/services";

/// The path of the events.
pub const EVENTS: &str = "/v1/rollcall/events";

/// The path of what the daemon thinks of itself.
pub const SELF: &str = "/v1/rollcall/self";

/// The path at which an instance is registered, unless another owner has its id.
pub const REGISTER: &str = "/v1/rollcall/register";

/// What the path begins with under which a check is explained; its id follows.
pub const EXPLAIN: &str = "/v1/rollcall/explain/";

/// What the path begins with under which the target of a check is asked now; its id follows.
pub const PROBE: &str = "/v1/rollcall/probe/";

/// The path at which an instance is brought back that was deregistered for being critical.
const UNDO: &str = "/v1/rollcall/undo/{*id}";

/// The path at which a check, or all of an instance, is asked at once.
const RECHECK: &str = "/v1/rollcall/recheck/{*id}";

/// A service with its instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The best status of its instances: a service is up while one of them is.
    pub status: String,
    /// Its instances by id.
    pub instances: Vec<Instance>,
}

/// An instance with its checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// `host:port`.
    pub address: String,
    /// The worst status of its checks.
    pub status: String,
    /// Why an operator has taken it out, alone or with the whole node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its metadata.
    pub meta: BTreeMap<String, String>,
    /// Its checks by id.
    pub checks: Vec<Check>,
}

/// A check of an instance with what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its id within the service.
    pub id: String,
    /// `http`, `tcp` or `grpc`.
    pub protocol: String,
    /// What is asked of whom.
    pub target: String,
    /// `unknown`, `passing`, `warning`, `critical` or `maintenance`.
    pub status: String,
    /// Since when it has this status (RFC 3339); absent while it has never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When the last probe started (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe: Option<String>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_seconds: Option<f64>,
    /// Why the last probe did not succeed, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people; of a program that was run what it wrote, also when it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The target's own code in the last answer: an HTTP status or a serving status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Failed probes in a row up to now.
    pub consecutive_failures: u32,
    /// Whether the last result is too old to be relied on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// What consumers are told, if that is held against what is observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// Whether it comes and goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flapping: bool,
    /// When the certificate presented expires (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expiry: Option<String>,
    /// From one probe to the next.
    pub interval_seconds: f64,
}

/// The routes of this API.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(SERVICES, get(services))
        .route(EVENTS, get(events::list))
        .route(SELF, get(doubt::show))
        .route(REGISTER, put_large(consul::register::owned))
        .route(&format!("{EXPLAIN}{{*id}}"), get(explain::explain))
        .route(
            &format!("{PROBE}{{*id}}"),
            only("OPTIONS,PUT,POST", routing::put(probe::now).post(probe::now)),
        )
        .route(UNDO, put(consul::register::undo))
        .route(RECHECK, put(recheck))
}

/// Has checks asked at once, beyond their schedule; what is found counts. Answers with their names.
async fn recheck(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Vec<String>>, Refusal> {
    let found = explain::find::checks(&app.view.registry, &id)?;
    let mut asked = Vec::new();
    for check in found {
        if app.view.registry.recheck(&check.key).await {
            asked.push(check.key.to_string());
        }
    }
    if asked.is_empty() {
        return Err(Refusal::bad(format!(
            "nobody can be asked about {id:?}: its results are reported to rollcall"
        )));
    }
    Ok(Json(asked))
}

async fn services(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let listed = match params.get("service") {
        Some(name) => app.view.registry.service(name),
        None => app.view.registry.list(),
    };
    Json(group(&listed, &app.view.agent.standings())).into_response()
}

/// Brings instances, which are in the order of services, under their services.
fn group(listed: &[Listed], standings: &Standings) -> Vec<Service> {
    let same = |a: &Listed, b: &Listed| a.instance.service == b.instance.service;
    listed
        .chunk_by(same)
        .map(|group| Service {
            name: group[0].instance.service.to_string(),
            status: best(group).to_string(),
            instances: group.iter().map(|listed| Instance::of(listed, standings)).collect(),
        })
        .collect()
}

/// The status of a service: passing or warning if an instance is, else unknown if none has a
/// verdict yet, else the worst.
fn best(group: &[Listed]) -> Status {
    let statuses = || group.iter().map(Listed::status);
    [Status::Passing, Status::Warning]
        .into_iter()
        .find(|wanted| statuses().any(|status| status == *wanted))
        .unwrap_or_else(|| judge::worst(statuses()))
}

impl Instance {
    fn of(listed: &Listed, standings: &Standings) -> Self {
        let instance = &listed.instance;
        Self {
            id: instance.id.to_string(),
            address: instance.endpoint.to_string(),
            status: listed.status().to_string(),
            maintenance: listed.maintenance.as_ref().map(ToString::to_string),
            tags: instance.tags.iter().map(ToString::to_string).collect(),
            meta: instance.meta.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            checks: listed.checks.iter().map(|check| Check::of(check, standings)).collect(),
        }
    }
}

impl Check {
    fn of(check: &registry::Check, standings: &Standings) -> Self {
        let facts = check.slot.read();
        let standing = standings.get(&check.key);
        Self {
            id: check.key.check.to_string(),
            protocol: check.definition.probe.protocol().to_string(),
            target: check.target.url(),
            status: facts.status.to_string(),
            since: facts.changed.map(|at| at.to_string()),
            last_probe: facts.last_started.map(|at| at.to_string()),
            latency_seconds: facts.last_started.map(|_| facts.last_duration.as_secs_f64()),
            reason: facts.last_outcome.and_then(Outcome::reason).map(|reason| reason.to_string()),
            detail: facts.detail.map(Into::into),
            code: code(facts.answer),
            consecutive_failures: facts.streak.failures(),
            stale: facts.stale,
            published: standing
                .filter(|standing| standing.held.is_some())
                .map(|standing| standing.published.to_string()),
            flapping: standing.is_some_and(|standing| standing.is_flapping),
            certificate_expiry: facts.certificate_expiry.map(|at| at.to_string()),
            interval_seconds: check.definition.schedule.interval.as_secs_f64(),
        }
    }
}
