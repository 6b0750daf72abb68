//! What it takes to change a verdict: how many more results of one kind. Pure.

use std::fmt;

use super::{First, Machine, Thresholds, Verdict};
use crate::model::closed_set;

closed_set! {
    /// A kind of result that changes verdicts when it comes often enough in a row.
    Turn {
        /// The target is not well.
        Failure = "failure",
        /// It is.
        Success = "success",
    }
}

/// A verdict within reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Step {
    /// What must come, and nothing else in between but answers of a target that is struggling,
    /// which count with the successes.
    pub turn: Turn,
    /// How many more of them; at least one.
    pub more: u32,
    /// What the verdict is then.
    pub to: Verdict,
}

impl Machine {
    /// The verdicts that failures alone, or successes alone, lead to from here, in the order in
    /// which they are reached. None that stands already.
    pub fn ahead(&self, thresholds: &Thresholds) -> Vec<Step> {
        let (turn_bad, turn_well) = (Turn::Failure, Turn::Success);
        if self.streak.is_empty() && thresholds.first == First::AtOnce {
            let at_once = |turn, to| Step { turn, more: 1, to };
            return vec![
                at_once(turn_bad, Verdict::Critical),
                at_once(turn_well, Verdict::Passing),
            ];
        }
        let (failures, successes) = (self.streak.failures(), self.streak.successes());
        // A threshold that was lowered meanwhile is reached with the next result.
        let more = |needed: u32, held: u32| needed.saturating_sub(held).max(1);
        let critical = more(thresholds.failures_before_critical(), failures);
        let warning = more(thresholds.failures_before_warning(), failures);
        let well = more(thresholds.success_before_passing(), successes);
        let can_warn = match self.verdict {
            Verdict::Unknown | Verdict::Passing => warning < critical,
            Verdict::Warning | Verdict::Critical => false,
        };
        [
            (can_warn, Step { turn: turn_bad, more: warning, to: Verdict::Warning }),
            (
                self.verdict != Verdict::Critical,
                Step { turn: turn_bad, more: critical, to: Verdict::Critical },
            ),
            (
                self.verdict != Verdict::Passing,
                Step { turn: turn_well, more: well, to: Verdict::Passing },
            ),
        ]
        .into_iter()
        .filter_map(|(is_ahead, step)| is_ahead.then_some(step))
        .collect()
    }
}
