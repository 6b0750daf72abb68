//! What one probe found, on the wire, and asking for one now.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};

use super::explain::find;
use crate::{
    api::{
        asking::Busy,
        router::{App, Refusal},
    },
    model::{self, Answer, Observation, Outcome, Phase, Reason},
    probe::Target,
};

/// One probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// When it started (RFC 3339).
    pub started: String,
    /// From its start to its verdict.
    pub duration_seconds: f64,
    /// The address asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The target's own code: an HTTP status or a serving status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Where its time went, in seconds.
    pub phases: BTreeMap<String, f64>,
    /// When the certificate presented expires (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expiry: Option<String>,
    /// What else the certificate presented says, also if it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
}

/// What a certificate says, beside its expiry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Whose it is: `CN=shop.example`.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Whether it is for the name that was asked for.
    pub is_for_name: bool,
    /// When it becomes valid (RFC 3339).
    pub start: String,
    /// When the first certificate of the chain that was presented expires (RFC 3339).
    pub chain_expiry: String,
}

/// One probe and what it found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// `success`, `warning`, `failure` or `inconclusive`.
    pub outcome: String,
    /// Why it was not a plain success, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How long after it the target wants to be asked again, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask_again_seconds: Option<f64>,
    /// How it went.
    #[serde(flatten)]
    pub probe: Probe,
}

/// What was asked of whom, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What was asked of whom.
    pub target: String,
    /// How: `http`, `tcp`, `grpc`, `udp`, `h2ping` or `exec`.
    pub protocol: String,
    /// What came of it.
    #[serde(flatten)]
    pub attempt: Attempt,
}

/// How long who comes when too many are under way is told to wait.
const BUSY: Duration = Duration::from_secs(1);

/// `PUT /v1/rollcall/probe/:id`: asks the target of a check once, as the check says and from where this
/// daemon is, and keeps nothing of it.
pub(super) async fn now(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Report>, Refusal> {
    let found = find::checks(&app.view.registry, &id)?;
    let [check] = &found[..] else {
        let ids: Vec<_> = found.iter().map(|check| check.key.to_string()).collect();
        let text = format!("{id:?} has {} checks; name one of them: {}", ids.len(), ids.join(", "));
        return Err(Refusal::bad(text));
    };
    let protocol = check.definition.probe.protocol();
    if !protocol.is_probed() {
        let text = format!(
            "{}: the results of a check by {protocol} are told to this daemon, which \
                            cannot ask for them",
            check.key
        );
        return Err(Refusal::bad(text));
    }
    let asked = app.view.asking.ask(&check.target, check.definition.schedule.timeout).await;
    let observation = asked.map_err(|Busy| Refusal::too_many(BUSY))?;
    Ok(Json(Report::of(&check.target, &observation)))
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

impl Attempt {
    /// What an observation says on the wire, with what it found.
    pub fn of(observation: &Observation) -> Self {
        Self {
            outcome: word(observation.outcome).to_owned(),
            reason: observation.outcome.reason().map(Reason::as_str).map(str::to_owned),
            detail: observation.detail.as_deref().map(str::to_owned),
            ask_again_seconds: observation.ask_again.map(|wait| wait.as_secs_f64()),
            probe: Probe::of(observation),
        }
    }
}

impl Report {
    /// What asking a target has found.
    pub fn of(target: &Target, observation: &Observation) -> Self {
        Self {
            target: target.url(),
            protocol: target.protocol().to_string(),
            attempt: Attempt::of(observation),
        }
    }
}

/// What came of a probe, in one word.
const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Warning(_) => "warning",
        Outcome::Failure(_) => "failure",
        Outcome::Inconclusive(_) => "inconclusive",
    }
}

/// The target's own code, if there is one.
pub(super) fn code(answer: Answer) -> Option<String> {
    match answer {
        Answer::None => None,
        Answer::Http(code) => Some(code.to_string()),
        Answer::Grpc(serving) => Some(serving.to_string()),
    }
}
