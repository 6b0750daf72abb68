//! Tripwires: idle connections to targets, whose end is a hint that something happened there.
//!
//! A process that dies closes its sockets at once, long before it would be asked next. So a
//! connection is held to each target that is well, up to a limit, and when the target ends it the
//! target is asked. The end is only ever a hint: what counts is the answer. Two kinds of targets
//! must not pay for it, and neither must be asked for nothing:
//!
//! - Servers that close idle connections. A cut after which the target is well is innocent; after
//!   two that lived equally long the target's patience is known, and connections are renewed before
//!   it runs out, if that is seldom enough, or given up for an hour. Cuts without such a rule are
//!   waited out, twice as long each time.
//! - Servers that serve one connection at a time, and hang on ours. When a probe gets no answer
//!   while a connection is held, it is let go before anything is confirmed; if the target then
//!   answers, twice, and never did beside a connection of ours in between, it is left alone for good.

use std::{collections::HashMap, time::Duration};

use tokio::task::{AbortHandle, JoinSet};

use super::plan::{Micros, micros};
use crate::{
    metrics::Daemon,
    model::{Outcome, Reason, Status, Tripwire},
    probe::{Held, Prober},
    registry::Check,
};

/// The longest a connection is held, and a target is left alone.
const HOUR: Duration = Duration::from_secs(3600);

/// Times that a target may answer only once its connection is let go.
const MAX_BLAMED: u8 = 2;

/// What has been learnt of a target's way with idle connections. Pure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Record {
    /// Cuts in a row after which the target was well.
    innocent: u8,
    /// How long the last of them had lived.
    lived: Duration,
    /// How long a connection may live, if the target's patience is known.
    patience: Option<Duration>,
    /// Times in a row that the target answered only once its connection was let go.
    blamed: u8,
    /// No other connection is made before.
    not_before: Micros,
}

impl Record {
    /// Takes in a cut of a connection that had lived so long, after which the target was well.
    fn cut(&mut self, lived: Duration, now: Micros, interval: Duration) {
        self.innocent = self.innocent.saturating_add(1);
        let tolerance = Duration::from_secs(1).max(self.lived / 10);
        let is_regular = self.innocent > 1 && self.lived.abs_diff(lived) <= tolerance;
        self.lived = lived;
        self.patience = is_regular.then_some(lived * 4 / 5).filter(|life| *life >= interval);
        self.not_before = match (self.innocent, self.patience) {
            (1, _) | (_, Some(_)) => now,
            (_, None) if is_regular => now + micros(HOUR),
            (n, None) => now + micros(HOUR.min(interval * (1 << n.min(12)))),
        };
    }

    /// Takes in that a connection has lived as long as it was to.
    fn outlived(&mut self) {
        if self.patience.is_none() {
            *self = Self { blamed: self.blamed, ..Self::default() };
        }
    }

    fn allows(&self, now: Micros) -> bool {
        self.blamed < MAX_BLAMED && now >= self.not_before
    }
}

/// What a row's connection is doing.
#[derive(Debug)]
enum State {
    /// There is none.
    Loose,
    /// It is held.
    Armed(AbortHandle),
    /// The target has ended it after so long, and has not been asked since.
    Tripped(Duration),
    /// It was let go because the target gave no answer.
    Suspected,
}

#[derive(Debug)]
struct Wire {
    /// Tells this connection from others of the same row.
    number: u64,
    state: State,
    record: Record,
}

/// A connection has ended.
#[derive(Debug)]
pub(super) struct End {
    row: u32,
    number: u64,
    how: Held,
}

/// What is to be done after an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Ask the target of this row.
    Ask(u32),
    /// Hold another connection for this row.
    Renew(u32),
}

/// The connections of one prober thread, by the rows of their checks.
#[derive(Debug)]
pub(super) struct Wires {
    limit: usize,
    tasks: JoinSet<End>,
    rows: HashMap<u32, Wire, foldhash::fast::RandomState>,
    last: u64,
    metrics: Daemon,
}

/// Whether a connection is to be held for a check at all.
pub(super) fn is_wanted(check: &Check) -> bool {
    if check.target.is_listened_to() {
        return true;
    }
    let wanted = match check.definition.schedule.pace.tripwire {
        Tripwire::On => true,
        Tripwire::Auto => check.definition.thresholds.failures_before_critical() > 1,
        Tripwire::Off => false,
    };
    wanted && check.target.can_be_held()
}

impl Wires {
    /// At most `limit` connections.
    pub(super) fn new(limit: usize, metrics: Daemon) -> Self {
        Self { limit, tasks: JoinSet::new(), rows: HashMap::default(), last: 0, metrics }
    }

    /// The next connection that ends; nothing if none is held.
    pub(super) async fn next_end(&mut self) -> Option<End> {
        loop {
            let joined = self.tasks.join_next().await?;
            // One that was let go is not held any more, either.
            self.count();
            if let Ok(end) = joined {
                return Some(end);
            }
        }
    }

    /// Takes in an end. Says what is to be done, if it is still of interest.
    pub(super) fn ended(&mut self, end: &End) -> Option<Then> {
        let wire = self.rows.get_mut(&end.row)?;
        if wire.number != end.number || !matches!(wire.state, State::Armed(_)) {
            return None;
        }
        wire.state = State::Loose;
        match end.how {
            Held::Cut(lived) => {
                wire.state = State::Tripped(lived);
                Some(Then::Ask(end.row))
            }
            Held::Told => Some(Then::Ask(end.row)),
            Held::Expired => {
                wire.record.outlived();
                Some(Then::Renew(end.row))
            }
            Held::Useless => {
                wire.record.blamed = MAX_BLAMED;
                None
            }
        }
    }

    /// Takes in what a probe of a row has found. Says whether a connection is to be held now.
    pub(super) fn judged(
        &mut self,
        row: u32,
        check: &Check,
        (outcome, status): (Outcome, Status),
        now: Micros,
    ) -> bool {
        // Who tells of changes tells of the better, too.
        let is_well = outcome == Outcome::Success && status == Status::Passing
            || check.target.is_listened_to();
        let Some(wire) = self.rows.get_mut(&row) else {
            return is_well && is_wanted(check);
        };
        let state = std::mem::replace(&mut wire.state, State::Loose);
        match (state, outcome) {
            (state, Outcome::Inconclusive(_)) => wire.state = state,
            (state @ State::Armed(_), _) if check.target.is_listened_to() => wire.state = state,
            (State::Tripped(lived), Outcome::Success | Outcome::Warning(_)) => {
                wire.record.cut(lived, now, check.definition.schedule.interval);
                self.metrics.tripwire_cut("well");
            }
            (State::Tripped(_), Outcome::Failure(_)) => {
                wire.record.innocent = 0;
                self.metrics.tripwire_cut("failed");
            }
            (State::Suspected, Outcome::Success | Outcome::Warning(_)) => {
                wire.record.blamed += 1;
            }
            (State::Suspected, Outcome::Failure(_)) if status != Status::Critical => {
                wire.state = State::Suspected;
            }
            (State::Armed(task), Outcome::Failure(reason)) => {
                task.abort();
                if matches!(reason, Reason::TimeoutResponse | Reason::TimeoutConnect) {
                    wire.state = State::Suspected;
                }
            }
            (State::Armed(task), Outcome::Success | Outcome::Warning(_)) => {
                // Who answers beside it does not hang on it: what was lost, was lost on the way.
                wire.record.blamed = 0;
                wire.state = State::Armed(task);
            }
            (State::Suspected | State::Loose, _) => {}
        }
        is_well && matches!(wire.state, State::Loose) && wire.record.allows(now)
    }

    /// Holds a connection for a row, if there is room for one more.
    pub(super) fn arm<P: Prober>(&mut self, row: u32, check: &std::sync::Arc<Check>, prober: &P) {
        if self.tasks.len() >= self.limit {
            return;
        }
        self.last += 1;
        let number = self.last;
        let record = self.rows.get(&row).map(|wire| wire.record).unwrap_or_default();
        let life = record.patience.unwrap_or(HOUR);
        let (prober, check) = (prober.clone(), std::sync::Arc::clone(check));
        let task = self.tasks.spawn(async move {
            let within = check.definition.schedule.timeout;
            let how = prober.hold(&check.target, within, life).await;
            End { row, number, how }
        });
        self.rows.insert(row, Wire { number, state: State::Armed(task), record });
        self.count();
    }

    /// Lets go what is held for a row, and forgets what was learnt.
    pub(super) fn forget(&mut self, row: u32) {
        if let Some(Wire { state: State::Armed(task), .. }) = self.rows.remove(&row) {
            task.abort();
        }
    }

    fn count(&self) {
        self.metrics.tripwires.set(i64::try_from(self.tasks.len()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn one_cut_is_forgiven_at_once() {
        let mut record = Record::default();
        record.cut(seconds(42), 5, TEN);
        assert!(record.allows(5));
        assert_eq!(record.patience, None);
    }

    #[test]
    fn a_target_that_closes_regularly_is_renewed_before_it_does() {
        let mut record = Record::default();
        record.cut(seconds(60), 0, TEN);
        record.cut(Duration::from_millis(60_400), 60, TEN);
        assert!(record.allows(60));
        assert_eq!(record.patience, Some(Duration::from_millis(48_320)));
        record.outlived();
        assert!(record.patience.is_some(), "it is still known");
    }

    #[test]
    fn a_target_of_little_patience_is_left_alone_for_an_hour() {
        let mut record = Record::default();
        record.cut(seconds(5), 0, TEN);
        record.cut(seconds(5), 0, TEN);
        assert!(!record.allows(micros(HOUR) - 1));
        assert!(record.allows(micros(HOUR)));
    }

    #[test]
    fn cuts_without_a_rule_are_waited_out_ever_longer() {
        let mut record = Record::default();
        let mut waits = Vec::new();
        for lived in [3, 90, 20, 400, 7, 70, 2, 1000, 30, 300, 4] {
            record.cut(seconds(lived), 0, TEN);
            waits.push(record.not_before / 1_000_000);
        }
        assert_eq!(waits, [0, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]);
    }

    #[test]
    fn a_connection_that_lives_long_clears_the_record_but_for_blame() {
        let mut record = Record { blamed: 1, ..Record::default() };
        record.cut(seconds(3), 0, TEN);
        record.outlived();
        assert_eq!(record, Record { blamed: 1, ..Record::default() });
        record.blamed = MAX_BLAMED;
        assert!(!record.allows(Micros::MAX));
    }
}
