//! Why a check is as it is: everything that is known of it, in one answer.
//!
//! What is observed comes from the check's slot, what consumers are told from the store, what was
//! before from the event log, and what has to happen next from the judge's own arithmetic. Whoever
//! keeps a status from following the probes says so in [`holding`].

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};

use super::{
    Event,
    probe::{Attempt, code},
};
use crate::{
    api::{
        View,
        router::{App, Refusal},
    },
    clock::{self, Timestamp},
    judge::{Machine, Maintenance, Step},
    metrics::Facts,
    model::Reason,
    registry,
    store::row,
};

pub(super) mod find;
mod holding;

pub use holding::Holding;

/// Most changes of status that are told of a check.
const MAX_TRANSITIONS: usize = 10;

/// Everything that is known of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// `instance:check`.
    pub id: String,
    /// The id that the Consul API shows, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consul_id: Option<String>,
    /// The service.
    pub service: String,
    /// The instance.
    pub instance: String,
    /// The check.
    pub check: String,
    /// How it is asked.
    pub protocol: String,
    /// What is asked of whom.
    pub target: String,
    /// From one probe to the next.
    pub interval_seconds: f64,
    /// The longest a probe may take.
    pub timeout_seconds: f64,
    /// What this daemon sees.
    pub observed: Observed,
    /// What consumers are told; absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// How many results in a row change the verdict.
    pub thresholds: Thresholds,
    /// What would change the verdict, in the order in which it would be reached.
    pub ahead: Vec<Ahead>,
    /// When the next probe starts (RFC 3339), if one is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_probe: Option<String>,
    /// The same from now on; zero if it is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_probe_seconds: Option<f64>,
    /// Why then: `schedule`, `back_off`, `confirm`, `asked`, `tripwire` or `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_probe_reason: Option<String>,
    /// Who or what keeps the published status from following the probes, or makes it doubtful.
    pub holding: Vec<Holding>,
    /// The last probes, oldest first.
    pub attempts: Vec<Attempt>,
    /// The last changes of status, oldest first.
    pub transitions: Vec<Event>,
}

/// What this daemon sees of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// `unknown`, `passing`, `warning`, `critical` or `maintenance`.
    pub status: String,
    /// Since when (RFC 3339); absent while it has never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// What the probes alone say.
    pub verdict: String,
    /// Successes in a row up to now.
    pub consecutive_successes: u32,
    /// Failures in a row up to now.
    pub consecutive_failures: u32,
    /// Why the last probe did not succeed, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The same for people, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The target's own code in the last answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When the certificate presented last expires (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expiry: Option<String>,
    /// Whether the last result is too old to be relied on.
    pub stale: bool,
    /// Finished probes since the daemon started.
    pub probes: u64,
    /// Those that failed.
    pub failures: u64,
    /// Those that say nothing of the target, by our own fault.
    pub inconclusive: u64,
    /// How often the status has changed.
    pub changes: u32,
}

/// What consumers are told of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// `passing`, `warning` or `critical`.
    pub status: String,
    /// Since when (RFC 3339).
    pub since: String,
    /// Whether a result has ever borne on it; else it is the one it was registered with.
    pub judged: bool,
    /// What is said with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
}

/// How many results in a row change the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Successes before passing.
    pub success_before_passing: u32,
    /// Failures before warning.
    pub failures_before_warning: u32,
    /// Failures before critical.
    pub failures_before_critical: u32,
}

/// A verdict within reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// The verdict.
    pub status: String,
    /// What leads to it: `failure` or `success`.
    pub result: String,
    /// How many more of them in a row.
    pub more: u32,
}

/// `GET /v1/rollcall/explain/:id`: the check of this id, or all of an instance.
pub(super) async fn explain(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Explanation>>, Refusal> {
    let found = find::checks(&app.view.registry, &id)?;
    let now = clock::now();
    Ok(Json(found.iter().map(|check| Explanation::of(&app.view, check, now)).collect()))
}

/// A check with all that bears on it at one moment.
struct Case<'a> {
    view: &'a View,
    check: &'a registry::Check,
    facts: Facts,
    row: Option<Arc<row::Check>>,
    now: Timestamp,
}

impl Explanation {
    fn of(view: &View, check: &registry::Check, now: Timestamp) -> Self {
        let facts = check.slot.read();
        let row = view.store.read().check(view.agent.node(), &check.public_id()).cloned();
        let case = Case { view, check, facts, row, now };
        let (facts, schedule) = (&case.facts, &check.definition.schedule);
        let next = facts.next_run;
        Self {
            id: check.key.to_string(),
            consul_id: check.consul_id.as_deref().map(str::to_owned),
            service: check.instance.service.to_string(),
            instance: check.key.instance.to_string(),
            check: check.key.check.to_string(),
            protocol: check.definition.probe.protocol().to_string(),
            target: check.target.url(),
            interval_seconds: schedule.interval.as_secs_f64(),
            timeout_seconds: schedule.timeout.as_secs_f64(),
            observed: Observed::of(facts),
            published: case.row.as_deref().map(Published::of),
            thresholds: Thresholds::of(&check.definition.thresholds),
            ahead: ahead(&case),
            next_probe: next.map(|at| at.to_string()),
            next_probe_seconds: next.map(|at| at.since(now).as_secs_f64()),
            next_probe_reason: next.map(|_| facts.next_turn.to_string()),
            holding: holding::all(&case),
            attempts: check.slot.attempts().iter().map(Attempt::of).collect(),
            transitions: transitions(&case),
        }
    }
}

fn ahead(case: &Case<'_>) -> Vec<Ahead> {
    // Maintenance lies over the verdict, and results go on being counted below it.
    let machine = Machine::restore(case.facts.verdict, case.facts.streak, Maintenance::Off);
    let ahead = machine.ahead(&case.check.definition.thresholds);
    ahead.into_iter().map(Ahead::of).collect()
}

fn transitions(case: &Case<'_>) -> Vec<Event> {
    let latest = case.view.events.latest_of(&case.check.key, MAX_TRANSITIONS);
    latest.iter().map(|event| Event::of(event)).collect()
}

impl Observed {
    fn of(facts: &Facts) -> Self {
        let reason = facts.last_outcome.and_then(crate::model::Outcome::reason);
        Self {
            status: facts.status.to_string(),
            since: facts.changed.map(|at| at.to_string()),
            verdict: facts.verdict.to_string(),
            consecutive_successes: facts.streak.successes(),
            consecutive_failures: facts.streak.failures(),
            reason: reason.map(Reason::as_str).map(str::to_owned),
            detail: facts.detail.as_deref().map(str::to_owned),
            code: code(facts.answer),
            certificate_expiry: facts.certificate_expiry.map(|at| at.to_string()),
            stale: facts.stale,
            probes: facts.probes,
            failures: facts.failures,
            inconclusive: facts.inconclusive,
            changes: facts.changes,
        }
    }
}

impl Published {
    fn of(row: &row::Check) -> Self {
        Self {
            status: row.status.to_string(),
            since: row.since().to_string(),
            judged: row.judged,
            output: row.output.to_string(),
        }
    }
}

impl Thresholds {
    const fn of(thresholds: &crate::judge::Thresholds) -> Self {
        Self {
            success_before_passing: thresholds.success_before_passing(),
            failures_before_warning: thresholds.failures_before_warning(),
            failures_before_critical: thresholds.failures_before_critical(),
        }
    }
}

impl Ahead {
    fn of(step: Step) -> Self {
        Self { status: step.to.to_string(), result: step.turn.to_string(), more: step.more }
    }
}
