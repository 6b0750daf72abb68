//! Our own JSON: services with all that is known of them, and the events.
//!
//! The types are the wire's, read back by our own command line; the domain's types are not
//! serialisable on purpose. Fields may be added; none is renamed or dropped without a new path.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    consul,
    params::Params,
    router::{App, get, put},
};
use crate::{
    judge,
    model::{self, Answer, Observation, Outcome, Phase, Status},
    registry::{self, Listed},
};

mod events;

pub use events::{Certificate, Event, Missed, Probe};

/// The path of all services.
pub const SERVICES: &str = "/v1/rollcall/services";

/// The path of the events.
pub const EVENTS: &str = "/v1/rollcall/events";

/// The path at which an instance is registered, unless another owner has its id.
pub const REGISTER: &str = "/v1/rollcall/register";

/// The path at which an instance is brought back that was deregistered for being critical.
const UNDO: &str = "/v1/rollcall/undo/{*id}";

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
        .route(REGISTER, put(consul::register::owned))
        .route(UNDO, put(consul::register::undo))
}

async fn services(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let params = Params::parse(query.as_deref());
    let listed = match params.get("service") {
        Some(name) => app.view.registry.service(name),
        None => app.view.registry.list(),
    };
    Json(group(&listed)).into_response()
}

/// Brings instances, which are in the order of services, under their services.
fn group(listed: &[Listed]) -> Vec<Service> {
    let same = |a: &Listed, b: &Listed| a.instance.service == b.instance.service;
    listed
        .chunk_by(same)
        .map(|group| Service {
            name: group[0].instance.service.to_string(),
            status: best(group).to_string(),
            instances: group.iter().map(Instance::of).collect(),
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
    fn of(listed: &Listed) -> Self {
        let instance = &listed.instance;
        Self {
            id: instance.id.to_string(),
            address: instance.endpoint.to_string(),
            status: listed.status().to_string(),
            maintenance: listed.maintenance.as_ref().map(ToString::to_string),
            tags: instance.tags.iter().map(ToString::to_string).collect(),
            meta: instance.meta.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            checks: listed.checks.iter().map(|check| Check::of(check)).collect(),
        }
    }
}

impl Check {
    fn of(check: &registry::Check) -> Self {
        let facts = check.slot.read();
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
            certificate_expiry: facts.certificate_expiry.map(|at| at.to_string()),
            interval_seconds: check.definition.schedule.interval.as_secs_f64(),
        }
    }
}

fn code(answer: Answer) -> Option<String> {
    match answer {
        Answer::None => None,
        Answer::Http(code) => Some(code.to_string()),
        Answer::Grpc(serving) => Some(serving.to_string()),
    }
}

impl Certificate {
    fn of(facts: &model::Certificate) -> Self {
        Self {
            subject: facts.subject.to_string(),
            issuer: facts.issuer.to_string(),
            is_for_name: facts.is_for_name,
            start: facts.start.to_string(),
            chain_expiry: facts.chain_expiry.to_string(),
        }
    }
}

impl Probe {
    /// What an observation says on the wire; phases that did not happen are left out.
    pub fn of(observation: &Observation) -> Self {
        let spent = Phase::ALL.iter().map(|phase| (phase, observation.phases.get(*phase)));
        Self {
            started: observation.started.to_string(),
            duration_seconds: observation.duration.as_secs_f64(),
            peer: observation.peer.map(|peer| peer.to_string()),
            code: code(observation.answer),
            phases: spent
                .filter(|(_, time)| !time.is_zero())
                .map(|(phase, time)| (phase.to_string(), time.as_secs_f64()))
                .collect(),
            certificate_expiry: observation.certificate_expiry().map(|at| at.to_string()),
            certificate: observation.certificate.as_deref().map(Certificate::of),
        }
    }
}
