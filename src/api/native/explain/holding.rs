//! Who or what keeps a published status from following the probes, or makes it doubtful.
//!
//! Each source is one function that says what it knows of a check, or nothing; [`all`] lists them,
//! and that is where a further one is added.

use serde::{Deserialize, Serialize};

use super::Case;
use crate::{
    duration::Period,
    judge::Verdict,
    model::{Observation, Outcome},
    store::row::{self, Health},
};

/// One that holds a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Who, in one word: `maintenance`, `first_result`, `stale`, `inconclusive`, `publishing`,
    /// `unregistered`. There may be further ones.
    pub source: String,
    /// The same for people, as a sentence without its full stop.
    pub text: String,
}

/// All that hold this check, those first that matter most.
pub(super) fn all(case: &Case<'_>) -> Vec<Holding> {
    [maintenance, stale, inconclusive, first_result, publishing, unregistered]
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

/// Old age.
fn stale(case: &Case<'_>) -> Option<Holding> {
    if !case.facts.stale {
        return None;
    }
    let age = case.facts.last_started.map_or_else(
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
    if is_told(case.facts.verdict, row) {
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
