//! Who or what keeps a published status from following the probes, or makes it doubtful.
//!
//! Each source is one function that says what it knows of a check, or nothing; [`all`] lists them,
//! and that is where a further one is added.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Case;
use crate::{
    doubt::{Confidence, MAX_SCORE, Symptom},
    duration::Period,
    judge::Verdict,
    model::{Observation, Outcome, Turn},
    publish::{Brake, guard::Limit},
    store::row::{self, Health},
};

/// One that holds a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Who, in one word: `maintenance`, `guard`, `damping`, `flapping`, `doubt`, `back_off`, `stale`,
    /// `inconclusive`, `first_result`, `publishing`, `unregistered`. There may be further ones.
    pub source: String,
    /// The same for people, as a sentence without its full stop.
    pub text: String,
}

/// All that hold this check, those first that matter most.
pub(super) fn all(case: &Case<'_>) -> Vec<Holding> {
    [
        maintenance,
        brake,
        flapping,
        doubt,
        back_off,
        stale,
        inconclusive,
        first_result,
        publishing,
        unregistered,
    ]
    .into_iter()
    .filter_map(|source| source(case))
    .collect()
}

impl Holding {
    fn new(source: &str, text: impl Into<String>) -> Self {
        Self { source: source.to_owned(), text: text.into() }
    }
}

/// An operator.
fn maintenance(case: &Case<'_>) -> Option<Holding> {
    let registry = &case.view.registry;
    let own = registry.maintenance(&case.check.key.instance);
    let (what, reason) = match (own, registry.node_maintenance()) {
        (Some(reason), _) => ("the instance", reason),
        (None, Some(reason)) => ("the whole node", reason),
        (None, None) => return None,
    };
    let until = "until it is put back it counts as critical, whatever its probes say";
    let text = format!("an operator has taken {what} out ({reason}); {until}");
    Some(Holding::new("maintenance", text))
}

/// The guard, or damping.
fn brake(case: &Case<'_>) -> Option<Holding> {
    let standing = case.view.agent.standing(&case.check.key)?;
    let held = standing.held?;
    let why = match (held.by, held.limit) {
        (Brake::Guard, Some(Limit::All)) => "too many of all instances are out at once",
        (Brake::Guard, Some(Limit::Service)) => "too many of its service are out at once",
        (Brake::Guard, Some(Limit::Zone)) => "too many of its zone are out at once",
        (Brake::Guard, Some(Limit::Doubt)) => {
            "the daemon doubts itself, and the fault may be its own"
        }
        (Brake::Guard, None) => "too many are out at once",
        (Brake::Damping, _) => "it comes and goes",
    };
    let text = format!(
        "{why}; consumers are still told {}: held since {}, until {} at the latest if it stays as it is",
        standing.published, held.since, held.until
    );
    Some(Holding::new(held.by.as_str(), text))
}

/// That it has come and gone often, as far as that holds nothing.
fn flapping(case: &Case<'_>) -> Option<Holding> {
    let standing = case.view.agent.standing(&case.check.key)?;
    if !standing.is_flapping || standing.held.is_some() {
        return None;
    }
    let text = format!(
        "it comes and goes ({:.0} points, 1000 for each time it went or came); once it is well again \
         consumers are told so only when it stays so",
        standing.penalty
    );
    Some(Holding::new("flapping", text))
}

/// The daemon itself.
fn doubt(case: &Case<'_>) -> Option<Holding> {
    let report = case.view.doubt.report(Instant::now());
    let symptoms: Vec<_> = report.symptoms.iter().map(Symptom::as_str).collect();
    let colon = if symptoms.is_empty() { "" } else { ": " };
    let seen = format!("score {} of {MAX_SCORE}{colon}{}", report.score, symptoms.join(", "));
    let text = match (report.abstaining, report.confidence) {
        (Some(since), _) => {
            let since = Period::from_secs(since.as_secs());
            format!("the daemon doubts itself for {since} ({seen}); failures count for nothing")
        }
        (None, Confidence::Doubtful) => {
            format!("the daemon doubts itself ({seen}); silence of targets is not published")
        }
        (None, Confidence::Clear | Confidence::Confirmed) if report.score == 0 => return None,
        (None, Confidence::Clear | Confidence::Confirmed) => {
            format!("the daemon is under strain ({seen}); probes are given more time")
        }
    };
    Some(Holding::new("doubt", text))
}

/// That it is asked less often than its interval says.
fn back_off(case: &Case<'_>) -> Option<Holding> {
    if case.facts.next_turn != Turn::BackOff {
        return None;
    }
    let text = "it is asked less often, for it has been critical for long or asks for it; \
                `rollcall recheck` asks at once";
    Some(Holding::new("back_off", text))
}

/// Old age.
fn stale(case: &Case<'_>) -> Option<Holding> {
    if !case.facts.stale {
        return None;
    }
    let age = case.facts.last_conclusive.map_or_else(
        || "there is no result since the daemon started".to_owned(),
        |at| {
            let seconds = case.now.since(at).as_secs();
            format!("the last result is {} old", Period::from_secs(seconds))
        },
    );
    let text = format!("{age}; the status is kept, and may not be true any more");
    Some(Holding::new("stale", text))
}

/// Our own faults.
fn inconclusive(case: &Case<'_>) -> Option<Holding> {
    let attempts = case.check.slot.attempts();
    let of_ours = |attempt: &&Observation| matches!(attempt.outcome, Outcome::Inconclusive(_));
    let text = match attempts.iter().rev().take_while(of_ours).count() {
        0 => return None,
        1 => "the last probe failed by our own fault and is not counted".to_owned(),
        n => format!("the last {n} probes failed by our own fault and are not counted"),
    };
    Some(Holding::new("inconclusive", text))
}

/// That there has been no verdict yet.
fn first_result(case: &Case<'_>) -> Option<Holding> {
    let row = case.row.as_deref()?;
    if row.judged || case.facts.verdict != Verdict::Unknown {
        return None;
    }
    let text = "there is no verdict yet; consumers are told the status it was registered with";
    Some(Holding::new("first_result", format!("{text}, {}", row.status)))
}

/// That a change is on its way, or kept back by somebody who is not named here.
fn publishing(case: &Case<'_>) -> Option<Holding> {
    let row = case.row.as_deref()?;
    let standing = case.view.agent.standing(&case.check.key);
    let is_held = standing.is_some_and(|standing| standing.held.is_some());
    if is_held || is_told(case.facts.verdict, row) {
        return None;
    }
    let verdict = case.facts.verdict;
    Some(Holding::new(
        "publishing",
        format!("the verdict of the probes, {verdict}, has not been published yet"),
    ))
}

fn is_told(verdict: Verdict, row: &row::Check) -> bool {
    match verdict {
        Verdict::Unknown => true,
        Verdict::Passing => row.status == Health::Passing,
        Verdict::Warning => row.status == Health::Warning,
        Verdict::Critical => row.status == Health::Critical,
    }
}

/// That consumers are told nothing.
fn unregistered(case: &Case<'_>) -> Option<Holding> {
    if case.row.is_some() {
        return None;
    }
    let text = "the check does not stand in the registry; consumers are told nothing of it";
    Some(Holding::new("unregistered", text))
}
