//! What happened in a world, as far as it can be seen from outside.

use std::hash::{Hash as _, Hasher};

use super::plan::Ms;
use crate::{
    judge::Verdict,
    model::{Outcome, Status},
    publish::Brake,
};

/// A probe was started.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct Start {
    pub(super) at: Ms,
    pub(super) port: u16,
}

/// A probe has ended, with what the target made of it.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct Given {
    pub(super) port: u16,
    pub(super) began: Ms,
    pub(super) ended: Ms,
    /// How long it might take.
    pub(super) limit: Ms,
    pub(super) outcome: Outcome,
}

/// A result as it was written down.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct Noted {
    pub(super) port: u16,
    pub(super) began: Ms,
    pub(super) outcome: Outcome,
}

/// A change of what is observed, by the probe that began then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Changed {
    pub(super) port: u16,
    pub(super) began: Ms,
    pub(super) from: Status,
    pub(super) to: Status,
}

/// What consumers were told of a check, from then on.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct Told {
    pub(super) at: Ms,
    pub(super) port: u16,
    pub(super) observed: Verdict,
    pub(super) published: Verdict,
    pub(super) held: Option<Brake>,
}

/// All of it, each in its order.
#[derive(Debug, Default, Hash)]
pub(super) struct History {
    pub(super) starts: Vec<Start>,
    pub(super) given: Vec<Given>,
    pub(super) noted: Vec<Noted>,
    pub(super) changes: Vec<Changed>,
    pub(super) told: Vec<Told>,
    /// When the daemon looked at itself.
    pub(super) reviews: Vec<Ms>,
}

impl History {
    /// The same for the same history, on the same machine.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// When the probes of a check started.
    pub(super) fn starts(&self, port: u16) -> Vec<Ms> {
        self.starts.iter().filter(|start| start.port == port).map(|start| start.at).collect()
    }

    /// When the probe of a check that began then was over.
    pub(super) fn ended(&self, port: u16, began: Ms) -> Option<Ms> {
        let is_it = |given: &&Given| given.port == port && given.began == began;
        self.given.iter().find(is_it).map(|given| given.ended)
    }

    /// The status of a check at a moment, by the changes until then.
    pub(super) fn status(&self, port: u16, at: Ms) -> Status {
        let mut status = Status::Unknown;
        for change in self.changes.iter().filter(|change| change.port == port) {
            if self.ended(port, change.began).is_none_or(|ended| ended > at) {
                break;
            }
            status = change.to;
        }
        status
    }

    /// What happened to a check last, before a moment, for people.
    pub(super) fn last_of(&self, port: Option<u16>, before: Option<Ms>) -> String {
        let until = before.unwrap_or(Ms::MAX);
        let is_of = |one: u16, at: Ms| port.is_none_or(|port| port == one) && at <= until;
        let mut lines: Vec<(Ms, String)> = Vec::new();
        let changes = self.changes.iter().filter(|one| is_of(one.port, one.began));
        lines.extend(changes.map(|one| (one.began, format!("{one:?}"))));
        let given = self.given.iter().filter(|one| is_of(one.port, one.began));
        lines.extend(given.map(|one| (one.began, format!("{one:?}"))));
        let noted = self.noted.iter().filter(|one| is_of(one.port, one.began));
        lines.extend(noted.map(|one| (one.began, format!("{one:?}"))));
        let told = self.told.iter().filter(|one| is_of(one.port, one.at));
        lines.extend(told.map(|one| (one.at, format!("{one:?}"))));
        lines.sort_by_key(|(at, _)| *at);
        let last = lines.len().saturating_sub(40);
        lines[last..].iter().fold(String::new(), |all, (_, line)| all + "  " + line + "\n")
    }
}
