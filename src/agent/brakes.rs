//! The board on which it is decided what consumers are told, with what it has to be shown.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{
    Agent,
    census::{Census, zone},
    key, rows,
};
use crate::{
    clock::{self, Timestamp},
    doubt::{Confidence, Doubt},
    judge::Verdict,
    metrics::Facts,
    model::{Cause, CheckKey, InstanceId, Outcome, Publication, Reason, Status, Transition},
    probe::Pushed,
    publish::{Board, Brake, Decision, Evidence, Held, Place, Sight, damping, guard},
    registry,
    store::{Tables, row::Check},
};

/// What is held against what is observed, and why.
#[derive(Debug)]
pub(super) struct Brakes {
    state: Mutex<State>,
    doubt: Doubt,
    /// From where the board's time counts.
    began: Instant,
}

#[derive(Debug)]
pub(super) struct State {
    board: Board,
    census: Census,
}

/// What has become of a status, to be told when it is written.
#[derive(Debug)]
pub(super) struct Told {
    transition: Transition,
    limit: Option<guard::Limit>,
}

/// How a check of this daemon stands with consumers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// What they are told.
    pub published: Verdict,
    /// What holds that against what is observed, if anything does.
    pub held: Option<Standstill>,
    /// Its points for coming and going: 1000 for each change, decaying.
    pub penalty: f64,
    /// Whether it is flapping.
    pub is_flapping: bool,
}

/// A hold, by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standstill {
    /// What holds.
    pub by: Brake,
    /// Which limit was reached, if it is the guard.
    pub limit: Option<guard::Limit>,
    /// Since when.
    pub since: Timestamp,
    /// Until when at the latest, if the check stays as it is.
    pub until: Timestamp,
}

impl Default for Brakes {
    fn default() -> Self {
        let board = Board::new(guard::Config::default(), damping::Config::default());
        Self {
            state: Mutex::new(State { board, census: Census::default() }),
            doubt: Doubt::default(),
            began: Instant::now(),
        }
    }
}

impl Brakes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Begins a round of decisions.
    pub(super) fn begin(&self) {
        self.lock().board.begin(self.now(), self.doubt.confidence());
    }

    /// The checks to be decided again as time goes by.
    pub(super) fn pending(&self) -> Vec<CheckKey> {
        self.lock().board.pending()
    }

    /// Whether no time has to be kept.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().board.is_idle()
    }

    /// Whether nobody should be deregistered for being critical: what is seen is in doubt.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.lock().board.is_guarding() || self.doubt.confidence() == Confidence::Doubtful
    }

    /// Forgets a check that is gone.
    pub(super) fn forget(&self, key: &CheckKey) {
        self.lock().board.forget(self.now(), key);
    }

    /// Forgets instances that are gone.
    pub(super) fn bury(&self, is_gone: impl Fn(&InstanceId) -> bool) {
        self.lock().board.bury(is_gone);
    }

    /// Decides what is published of a check whose row stands so.
    pub(super) fn decide(
        &self,
        tables: &Tables,
        (check, facts): (&registry::Check, &Facts),
        row: &Check,
        told: &mut Vec<Told>,
    ) -> Decision {
        let place = place(check, row);
        let sight = Sight {
            key: &check.key,
            place: &place,
            observed: facts.verdict,
            published: rows::told(row),
            flips: check.slot.take_flips(),
            evidence: evidence(check, facts),
            is_out: is_out(tables, row),
        };
        let mut state = self.lock();
        let State { board, census } = &mut *state;
        let crowd = || census.crowd(&place, tables, &row.node);
        let decision = board.decide(self.now(), &sight, crowd);
        let limit = board.limit(&check.key);
        told.extend(decision.told.iter().map(|(what, detail)| Told {
            transition: Transition {
                service: check.instance.service.clone(),
                key: check.key.clone(),
                from: status(sight.published),
                to: status(decision.status),
                at: clock::now(),
                cause: Cause::Publication { what: *what, detail: detail.as_str().into() },
            },
            limit,
        }));
        decision
    }
}

impl Agent {
    /// Decides from now on by these figures what consumers are told at once.
    pub fn brake_by(&self, guard: guard::Config, damping: damping::Config) {
        self.brakes.lock().board.configure(guard, damping);
    }

    /// The checks that are held, or flap, and how they stand with consumers.
    pub fn standings(&self) -> HashMap<CheckKey, Standing> {
        let keys = self.brakes.pending();
        keys.into_iter().filter_map(|key| Some((key.clone(), self.standing(&key)?))).collect()
    }

    /// How a check stands with consumers; nothing if there is no such check.
    pub fn standing(&self, of: &CheckKey) -> Option<Standing> {
        let check = self.registry.check(of)?;
        let published = {
            let tables = self.store.read();
            let row = tables.check(&self.node, &check.public_id()).cloned()?;
            (key(&row).as_ref() == Some(of)).then(|| rows::told(&row))?
        };
        let now = self.brakes.now();
        let standing = self.brakes.lock().board.standing(now, of);
        let wall = clock::now().millis();
        let at = |moment: Duration| {
            let ahead = moment.saturating_sub(now).as_millis();
            let ago = now.saturating_sub(moment).as_millis();
            let millis = |time| i64::try_from(time).unwrap_or(i64::MAX);
            Timestamp::from_millis(wall.saturating_add(millis(ahead)).saturating_sub(millis(ago)))
        };
        let wall_held = |held: Held| Standstill {
            by: held.by,
            limit: held.limit,
            since: at(held.since),
            until: at(held.until),
        };
        Some(Standing {
            published,
            held: standing.held.map(wall_held),
            penalty: standing.penalty,
            is_flapping: standing.is_flapping,
        })
    }

    /// What consumers are told of an instance.
    pub fn published(&self, listed: &registry::Listed) -> Status {
        if listed.maintenance.is_some() {
            return Status::Maintenance;
        }
        let tables = self.store.read();
        crate::judge::worst(listed.checks.iter().map(|check| {
            let row = tables.check(&self.node, &check.public_id());
            row.and_then(|row| rows::verdict(row)).map_or(Status::Unknown, status)
        }))
    }

    /// Tells what has become of statuses on their way to consumers, and how much is held.
    pub(super) fn tell_of_brakes(&self, told: Vec<Told>) {
        for Told { transition, limit } in told {
            let Cause::Publication { what, detail } = &transition.cause else { continue };
            match what {
                Publication::Held => {
                    let limit = limit.map_or("", guard::Limit::as_str);
                    self.metrics.guard_holds.with_label_values(&[limit]).inc();
                    warn!(check = %transition.key, service = %transition.service, limit,
                          detail = &**detail, "Failure not published: the guard holds it");
                }
                Publication::Damped
                | Publication::Released
                | Publication::Flapping
                | Publication::Steady => {
                    info!(check = %transition.key, service = %transition.service,
                          what = %what, detail = &**detail, "Publication");
                }
            }
            self.events.push(transition);
        }
        let (counts, is_guarding) = {
            let state = self.brakes.lock();
            (state.board.counts(), state.board.is_guarding())
        };
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let held = |by: Brake| self.metrics.published_held.with_label_values(&[by.as_str()]);
        held(Brake::Guard).set(gauge(counts.guarded));
        held(Brake::Damping).set(gauge(counts.damped));
        self.metrics.checks_flapping.set(gauge(counts.flapping));
        self.metrics.guard_active.set(i64::from(is_guarding));
    }
}

/// Where the instance of a check belongs.
fn place(check: &registry::Check, row: &Check) -> Place {
    let instance = &check.instance;
    Place {
        service: (!row.service.is_empty()).then(|| instance.service.clone()),
        zone: zone(&instance.meta).map(Arc::clone),
    }
}

/// Whether another check of the instance, or of its node, is published as critical.
fn is_out(tables: &Tables, row: &Check) -> bool {
    let is_critical =
        |other: &Arc<Check>| other.id != row.id && rows::told(other) == Verdict::Critical;
    let is_of_instance = !row.service.is_empty();
    (is_of_instance && tables.instance_checks(&row.node, &row.service).any(is_critical))
        || tables.node_checks(&row.node).any(is_critical)
}

/// What the last result of a check rests on. Of those that are told, only that nothing was heard
/// is of our own seeing; an alias follows what is published, which has been decided already.
fn evidence(check: &registry::Check, facts: &Facts) -> Evidence {
    let reason = facts.last_outcome.and_then(Outcome::reason);
    match check.definition.probe.pushed() {
        Some(Pushed::Ttl(_)) if reason == Some(Reason::TimeoutResponse) => Evidence::Silence,
        Some(Pushed::Ttl(_) | Pushed::Alias(_)) => Evidence::Word,
        None => Evidence::of_last(reason),
    }
}

const fn status(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Unknown => Status::Unknown,
        Verdict::Passing => Status::Passing,
        Verdict::Warning => Status::Warning,
        Verdict::Critical => Status::Critical,
    }
}

/// A board that trusts as this handle says.
pub(super) fn trusting(doubt: Doubt) -> Brakes {
    Brakes { doubt, ..Brakes::default() }
}
